//! What an adjusted specification says of things that the engine decides: limits, namespaces, the cgroup, the system call filter.

use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Spec};

use crate::error::EngineError;
use crate::model::Resources;
use crate::ports::{NamespaceChoice, NamespacePlan, PidPlan};

/// The limits of a specification, with what it can not say as it was.
pub(crate) fn limits(spec: &Spec, before: &Resources) -> Resources {
    let nothing = LinuxResources::default();
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).unwrap_or(&nothing);
    let (cpu, memory) = (resources.cpu().as_ref(), resources.memory().as_ref());
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let unsigned = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
    Resources {
        cpu_period_micros: cpu.and_then(|cpu| cpu.period()),
        cpu_quota_micros: cpu.and_then(|cpu| cpu.quota()),
        cpu_shares: cpu.and_then(|cpu| cpu.shares()),
        memory_limit_bytes: memory.and_then(|memory| memory.limit()),
        // One that only says "no swap" is made anew with each limit.
        memory_swap_limit_bytes: memory
            .and_then(|memory| memory.swap())
            .filter(|swap| before.memory_swap_limit_bytes.is_some() || memory.and_then(|m| m.limit()) != Some(*swap)),
        oom_score_adj: before.oom_score_adj,
        cpuset_cpus: text(cpu.and_then(|cpu| cpu.cpus().as_ref())),
        cpuset_mems: text(cpu.and_then(|cpu| cpu.mems().as_ref())),
        hugepage_limits: resources
            .hugepage_limits()
            .iter()
            .flatten()
            .map(|limit| (limit.page_size().clone(), unsigned(limit.limit())))
            .collect(),
        unified: resources.unified().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
        pids_limit: resources.pids().as_ref().map(|pids| pids.limit()),
    }
}

/// A plan with namespaces that an adjustment took away or added.
pub(crate) fn namespaces(spec: &Spec, plan: NamespacePlan) -> Result<NamespacePlan, EngineError> {
    let linux = spec.linux().as_ref();
    let listed: Vec<_> = linux.and_then(|linux| linux.namespaces().as_ref()).into_iter().flatten().collect();
    if let Some(path) = listed.iter().find_map(|namespace| namespace.path().as_ref()) {
        return Err(EngineError::Invalid(format!(
            "the specification was changed to join the namespace {}; only new ones and those of the host can be had",
            path.display()
        )));
    }
    let is_listed = |kind| listed.iter().any(|namespace| namespace.typ() == kind);
    let choose = |kind, planned| match (is_listed(kind), planned) {
        (false, _) => NamespaceChoice::Host,
        (true, NamespaceChoice::Host) => NamespaceChoice::New,
        (true, planned) => planned,
    };
    let pid = match (is_listed(LinuxNamespaceType::Pid), plan.pid) {
        (false, _) => PidPlan::Host,
        (true, PidPlan::Host) => PidPlan::Own,
        (true, planned) => planned,
    };
    if is_listed(LinuxNamespaceType::User) != (plan.user != NamespaceChoice::Host) {
        let text = "the specification was changed in its user namespace; that is the pod's, for all its containers";
        return Err(EngineError::Invalid(text.into()));
    }
    Ok(NamespacePlan {
        network: choose(LinuxNamespaceType::Network, plan.network),
        ipc: choose(LinuxNamespaceType::Ipc, plan.ipc),
        uts: choose(LinuxNamespaceType::Uts, plan.uts),
        pid,
        user: plan.user,
        cgroup: choose(LinuxNamespaceType::Cgroup, plan.cgroup),
    })
}

/// The path of the cgroup, if it is not the one that was planned.
pub(crate) fn cgroup_path(spec: &Spec, planned: &str) -> Option<String> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref())?;
    path.to_str().filter(|path| *path != planned).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(linux: Value) -> Spec {
        serde_json::from_value(json!({"ociVersion": "1.1.0", "linux": linux})).unwrap()
    }

    fn plan() -> NamespacePlan {
        NamespacePlan {
            network: NamespaceChoice::Pod,
            ipc: NamespaceChoice::Pod,
            uts: NamespaceChoice::Pod,
            pid: PidPlan::Own,
            user: NamespaceChoice::Host,
            cgroup: NamespaceChoice::Host,
        }
    }

    #[test]
    fn namespaces_that_were_taken_away_are_the_hosts_and_added_ones_new() {
        let kinds = json!({"namespaces": [{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}]});
        let changed = namespaces(&spec(kinds), plan()).unwrap();
        assert_eq!((changed.network, changed.ipc), (NamespaceChoice::Host, NamespaceChoice::Pod));
        assert_eq!((changed.pid, changed.cgroup), (PidPlan::Host, NamespaceChoice::New));
        let joined = json!({"namespaces": [{"type": "network", "path": "/proc/1/ns/net"}]});
        assert!(namespaces(&spec(joined), plan()).unwrap_err().to_string().contains("/proc/1/ns/net"));
        assert!(namespaces(&spec(json!({"namespaces": [{"type": "user"}]})), plan()).is_err());
    }

    #[test]
    fn limits_are_read_back() {
        let asked = Resources {
            cpu_period_micros: Some(50_000),
            cpu_quota_micros: Some(25_000),
            cpu_shares: Some(512),
            memory_limit_bytes: Some(1 << 20),
            cpuset_cpus: "0-1".into(),
            hugepage_limits: [("2MB".to_owned(), 4096)].into(),
            unified: [("memory.high".to_owned(), "9".to_owned())].into(),
            pids_limit: Some(7),
            oom_score_adj: Some(3),
            ..Resources::default()
        };
        let json = super::super::resources_json(&asked).unwrap();
        let spec = spec(json!({"resources": serde_json::from_str::<Value>(&json).unwrap()}));
        assert_eq!(limits(&spec, &asked), asked);
    }
}

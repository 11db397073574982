//! Between the engine's words and the shim's.

use std::os::fd::OwnedFd;

use podwright_podsandbox::model::{GroupsPolicy, HandlerKind, IdMapping, ResolvedUser, Seccomp};
use podwright_podsandbox::ports::{
    CgroupPlacement, ContainerReport, CreatePod, ExecExit, HandlerPlan, NamespaceChoice, NamespacePlan, PidPlan,
    PodCreated, ProcessEnd, ShimEvent, ShimState, StartContainer, Started,
};
use podwright_shim_api as api;
use podwright_types::{ContainerId, ExecId};

use super::path_bytes;

pub(super) fn create_pod(request: &CreatePod) -> api::CreatePod {
    api::CreatePod {
        hostname: request.hostname.clone(),
        network: request.network,
        ipc: request.ipc,
        pid: request.pid,
        user: request
            .user
            .as_ref()
            .map(|user| api::UserNamespace { uids: id_mappings(&user.uids), gids: id_mappings(&user.gids) }),
        sysctls: request.sysctls.clone(),
        shm: request.shm.as_ref().map(|(path, bytes)| api::Shm { path: path_bytes(path), bytes: *bytes }),
        pause_cgroup: request.pause_cgroup.as_ref().map(placement),
        mount_label: request.mount_label.clone(),
        netns_given: request.netns.is_some(),
    }
}

fn id_mappings(mappings: &[IdMapping]) -> Vec<api::IdMapping> {
    let convert = |m: &IdMapping| api::IdMapping { host_id: m.host_id, container_id: m.container_id, length: m.length };
    mappings.iter().map(convert).collect()
}

fn placement(placement: &CgroupPlacement) -> api::CgroupPlacement {
    api::CgroupPlacement { path: placement.path.clone(), deferred: placement.deferred }
}

pub(super) fn start_container(request: &StartContainer) -> api::StartContainer {
    api::StartContainer {
        container: request.container.to_string(),
        layers: request.layers.iter().map(|layer| path_bytes(layer)).collect(),
        writable: request.writable.as_deref().map(path_bytes),
        log_path: request.log_path.as_deref().map(path_bytes),
        stdin: request.stdin,
        stdin_once: request.stdin_once,
        cgroup: Some(placement(&request.cgroup)),
        namespaces: Some(namespaces(&request.namespaces)),
        groups_policy: match request.groups_policy {
            GroupsPolicy::Merge => api::GroupsPolicy::Merge,
            GroupsPolicy::Strict => api::GroupsPolicy::Strict,
        }
        .into(),
        seccomp: Some(seccomp(&request.seccomp)),
        bundle: Some(path_bytes(&request.bundle)),
        restore: request
            .restore
            .as_ref()
            .map(|restore| api::Restore { program: path_bytes(&restore.program), images: path_bytes(&restore.images) }),
        runtime: request.handler.as_ref().map(runtime),
    }
}

fn runtime(plan: &HandlerPlan) -> api::Runtime {
    let handler = &plan.handler;
    // A second way to speak to one needs another message.
    match handler.kind {
        HandlerKind::Oci => api::Runtime {
            path: path_bytes(&handler.path),
            state: path_bytes(&plan.state),
            options: handler.options.clone(),
            deadline_seconds: handler.deadline_seconds,
            name: handler.name.clone(),
        },
    }
}

fn namespaces(plan: &NamespacePlan) -> api::NamespacePlan {
    api::NamespacePlan {
        network: choice(plan.network).into(),
        ipc: choice(plan.ipc).into(),
        uts: choice(plan.uts).into(),
        pid: Some(pid_plan(&plan.pid)),
        user: choice(plan.user).into(),
        cgroup: choice(plan.cgroup).into(),
    }
}

fn choice(choice: NamespaceChoice) -> api::NamespaceChoice {
    match choice {
        NamespaceChoice::Pod => api::NamespaceChoice::Pod,
        NamespaceChoice::Host => api::NamespaceChoice::Host,
        NamespaceChoice::New => api::NamespaceChoice::New,
    }
}

fn pid_plan(plan: &PidPlan) -> api::PidPlan {
    let (choice, target) = match plan {
        PidPlan::Own => (api::PidChoice::Own, String::new()),
        PidPlan::Pod => (api::PidChoice::Pod, String::new()),
        PidPlan::Host => (api::PidChoice::Host, String::new()),
        PidPlan::Target(container) => (api::PidChoice::Target, container.to_string()),
    };
    api::PidPlan { choice: choice.into(), target }
}

pub(super) fn seccomp(seccomp: &Seccomp) -> api::Seccomp {
    match seccomp {
        Seccomp::Unconfined => api::Seccomp::Unconfined(true),
        Seccomp::RuntimeDefault => api::Seccomp::RuntimeDefault(true),
        Seccomp::Localhost(path) => api::Seccomp::Localhost(path_bytes(path)),
    }
}

pub(super) fn pod_created(created: &api::PodCreated, netns: Option<OwnedFd>) -> PodCreated {
    PodCreated { pause_pid: Some(created.pause_pid).filter(|pid| *pid > 0 && !created.pause_ended), netns }
}

pub(super) fn started(started: api::Started) -> Started {
    Started {
        pid: started.pid,
        started_at_nanos: started.started_at_nanos,
        user: ResolvedUser { uid: started.uid, gid: started.gid, supplemental_groups: started.groups },
    }
}

fn ended(end: &api::ProcessEnd) -> ProcessEnd {
    ProcessEnd { code: end.code, at_nanos: end.at_nanos, oom_killed: end.oom_killed }
}

fn container_id(id: &str) -> Result<ContainerId, String> {
    id.parse().map_err(|cause| format!("the shim speaks of the container {id:?}: {cause}"))
}

fn exec_id(id: &str) -> Result<ExecId, String> {
    id.parse().map_err(|cause| format!("the shim speaks of exec {id:?}: {cause}"))
}

/// A shim's state. A container whose start is under way is left out: the start is repeated, and joins it.
pub(super) fn state(state: api::State, netns: Option<OwnedFd>) -> Result<ShimState, String> {
    let containers = state.containers.into_iter().filter_map(|report| {
        let begun = report.started?;
        Some(container_id(&report.container).map(|container| ContainerReport {
            container,
            started: started(begun),
            end: report.end.as_ref().map(ended),
        }))
    });
    let execs = state.execs.iter().map(|report| Ok((container_id(&report.container)?, exec_id(&report.exec)?)));
    Ok(ShimState {
        execs: execs.collect::<Result<_, String>>()?,
        pid: state.pid,
        pod: state.pod.as_ref().map(|pod| pod_created(pod, netns)),
        containers: containers.collect::<Result<_, String>>()?,
    })
}

/// What a shim tells by itself.
pub(in crate::ports) fn event(event: api::Event) -> Result<ShimEvent, String> {
    let missing = || "the shim told an end without saying how".to_owned();
    match event {
        api::Event::ContainerExited(exited) => {
            let end = exited.end.as_ref().ok_or_else(missing)?;
            Ok(ShimEvent::ContainerExited(container_id(&exited.container)?, ended(end)))
        }
        api::Event::ExecExited(exited) => Ok(ShimEvent::ExecExited(ExecExit {
            container: container_id(&exited.container)?,
            exec: exec_id(&exited.exec)?,
            end: ended(exited.end.as_ref().ok_or_else(missing)?),
        })),
        api::Event::PauseExited => Ok(ShimEvent::PauseExited),
        api::Event::Gone => Ok(ShimEvent::ShimGone),
    }
}

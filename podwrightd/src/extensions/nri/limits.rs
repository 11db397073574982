//! Limits, in the model's words and in the protocol's.

use podwright_nri::api::{
    HugepageLimit, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, OptionalInt64, OptionalUInt64,
};
use podwright_podsandbox::model::Resources;

/// As plugins are told them: what is not limited is absent.
pub(super) fn told(limits: &Resources) -> LinuxResources {
    let signed = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| OptionalInt64 { value });
    let unsigned = |value: Option<u64>| value.filter(|value| *value != 0).map(|value| OptionalUInt64 { value });
    let cpu = LinuxCpu {
        shares: unsigned(limits.cpu_shares),
        quota: signed(limits.cpu_quota_micros),
        period: unsigned(limits.cpu_period_micros),
        cpus: limits.cpuset_cpus.clone(),
        mems: limits.cpuset_mems.clone(),
        ..LinuxCpu::default()
    };
    let memory = LinuxMemory {
        limit: signed(limits.memory_limit_bytes),
        swap: signed(limits.memory_swap_limit_bytes),
        ..LinuxMemory::default()
    };
    let page = |(page_size, limit): (&String, &u64)| HugepageLimit { page_size: page_size.clone(), limit: *limit };
    LinuxResources {
        cpu: Some(cpu),
        memory: Some(memory),
        hugepage_limits: limits.hugepage_limits.iter().map(page).collect(),
        unified: limits.unified.clone(),
        pids: limits.pids_limit.filter(|limit| *limit != 0).map(|limit| LinuxPids { limit }),
        ..LinuxResources::default()
    }
}

/// As plugins ask for them; absent is unchanged.
///
/// # Errors
/// Names what the model does not have.
pub(super) fn asked(limits: &LinuxResources) -> Result<Resources, &'static str> {
    refuse(limits)?;
    let (cpu, memory) = (limits.cpu.clone().unwrap_or_default(), limits.memory.unwrap_or_default());
    let signed = |value: Option<OptionalInt64>| value.map(|value| value.value);
    let unsigned = |value: Option<OptionalUInt64>| value.map(|value| value.value);
    Ok(Resources {
        cpu_period_micros: unsigned(cpu.period),
        cpu_quota_micros: signed(cpu.quota),
        cpu_shares: unsigned(cpu.shares),
        memory_limit_bytes: signed(memory.limit),
        memory_swap_limit_bytes: signed(memory.swap),
        oom_score_adj: None,
        cpuset_cpus: cpu.cpus,
        cpuset_mems: cpu.mems,
        hugepage_limits: limits.hugepage_limits.iter().map(|page| (page.page_size.clone(), page.limit)).collect(),
        unified: limits.unified.clone(),
        pids_limit: limits.pids.map(|pids| pids.limit),
    })
}

/// Limits that would be lost in silence.
fn refuse(limits: &LinuxResources) -> Result<(), &'static str> {
    let (cpu, memory) = (limits.cpu.clone().unwrap_or_default(), limits.memory.unwrap_or_default());
    let named =
        |class: &Option<podwright_nri::api::OptionalString>| class.as_ref().is_some_and(|c| !c.value.is_empty());
    let no = [
        (memory.reservation.is_some(), "a reservation of memory"),
        (memory.kernel.is_some() || memory.kernel_tcp.is_some(), "a limit of kernel memory"),
        (memory.swappiness.is_some(), "swappiness"),
        (memory.disable_oom_killer.is_some_and(|off| off.value), "no OOM killer"),
        (cpu.realtime_period.is_some() || cpu.realtime_runtime.is_some(), "realtime scheduling"),
        (named(&limits.blockio_class), "a class of block I/O"),
        (named(&limits.rdt_class), "an RDT class"),
        (!limits.devices.is_empty(), "rules for devices"),
    ];
    no.iter().find(|(asked, _)| *asked).map_or(Ok(()), |(_, what)| Err(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_go_there_and_back() {
        let limits = Resources {
            cpu_period_micros: Some(50_000),
            cpu_quota_micros: Some(-1),
            cpu_shares: Some(512),
            memory_limit_bytes: Some(1 << 20),
            memory_swap_limit_bytes: Some(-1),
            oom_score_adj: None,
            cpuset_cpus: "0-1".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: [("2MB".to_owned(), 4096)].into(),
            unified: [("memory.high".to_owned(), "9".to_owned())].into(),
            pids_limit: Some(7),
        };
        assert_eq!(asked(&told(&limits)), Ok(limits));
        assert_eq!(asked(&told(&Resources::default())), Ok(Resources::default()));
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let memory = LinuxMemory { swappiness: Some(OptionalUInt64 { value: 1 }), ..LinuxMemory::default() };
        let limits = LinuxResources { memory: Some(memory), ..LinuxResources::default() };
        assert_eq!(asked(&limits), Err("swappiness"));
    }
}

//! Limits in force.

use podwright_cri_api::v1;
use podwright_podsandbox::model::Resources;

/// Limits; what was not given is zero or empty.
pub(super) fn linux_resources(resources: &Resources) -> v1::LinuxContainerResources {
    let signed = |value: Option<u64>| value.and_then(|v| i64::try_from(v).ok()).unwrap_or_default();
    let pages = resources.hugepage_limits.iter();
    v1::LinuxContainerResources {
        cpu_period: signed(resources.cpu_period_micros),
        cpu_quota: resources.cpu_quota_micros.unwrap_or_default(),
        cpu_shares: signed(resources.cpu_shares),
        memory_limit_in_bytes: resources.memory_limit_bytes.unwrap_or_default(),
        oom_score_adj: resources.oom_score_adj.unwrap_or_default().into(),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: pages
            .map(|(page_size, limit)| v1::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        unified: resources.unified.clone(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit_bytes.unwrap_or_default(),
    }
}

//! `LinuxContainerResources` to [`Resources`]. Zero and empty mean "not given" everywhere but in `oom_score_adj`.

use std::collections::BTreeMap;

use podwright_cri_api::v1;
use podwright_podsandbox::model::Resources;

use crate::field::{self, BadField, MAX_NAME_BYTES, shown};

/// The widest range of `oom_score_adj` that the kernel takes.
const OOM_SCORES: std::ops::RangeInclusive<i64> = -1000..=1000;
/// Means "no limit" for memory and quota.
const UNLIMITED: i64 = -1;

/// Limits of something that is made.
pub(crate) fn whole_resources(linux: v1::LinuxContainerResources) -> Result<Resources, BadField> {
    let oom_score_adj = oom_score(linux.oom_score_adj)?;
    // Zero is a value here: without it a process would inherit the score of the shim.
    Ok(Resources { oom_score_adj: Some(oom_score_adj), ..limits(linux)? })
}

/// Limits that are changed; what is not given stays as it is.
pub(crate) fn changed_resources(linux: v1::LinuxContainerResources) -> Result<Resources, BadField> {
    let oom_score_adj = oom_score(linux.oom_score_adj)?;
    Ok(Resources { oom_score_adj: Some(oom_score_adj).filter(|score| *score != 0), ..limits(linux)? })
}

fn limits(linux: v1::LinuxContainerResources) -> Result<Resources, BadField> {
    Ok(Resources {
        cpu_period_micros: given(positive("cpu_period", linux.cpu_period)?),
        cpu_quota_micros: given(at_least_unlimited("cpu_quota", linux.cpu_quota)?),
        cpu_shares: given(positive("cpu_shares", linux.cpu_shares)?),
        memory_limit_bytes: given(at_least_unlimited("memory_limit_in_bytes", linux.memory_limit_in_bytes)?),
        memory_swap_limit_bytes: given(at_least_unlimited(
            "memory_swap_limit_in_bytes",
            linux.memory_swap_limit_in_bytes,
        )?),
        oom_score_adj: None,
        cpuset_cpus: cpuset("cpuset_cpus", linux.cpuset_cpus)?,
        cpuset_mems: cpuset("cpuset_mems", linux.cpuset_mems)?,
        hugepage_limits: hugepages(linux.hugepage_limits)?,
        unified: unified(linux.unified)?,
        pids_limit: None,
    })
}

fn given<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}

fn positive(field: &str, value: i64) -> Result<u64, BadField> {
    u64::try_from(value).map_err(|_| BadField::new(field, format!("{value} is negative")))
}

fn at_least_unlimited(field: &str, value: i64) -> Result<i64, BadField> {
    if value < UNLIMITED {
        return Err(BadField::new(field, format!("{value} is below {UNLIMITED}, which means no limit")));
    }
    Ok(value)
}

fn oom_score(value: i64) -> Result<i32, BadField> {
    let bad = || BadField::new("oom_score_adj", format!("{value} is not between -1000 and 1000"));
    Some(value).filter(|score| OOM_SCORES.contains(score)).and_then(|score| i32::try_from(score).ok()).ok_or_else(bad)
}

/// Numbers and ranges, as `0-3,7`.
fn cpuset(field: &str, value: String) -> Result<String, BadField> {
    let value = field::line(field, value, MAX_NAME_BYTES)?;
    if value.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ',' | ' ')) {
        return Ok(value);
    }
    Err(BadField::new(field, format!("{} is not a list like \"0-3,7\"", shown(&value))))
}

fn hugepages(limits: Vec<v1::HugepageLimit>) -> Result<BTreeMap<String, u64>, BadField> {
    let limits = field::each("hugepage_limits", limits, |limit| Ok((page_size(limit.page_size)?, limit.limit)))?;
    Ok(limits.into_iter().collect())
}

/// A number and its unit: the name of a cgroup file is made from it.
fn page_size(value: String) -> Result<String, BadField> {
    let value = field::name("page_size", value)?;
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| value.strip_suffix(unit));
    if number.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())) {
        return Ok(value);
    }
    Err(BadField::new("page_size", format!("{} is not a page size like \"2MB\"", shown(&value))))
}

/// Keys are names of cgroup files.
fn unified(values: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, BadField> {
    let values = field::map("unified", values)?;
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let file = |key: &str| key.contains('.') && !key.starts_with('.') && key.chars().all(named);
    match values.keys().find(|key| !file(key)) {
        Some(key) => Err(BadField::new("unified", format!("{} is not the name of a cgroup file", shown(key)))),
        None => Ok(values),
    }
}

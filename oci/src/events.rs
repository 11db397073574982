//! `events`: what a container uses, in runc's form.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use podwright_cgroups::{Cgroup, Details, Reader, Stats};
use serde_json::{Value, json};

use crate::arguments::EventsOptions;
use crate::container;
use crate::status::{Status, status};
use crate::store::Store;

/// Prints once, or again and again until the container ends.
pub(crate) fn events(store: &Store, options: &EventsOptions) -> Result<()> {
    let pause = interval(&options.interval)?;
    loop {
        let found = store.find(&options.id);
        let (place, record) = if options.stats {
            found?
        } else {
            let Ok(found) = found else { return Ok(()) };
            found
        };
        if status(&place, &record)? == Status::Stopped {
            return if options.stats { bail!("container not running: {:?}", options.id) } else { Ok(()) };
        }
        let data = usage(&container::cgroup(&record)?)?;
        println!("{}", json!({"type": "stats", "id": options.id, "data": data}));
        if options.stats {
            return Ok(());
        }
        std::thread::sleep(pause);
    }
}

/// 5s, 500ms, 1m30s and the like of one unit.
fn interval(text: &str) -> Result<Duration> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" | "" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let total = number.zip(milliseconds).and_then(|(number, unit)| number.checked_mul(unit)).filter(|total| *total > 0);
    total.map(Duration::from_millis).with_context(|| format!("--interval {text}: write it as 5s or 500ms"))
}

fn usage(cgroup: &Cgroup) -> Result<Value> {
    let mut reader = Reader::default();
    let stats = cgroup.stats_with(&mut reader)?;
    let details = cgroup.details(&mut reader, &[])?;
    Ok(json!({
        "cpu": cpu(&stats, &details),
        "memory": memory(&stats, &details),
        "pids": {"current": stats.tasks.unwrap_or(0), "limit": details.tasks_limit.unwrap_or(0)},
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    }))
}

fn cpu(stats: &Stats, details: &Details) -> Value {
    json!({
        "usage": {
            "total": stats.cpu_usage_nanoseconds.unwrap_or(0),
            "kernel": details.cpu.system_nanoseconds,
            "user": details.cpu.user_nanoseconds,
        },
        "throttling": {
            "periods": details.cpu.periods,
            "throttledPeriods": details.cpu.throttled_periods,
            "throttledTime": details.cpu.throttled_nanoseconds,
        },
    })
}

fn memory(stats: &Stats, details: &Details) -> Value {
    let memory = stats.memory.clone().unwrap_or_default();
    let swap = stats.swap.clone().unwrap_or_default();
    let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    json!({
        "cache": details.memory.cache_bytes,
        "usage": {
            "limit": limit(memory.limit_bytes),
            "usage": memory.usage_bytes,
            "max": details.memory.peak_bytes,
            "failcnt": details.memory.limit_hits,
        },
        "swap": {"limit": limit(swap.limit_bytes), "usage": swap.usage_bytes, "failcnt": 0},
        "kernel": {"usage": details.memory.kernel_bytes, "failcnt": 0},
        "raw": {"rss": memory.rss_bytes, "pgfault": memory.page_faults, "pgmajfault": memory.major_page_faults},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(interval("250ms").unwrap(), Duration::from_millis(250));
        for bad in ["", "s", "0s", "5x", "-1s"] {
            assert!(interval(bad).is_err(), "{bad:?} was taken");
        }
    }
}

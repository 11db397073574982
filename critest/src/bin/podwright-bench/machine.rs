//! What is read off the machine: conditions, processor time, memory of processes, free memory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::contender::Contender;

/// What the numbers depend on, for the head of a report.
pub(crate) fn conditions(contenders: &[Contender]) -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let cpus = std::thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cgroups = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    let versions: Vec<String> = contenders.iter().map(|one| format!("{} ({})", one.name, one.version)).collect();
    Ok(format!(
        "kernel {}, {cpus} CPUs ({model}), cgroup {cgroups}, load {load} before the start; release builds; busybox from a registry on \
         127.0.0.1; the client shares the CPUs.\nContenders: {}.",
        kernel.trim(),
        versions.join(", ")
    ))
}

/// Processor time that the whole machine used so far, but for this program, which is the client.
pub(crate) fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq; the kernel counts in hundredths of a second.
    let busy: u64 =
        fields.iter().enumerate().filter(|(index, _)| ![3, 4].contains(index)).take(5).map(|(_, value)| value).sum();
    Duration::from_millis(busy.saturating_sub(own_ticks()) * 10)
}

/// Processor time that this program used so far.
pub(crate) fn own_cpu() -> Duration {
    Duration::from_millis(own_ticks() * 10)
}

fn own_ticks() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    ticks(11) + ticks(12)
}

/// Proportional set size of a process in KiB; 0 when it is gone.
pub(crate) fn pss_kib(pid: u32) -> u64 {
    rollup(pid, "Pss:")
}

/// Resident set size of a process in KiB; 0 when it is gone. Unlike the proportional one it does not depend on who else runs.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    rollup(pid, "Rss:")
}

/// Resident memory of a process that is no file's, in KiB; 0 when it is gone. Pages of programs are in the page cache whoever maps them.
pub(crate) fn anonymous_kib(pid: u32) -> u64 {
    rollup(pid, "Anonymous:")
}

/// Memory that a process alone dirtied, in KiB.
pub(crate) fn private_dirty_kib(pid: u32) -> u64 {
    rollup(pid, "Private_Dirty:")
}

fn rollup(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Memory that the kernel could still give, in KiB.
pub(crate) fn available_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Processes whose command line or cgroup contains one of `marks`, but not the sleeping workload.
pub(crate) fn processes(marks: &[String]) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("listing /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| is_marked(*pid, marks)).collect())
}

fn is_marked(pid: u32, marks: &[String]) -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    if read("comm").trim() == "sleep" {
        return false;
    }
    let texts = [read("cmdline"), read("cgroup")];
    marks.iter().any(|mark| texts.iter().any(|text| text.contains(mark.as_str())))
}

//! On the host's own hierarchies, with real processes.

use std::process::{Child, Command};

use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids};

use super::*;

/// A cgroup that is emptied and removed at the end.
struct Scratch(Cgroup);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = format!("/podwright-test-{name}-{}/leaf", std::process::id());
        let cgroup = Hierarchy::detect().unwrap().cgroup(&path).unwrap();
        cgroup.create().unwrap();
        Self(cgroup)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = self.0.path().trim_end_matches("/leaf").to_owned();
        let parent = self.0.hierarchy().cgroup(&parent).unwrap();
        let _ = parent.kill_all();
        let _ = parent.remove();
    }
}

fn sleeper(cgroup: &Cgroup) -> Child {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    for directory in cgroup.directories() {
        files::write(&directory.join("cgroup.procs"), &child.id().to_string()).unwrap();
    }
    child
}

#[test]
fn root_limits_are_written_and_raised_and_lowered() {
    let scratch = Scratch::new("limits");
    let cgroup = &scratch.0;
    for megabytes in [64, 256, 32] {
        let mut resources = LinuxResources::default();
        let (mut cpu, mut memory, mut pids) = (LinuxCpu::default(), LinuxMemory::default(), LinuxPids::default());
        cpu.set_shares(Some(512))
            .set_quota(Some(megabytes * 1000))
            .set_period(Some(100_000))
            .set_cpus(Some("0".to_owned()));
        memory.set_limit(Some(megabytes << 20)).set_swap(Some(megabytes << 20));
        pids.set_limit(77);
        resources.set_cpu(Some(cpu)).set_memory(Some(memory)).set_pids(Some(pids));
        cgroup.update(&resources).unwrap();
        let file = if cgroup.hierarchy().is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
        let read = files::read(&cgroup.directory("memory").unwrap().join(file)).unwrap();
        assert_eq!(read.trim(), (megabytes << 20).to_string());
    }
    assert_eq!(files::read(&cgroup.directory("pids").unwrap().join("pids.max")).unwrap().trim(), "77");
    assert_eq!(files::read(&cgroup.directory("cpuset").unwrap().join("cpuset.cpus")).unwrap().trim(), "0");
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
}

#[test]
fn root_a_missing_controller_matters_only_to_a_limit() {
    let scratch = Scratch::new("missing");
    if scratch.0.directory("hugetlb").is_some() {
        return;
    }
    let mut limit = LinuxHugepageLimit::default();
    limit.set_page_size("2MB".to_owned());
    let mut resources = LinuxResources::default();
    resources.set_hugepage_limits(Some(vec![limit.clone()]));
    scratch.0.update(&resources).unwrap();
    limit.set_limit(1 << 21);
    resources.set_hugepage_limits(Some(vec![limit]));
    let error = scratch.0.update(&resources).unwrap_err().to_string();
    assert!(error.contains("hugetlb"), "{error}");
}

#[test]
fn root_kills_and_removes_again_and_again() {
    let scratch = Scratch::new("kill");
    let cgroup = &scratch.0;
    let mut children: Vec<Child> = (0..3).map(|_| sleeper(cgroup)).collect();
    assert_eq!(cgroup.processes().unwrap().len(), 3);
    assert!(matches!(cgroup.remove(), Err(Error::Busy { processes: 3, .. })));
    cgroup.create().unwrap();
    cgroup.kill_all().unwrap();
    for child in &mut children {
        assert!(!child.wait().unwrap().success());
    }
    cgroup.remove().unwrap();
    cgroup.remove().unwrap();
    cgroup.kill_all().unwrap();
    assert!(!cgroup.exists());
    assert!(cgroup.processes().unwrap().is_empty());
}

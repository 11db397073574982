//! On the host's own hierarchies, with real processes: each test runs on v1 and on v2, as far as the host has them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids};
use rustix::process::Signal;

use super::*;
use crate::V1Mount;

mod limits;

/// A cgroup with a parent of its own; both are emptied and removed at the end.
struct Scratch(Cgroup);

impl Scratch {
    fn new(hierarchy: &Hierarchy, name: &str) -> Self {
        let cgroup = hierarchy.cgroup(&format!("/podwright-test-{}-{name}/leaf", std::process::id())).unwrap();
        cgroup.create().unwrap();
        Self(cgroup)
    }

    fn parent(&self) -> Cgroup {
        self.0.hierarchy.cgroup(self.0.path().strip_suffix("/leaf").unwrap()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.parent().kill_all();
        let _ = self.parent().remove_within(Duration::from_secs(5));
    }
}

/// The host's hierarchies: what it uses, and the cgroup2 tree beside v1.
fn hierarchies() -> Vec<Hierarchy> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let v2: String =
        mountinfo.lines().filter(|line| line.contains(" - cgroup2 ")).map(|line| format!("{line}\n")).collect();
    let mut found = vec![Hierarchy::detect().unwrap()];
    found.extend(Hierarchy::from_mountinfo(&v2).ok().filter(|v2| *v2 != found[0]));
    found
}

fn v1_without(controller: &str) -> Option<Hierarchy> {
    let Hierarchy::V1(mounts) = Hierarchy::detect().unwrap() else { return None };
    let rest: Vec<V1Mount> = mounts.iter().filter(|mount| !mount.has(controller)).cloned().collect();
    Some(Hierarchy::V1(Arc::from(rest)))
}

/// Lines of a shell script by which the shell enters a cgroup.
fn enter(cgroup: &Cgroup) -> String {
    let file = if cgroup.hierarchy.is_v2() { "cgroup.procs" } else { "tasks" };
    let line = |directory: &PathBuf| format!("echo 0 > '{}/{file}' || exit 99\n", directory.display());
    cgroup.directories().iter().map(line).collect()
}

fn shell(cgroup: &Cgroup, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{}{script}", enter(cgroup))]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn run(cgroup: &Cgroup, script: &str) -> ExitStatus {
    shell(cgroup, script).status().unwrap()
}

fn sleeper(cgroup: &Cgroup) -> Child {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup.add(Pid::from_child(&child)).unwrap();
    child
}

#[test]
fn root_kills_and_removes_again_and_again() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "kill");
        let cgroup = &scratch.0;
        let mut children: Vec<Child> = (0..3).map(|_| sleeper(cgroup)).collect();
        assert_eq!(scratch.parent().processes().unwrap().len(), 3);
        assert!(matches!(cgroup.remove(), Err(Error::Busy { processes: 3, .. })));
        cgroup.create().unwrap();
        cgroup.kill_all().unwrap();
        for child in &mut children {
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        cgroup.remove().unwrap();
        cgroup.remove().unwrap();
        cgroup.kill_all().unwrap();
        assert!(!cgroup.exists());
        assert!(cgroup.processes().unwrap().is_empty());
        assert!(cgroup.stats().unwrap_err().is_absent());
        assert!(cgroup.join().unwrap_err().is_absent());
    }
}

#[test]
fn root_signals_reach_cgroups_below() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "signal");
        let mut child = sleeper(&scratch.0);
        scratch.parent().signal_all(Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    }
}

#[test]
fn root_kills_what_is_frozen_and_what_froze_itself_below() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "frozen");
        let inner = hierarchy.cgroup(&format!("{}/inner", scratch.0.path())).unwrap();
        inner.create().unwrap();
        let mut child = sleeper(&inner);
        inner.set_frozen(true).unwrap();
        scratch.0.kill_all().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        scratch.parent().remove().unwrap();
        assert!(!inner.exists());
    }
}

/// Every process of it forks as fast as it can; `fence` keeps the machine alive whatever the test does.
fn fork_storm(scratch: &Scratch, fence: &Scratch) {
    let storm = "exec perl -e '$| = 1; print qq(up\\n); fork while 1'";
    let mut child = shell(&scratch.0, &format!("{}{storm}", enter(&fence.0))).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    drop(child.stdout.take());
    scratch.0.kill_all().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    // Orphans are reaped by init, in its own time.
    scratch.0.remove_within(Duration::from_secs(10)).unwrap();
}

#[test]
fn root_a_fork_storm_is_killed_with_a_freezer_and_without() {
    // A process has one place in the pids hierarchy, and that is the fence's.
    let Hierarchy::V1(mounts) = Hierarchy::detect().unwrap() else { return };
    let only = |keep: &dyn Fn(&V1Mount) -> bool| {
        Hierarchy::V1(mounts.iter().filter(|mount| keep(mount)).cloned().collect::<Vec<_>>().into())
    };
    let mut pids = LinuxPids::default();
    pids.set_limit(100);
    let mut resources = LinuxResources::default();
    resources.set_pids(Some(pids));
    let with_freezer = only(&|mount| !mount.has("pids"));
    let with_neither = only(&|mount| !mount.has("pids") && !mount.has("freezer"));
    let v2 = hierarchies().into_iter().find(Hierarchy::is_v2);
    for (number, hierarchy) in [with_freezer, with_neither].iter().chain(&v2).enumerate() {
        let fence = Scratch::new(&only(&|mount| mount.has("pids")), &format!("fence-{number}"));
        fence.0.update(&resources).unwrap();
        fork_storm(&Scratch::new(hierarchy, &format!("storm-{number}")), &fence);
    }
}

#[test]
fn root_without_a_freezer_forks_are_forbidden_while_killing() {
    let Some(hierarchy) = v1_without("freezer") else { return };
    let scratch = Scratch::new(&hierarchy, "no-freezer");
    let mut child = sleeper(&scratch.0);
    scratch.0.kill_all().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let max = files::read(&scratch.0.directory("pids").unwrap().join("pids.max")).unwrap();
    assert_eq!(max.trim(), "0");
    assert!(scratch.0.set_frozen(true).unwrap_err().to_string().contains("freezer"));
}

#[test]
fn root_removal_waits_for_processes_that_end() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "wait");
        let child = sleeper(&scratch.0);
        let begin = Instant::now();
        assert!(matches!(scratch.0.remove_within(Duration::from_millis(30)), Err(Error::Busy { processes: 1, .. })));
        assert!(begin.elapsed() >= Duration::from_millis(30));
        scratch.0.create().unwrap();
        scratch.0.add(Pid::from_child(&child)).unwrap();
        let reaper = std::thread::spawn(move || {
            let mut child = child;
            std::thread::sleep(Duration::from_millis(30));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        scratch.0.remove_within(Duration::from_secs(10)).unwrap();
        assert!(!scratch.0.exists());
        reaper.join().unwrap();
    }
}

#[test]
fn root_the_caller_is_not_frozen_with_its_cgroup() {
    let hierarchy = Hierarchy::detect().unwrap();
    let scratch = Scratch::new(&hierarchy, "self");
    // The named hierarchy has no effect of its own, and with v1 one thread of this process can be in it alone.
    let Some(directory) = scratch.0.directory("name=systemd").filter(|_| !hierarchy.is_v2()) else { return };
    let own = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.split_once(":name=systemd:/")).unwrap().1;
    let before = directory.ancestors().nth(2).unwrap().join(own).join("tasks");
    files::write(&directory.join("tasks"), "0").unwrap();
    let result = scratch.0.kill_all();
    files::write(&before, "0").unwrap();
    assert!(matches!(result, Err(Error::Invalid(_))));
}

#[test]
fn root_clones_into_v2_only() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "clone");
        assert_eq!(scratch.0.clone_target().unwrap().is_some(), hierarchy.is_v2());
    }
}

#[test]
fn root_memory_kills_are_counted_and_usage_is_read() {
    let hierarchy = Hierarchy::detect().unwrap();
    let scratch = Scratch::new(&hierarchy, "oom");
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(16 << 20)).set_swap(Some(16 << 20));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory));
    scratch.0.update(&resources).unwrap();
    assert_eq!(scratch.0.oom_kills().unwrap(), 0);
    // `tail` keeps a line that never ends.
    assert_eq!(run(&scratch.0, "exec tail -n 1 /dev/zero").signal(), Some(9));
    assert_eq!(scratch.0.oom_kills().unwrap(), 1);

    let mut child = shell(&scratch.0, "echo up; exec sleep 1000").spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    let stats = scratch.0.stats().unwrap();
    let memory = stats.memory.unwrap();
    assert_eq!(stats.tasks, Some(1));
    assert!(stats.cpu_usage_nanoseconds.unwrap() > 0);
    assert_eq!(memory.limit_bytes, Some(16 << 20));
    assert!(memory.working_set_bytes <= memory.usage_bytes && memory.page_faults > 0);
    scratch.0.kill_all().unwrap();
    child.wait().unwrap();
    assert_eq!(scratch.0.oom_kills().unwrap(), 1, "only the kernel's kills count");
}

fn device(allow: bool, typ: LinuxDeviceType, numbers: Option<(i64, i64)>) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(typ)).set_access(Some("rwm".to_owned()));
    rule.set_major(numbers.map(|n| n.0)).set_minor(numbers.map(|n| n.1));
    rule
}

#[test]
fn root_devices_are_denied_to_a_real_process() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "devices");
        let read = |node: &str| run(&scratch.0, &format!("exec head -c 1 {node}")).success();
        let write = |node: &str| run(&scratch.0, &format!("(: > {node}) && exit 0; exit 1")).success();
        let open = || [read("/dev/zero"), read("/dev/full"), write("/dev/null"), write("/dev/kmsg")];
        assert_eq!(open(), [true; 4], "before any rule");

        let everything = device(true, LinuxDeviceType::A, None);
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(vec![everything]));
        scratch.0.apply(&resources).unwrap();
        assert_eq!(open(), [true; 4], "a privileged container");

        let rules = vec![device(false, LinuxDeviceType::A, None), device(false, LinuxDeviceType::C, Some((1, 7)))];
        resources.set_devices(Some(rules));
        scratch.0.apply(&resources).unwrap();
        assert_eq!(open(), [true, false, true, false]);
        // Whether the program or line is there is not for an update to change.
        resources.set_devices(Some(vec![device(true, LinuxDeviceType::A, None)]));
        scratch.0.update(&resources).unwrap();
        assert_eq!(open(), [true, false, true, false]);
    }
}

#[test]
fn root_a_rule_for_both_kinds_allows_no_more_than_it_says() {
    for hierarchy in hierarchies() {
        let scratch = Scratch::new(&hierarchy, "kinds");
        let rules = vec![device(false, LinuxDeviceType::A, None), device(true, LinuxDeviceType::A, Some((10, 200)))];
        let mut resources = LinuxResources::default();
        resources.set_devices(Some(rules));
        scratch.0.apply(&resources).unwrap();
        assert!(!run(&scratch.0, "(: > /dev/kmsg) && exit 0; exit 1").success());
        assert!(run(&scratch.0, "exec head -c 1 /dev/zero").success());
    }
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [good, bad] = ["good", "bad"].map(|name| directory.path().join(name));
    fs::create_dir(&good).unwrap();
    fs::write(&bad, "a file where a hierarchy should be").unwrap();
    let mount = |point: &PathBuf, controller: &str| V1Mount {
        mount_point: point.clone(),
        root: "/".into(),
        controllers: vec![controller.to_owned()],
    };
    let hierarchy = Hierarchy::V1(Arc::from([mount(&good, "memory"), mount(&bad, "pids")]));
    fs::create_dir(good.join("here-before")).unwrap();
    let error = hierarchy.cgroup("/here-before/a/b").unwrap().create().unwrap_err();
    let Error::File { cause, path, .. } = &error else { panic!("{error:?}") };
    assert!(cause.kind() == ErrorKind::NotADirectory && path.starts_with(&bad), "{error:?}");
    assert_eq!(fs::read_dir(good.join("here-before")).unwrap().count(), 0);
}

#[test]
fn a_process_without_limits_has_a_cgroup_only_where_it_is_found() {
    let top = tempfile::tempdir().unwrap();
    let made = |names: &[&str]| {
        let mount = |name: &&str| V1Mount {
            mount_point: top.path().join(name),
            root: "/".into(),
            controllers: name.split(',').map(str::to_owned).collect(),
        };
        let mounts: Vec<V1Mount> = names.iter().map(mount).collect();
        mounts.iter().for_each(|mount| fs::create_dir_all(&mount.mount_point).unwrap());
        let directories = crate::v1::create_to_hold(&mounts, "pod/shim", &mut Vec::new()).unwrap();
        assert!(directories.iter().all(|directory| directory.is_dir()));
        let relative = |path: &PathBuf| path.strip_prefix(top.path()).unwrap().to_string_lossy().into_owned();
        directories.iter().map(relative).collect::<Vec<_>>()
    };
    assert_eq!(made(&["memory", "pids", "freezer,x"]), ["memory/pod", "pids/pod/shim", "freezer,x/pod/shim"]);
    // It has to be somewhere.
    assert_eq!(made(&["memory", "devices"]), ["memory/pod/shim", "devices/pod/shim"]);
}

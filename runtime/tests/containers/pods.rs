//! Namespaces of a pod, and what containers share through them.

use std::os::fd::AsFd;

use podwright_runtime::{CgroupEntry, Namespace, Namespaces, PodPlan, make_namespaces, pid_namespace_of, spawn_pause};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::json;

use crate::fixture::{Fixture, Pid, Sleeper, finish, follow, streams, wait};
use crate::harness::Test;

pub(crate) const TESTS: &[Test] = &[
    ("root_a_pods_namespaces_are_shared", a_pods_namespaces_are_shared),
    ("root_a_bad_sysctl_of_a_pod_is_told", a_bad_sysctl_of_a_pod_is_told),
    ("root_a_shared_pid_namespace", a_shared_pid_namespace),
    ("root_pause_shows_nothing_and_ends", pause_shows_nothing_and_ends),
];

fn plan() -> PodPlan {
    let sysctls = [
        ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()),
        ("kernel.msgmax".to_owned(), "4243".to_owned()),
    ];
    PodPlan {
        network: true,
        ipc: true,
        user: None,
        hostname: Some("pod-1".to_owned()),
        sysctls: sysctls.into_iter().collect(),
    }
}

fn a_pods_namespaces_are_shared() {
    let pod = make_namespaces(&plan()).unwrap();
    let mut fixture = Fixture::new();
    let join =
        |fd: &Option<std::os::fd::OwnedFd>| -> std::os::fd::OwnedFd { fd.as_ref().unwrap().try_clone().unwrap() };
    let (network, ipc, uts) = (join(&pod.network), join(&pod.ipc), join(&pod.uts));
    let namespaces = Namespaces {
        network: Namespace::Join(network.as_fd()),
        ipc: Namespace::Join(ipc.as_fd()),
        uts: Namespace::Join(uts.as_fd()),
        ..Namespaces::default()
    };
    let script = "hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; ip -o link | grep -c UP; readlink /proc/self/ns/net";
    fixture.spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
    let mut outputs = Vec::new();
    for _ in 0..2 {
        let output = tempfile::tempfile().unwrap();
        let mut starting = fixture.start(streams(&output), &namespaces);
        let followed = follow(&mut starting).unwrap();
        outputs.push(finish(&starting, output, followed).output);
    }
    assert!(outputs[0].starts_with("pod-1\n0\n4243\n1\nnet:["), "{outputs:?}");
    assert_eq!(outputs[0], outputs[1]);
    assert!(!outputs[0].contains(std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap()));
}

fn a_bad_sysctl_of_a_pod_is_told() {
    let mut plan = plan();
    plan.sysctls.insert("net.no.such".to_owned(), "1".to_owned());
    let error = make_namespaces(&plan).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("net.no.such"), "{cause}");
}

fn a_shared_pid_namespace() {
    let pod = make_namespaces(&plan()).unwrap();
    let mut pause = spawn_pause(&pod, CgroupEntry::Inherit, Some(1), None).unwrap();
    follow(&mut pause).unwrap();
    let pause = Sleeper(pause);
    let mut fixture = Fixture::new();
    fixture.pid = Pid::Join(pid_namespace_of(pause.0.pid()).unwrap());
    let neighbour = fixture.sleeper();
    let listed = fixture.out("cat /proc/1/comm; echo $$; cat /proc/*/comm | grep -c sleep");
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!((lines[0], lines[2]), ("pause", "1"), "{listed}");
    assert_ne!(lines[1], "1");
    // An orphan is reaped by pause: no zombie stays.
    let orphan = "orphan=$( (sleep 0.05 >/dev/null & echo $!) ); i=0";
    fixture.out(&format!(
        "{orphan}; while [ -e /proc/$orphan ]; do i=$((i + 1)); [ $i -lt 1200 ] || exit 9; sleep 0.05; done"
    ));
    drop(neighbour);
}

fn pause_shows_nothing_and_ends() {
    let mut pause =
        spawn_pause(&podwright_runtime::PodNamespaces::default(), CgroupEntry::Inherit, None, None).unwrap();
    follow(&mut pause).unwrap();
    let proc = format!("/proc/{}", pause.pid().as_raw_nonzero());
    assert_eq!(std::fs::read_dir(format!("{proc}/root/")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(format!("{proc}/mountinfo")).unwrap().lines().count(), 1);
    // It tells its start first and closes its descriptors then.
    while std::fs::read_dir(format!("{proc}/fd")).unwrap().count() != 0 {
        std::thread::yield_now();
    }
    pidfd_send_signal(pause.pidfd(), Signal::TERM).unwrap();
    assert_eq!(wait(&pause), 0);
}

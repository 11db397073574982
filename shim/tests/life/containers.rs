//! Containers from start to deletion.

use std::os::fd::AsFd;

use podwright_shim_api::client::{ClientError, no_placing};
use podwright_shim_api::{CgroupPlacement, CreatePod, Event, FailureKind, PidChoice, PidPlan, Shm, TerminalSize};
use serde_json::json;

use crate::world::{World, pod, shell, wait_for};

fn kind(error: &ClientError) -> Option<FailureKind> {
    error.kind()
}

#[tokio::test]
async fn root_a_container_runs_and_its_exit_is_told() {
    let mut world = World::with_pod().await;
    let started = world.run("one", "echo out; echo err >&2; exit 7").await;
    assert!(started.pid > 0 && started.started_at_nanos > 0);
    let end = world.end_of("one").await;
    assert_eq!((end.code, end.oom_killed), (7, false));
    assert!(end.at_nanos >= started.started_at_nanos);
    let mut texts = world.log_texts("one");
    texts.sort();
    assert_eq!(texts, ["stderr F err", "stdout F out"]);
    let (state, netns) = world.client.state().await.unwrap();
    assert!(netns.is_some());
    assert_eq!(state.containers[0].end.as_ref(), Some(&end));
    world.client.delete_container("one").await.unwrap();
    world.client.delete_container("one").await.unwrap();
    assert_eq!(world.client.state().await.unwrap().0.containers, []);
    world.finish().await;
}

#[tokio::test]
async fn root_a_repeated_start_answers_the_same_and_runs_once() {
    let mut world = World::with_pod().await;
    let spec = shell("echo once; sleep 1000");
    let (a, b) = tokio::join!(world.start(world.request("c"), &spec), world.start(world.request("c"), &spec));
    let c = world.start(world.request("c"), &spec).await.unwrap();
    assert_eq!((a.unwrap(), b.unwrap()), (c.clone(), c.clone()));
    wait_for("the program speaks", || !world.log_texts("c").is_empty()).await;
    world.client.signal_container("c", 9, false).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 137);
    world.client.signal_container("c", 9, false).await.unwrap();
    assert_eq!(world.start(world.request("c"), &spec).await.unwrap(), c);
    assert_eq!(world.log_texts("c"), ["stdout F once"]);
    world.finish().await;
}

#[tokio::test]
async fn root_signals_arrive_and_a_real_time_signal_too() {
    let mut world = World::with_pod().await;
    world.run("t", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done").await;
    let log = world.log("t");
    wait_for("the trap is set", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))).await;
    world.client.signal_container("t", 15, false).await.unwrap();
    assert_eq!(world.end_of("t").await.code, 3);
    // Nothing handles it, but the init of a pid namespace is asked from outside, so it ends.
    world.run("r", "trap 'exit 4' 37; echo ready; while :; do sleep 0.01; done").await;
    let log = world.log("r");
    wait_for("the trap is set", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))).await;
    world.client.signal_container("r", 37, false).await.unwrap();
    assert_eq!(world.end_of("r").await.code, 4);
    let error = world.client.signal_container("nobody", 9, false).await.unwrap_err();
    assert_eq!(kind(&error), Some(FailureKind::NotFound));
    world.finish().await;
}

#[tokio::test]
async fn root_the_exit_is_told_only_when_nothing_lives() {
    let mut world = World::with_pod().await;
    let mut request = world.request("h");
    if let Some(namespaces) = &mut request.namespaces {
        namespaces.pid = Some(PidPlan { choice: PidChoice::Host.into(), target: String::new() });
    }
    // The children outlive the first process, in sessions of their own.
    let script = "for i in 1 2 3 4; do (trap '' HUP TERM; sleep 1000) & done; exit 5";
    world.start(request, &shell(script)).await.unwrap();
    let end = world.end_of("h").await;
    assert_eq!(end.code, 5);
    let cgroup = podwright_cgroups::Hierarchy::detect().unwrap().cgroup(&format!("{}/h", world.cgroup)).unwrap();
    assert_eq!(cgroup.processes().unwrap(), []);
    world.finish().await;
}

#[tokio::test]
async fn root_a_shared_pid_namespace_has_a_pause_process() {
    let mut world = World::new().await;
    let pause_cgroup = Some(CgroupPlacement { path: format!("{}/pause", world.cgroup), deferred: false });
    let request = CreatePod { pid: true, pause_cgroup, ..pod() };
    let (created, netns) = world.client.create_pod(request.clone(), None, no_placing).await.unwrap();
    assert!(created.pause_pid > 0 && created.has_netns && netns.is_some());
    let again = world.client.create_pod(request, None, no_placing).await.unwrap().0;
    assert_eq!(again, created);
    let mut start = world.request("c");
    if let Some(namespaces) = &mut start.namespaces {
        namespaces.pid = Some(PidPlan { choice: PidChoice::Pod.into(), target: String::new() });
    }
    world.start(start, &shell("sleep 1000 & echo $$; exit 0")).await.unwrap();
    assert_eq!(world.end_of("c").await.code, 0);
    assert_ne!(world.log_texts("c"), ["stdout F 1"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(created.pause_pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(matches!(world.events.recv().await, Some(Event::PauseExited)));
    assert!(world.client.state().await.unwrap().0.pod.unwrap().pause_ended);
    world.finish().await;
}

#[tokio::test]
async fn root_a_pod_lives_in_the_network_that_it_is_given() {
    let mut world = World::new().await;
    let make = || {
        podwright_sys::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
        std::fs::File::open("/proc/thread-self/ns/net").unwrap()
    };
    let given = std::thread::spawn(make).join().unwrap();
    let inode = |file: &std::fs::File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    assert!(world.client.hello().features.iter().any(|feature| feature == podwright_shim_api::GIVEN_NETNS));
    let request = CreatePod { netns_given: true, ..pod() };
    let missing = world.client.create_pod(request.clone(), None, no_placing).await.unwrap_err();
    assert_eq!(kind(&missing), Some(FailureKind::Invalid));
    let (_, netns) = world.client.create_pod(request, Some(given.as_fd()), no_placing).await.unwrap();
    assert_eq!(inode(&netns.unwrap().into()), inode(&given));
    world.start(world.request("n"), &shell("readlink /proc/self/ns/net")).await.unwrap();
    assert_eq!(world.end_of("n").await.code, 0);
    assert!(world.log_texts("n")[0].ends_with(&format!("net:[{}]", inode(&given))), "{:?}", world.log_texts("n"));
    world.finish().await;
}

#[tokio::test]
async fn root_a_container_can_join_the_process_ids_of_another() {
    let mut world = World::with_pod().await;
    world.run("target", "sleep 1000").await;
    let mut request = world.request("debug");
    if let Some(namespaces) = &mut request.namespaces {
        namespaces.pid = Some(PidPlan { choice: PidChoice::Target.into(), target: "target".into() });
    }
    world
        .start(request, &shell("cat /proc/1/cmdline | tr '\\0' ' ' 2>/dev/null || cat /proc/1/cmdline; exit 0"))
        .await
        .unwrap();
    assert_eq!(world.end_of("debug").await.code, 0);
    assert!(world.log_texts("debug")[0].contains("sleep"), "{:?}", world.log_texts("debug"));
    world.finish().await;
}

#[tokio::test]
async fn root_shared_memory_is_shared_and_not_in_the_hosts_table() {
    let mut world = World::new().await;
    let path = world.path("shm");
    let shm = Some(Shm { path: crate::world::bytes(&path), bytes: 1 << 20 });
    world.client.create_pod(CreatePod { shm, ..pod() }, None, no_placing).await.unwrap();
    let mut spec = shell(
        "echo shared > /dev/shm/file; dd if=/dev/zero of=/dev/shm/large bs=64k count=100 2>/dev/null || echo full",
    );
    let mount = json!({ "destination": "/dev/shm", "type": "bind", "source": path, "options": ["rbind", "nosuid", "nodev", "noexec"] });
    spec["mounts"].as_array_mut().unwrap().push(mount);
    world.start(world.request("a"), &spec).await.unwrap();
    assert_eq!(world.end_of("a").await.code, 0);
    assert_eq!(world.log_texts("a"), ["stdout F full"]);
    spec["process"]["args"][2] = json!("cat /dev/shm/file");
    world.start(world.request("b"), &spec).await.unwrap();
    assert_eq!(world.end_of("b").await.code, 0);
    assert_eq!(world.log_texts("b"), ["stdout F shared"]);
    world.finish().await;
}

#[tokio::test]
async fn root_limits_hold_and_an_oom_kill_is_told() {
    let mut world = World::with_pod().await;
    let mut spec = shell("tail /dev/zero");
    spec["linux"]["resources"] = json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } });
    world.start(world.request("oom"), &spec).await.unwrap();
    let end = world.end_of("oom").await;
    assert!(end.oom_killed, "{end:?}");
    world.run("calm", "sleep 1000").await;
    world.client.update_container("calm", r#"{"memory":{"limit":33554432}}"#).await.unwrap();
    let cgroup = podwright_cgroups::Hierarchy::detect().unwrap().cgroup(&format!("{}/calm", world.cgroup)).unwrap();
    let limit = cgroup.directory("memory").unwrap().join(if cgroup.hierarchy().is_v2() {
        "memory.max"
    } else {
        "memory.limit_in_bytes"
    });
    assert_eq!(std::fs::read_to_string(limit).unwrap().trim(), "33554432");
    world.finish().await;
}

#[tokio::test]
async fn root_a_deferred_process_waits_until_it_was_placed() {
    let mut world = World::with_pod().await;
    let mut request = world.request("d");
    let hierarchy = podwright_cgroups::Hierarchy::detect().unwrap();
    let path = format!("{}/d", world.cgroup);
    request.cgroup = Some(CgroupPlacement { path: path.clone(), deferred: true });
    let placed_pid = std::sync::Arc::new(std::sync::atomic::AtomicI32::new(0));
    let seen = std::sync::Arc::clone(&placed_pid);
    let place = move |pid: i32| {
        seen.store(pid, std::sync::atomic::Ordering::Relaxed);
        let cgroup = hierarchy.cgroup(&path).unwrap();
        cgroup.create().unwrap();
        for controller in ["memory", "pids", "freezer"] {
            let Some(directory) = cgroup.directory(controller) else { continue };
            std::fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        std::future::ready(Ok(()))
    };
    let started = world.client.start_container(request.clone(), &shell("exit 0").to_string(), place).await.unwrap();
    assert_eq!(started.pid, placed_pid.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(world.end_of("d").await.code, 0);
    // A place that can not be had fails the start, and names why.
    request.container = "e".into();
    let refuse = |_| std::future::ready(Err("no scope for you".to_owned()));
    let error = world.client.start_container(request, &shell("exit 0").to_string(), refuse).await.unwrap_err();
    assert!(error.to_string().contains("no scope for you"), "{error}");
    world.client.delete_container("d").await.unwrap();
    podwright_cgroups::Hierarchy::detect().unwrap().cgroup(&format!("{}/d", world.cgroup)).unwrap().remove().unwrap();
    world.finish().await;
}

#[tokio::test]
async fn root_a_start_that_fails_names_why_and_leaves_nothing() {
    let mut world = World::with_pod().await;
    let mut spec = shell("true");
    spec["process"]["args"] = json!(["/bin/absent"]);
    let error = world.start(world.request("a"), &spec).await.unwrap_err();
    assert_eq!(kind(&error), Some(FailureKind::ProgramNotFound), "{error}");
    spec["process"]["args"] = json!(["/etc"]);
    let error = world.start(world.request("a"), &spec).await.unwrap_err();
    assert_eq!(kind(&error), Some(FailureKind::ProgramNotExecutable), "{error}");
    spec["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "destination": "/x", "type": "bind", "source": "/absent-source", "options": ["rbind"] }));
    let error = world.start(world.request("a"), &spec).await.unwrap_err();
    assert_eq!(kind(&error), Some(FailureKind::Setup), "{error}");
    assert!(error.to_string().contains("/absent-source"), "{error}");
    let error = world.client.start_container(world.request("a"), "{", no_placing).await.unwrap_err();
    assert_eq!(kind(&error), Some(FailureKind::Invalid), "{error}");
    let mut request = world.request("a");
    request.seccomp = None;
    assert_eq!(kind(&world.start(request, &shell("true")).await.unwrap_err()), Some(FailureKind::Invalid));
    assert_eq!(world.client.state().await.unwrap().0.containers, []);
    // The same id is free for a better attempt.
    world.run("a", "exit 0").await;
    assert_eq!(world.end_of("a").await.code, 0);
    let size = Some(TerminalSize { columns: 1, rows: 1 });
    let resize = podwright_shim_api::Resize { container: "a".into(), exec: String::new(), size };
    assert_eq!(kind(&world.client.resize(resize).await.unwrap_err()), Some(FailureKind::Invalid));
    world.finish().await;
}

#[tokio::test]
async fn root_a_shutdown_ends_what_runs() {
    let world = World::with_pod().await;
    for name in ["a", "b", "c"] {
        world.run(name, "trap '' TERM; sleep 1000 & sleep 1000").await;
    }
    world.finish().await;
}

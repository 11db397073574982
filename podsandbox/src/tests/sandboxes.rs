use std::time::Duration;

use super::*;
use crate::events::{Change, Subject};
use crate::model::{IdMapping, SandboxState, UserNamespace};
use crate::{EngineError, Outlook, SandboxFilter};

#[test]
fn a_sandbox_comes_and_goes_without_a_trace() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let snapshot = daemon.engine.sandbox(&id).unwrap();
    assert_eq!((snapshot.state, snapshot.network.addresses.len()), (SandboxState::Ready, 1));
    daemon.run(daemon.engine.stop_sandbox(&id)).unwrap();
    assert_eq!(daemon.engine.sandbox(&id).unwrap().state, SandboxState::NotReady);
    assert_eq!(node.world.left_over(), Vec::<String>::new());
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    assert!(matches!(daemon.engine.sandbox(&id), Err(EngineError::NotFound(_))));
    node.assert_empty("removal");
}

#[test]
fn the_hosts_network_needs_no_network() {
    let node = Node::new();
    node.world.fail("network.ready");
    let daemon = node.start();
    let id = daemon.run(daemon.engine.run_sandbox(host_pod("a"))).unwrap();
    assert!(daemon.engine.sandbox(&id).unwrap().network.addresses.is_empty());
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    assert!(!node.world.calls().iter().any(|call| call.starts_with("network.")));
    node.assert_empty("removal");
}

#[test]
fn the_same_request_gets_the_same_id() {
    let node = Node::new();
    let daemon = node.start();
    let (one, two, three) = daemon.run(async {
        tokio::join!(
            daemon.engine.run_sandbox(pod("a")),
            daemon.engine.run_sandbox(pod("a")),
            daemon.engine.run_sandbox(pod("a"))
        )
    });
    let id = one.unwrap();
    assert_eq!((&id, &id), (&two.unwrap(), &three.unwrap()));
    assert_eq!(daemon.sandbox("a"), id);
    assert_eq!(daemon.engine.sandboxes(&SandboxFilter::default()).len(), 1);
    let calls = node.world.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("shims.launch")).count(), 1);
}

#[test]
fn another_request_under_the_same_key_is_told_the_id() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let other = SandboxConfig { hostname: "x".into(), ..pod("a") };
    let error = daemon.run(daemon.engine.run_sandbox(other.clone())).unwrap_err();
    assert!(matches!(&error, EngineError::AlreadyExists(text) if text.contains(id.as_str())), "{error}");
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    daemon.run(daemon.engine.run_sandbox(other)).unwrap();
}

#[test]
fn a_caller_that_goes_away_changes_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.run(async {
        // On a busy machine it may be done before anybody looks.
        drop(tokio::time::timeout(Duration::ZERO, daemon.engine.run_sandbox(pod("a"))).await);
        daemon.engine.run_sandbox(pod("a")).await.unwrap()
    });
    assert_eq!(daemon.engine.sandboxes(&SandboxFilter::default()).len(), 1);
    daemon.run(async {
        drop(tokio::time::timeout(Duration::ZERO, daemon.engine.remove_sandbox(&id)).await);
        daemon.engine.remove_sandbox(&id).await.unwrap();
    });
    node.assert_empty("a removal whose caller went away");
}

#[test]
fn stopping_and_removing_what_is_not_there_is_fine() {
    let node = Node::new();
    let daemon = node.start();
    let id = SandboxId::from_random([1; 32]);
    daemon.run(daemon.engine.stop_sandbox(&id)).unwrap();
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    let id = ContainerId::from_random([1; 32]);
    daemon.run(daemon.engine.stop_container(&id, Duration::ZERO)).unwrap();
    daemon.run(daemon.engine.remove_container(&id)).unwrap();
}

#[test]
fn an_unready_network_is_told_before_anything_is_made() {
    let node = Node::new();
    let daemon = node.start();
    node.world.fail("network.ready");
    let error = daemon.run(daemon.engine.run_sandbox(pod("a"))).unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error}");
    node.assert_empty("a sandbox without a network");
}

#[test]
fn a_bad_cgroup_parent_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let config = SandboxConfig { cgroup_parent: "x.slice".into(), ..pod("a") };
    assert!(matches!(daemon.run(daemon.engine.run_sandbox(config)), Err(EngineError::Invalid(_))));
    node.assert_empty("a bad cgroup parent");
}

#[test]
fn a_network_that_can_not_be_given_back_is_tried_again() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    node.world.fail("network.teardown");
    let error = daemon.run(daemon.engine.stop_sandbox(&id)).unwrap_err();
    assert!(error.to_string().contains("address"), "{error}");
    assert_eq!(daemon.engine.sandbox(&id).unwrap().state, SandboxState::NotReady);
    assert!(daemon.run(daemon.engine.stop_sandbox(&id)).is_err());
    node.world.heal();
    daemon.run(daemon.engine.stop_sandbox(&id)).unwrap();
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    node.assert_empty("a late success");
}

#[test]
fn the_background_finishes_what_failed() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let mut events = daemon.engine.events();
    node.world.fail("network.teardown");
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap_err();
    node.world.heal();
    daemon.run(async { while events.recv().await.unwrap().change != Change::Deleted {} });
    node.assert_empty("a retry in the background");
}

#[test]
fn a_dead_shim_makes_the_pod_not_ready_and_kills_its_containers() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let container = daemon.running(&id, "c", "sleep");
    node.world.kill_shim(&id);
    let exit = daemon.ended(&container);
    assert_eq!((exit.code, exit.reason.as_str()), (137, "ShimGone"));
    let snapshot = daemon.engine.sandbox(&id).unwrap();
    assert_eq!(snapshot.state, SandboxState::NotReady);
    assert!(snapshot.message.contains("shim"), "{}", snapshot.message);
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    node.assert_empty("the death of a shim");
}

#[test]
fn a_container_goes_although_its_shim_ended_in_the_middle_of_the_call() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let container = daemon.running(&id, "c", "sleep");
    node.world.fail("shim.dies");
    daemon.run(daemon.engine.remove_container(&container)).unwrap();
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    node.assert_empty("a container whose shim ended");
}

#[test]
fn a_dead_pause_process_makes_the_pod_not_ready() {
    let node = Node::new();
    let daemon = node.start();
    let mut events = daemon.engine.events();
    let mut config = pod("a");
    config.namespaces.pid = NamespaceMode::Pod;
    let id = daemon.run(daemon.engine.run_sandbox(config)).unwrap();
    node.world.kill_pause(&id);
    daemon.run(async { while events.recv().await.unwrap().change != Change::Stopped {} });
    assert_eq!(daemon.engine.sandbox(&id).unwrap().state, SandboxState::NotReady);
}

#[test]
fn a_container_of_which_nothing_can_be_said_is_told_to_listeners() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let container = daemon.running(&id, "c", "sleep");
    let mut events = daemon.engine.events();
    let mut told = async || loop {
        let event = tokio::time::timeout(std::time::Duration::from_secs(30), events.recv()).await.unwrap().unwrap();
        if event.subject == Subject::Container(container.clone()) {
            let state = event.pod.containers.first().map(|container| container.state.clone());
            return (event.change, state);
        }
    };
    node.world.fail("shims.connect");
    node.world.lose_connections(&id);
    assert_eq!(daemon.run(told()), (Change::Stopped, Some(ContainerState::Unknown)));
    node.world.heal();
    daemon.run(daemon.engine.stop_sandbox(&id)).unwrap();
    let (change, state) = daemon.run(told());
    assert!(change == Change::Stopped && matches!(state, Some(ContainerState::Exited { .. })), "{state:?}");
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    node.assert_empty("a pod whose shim did not answer");
}

#[test]
fn events_are_numbered_and_carry_the_state() {
    let node = Node::new();
    let daemon = node.start();
    let mut events = daemon.engine.events();
    let id = daemon.sandbox("a");
    let container = daemon.running(&id, "c", "sleep");
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    let mut seen = Vec::new();
    let mut last = 0;
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.sequence, last + 1);
        last = event.sequence;
        seen.push(match &event.subject {
            Subject::Sandbox(s) => (s.as_str() == id.as_str(), "pod", event.change),
            Subject::Container(c) => (*c == container, "container", event.change),
        });
    }
    let of = |kind| seen.iter().filter(|(_, k, _)| *k == kind).map(|(_, _, c)| *c).collect::<Vec<_>>();
    assert!(seen.iter().all(|(ours, ..)| *ours));
    assert_eq!(of("pod"), [Change::Created, Change::Started, Change::Stopped, Change::Deleted]);
    assert_eq!(of("container"), [Change::Created, Change::Started, Change::Stopped, Change::Deleted]);
}

#[test]
fn each_event_shows_its_pod_right_after_the_change() {
    let node = Node::new();
    let daemon = node.start();
    let mut events = daemon.engine.events();
    let pods = ["a", "b", "c"].map(|name| daemon.sandbox(name));
    daemon.run(async {
        let mut work = Vec::new();
        for pod in pods.iter().flat_map(|pod| std::iter::repeat_n(pod.clone(), 20)).enumerate() {
            let engine = daemon.engine.clone();
            work.push(tokio::spawn(async move {
                let program = if pod.0 % 2 == 0 { "true" } else { "sleep" };
                let id = engine.create_container(&pod.1, ctr(&format!("c{}", pod.0), program)).await.unwrap();
                engine.start_container(&id).await.unwrap();
                engine.remove_container(&id).await.unwrap();
            }));
        }
        for task in work {
            task.await.unwrap();
        }
    });
    let (mut told, mut count) = (std::collections::BTreeMap::new(), 0);
    while let Ok(event) = events.try_recv() {
        let Subject::Container(id) = &event.subject else { continue };
        let state = event.pod.containers.iter().find(|c| c.id == *id).map(|c| &c.state);
        let fits = match event.change {
            Change::Created => matches!(state, Some(ContainerState::Created)),
            Change::Started => matches!(state, Some(ContainerState::Running { .. })),
            Change::Stopped => matches!(state, Some(ContainerState::Exited { .. })),
            Change::Deleted => state.is_none(),
        };
        assert!(fits, "{:?} with {state:?}", event.change);
        // No other container of the pod shows what was not told of it yet.
        told.insert(id.clone(), event.change);
        for other in &event.pod.containers {
            let fits = match &other.state {
                ContainerState::Created => told.get(&other.id) == Some(&Change::Created),
                ContainerState::Running { .. } => told.get(&other.id) == Some(&Change::Started),
                ContainerState::Exited { .. } | ContainerState::Unknown => {
                    told.get(&other.id) == Some(&Change::Stopped)
                }
            };
            assert!(fits, "{:?} was told as {:?}", other.state, told.get(&other.id));
        }
        count += 1;
    }
    assert_eq!(count, 60 * 4);
}

#[test]
fn the_timeline_tells_the_steps() {
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    daemon.running(&id, "c", "sleep");
    let steps: Vec<String> = daemon.engine.timeline(&id).unwrap().into_iter().map(|entry| entry.step).collect();
    assert_eq!(steps.first().map(String::as_str), Some("record"));
    assert!(steps.iter().any(|step| step == "network"), "{steps:?}");
    assert_eq!(steps.last().map(String::as_str), Some("container c: process"));
}

#[test]
fn lists_are_filtered() {
    let node = Node::new();
    let daemon = node.start();
    let labelled = SandboxConfig { labels: [("app".into(), "x".into())].into(), ..pod("a") };
    let a = daemon.run(daemon.engine.run_sandbox(labelled)).unwrap();
    let b = daemon.sandbox("b");
    daemon.run(daemon.engine.stop_sandbox(&b)).unwrap();
    let ids = |filter: SandboxFilter| -> Vec<SandboxId> {
        daemon.engine.sandboxes(&filter).into_iter().map(|s| s.id).collect()
    };
    let by_label = SandboxFilter { labels: [("app".into(), "x".into())].into(), ..SandboxFilter::default() };
    assert_eq!(ids(by_label), std::slice::from_ref(&a));
    assert_eq!(ids(SandboxFilter { state: Some(SandboxState::NotReady), ..SandboxFilter::default() }), [b]);
    assert_eq!(ids(SandboxFilter { id: Some(a.clone()), ..SandboxFilter::default() }), [a]);
}

#[test]
fn directories_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    let daemon = node.start();
    let id = daemon.sandbox("a");
    let mode = |path: &str| std::fs::metadata(node.disk.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("root/sandboxes"), 0o700);
    assert_eq!(mode(&format!("root/sandboxes/{id}")), 0o700);
    assert_eq!(mode(&format!("root/sandboxes/{id}/record.json")), 0o600);
    assert_eq!(mode("root"), 0o700);
}

#[test]
fn a_pod_that_could_not_be_made_is_explained_afterwards() {
    let node = Node::new();
    let daemon = node.start();
    daemon.engine.failpoints().set("sandbox network", crate::Failure::Error);
    daemon.run(daemon.engine.run_sandbox(pod("a"))).unwrap_err();
    let explained = daemon.engine.explain();
    let [failed] = explained.as_slice() else { panic!("{explained:?}") };
    assert!(matches!(&failed.outlook, Outlook::Failed { error } if error.contains("fail point")), "{failed:?}");
    let network = failed.taken.iter().find(|of| of.step.step == "network").unwrap();
    assert!(network.step.error.is_some() && network.container.is_none());
    assert_eq!(failed.under_way, []);
    // Bounded, the oldest go first.
    for _ in 0..100 {
        daemon.run(daemon.engine.run_sandbox(pod("b"))).unwrap_err();
    }
    let explained = daemon.engine.explain();
    assert!(explained.len() < 100 && explained.iter().all(|e| e.config.name == "b"), "{}", explained.len());
}

#[test]
fn a_step_that_hangs_is_told() {
    let node = Node::new();
    let daemon = node.start();
    daemon.engine.failpoints().set("sandbox network", crate::Failure::Hang);
    let engine = daemon.engine.clone();
    let runtime = daemon.runtime.as_ref().unwrap();
    let making = runtime.spawn(async move { engine.run_sandbox(pod("a")).await });
    runtime.block_on(daemon.engine.failpoints().hung());
    let explained = daemon.engine.explain();
    assert_eq!(explained[0].outlook, Outlook::BeingMade);
    assert_eq!(explained[0].under_way[0].step.step, "network");
    making.abort();
}

#[test]
fn the_network_namespace_is_made_by_the_shim_where_no_other_fits() {
    let node = Node::new();
    let daemon = node.start();
    let made = || node.world.calls().iter().filter(|call| call.starts_with("network.make_namespace")).count();
    daemon.sandbox("plain");
    assert_eq!(made(), 1);
    let range = || vec![IdMapping { host_id: 100_000, container_id: 0, length: 65_536 }];
    let mut user = pod("user");
    user.namespaces.user = Some(UserNamespace { uids: range(), gids: range() });
    let mut sysctl = pod("sysctl");
    sysctl.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    for config in [user, sysctl] {
        let id = daemon.run(daemon.engine.run_sandbox(config)).unwrap();
        assert_eq!(daemon.engine.sandbox(&id).unwrap().network.addresses.len(), 1);
    }
    assert_eq!(made(), 1);
}

#[test]
fn a_failed_network_waits_for_the_shim_that_starts() {
    let node = Node::new();
    node.world.fail("network.setup");
    let daemon = node.start();
    for name in ["a", "b", "c"] {
        let error = daemon.run(daemon.engine.run_sandbox(pod(name))).unwrap_err();
        assert!(error.to_string().contains("network.setup"), "{error}");
        node.assert_empty("a failed network");
    }
}

#[test]
fn root_a_shim_that_does_not_start_leaves_no_network() {
    for is_cni in [false, true] {
        let node = Node::new();
        if is_cni {
            node.world.use_cni();
        }
        node.world.fail("shims.launch");
        let daemon = node.start();
        let error = daemon.run(daemon.engine.run_sandbox(pod("a"))).unwrap_err();
        assert!(error.to_string().contains("shims.launch"), "{error}");
        node.assert_empty("a failed shim");
    }
}

#[test]
fn a_pod_keeps_its_runtime_handler_in_its_record() {
    let node = Node::new();
    let daemon = node.start();
    let asks = |name: &str| SandboxConfig { runtime_handler: name.into(), ..pod("a") };
    let error = daemon.run(daemon.engine.run_sandbox(asks("nobody"))).unwrap_err();
    assert!(matches!(&error, EngineError::Invalid(text) if text.contains("nobody")), "{error}");
    node.assert_empty("an unknown handler");
    let id = daemon.run(daemon.engine.run_sandbox(asks("other"))).unwrap();
    let handler = daemon.engine.sandbox(&id).unwrap().handler.unwrap();
    assert_eq!(handler.path, std::path::Path::new("/usr/bin/other"));
    drop(daemon);
    let daemon = node.start();
    assert_eq!(daemon.engine.sandbox(&id).unwrap().handler.unwrap(), handler);
    daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
    node.assert_empty("removal");
}

#[test]
fn a_container_of_a_runtime_handler_has_no_checkpoints() {
    let node = Node::new();
    let daemon = node.start();
    let (engine, config) = (&daemon.engine, SandboxConfig { runtime_handler: "other".into(), ..pod("a") });
    let id = daemon.run(engine.run_sandbox(config)).unwrap();
    let running = daemon.running(&id, "c", "sleep");
    let written = engine.checkpoint_container(&running, "/archive.tar".into(), Duration::from_secs(5));
    let refused = |error: EngineError| {
        let text = error.to_string();
        assert!(
            matches!(error, EngineError::FailedPrecondition(_)) && text.contains("runtime handler \"other\""),
            "{text}"
        );
    };
    refused(daemon.run(written).unwrap_err());
    let from = ContainerConfig { restore_from: Some("/archive.tar".into()), ..ctr("d", "sleep") };
    refused(daemon.run(engine.create_container(&id, from)).unwrap_err());
    assert_eq!(engine.container_ids(), [running]);
}

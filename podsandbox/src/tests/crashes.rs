//! A daemon that dies at any step; the next one on the same disk ends consistent.

use super::*;
use crate::SandboxFilter;
use crate::container::Container;
use crate::failpoints::Failure;
use crate::ladder::Climb;
use crate::model::SandboxState;
use crate::sandbox::Sandbox;

/// Starts the work and returns when it hangs at the point.
fn hang(daemon: &Daemon, point: &str, work: impl Future<Output = ()> + Send + 'static) {
    daemon.engine.failpoints().set(point, Failure::Hang);
    daemon.run(async {
        tokio::spawn(work);
        let hung = daemon.engine.failpoints().hung();
        tokio::time::timeout(std::time::Duration::from_secs(30), hung).await.expect("the point was not reached");
    });
}

fn climbing<T: Climb>() -> Vec<String> {
    let both = |step: &crate::ladder::Step<T>| {
        [format!("{} {}", T::KIND, step.name), format!("{} {} done", T::KIND, step.name)]
    };
    T::STEPS.iter().flat_map(both).collect()
}

fn descending<T: Climb>() -> Vec<String> {
    T::STEPS.iter().map(|step| format!("{} undo {}", T::KIND, step.name)).collect()
}

fn making_a_sandbox(node: &Node) {
    for point in climbing::<Sandbox>() {
        let daemon = node.start();
        let engine = daemon.engine.clone();
        hang(&daemon, &point, async move { drop(engine.run_sandbox(pod("a")).await) });
        daemon.crash();
        let daemon = node.start();
        node.assert_empty(&point);
        let id = daemon.sandbox("a");
        daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
        node.assert_empty("the retry");
    }
}

#[test]
fn while_a_sandbox_is_made() {
    making_a_sandbox(&Node::new());
}

#[test]
fn root_while_a_sandbox_of_plugins_is_made() {
    let node = Node::new();
    node.world.use_cni();
    making_a_sandbox(&node);
}

fn removing_a_sandbox(node: &Node) {
    for point in descending::<Sandbox>().into_iter().chain(descending::<Container>()) {
        let daemon = node.start();
        let id = daemon.sandbox("a");
        daemon.running(&id, "c", "sleep");
        let engine = daemon.engine.clone();
        hang(&daemon, &point, async move { drop(engine.remove_sandbox(&id).await) });
        daemon.crash();
        let _daemon = node.start();
        node.assert_empty(&point);
    }
}

#[test]
fn while_a_sandbox_is_removed() {
    removing_a_sandbox(&Node::new());
}

#[test]
fn root_while_a_sandbox_of_plugins_is_removed() {
    let node = Node::new();
    node.world.use_cni();
    removing_a_sandbox(&node);
}

#[test]
fn while_a_sandbox_is_stopped() {
    for step in Sandbox::STEPS.iter().skip(2) {
        let node = Node::new();
        let daemon = node.start();
        let id = daemon.sandbox("a");
        let (engine, stopped) = (daemon.engine.clone(), id.clone());
        hang(&daemon, &format!("sandbox undo {}", step.name), async move { drop(engine.stop_sandbox(&stopped).await) });
        daemon.crash();
        let daemon = node.start();
        assert_eq!(daemon.engine.sandbox(&id).unwrap().state, SandboxState::NotReady, "{}", step.name);
        assert_eq!(node.world.left_over(), Vec::<String>::new(), "{}", step.name);
    }
}

#[test]
fn while_a_container_is_made_or_started() {
    let node = Node::new();
    for point in climbing::<Container>() {
        let daemon = node.start();
        let sandbox = daemon.sandbox("a");
        let (engine, inside) = (daemon.engine.clone(), sandbox.clone());
        hang(&daemon, &point, async move {
            let id = engine.create_container(&inside, ctr("c", "sleep")).await.unwrap();
            drop(engine.start_container(&id).await);
        });
        daemon.crash();
        let daemon = node.start();
        assert_eq!(daemon.engine.sandbox(&sandbox).unwrap().state, SandboxState::Ready, "{point}");
        let id = daemon.run(daemon.engine.create_container(&sandbox, ctr("c", "sleep"))).unwrap();
        daemon.run(daemon.engine.start_container(&id)).unwrap();
        assert!(matches!(daemon.state(&id), ContainerState::Running { .. }), "{point}");
        daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
        node.assert_empty(&point);
    }
}

#[test]
fn who_gave_its_network_back_is_no_holder_after_a_restart() {
    let node = Node::new();
    let daemon = node.start();
    let (stopped, runs) = (daemon.sandbox("stopped"), daemon.sandbox("runs"));
    daemon.run(daemon.engine.stop_sandbox(&stopped)).unwrap();
    daemon.crash();
    let daemon = node.start();
    assert!(daemon.engine.sandbox(&stopped).is_ok());
    assert_eq!(daemon.engine.network_holders(), [runs]);
}

#[test]
fn what_runs_is_taken_over_and_exits_are_learned() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let runs = daemon.running(&sandbox, "runs", "sleep");
    let ends = daemon.running(&sandbox, "ends", "sleep");
    let before = daemon.engine.container(&runs).unwrap();
    daemon.crash();
    node.world.exit(&ends, 7);
    let daemon = node.start();
    assert_eq!((daemon.report.sandboxes, daemon.report.containers, daemon.report.running), (1, 2, 1));
    assert!(daemon.report.notes.is_empty(), "{:?}", daemon.report.notes);
    let after = daemon.engine.container(&runs).unwrap();
    assert_eq!((after.state, after.user, after.runtime_spec), (before.state, before.user, before.runtime_spec));
    assert_eq!(daemon.ended(&ends).code, 7);
    assert_eq!(daemon.sandbox("a"), sandbox);
    let output = daemon.run(daemon.engine.exec_sync(&runs, vec!["echo".into(), "x".into()], None)).unwrap();
    assert_eq!(output.stdout, b"x\n");
    node.world.exit(&runs, 3);
    assert_eq!(daemon.ended(&runs).code, 3);
}

#[test]
fn a_command_whose_caller_went_with_the_daemon_is_killed() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let id = daemon.running(&sandbox, "c", "sleep");
    let engine = daemon.engine.clone();
    daemon.run(async {
        tokio::spawn(async move { drop(engine.exec_sync(&id, vec!["sleep".into()], None).await) });
        while !node.world.calls().iter().any(|call| call.starts_with("shim.exec")) {
            tokio::task::yield_now().await;
        }
    });
    daemon.crash();
    assert!(!node.world.calls().iter().any(|call| call.starts_with("shim.kill_exec")));
    let _daemon = node.start();
    assert!(node.world.calls().iter().any(|call| call.starts_with("shim.kill_exec")));
}

#[test]
fn a_shim_that_died_meanwhile_is_noticed() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let id = daemon.running(&sandbox, "c", "sleep");
    daemon.crash();
    node.world.kill_shim(&sandbox);
    let daemon = node.start();
    assert_eq!(daemon.ended(&id).reason, "ShimGone");
    assert_eq!(daemon.engine.sandbox(&sandbox).unwrap().state, SandboxState::NotReady);
    assert_eq!(daemon.report.notes.len(), 1, "{:?}", daemon.report.notes);
    daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
    node.assert_empty("a shim that died meanwhile");
}

#[test]
fn a_shim_that_does_not_answer_is_not_taken_for_dead() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let id = daemon.running(&sandbox, "c", "sleep");
    daemon.crash();
    node.world.fail("shims.connect");
    let before = node.world.calls().len();
    let daemon = node.start();
    assert_eq!(daemon.engine.sandbox(&sandbox).unwrap().state, SandboxState::NotReady);
    assert_eq!(daemon.state(&id), ContainerState::Unknown);
    assert!(node.world.calls()[before..].is_empty(), "{:?}", &node.world.calls()[before..]);
    node.world.heal();
    daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
    node.assert_empty("the removal of a pod whose shim did not answer");
}

#[test]
fn after_a_restart_of_the_node_all_is_given_back_and_nothing_runs() {
    let node = Node::new();
    let daemon = node.start();
    let sandbox = daemon.sandbox("a");
    let runs = daemon.running(&sandbox, "runs", "sleep");
    let made = daemon.run(daemon.engine.create_container(&sandbox, ctr("made", "sleep"))).unwrap();
    daemon.crash();
    node.world.reboot();
    let daemon = node.start_after_boot("boot 2");
    let snapshot = daemon.engine.sandbox(&sandbox).unwrap();
    assert_eq!((snapshot.state, snapshot.message.as_str()), (SandboxState::NotReady, "the node was restarted"));
    let exit = daemon.ended(&runs);
    assert_eq!((exit.code, exit.reason.as_str()), (255, "Unknown"));
    assert!(matches!(daemon.state(&made), ContainerState::Exited { .. }));
    assert!(!node.left_over().iter().any(|left| left.starts_with("address")), "{:?}", node.left_over());
    daemon.run(daemon.engine.remove_sandbox(&sandbox)).unwrap();
    node.assert_empty("a restart of the node");
}

#[test]
fn shims_without_a_record_are_ended() {
    let node = Node::new();
    node.world.add_shim(&SandboxId::from_random([5; 32]));
    let daemon = node.start();
    assert_eq!(daemon.report.notes.len(), 1);
    node.assert_empty("an orphan");
}

#[test]
fn twenty_pods_are_recovered() {
    let node = Node::new();
    let daemon = node.start();
    let ids: Vec<SandboxId> = (0..20).map(|n| daemon.sandbox(&format!("pod-{n}"))).collect();
    daemon.crash();
    let daemon = node.start();
    assert_eq!(daemon.engine.sandboxes(&SandboxFilter::default()).len(), 20);
    for id in &ids {
        assert_eq!(daemon.engine.sandbox(id).unwrap().state, SandboxState::Ready);
    }
}

//! A failure at every step of every table leaves nothing, and the retry succeeds.

use super::*;
use crate::container::Container;
use crate::failpoints::Failure;
use crate::ladder::Climb;
use crate::sandbox::Sandbox;

fn points<T: Climb>() -> Vec<String> {
    let both = |step: &crate::ladder::Step<T>| {
        [format!("{} {}", T::KIND, step.name), format!("{} {} done", T::KIND, step.name)]
    };
    T::STEPS.iter().flat_map(both).collect()
}

fn sandbox_fails_everywhere(node: &Node) {
    let daemon = node.start();
    for point in points::<Sandbox>() {
        daemon.engine.failpoints().set(&point, Failure::Error);
        let error = daemon.run(daemon.engine.run_sandbox(pod("a"))).unwrap_err();
        assert!(error.to_string().contains("fail point"), "{error}");
        node.assert_empty(&point);
        daemon.engine.failpoints().clear();
        let id = daemon.sandbox("a");
        daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
        node.assert_empty("the retry");
    }
}

#[test]
fn a_sandbox_that_fails_at_any_step_leaves_nothing() {
    sandbox_fails_everywhere(&Node::new());
}

#[test]
fn root_a_sandbox_of_plugins_that_fails_at_any_step_leaves_nothing() {
    let node = Node::new();
    node.world.use_cni();
    sandbox_fails_everywhere(&node);
}

#[test]
fn a_container_that_fails_at_any_step_leaves_nothing() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let before = node.left_over();
    for point in points::<Container>() {
        daemon.engine.failpoints().set(&point, Failure::Error);
        let made = daemon.run(daemon.engine.create_container(&pod, ctr("c", "sleep")));
        if let Ok(id) = made {
            assert!(point.contains("process"), "{point} did not fail");
            daemon.run(daemon.engine.start_container(&id)).unwrap_err();
            assert_eq!(daemon.ended(&id).reason, if point.contains("done") { "Error" } else { "StartError" });
            daemon.run(daemon.engine.remove_container(&id)).unwrap();
        }
        assert_eq!(node.left_over(), before, "left over after {point}");
        daemon.engine.failpoints().clear();
    }
    let id = daemon.running(&pod, "c", "sleep");
    daemon.run(daemon.engine.remove_container(&id)).unwrap();
    assert_eq!(node.left_over(), before);
}

#[test]
fn every_undo_that_fails_is_done_by_the_next_call() {
    let node = Node::new();
    let daemon = node.start();
    let undo = |kind: &str, step: &str| format!("{kind} undo {step}");
    let sandbox = Sandbox::STEPS.iter().map(|step| undo(Sandbox::KIND, step.name));
    let container = Container::STEPS.iter().map(|step| undo(Container::KIND, step.name));
    for point in sandbox.chain(container) {
        let id = daemon.sandbox("a");
        daemon.running(&id, "c", "sleep");
        daemon.engine.failpoints().set(&point, Failure::Error);
        assert!(daemon.run(daemon.engine.remove_sandbox(&id)).is_err(), "{point} did not fail");
        daemon.engine.failpoints().clear();
        daemon.run(daemon.engine.remove_sandbox(&id)).unwrap();
        node.assert_empty(&point);
    }
}

#[test]
fn every_port_that_fails_leaves_nothing() {
    for method in ["network.setup", "shims.launch", "shim.create_pod"] {
        let node = Node::new();
        let daemon = node.start();
        node.world.fail(method);
        let error = daemon.run(daemon.engine.run_sandbox(pod("a"))).unwrap_err();
        assert!(error.to_string().contains(method), "{error}");
        node.assert_empty(method);
        node.world.heal();
        daemon.sandbox("a");
    }
}

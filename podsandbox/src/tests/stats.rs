use super::*;
use crate::model::SandboxState;
use crate::{ContainerFilter, SandboxFilter};

impl Daemon {
    fn sandbox_below(&self, name: &str, parent: &str) -> SandboxId {
        let config = SandboxConfig { cgroup_parent: parent.into(), ..pod(name) };
        self.run(self.engine.run_sandbox(config)).unwrap()
    }
}

#[test]
fn containers_that_run_have_usage_and_all_have_their_layer() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    let running = daemon.running(&pod, "runs", "sleep");
    let ended = daemon.running(&pod, "ends", "true");
    daemon.ended(&ended);
    let stats = daemon.run(daemon.engine.container_stats(&ContainerFilter::default()));
    assert_eq!(stats.len(), 2);
    for stats in stats {
        assert_eq!(stats.layer.unwrap().bytes, 4096);
        assert!(stats.layer_filesystem.ends_with("root/containers"));
        assert_eq!(stats.usage.is_some(), stats.container.id == running, "{}", stats.container.config.name);
        assert_eq!(stats.cpu_nanoseconds_per_second.is_some(), stats.container.id == running);
    }
    let filter = ContainerFilter { id: Some(ended.clone()), ..ContainerFilter::default() };
    assert_eq!(daemon.run(daemon.engine.container_stats(&filter)).len(), 1);
}

#[test]
fn what_all_containers_wrote_is_the_sum_of_their_layers() {
    let node = Node::new();
    let daemon = node.start();
    let nothing = daemon.run(daemon.engine.layers_usage());
    assert!(nothing.directory.ends_with("root/containers") && (nothing.bytes, nothing.inodes) == (0, 0), "{nothing:?}");
    let pod = daemon.sandbox("a");
    daemon.running(&pod, "runs", "sleep");
    let ended = daemon.running(&pod, "ends", "true");
    daemon.ended(&ended);
    let usage = daemon.run(daemon.engine.layers_usage());
    assert_eq!((usage.bytes, usage.inodes), (2 * 4096, 2));
    daemon.run(daemon.engine.remove_container(&ended)).unwrap();
    assert_eq!(daemon.run(daemon.engine.layers_usage()).bytes, 4096);
}

#[test]
fn a_pod_is_the_sum_of_its_containers_or_its_own_cgroup() {
    let node = Node::new();
    let daemon = node.start();
    let [ours, alone, first, second] = [("ours", ""), ("alone", "/k/pod1"), ("first", "/k"), ("second", "/k")]
        .map(|(n, p)| daemon.sandbox_below(n, p));
    for sandbox in [&ours, &alone, &first, &second] {
        daemon.running(sandbox, "one", "sleep");
        daemon.running(sandbox, "two", "sleep");
    }
    let usage = |id: &SandboxId| {
        let filter = SandboxFilter { id: Some(id.clone()), ..SandboxFilter::default() };
        let stats = daemon.run(daemon.engine.sandbox_stats(&filter)).remove(0);
        assert_eq!(stats.containers.len(), 2);
        assert_eq!(stats.network.unwrap().links.len(), 1);
        let usage = stats.usage.unwrap();
        (usage.memory.unwrap().working_set_bytes, usage.processes)
    };
    assert_eq!(usage(&ours), (120, Some(2)));
    assert_eq!(usage(&alone), (60, Some(2)), "read of its cgroup, without the shim's process");
    assert_eq!(usage(&first), (120, Some(2)), "the cgroup of several pods tells nothing of one");
    daemon.run(daemon.engine.stop_sandbox(&second)).unwrap();
    assert_eq!(usage(&first), (60, Some(2)));
}

#[test]
fn a_stopped_pod_has_no_usage() {
    let node = Node::new();
    let daemon = node.start();
    let pod = daemon.sandbox("a");
    daemon.running(&pod, "c", "sleep");
    daemon.run(daemon.engine.stop_sandbox(&pod)).unwrap();
    let stats = daemon.run(daemon.engine.sandbox_stats(&SandboxFilter::default())).remove(0);
    assert_eq!(stats.sandbox.state, SandboxState::NotReady);
    assert!(stats.usage.is_none() && stats.network.is_none() && stats.containers[0].usage.is_none());
}

//! Tests of the answers.

use std::sync::Arc;

use podwright_cri_api::v1;
use podwright_podsandbox::model::{
    ContainerConfig, ContainerSnapshot, ContainerState, Exit, NamespaceMode, NamespaceModes, NetworkStatus, Resources,
    SandboxConfig, SandboxSnapshot, SandboxState,
};
use podwright_types::{ContainerId, SandboxId};
use serde_json::Value;

use super::*;

fn snapshot(state: ContainerState) -> ContainerSnapshot {
    let config = ContainerConfig {
        name: "c".into(),
        image: "sha256:ab".into(),
        user_specified_image: "nginx:1".into(),
        ..Default::default()
    };
    ContainerSnapshot {
        id: ContainerId::from_random([1; 32]),
        sandbox: SandboxId::from_random([2; 32]),
        config: Arc::new(config),
        resources: Arc::new(Resources { cpu_shares: Some(7), ..Resources::default() }),
        state,
        created_at_nanos: 5,
        image_id: "sha256:ab".into(),
        image_ref: "r@sha256:cd".into(),
        volume_images: Vec::new(),
        user: None,
        log_path: None,
        stop_signal: 15,
        runtime_spec: r#"{"ociVersion":"1.2.0"}"#.into(),
    }
}

fn ended(code: i32, oom_killed: bool, reason: &str) -> v1::ContainerStatus {
    let exit = Exit { code, finished_at_nanos: 9, oom_killed, message: String::new(), reason: reason.into() };
    container_status(&snapshot(ContainerState::Exited { started_at_nanos: Some(6), exit }), |_| None)
}

#[test]
fn ends_have_a_reason() {
    assert_eq!(ended(0, false, "").reason, "Completed");
    assert_eq!(ended(3, false, "").reason, "Error");
    assert_eq!(ended(137, true, "").reason, "OOMKilled");
    assert_eq!(ended(128, false, "StartError").reason, "StartError");
    let status = ended(3, false, "");
    assert_eq!((status.exit_code, status.started_at, status.finished_at), (3, 6, 9));
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
}

#[test]
fn image_volumes_are_told_by_their_ids() {
    use podwright_podsandbox::model::{Mount, MountSource, Propagation};
    let mount = |source: MountSource| Mount {
        destination: "/at".into(),
        source,
        readonly: true,
        recursive_readonly: false,
        propagation: Propagation::Private,
        selinux_relabel: false,
        uid_mappings: vec![],
        gid_mappings: vec![],
    };
    let image = |image: &str| mount(MountSource::Image { image: image.into(), sub_path: "etc".into() });
    let config = ContainerConfig {
        mounts: vec![image("data:1"), mount(MountSource::Host("/h".into())), image("data:2")],
        ..ContainerConfig::default()
    };
    let snapshot = ContainerSnapshot {
        config: Arc::new(config),
        volume_images: vec!["sha256:11".into(), "sha256:22".into()],
        ..snapshot(ContainerState::Created)
    };
    let mounts = container_status(&snapshot, |_| None).mounts;
    let told = |at: usize| mounts[at].image.as_ref().map(|i| (i.image.as_str(), i.image_ref.as_str()));
    assert_eq!(told(0), Some(("data:1", "sha256:11")));
    assert_eq!((told(1), mounts[1].host_path.as_str()), (None, "/h"));
    assert_eq!(told(2), Some(("data:2", "sha256:22")));
    assert_eq!((mounts[2].image_sub_path.as_str(), mounts[2].host_path.as_str()), ("etc", ""));
}

#[test]
fn the_image_is_told_by_its_name() {
    let status = container_status(&snapshot(ContainerState::Created), |_| None);
    assert_eq!(status.stop_signal(), v1::Signal::Sigterm);
    assert_eq!(status.image.unwrap().image, "nginx:1");
    assert_eq!((status.image_id.as_str(), status.image_ref.as_str()), ("sha256:ab", "r@sha256:cd"));
    assert_eq!(status.resources.unwrap().linux.unwrap().cpu_shares, 7);
}

#[test]
fn info_of_a_container_has_what_tools_read() {
    let info = container_info(&snapshot(ContainerState::Running { pid: 42, started_at_nanos: 6 }));
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["pid"], 42);
    assert_eq!(info["sandboxID"], "02".repeat(32));
    assert_eq!(info["runtimeSpec"]["ociVersion"], "1.2.0");
}

fn sandbox_snapshot(network: NamespaceMode) -> SandboxSnapshot {
    let namespaces = NamespaceModes { network, ..NamespaceModes::default() };
    SandboxSnapshot {
        id: SandboxId::from_random([2; 32]),
        config: Arc::new(SandboxConfig { name: "p".into(), namespaces, ..Default::default() }),
        state: SandboxState::Ready,
        created_at_nanos: 5,
        network: NetworkStatus { addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()] },
        netns_path: Some("/run/netns/x".into()),
        pid: 7,
        message: String::new(),
        limits: None,
        handler: None,
    }
}

#[test]
fn addresses_are_told_for_pods_with_a_network_of_their_own() {
    let network = sandbox_status(&sandbox_snapshot(NamespaceMode::Pod)).network.unwrap();
    assert_eq!(network.ip, "10.0.0.2");
    assert_eq!(network.additional_ips[0].ip, "fd00::2");
    let status = sandbox_status(&sandbox_snapshot(NamespaceMode::Node));
    assert_eq!(status.network.unwrap().ip, "");
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!((options.network(), options.pid()), (v1::NamespaceMode::Node, v1::NamespaceMode::Container));
}

#[test]
fn info_of_a_sandbox_has_the_path_of_its_network() {
    let info = sandbox_info(&sandbox_snapshot(NamespaceMode::Pod));
    let info: Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(info["runtimeSpec"]["linux"]["namespaces"][0]["path"], "/run/netns/x");
    assert_eq!(info["pid"], 7);
}

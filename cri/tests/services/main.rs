//! The services over a unix socket, with the engine on in-memory ports: every RPC is called with the generated client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod sessions;
mod stats;
mod streams;
mod support;

use std::collections::BTreeMap;

use podwright_cri_api::v1;
use support::{Front, container_config, sandbox_config};
use tonic::Code;

#[tokio::test]
async fn a_kubelet_finds_what_it_asks_for_at_its_start() {
    let front = Front::start().await;
    let version = front.runtime().version(v1::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
    assert!(!version.runtime_name.is_empty() && !version.runtime_version.is_empty());

    let usage = front.images().image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((usage.image_filesystems.len(), usage.container_filesystems.len()), (1, 1));
    let images = &usage.image_filesystems[0];
    assert!(images.used_bytes.is_some() && images.timestamp > 0);
    assert!(std::fs::metadata(&images.fs_id.as_ref().unwrap().mountpoint).is_ok());

    let config = front.runtime().runtime_config(v1::RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), v1::CgroupDriver::Cgroupfs);

    let network_config = Some(v1::NetworkConfig { pod_cidr: "10.1.0.0/24, fd00::/64".into() });
    let request = v1::UpdateRuntimeConfigRequest { runtime_config: Some(v1::RuntimeConfig { network_config }) };
    front.runtime().update_runtime_config(request).await.unwrap();
    assert_eq!(front.host.cidrs(), ["10.1.0.0/24", "fd00::/64"]);
}

#[tokio::test]
async fn status_tells_the_truth_about_the_network() {
    let front = Front::start().await;
    let request = v1::StatusRequest { verbose: true };
    let status = front.runtime().status(request).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    assert!(conditions.iter().all(|condition| condition.status), "{conditions:?}");
    assert_eq!(status.runtime_handlers[0].name, "");
    assert!(status.features.unwrap().supplemental_groups_policy);
    assert!(status.info.contains_key("config") && status.info.contains_key("cniconfig"));

    front.world.fail("network.ready");
    let status = front.runtime().status(request).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    let network = conditions.iter().find(|condition| condition.r#type == "NetworkReady").unwrap();
    assert!(!network.status && !network.message.is_empty());
}

#[tokio::test]
async fn a_pod_lives_and_goes() {
    let front = Front::start().await;
    let pod = front.run_pod("web").await;
    let status = front.pod_status(&pod, true).await.unwrap();
    let sandbox = status.status.unwrap();
    assert_eq!(sandbox.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(sandbox.labels, BTreeMap::from([("app".to_owned(), "web".to_owned())]));
    assert!(sandbox.network.unwrap().ip.starts_with("10.") && sandbox.created_at > 0 && status.timestamp > 0);
    assert!(status.info["info"].contains("\"pid\""));

    let container = front.create(&pod, "app").await;
    assert_eq!(front.container_status(&container).await.unwrap().state(), v1::ContainerState::ContainerCreated);
    let request = v1::StartContainerRequest { container_id: container.clone() };
    front.runtime().start_container(request).await.unwrap();
    assert_eq!(front.container_status(&container).await.unwrap().state(), v1::ContainerState::ContainerRunning);

    let request =
        v1::ExecSyncRequest { container_id: container.clone(), cmd: vec!["echo".into(), "hello".into()], timeout: 10 };
    let output = front.runtime().exec_sync(request).await.unwrap().into_inner();
    assert_eq!((output.exit_code, String::from_utf8_lossy(&output.stdout).trim()), (0, "hello"));

    let cmd = vec!["flood".into(), "17000000".into()];
    let request = v1::ExecSyncRequest { container_id: container.clone(), cmd, timeout: 60 };
    let output = front.runtime().exec_sync(request).await.unwrap().into_inner();
    assert!((16_000_000..16 << 20).contains(&output.stdout.len()), "{} bytes of output", output.stdout.len());

    let linux = Some(v1::LinuxContainerResources { cpu_shares: 99, ..Default::default() });
    let request = v1::UpdateContainerResourcesRequest { container_id: container.clone(), linux, ..Default::default() };
    front.runtime().update_container_resources(request).await.unwrap();
    let status = front.container_status(&container).await.unwrap();
    assert_eq!(status.resources.unwrap().linux.unwrap().cpu_shares, 99);
    let request = v1::UpdatePodSandboxResourcesRequest { pod_sandbox_id: pod.clone(), ..Default::default() };
    front.runtime().update_pod_sandbox_resources(request).await.unwrap();

    let request = v1::ReopenContainerLogRequest { container_id: container.clone() };
    front.runtime().reopen_container_log(request).await.unwrap();

    let request = v1::StopContainerRequest { container_id: container.clone(), timeout: 5 };
    front.runtime().stop_container(request).await.unwrap();
    let status = front.container_status(&container).await.unwrap();
    assert_eq!(status.state(), v1::ContainerState::ContainerExited);
    assert!(status.finished_at > 0 && !status.reason.is_empty());

    let request = v1::RemoveContainerRequest { container_id: container.clone() };
    front.runtime().remove_container(request).await.unwrap();
    assert_eq!(front.container_status(&container).await.unwrap_err().code(), Code::NotFound);
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
    front.runtime().stop_pod_sandbox(request).await.unwrap();
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.clone() };
    front.runtime().remove_pod_sandbox(request).await.unwrap();
    assert_eq!(front.pod_status(&pod, false).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(front.world.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn lists_are_filtered_by_id_state_and_labels() {
    let front = Front::start().await;
    let (one, two) = (front.run_pod("one").await, front.run_pod("two").await);
    let container = front.create(&one, "app").await;
    let pods = async |filter| {
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        let items = front.runtime().list_pod_sandbox(request).await.unwrap().into_inner().items;
        items.into_iter().map(|item| item.id).collect::<Vec<_>>()
    };
    let none = v1::PodSandboxFilter::default();
    assert_eq!(pods(none.clone()).await.len(), 2);
    assert_eq!(pods(v1::PodSandboxFilter { id: one[..13].into(), ..none.clone() }).await, std::slice::from_ref(&one));
    assert_eq!(pods(v1::PodSandboxFilter { id: "0".repeat(64), ..none.clone() }).await, Vec::<String>::new());
    let labels = BTreeMap::from([("app".to_owned(), "two".to_owned())]);
    assert_eq!(pods(v1::PodSandboxFilter { label_selector: labels, ..none.clone() }).await, std::slice::from_ref(&two));
    let not_ready = Some(v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxNotready.into() });
    assert!(pods(v1::PodSandboxFilter { state: not_ready, ..none }).await.is_empty());

    let containers = async |filter| {
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let found = front.runtime().list_containers(request).await.unwrap().into_inner().containers;
        found.into_iter().map(|container| container.id).collect::<Vec<_>>()
    };
    let none = v1::ContainerFilter::default();
    assert_eq!(
        containers(v1::ContainerFilter { pod_sandbox_id: one, ..none.clone() }).await,
        std::slice::from_ref(&container)
    );
    assert!(containers(v1::ContainerFilter { pod_sandbox_id: two, ..none.clone() }).await.is_empty());
    let running = Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() });
    assert!(containers(v1::ContainerFilter { state: running, ..none }).await.is_empty());
}

#[tokio::test]
async fn what_is_unknown_is_stopped_and_removed_already() {
    let front = Front::start().await;
    for id in ["f".repeat(64), "no/such".to_owned()] {
        let (mut runtime, pod_sandbox_id) = (front.runtime(), id.clone());
        runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await.unwrap();
        runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
        runtime.stop_container(v1::StopContainerRequest { container_id: id.clone(), timeout: 0 }).await.unwrap();
        runtime.remove_container(v1::RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
        assert_eq!(front.container_status(&id).await.unwrap_err().code(), Code::NotFound);
    }
    let image = Some(v1::ImageSpec { image: "nobody/has:this".into(), ..Default::default() });
    let request = v1::ImageStatusRequest { image: image.clone(), verbose: true };
    assert_eq!(front.images().image_status(request).await.unwrap().into_inner().image, None);
    front.images().remove_image(v1::RemoveImageRequest { image }).await.unwrap();
    assert!(front.images().list_images(v1::ListImagesRequest::default()).await.unwrap().into_inner().images.is_empty());
}

#[tokio::test]
async fn requests_that_cannot_be_are_invalid_and_say_where() {
    let front = Front::start().await;
    let pod = front.run_pod("web").await;
    let run = async |config, handler: &str| {
        let request = v1::RunPodSandboxRequest { config, runtime_handler: handler.into() };
        front.runtime().run_pod_sandbox(request).await.unwrap_err()
    };
    let create = async |change: fn(&mut v1::ContainerConfig)| {
        let mut config = container_config("bad");
        change(&mut config);
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config("web")),
        };
        front.runtime().create_container(request).await.unwrap_err()
    };
    let exec = async |cmd: Vec<String>, timeout| {
        let request = v1::ExecSyncRequest { container_id: "x".into(), cmd, timeout };
        front.runtime().exec_sync(request).await.unwrap_err()
    };
    let stop = front.runtime().stop_container(v1::StopContainerRequest::default()).await.unwrap_err();
    let refused = [
        (run(None, "").await, "config"),
        (run(Some(sandbox_config("x")), "a\nb").await, "runtime_handler"),
        (run(Some(v1::PodSandboxConfig { metadata: None, ..sandbox_config("x") }), "").await, "config.metadata"),
        (create(|c| c.args = vec!["x".repeat(10 << 20)]).await, "config.args[0]"),
        (create(|c| c.log_path = "../x".into()).await, "config.log_path"),
        (
            create(|c| c.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true)
                .await,
            "config.linux.security_context.privileged",
        ),
        (exec(Vec::new(), 0).await, "cmd"),
        (exec(vec!["true".into()], -1).await, "timeout"),
        (stop, "container_id"),
    ];
    for (status, field) in refused {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with(&format!("invalid request: {field}: ")), "{}", status.message());
    }
    let unknown = run(Some(sandbox_config("x")), "kata").await;
    assert_eq!(unknown.code(), Code::InvalidArgument, "{unknown:?}");
    assert!(unknown.message().contains("\"kata\""), "{unknown:?}");
    let too_big = create(|c| c.args = vec!["x".repeat(1 << 20); 17]).await;
    assert_eq!(too_big.code(), Code::OutOfRange, "{}", too_big.message());
}

#[tokio::test]
async fn a_slow_command_ends_at_its_limit() {
    let front = Front::start().await;
    let pod = front.run_pod("web").await;
    let container_id = front.create(&pod, "app").await;
    let request = v1::StartContainerRequest { container_id: container_id.clone() };
    front.runtime().start_container(request).await.unwrap();
    let request = v1::ExecSyncRequest { container_id, cmd: vec!["sleep".into()], timeout: 1 };
    assert_eq!(front.runtime().exec_sync(request).await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn an_image_that_cannot_be_fetched_says_why() {
    let front = Front::start().await;
    // Port 1 of the loopback: nobody listens there.
    let image = Some(v1::ImageSpec { image: "127.0.0.1:1/no/such:1".into(), ..Default::default() });
    let error = front.images().pull_image(v1::PullImageRequest { image, ..Default::default() }).await.unwrap_err();
    assert_eq!(error.code(), Code::Unknown, "{error:?}");
    assert!(error.message().starts_with("RegistryUnavailable: "), "{}", error.message());
    let error = front.images().pull_image(v1::PullImageRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_comes_later_is_unimplemented_and_says_its_name() {
    let front = Front::start().await;
    let mut r = front.runtime();
    let later = [
        ("CheckpointPod", r.checkpoint_pod(v1::CheckpointPodRequest::default()).await.map(drop)),
        ("RestorePod", r.restore_pod(v1::RestorePodRequest::default()).await.map(drop)),
    ];
    for (rpc, answer) in later {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{rpc}");
        assert!(status.message().starts_with(rpc), "{rpc} is not named in {:?}", status.message());
    }
}

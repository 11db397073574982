//! The crate k8s-cri, whose proto is Kubernetes' own of 1.32, as an independent client.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use podwright_critest::{World, with_world};
use tonic::Code;
use tonic::transport::Channel;

struct Clients {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

async fn clients(world: &World) -> Result<Clients> {
    let channel = world.daemon.channel().await?;
    Ok(Clients { runtime: RuntimeServiceClient::new(channel.clone()), images: ImageServiceClient::new(channel) })
}

fn image(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: name.into(), ..Default::default() })
}

#[test]
fn root_version_and_status_are_as_kubelet_wants_them() {
    with_world(async |world| {
        let mut clients = clients(world).await?;
        let version = clients.runtime.version(VersionRequest { version: "0.1.0".into() }).await?.into_inner();
        ensure!(version.version == "0.1.0" && version.runtime_api_version == "v1", "{version:?}");
        ensure!(!version.runtime_name.is_empty() && !version.runtime_version.is_empty(), "{version:?}");

        let status = clients.runtime.status(StatusRequest { verbose: true }).await?.into_inner();
        let conditions = status.status.context("no status")?.conditions;
        for kind in ["RuntimeReady", "NetworkReady"] {
            ensure!(conditions.iter().any(|c| c.r#type == kind && c.status), "{kind}: {conditions:?}");
        }
        ensure!(status.runtime_handlers.iter().any(|handler| handler.name.is_empty()), "the default handler");
        for (key, text) in &status.info {
            serde_json::from_str::<serde_json::Value>(text).with_context(|| format!("info {key} is no JSON"))?;
        }

        let config = clients.runtime.runtime_config(RuntimeConfigRequest {}).await?.into_inner();
        ensure!(config.linux.is_some(), "no cgroup driver");
        let usage = clients.images.image_fs_info(ImageFsInfoRequest {}).await?.into_inner();
        ensure!(usage.image_filesystems.iter().all(|fs| fs.used_bytes.is_some()), "{usage:?}");
        ensure!(usage.image_filesystems.len() == 1 && !usage.container_filesystems.is_empty(), "{usage:?}");
        Ok(())
    });
}

#[test]
fn root_a_pod_lives_and_ends() {
    with_world(async |world| {
        let mut clients = clients(world).await?;
        let sandbox = sandbox_config(world);
        let run = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
        let pod = clients.runtime.run_pod_sandbox(run.clone()).await?.into_inner().pod_sandbox_id;
        let again = clients.runtime.run_pod_sandbox(run).await?.into_inner().pod_sandbox_id;
        ensure!(pod == again, "a repeated request answers the pod that is there");
        pod_is_reported(&mut clients, &pod, &sandbox).await?;
        container_lives(world, &mut clients, &pod, &sandbox).await?;
        for _ in 0..2 {
            clients.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.clone() }).await?;
        }
        for _ in 0..2 {
            clients.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.clone() }).await?;
        }
        let listed = clients.runtime.list_containers(ListContainersRequest { filter: None }).await?.into_inner();
        ensure!(listed.containers.is_empty(), "a pod's containers are removed with it: {listed:?}");
        Ok(())
    });
}

fn sandbox_config(world: &World) -> PodSandboxConfig {
    let pair = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "independent".into(),
            uid: "u-1".into(),
            namespace: "kube-system".into(),
            attempt: 2,
        }),
        hostname: "independent".into(),
        log_directory: world.daemon.path("logs/independent").display().to_string(),
        labels: pair("app", "x"),
        annotations: pair("note", "kept as it is"),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: world.daemon.host().cgroup_parent(), ..Default::default() }),
        ..Default::default()
    }
}

async fn pod_is_reported(clients: &mut Clients, pod: &str, sandbox: &PodSandboxConfig) -> Result<()> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: true };
    let status = clients.runtime.pod_sandbox_status(request).await?.into_inner().status.context("no status")?;
    ensure!(status.metadata == sandbox.metadata && status.created_at > 0, "{status:?}");
    ensure!(status.labels == sandbox.labels && status.annotations == sandbox.annotations, "{status:?}");
    ensure!(status.state == PodSandboxState::SandboxReady as i32, "{status:?}");
    let options = status.linux.and_then(|l| l.namespaces).and_then(|n| n.options).context("no namespace options")?;
    ensure!(options.network == NamespaceMode::Pod as i32, "{options:?}");
    ensure!(status.network.is_some_and(|network| network.ip.parse::<std::net::IpAddr>().is_ok()), "an address");

    let selector = |value: &str| PodSandboxFilter {
        label_selector: HashMap::from([("app".to_owned(), value.to_owned())]),
        ..Default::default()
    };
    for (value, count) in [("x", 1), ("y", 0)] {
        let request = ListPodSandboxRequest { filter: Some(selector(value)) };
        ensure!(clients.runtime.list_pod_sandbox(request).await?.into_inner().items.len() == count, "app={value}");
    }
    Ok(())
}

async fn container_lives(world: &World, clients: &mut Clients, pod: &str, sandbox: &PodSandboxConfig) -> Result<()> {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: image(&world.image),
        command: vec!["sleep".into()],
        args: vec!["1000".into()],
        log_path: "main.log".into(),
        labels: HashMap::from([("tier".to_owned(), "front".to_owned())]),
        linux: Some(LinuxContainerConfig::default()),
        ..Default::default()
    };
    let create = CreateContainerRequest {
        pod_sandbox_id: pod.into(),
        config: Some(config.clone()),
        sandbox_config: Some(sandbox.clone()),
    };
    let id = clients.runtime.create_container(create.clone()).await?.into_inner().container_id;
    ensure!(clients.runtime.create_container(create).await?.into_inner().container_id == id, "a repeated create");
    ensure!(state(clients, &id).await?.0 == ContainerState::ContainerCreated as i32, "created");
    clients.runtime.start_container(StartContainerRequest { container_id: id.clone() }).await?;
    let (running, status) = state(clients, &id).await?;
    ensure!(running == ContainerState::ContainerRunning as i32 && status.started_at > 0, "{status:?}");
    ensure!(
        status.labels == config.labels && !status.image_ref.is_empty() && !status.image_id.is_empty(),
        "{status:?}"
    );
    ensure!(world.daemon.path("logs/independent/main.log").exists(), "the log is there when the start has returned");

    let exec =
        ExecSyncRequest { container_id: id.clone(), cmd: vec!["cat".into(), "/proc/1/comm".into()], timeout: 10 };
    let reply = clients.runtime.exec_sync(exec).await?.into_inner();
    ensure!(reply.exit_code == 0 && !reply.stdout.is_empty(), "{reply:?}");
    let hang = ExecSyncRequest { container_id: id.clone(), cmd: vec!["sleep".into(), "100".into()], timeout: 1 };
    let late = clients.runtime.exec_sync(hang).await.err().context("an exec past its limit succeeded")?;
    ensure!(late.code() == Code::DeadlineExceeded, "{late}");

    for _ in 0..2 {
        clients.runtime.stop_container(StopContainerRequest { container_id: id.clone(), timeout: 0 }).await?;
    }
    let (exited, status) = state(clients, &id).await?;
    ensure!(exited == ContainerState::ContainerExited as i32 && status.exit_code == 137, "{status:?}");
    ensure!(status.finished_at >= status.started_at, "{status:?}");
    Ok(())
}

async fn state(clients: &mut Clients, id: &str) -> Result<(i32, ContainerStatus)> {
    let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
    let status = clients.runtime.container_status(request).await?.into_inner().status.context("no status")?;
    Ok((status.state, status))
}

#[test]
fn root_unknown_ids_are_answered_by_the_rules() {
    with_world(async |world| {
        let mut clients = clients(world).await?;
        let id = "f".repeat(64);
        clients.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await?;
        clients.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.clone() }).await?;
        clients.runtime.stop_container(StopContainerRequest { container_id: id.clone(), timeout: 2 }).await?;
        clients.runtime.remove_container(RemoveContainerRequest { container_id: id.clone() }).await?;
        let absent = image("127.0.0.1:1/not/there:1");
        clients.images.remove_image(RemoveImageRequest { image: absent.clone() }).await?;
        let status = clients.images.image_status(ImageStatusRequest { image: absent, verbose: false }).await?;
        ensure!(status.into_inner().image.is_none(), "ImageStatus of an absent image is OK, without an image");

        let pod = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
        ensure!(clients.runtime.pod_sandbox_status(pod).await.is_err_and(|e| e.code() == Code::NotFound), "pod");
        let container = ContainerStatusRequest { container_id: id.clone(), verbose: false };
        ensure!(clients.runtime.container_status(container).await.is_err_and(|e| e.code() == Code::NotFound), "status");
        let start = StartContainerRequest { container_id: id.clone() };
        ensure!(clients.runtime.start_container(start).await.is_err_and(|e| e.code() == Code::NotFound), "start");
        let exec = ExecSyncRequest { container_id: id, cmd: vec!["true".into()], timeout: 1 };
        ensure!(clients.runtime.exec_sync(exec).await.is_err_and(|e| e.code() == Code::NotFound), "exec");
        Ok(())
    });
}

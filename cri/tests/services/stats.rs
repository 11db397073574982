//! Stats and metrics as clients get them.

use podwright_cri_api::v1;
use tonic::Code;

use crate::support::Front;

async fn running(front: &Front, pod: &str, name: &str) -> String {
    let container = front.create(pod, name).await;
    let request = v1::StartContainerRequest { container_id: container.clone() };
    front.runtime().start_container(request).await.unwrap();
    container
}

#[tokio::test]
async fn containers_are_told_one_all_and_by_filter() {
    let front = Front::start().await;
    let (web, db) = (front.run_pod("web").await, front.run_pod("db").await);
    let first = running(&front, &web, "first").await;
    let made = front.create(&db, "made").await;
    let mut r = front.runtime();

    let one = r.container_stats(v1::ContainerStatsRequest { container_id: first[..12].into() }).await.unwrap();
    let one = one.into_inner().stats.unwrap();
    let attributes = one.attributes.unwrap();
    assert_eq!((&attributes.id, attributes.metadata.unwrap().name.as_str()), (&first, "first"));
    let (cpu, memory) = (one.cpu.unwrap(), one.memory.unwrap());
    assert!(cpu.timestamp > 0 && cpu.usage_core_nano_seconds.is_some() && cpu.usage_nano_cores.is_some());
    assert_eq!((memory.working_set_bytes.unwrap().value, memory.available_bytes), (60, None));
    assert_eq!(one.writable_layer.unwrap().used_bytes.unwrap().value, 4096);
    let unknown = r.container_stats(v1::ContainerStatsRequest { container_id: "f00".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let ids = async |filter| {
        let request = v1::ListContainerStatsRequest { filter };
        let stats = front.runtime().list_container_stats(request).await.unwrap().into_inner().stats;
        stats.into_iter().map(|stats| (stats.attributes.unwrap().id, stats.cpu.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await.len(), 2);
    let by_id = v1::ContainerStatsFilter { id: made[..12].into(), ..Default::default() };
    assert_eq!(ids(Some(by_id)).await, [(made.clone(), false)], "what does not run has no usage");
    let by_pod = v1::ContainerStatsFilter { pod_sandbox_id: web.clone(), ..Default::default() };
    assert_eq!(ids(Some(by_pod)).await, [(first.clone(), true)]);
    let label_selector = [("no".to_owned(), "label".to_owned())].into();
    assert!(ids(Some(v1::ContainerStatsFilter { label_selector, ..Default::default() })).await.is_empty());
    assert!(ids(Some(v1::ContainerStatsFilter { id: "f00".into(), ..Default::default() })).await.is_empty());

    let mut stream = r.stream_container_stats(v1::StreamContainerStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().container_stats.len(), 2);
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn sandboxes_are_told_with_their_containers() {
    let front = Front::start().await;
    let (web, db) = (front.run_pod("web").await, front.run_pod("db").await);
    running(&front, &web, "first").await;
    running(&front, &web, "second").await;
    let mut r = front.runtime();
    let stats = r.pod_sandbox_stats(v1::PodSandboxStatsRequest { pod_sandbox_id: web.clone() }).await.unwrap();
    let stats = stats.into_inner().stats.unwrap();
    let attributes = stats.attributes.unwrap();
    assert_eq!((&attributes.id, attributes.metadata.unwrap().uid.as_str()), (&web, "uid-web"));
    assert_eq!(attributes.labels["app"], "web");
    let linux = stats.linux.unwrap();
    assert_eq!(linux.containers.len(), 2);
    assert_eq!(linux.memory.unwrap().working_set_bytes.unwrap().value, 120);
    assert_eq!(linux.process.unwrap().process_count.unwrap().value, 2);
    assert_eq!(linux.network.unwrap().default_interface.unwrap().name, "eth0");
    let unknown = r.pod_sandbox_stats(v1::PodSandboxStatsRequest { pod_sandbox_id: "f00".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    r.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: db.clone() }).await.unwrap();
    let label_selector = [("app".to_owned(), "db".to_owned())].into();
    let filter = Some(v1::PodSandboxStatsFilter { label_selector, ..Default::default() });
    let listed = r.list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest { filter }).await.unwrap().into_inner().stats;
    assert_eq!(listed.len(), 1);
    let linux = listed[0].linux.as_ref().expect("a stopped pod has the message too");
    assert!(linux.cpu.is_none() && linux.network.is_none());
    let request = v1::StreamPodSandboxStatsRequest::default();
    let mut stream = r.stream_pod_sandbox_stats(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().pod_sandbox_stats.len(), 2);
}

#[tokio::test]
async fn metrics_of_ready_pods_have_descriptors() {
    let front = Front::start().await;
    let web = front.run_pod("web").await;
    let mut r = front.runtime();
    let descriptors = r.list_metric_descriptors(v1::ListMetricDescriptorsRequest {}).await.unwrap().into_inner();
    assert_eq!(descriptors.descriptors.len(), 56);
    assert!(descriptors.descriptors.iter().all(|d| !d.help.is_empty() && !d.label_keys.is_empty()));
    let metrics = r.list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {}).await.unwrap().into_inner();
    assert_eq!((metrics.pod_metrics.len(), &metrics.pod_metrics[0].pod_sandbox_id), (1, &web));
    assert_eq!(metrics.pod_metrics[0].metrics.len(), 8, "those of the link");
    let mut stream = r.stream_pod_sandbox_metrics(v1::StreamPodSandboxMetricsRequest {}).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().pod_sandbox_metrics.len(), 1);
}

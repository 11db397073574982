//! What is used: ContainerStats, ListContainerStats, StreamContainerStats, PodSandboxStats, ListPodSandboxStats,
//! StreamPodSandboxStats, ListMetricDescriptors, ListPodSandboxMetrics, StreamPodSandboxMetrics.

use std::time::{SystemTime, UNIX_EPOCH};

use podwright_cri_api::v1;
use podwright_podsandbox::model::{ContainerStats, SandboxStats};
use podwright_podsandbox::{ContainerFilter, SandboxFilter};
use tonic::Status;

use crate::chunks::{self, Messages};
use crate::field;
use crate::service::Cri;
use crate::{answer, lookup, metrics, observe, status};

/// One container.
pub(super) async fn container(
    cri: &Cri,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, Status> {
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    let filter = ContainerFilter { id: Some(container.id.clone()), ..ContainerFilter::default() };
    let read = cri.engine.container_stats(&filter).await;
    let stats = read.first().map(answer::container_stats).ok_or_else(|| removed("container", container.id.as_str()))?;
    Ok(v1::ContainerStatsResponse { stats: Some(stats) })
}

/// Containers.
pub(super) async fn list_containers(
    cri: &Cri,
    request: v1::ListContainerStatsRequest,
) -> Result<v1::ListContainerStatsResponse, Status> {
    let stats = containers(cri, request.filter).await?.iter().map(answer::container_stats).collect();
    chunks::whole(v1::ListContainerStatsResponse { stats }, "StreamContainerStats")
}

/// Containers, in as many messages as it takes.
pub(super) async fn stream_containers(
    cri: &Cri,
    request: v1::StreamContainerStatsRequest,
) -> Result<Messages<v1::StreamContainerStatsResponse>, Status> {
    let items = containers(cri, request.filter).await?.into_iter().map(|stats| answer::container_stats(&stats));
    Ok(chunks::stream(items, |container_stats| v1::StreamContainerStatsResponse { container_stats }))
}

async fn containers(cri: &Cri, filter: Option<v1::ContainerStatsFilter>) -> Result<Vec<ContainerStats>, Status> {
    let asked = filter.unwrap_or_default();
    let labels = field::map("filter.label_selector", asked.label_selector)?;
    let mut filter = ContainerFilter { labels, ..ContainerFilter::default() };
    if !asked.id.is_empty() {
        let Some(container) = lookup::container(&cri.engine, "filter.id", asked.id)? else { return Ok(Vec::new()) };
        filter.id = Some(container.id);
    }
    if !asked.pod_sandbox_id.is_empty() {
        let sandbox = lookup::sandbox(&cri.engine, "filter.pod_sandbox_id", asked.pod_sandbox_id)?;
        let Some(sandbox) = sandbox else { return Ok(Vec::new()) };
        filter.sandbox = Some(sandbox.id);
    }
    Ok(cri.engine.container_stats(&filter).await)
}

/// One sandbox.
pub(super) async fn sandbox(
    cri: &Cri,
    request: v1::PodSandboxStatsRequest,
) -> Result<v1::PodSandboxStatsResponse, Status> {
    let sandbox = lookup::known_sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)?;
    let filter = SandboxFilter { id: Some(sandbox.id.clone()), ..SandboxFilter::default() };
    let read = cri.engine.sandbox_stats(&filter).await;
    let stats = read.first().map(answer::sandbox_stats).ok_or_else(|| removed("sandbox", sandbox.id.as_str()))?;
    Ok(v1::PodSandboxStatsResponse { stats: Some(stats) })
}

/// Sandboxes.
pub(super) async fn list_sandboxes(
    cri: &Cri,
    request: v1::ListPodSandboxStatsRequest,
) -> Result<v1::ListPodSandboxStatsResponse, Status> {
    let stats = sandboxes(cri, request.filter).await?.iter().map(answer::sandbox_stats).collect();
    chunks::whole(v1::ListPodSandboxStatsResponse { stats }, "StreamPodSandboxStats")
}

/// Sandboxes, in as many messages as it takes.
pub(super) async fn stream_sandboxes(
    cri: &Cri,
    request: v1::StreamPodSandboxStatsRequest,
) -> Result<Messages<v1::StreamPodSandboxStatsResponse>, Status> {
    let items = sandboxes(cri, request.filter).await?.into_iter().map(|stats| answer::sandbox_stats(&stats));
    Ok(chunks::stream(items, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}

async fn sandboxes(cri: &Cri, filter: Option<v1::PodSandboxStatsFilter>) -> Result<Vec<SandboxStats>, Status> {
    let asked = filter.unwrap_or_default();
    let labels = field::map("filter.label_selector", asked.label_selector)?;
    let mut filter = SandboxFilter { labels, ..SandboxFilter::default() };
    if !asked.id.is_empty() {
        let Some(sandbox) = lookup::sandbox(&cri.engine, "filter.id", asked.id)? else { return Ok(Vec::new()) };
        filter.id = Some(sandbox.id);
    }
    Ok(cri.engine.sandbox_stats(&filter).await)
}

/// Which metrics there are.
pub(super) async fn descriptors() -> Result<v1::ListMetricDescriptorsResponse, Status> {
    Ok(v1::ListMetricDescriptorsResponse { descriptors: metrics::descriptors() })
}

/// Metrics of all pods that are ready.
pub(super) async fn list_metrics(cri: &Cri) -> Result<v1::ListPodSandboxMetricsResponse, Status> {
    let pod_metrics = all_metrics(cri).await.collect();
    chunks::whole(v1::ListPodSandboxMetricsResponse { pod_metrics }, "StreamPodSandboxMetrics")
}

/// Metrics of all pods that are ready, in as many messages as it takes.
pub(super) async fn stream_metrics(cri: &Cri) -> Result<Messages<v1::StreamPodSandboxMetricsResponse>, Status> {
    let wrap = |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
    Ok(chunks::stream(all_metrics(cri).await, wrap))
}

async fn all_metrics(cri: &Cri) -> impl Iterator<Item = v1::PodSandboxMetrics> + Send + use<> {
    let read = cri.engine.sandbox_details(&SandboxFilter::default()).await;
    let now_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    read.into_iter().filter_map(move |stats| metrics::of_sandbox(&stats, now_seconds))
}

fn removed(what: &str, id: &str) -> Status {
    status::not_found(&format!("no {what} has the id {id}; it was removed just now"))
}

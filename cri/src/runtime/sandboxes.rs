//! Sandboxes: RunPodSandbox, StopPodSandbox, RemovePodSandbox, PodSandboxStatus, ListPodSandbox, UpdatePodSandboxResources.

use podwright_cri_api::v1;
use podwright_podsandbox::model::{PodLimits, SandboxSnapshot};
use podwright_podsandbox::{EngineError, PodSnapshot};
use tonic::Status;

use crate::chunks::{self, Messages};
use crate::field::{self, MAX_NAME_BYTES, Within as _};
use crate::service::Cri;
use crate::status::from_engine;
use crate::{answer, convert, lookup, observe};

/// Makes a sandbox.
pub(super) async fn run(cri: &Cri, request: v1::RunPodSandboxRequest) -> Result<v1::RunPodSandboxResponse, Status> {
    let handler = field::line("runtime_handler", request.runtime_handler, MAX_NAME_BYTES)?;
    let config = field::required("config", request.config)?;
    let config = convert::sandbox(config, handler).within("config")?;
    tracing::Span::current().record("pod", format!("{}/{}", config.namespace, config.name));
    let id = cri.engine.run_sandbox(config).await.map_err(|e| from_engine(&e))?;
    observe::note_pod(&id);
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
}

/// Stops a sandbox; an unknown one is stopped.
pub(super) async fn stop(cri: &Cri, request: v1::StopPodSandboxRequest) -> Result<v1::StopPodSandboxResponse, Status> {
    if let Some(sandbox) = lookup::sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)? {
        absent_is_done(cri.engine.stop_sandbox(&sandbox.id).await)?;
    }
    Ok(v1::StopPodSandboxResponse {})
}

/// Removes a sandbox with its containers; an unknown one is removed.
pub(super) async fn remove(
    cri: &Cri,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, Status> {
    if let Some(sandbox) = lookup::sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)? {
        absent_is_done(cri.engine.remove_sandbox(&sandbox.id).await)?;
    }
    Ok(v1::RemovePodSandboxResponse {})
}

/// Somebody else may have removed it in between.
pub(super) fn absent_is_done(result: Result<(), EngineError>) -> Result<(), Status> {
    match result {
        Ok(()) | Err(EngineError::NotFound(_)) => Ok(()),
        Err(error) => Err(from_engine(&error)),
    }
}

/// Describes a sandbox, with its containers for clients that follow events.
pub(super) async fn status(
    cri: &Cri,
    request: v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, Status> {
    let sandbox = lookup::known_sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)?;
    let PodSnapshot { at_nanos, sandbox, containers } = cri.engine.pod(&sandbox.id).map_err(|e| from_engine(&e))?;
    let find = |image: &str| cri.images.status(image);
    Ok(v1::PodSandboxStatusResponse {
        status: Some(answer::sandbox_status(&sandbox)),
        info: if request.verbose { answer::sandbox_info(&sandbox) } else { Default::default() },
        containers_statuses: containers.iter().map(|c| answer::container_status(c, find)).collect(),
        timestamp: at_nanos,
    })
}

/// Lists sandboxes, the newest first.
pub(super) async fn list(cri: &Cri, request: v1::ListPodSandboxRequest) -> Result<v1::ListPodSandboxResponse, Status> {
    let items = found(cri, request.filter)?.iter().map(answer::sandbox_item).collect();
    chunks::whole(v1::ListPodSandboxResponse { items }, "StreamPodSandboxes")
}

/// Lists sandboxes, the newest first, in as many messages as it takes. All are as they were at one time.
pub(super) fn stream(
    cri: &Cri,
    request: v1::StreamPodSandboxesRequest,
) -> Result<Messages<v1::StreamPodSandboxesResponse>, Status> {
    let items = found(cri, request.filter)?.into_iter().map(|sandbox| answer::sandbox_item(&sandbox));
    Ok(chunks::stream(items, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes }))
}

fn found(cri: &Cri, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<SandboxSnapshot>, Status> {
    let mut asked = filter.unwrap_or_default();
    let id = std::mem::take(&mut asked.id);
    let mut filter = convert::sandbox_filter(asked)?;
    if !id.is_empty() {
        let Some(sandbox) = lookup::sandbox(&cri.engine, "filter.id", id)? else { return Ok(Vec::new()) };
        filter.id = Some(sandbox.id);
    }
    let mut found = cri.engine.sandboxes(&filter);
    found.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at_nanos));
    Ok(found)
}

/// Kubelet tells the sum of the limits before it writes the pod's cgroup itself; an error would refuse the resize.
pub(super) async fn update_resources(
    cri: &Cri,
    request: v1::UpdatePodSandboxResourcesRequest,
) -> Result<v1::UpdatePodSandboxResourcesResponse, Status> {
    let sandbox = lookup::known_sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)?;
    let overhead = request.overhead.map(convert::changed_resources).transpose().within("overhead")?;
    let containers = request.resources.map(convert::changed_resources).transpose().within("resources")?;
    let limits = PodLimits { overhead: overhead.unwrap_or_default(), containers: containers.unwrap_or_default() };
    cri.engine.update_sandbox(&sandbox.id, limits).await.map_err(|e| from_engine(&e))?;
    Ok(v1::UpdatePodSandboxResourcesResponse {})
}

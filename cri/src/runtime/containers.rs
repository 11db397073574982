//! Containers: CreateContainer, StartContainer, StopContainer, RemoveContainer, ListContainers, ContainerStatus,
//! UpdateContainerResources, ReopenContainerLog, ExecSync.

use std::time::Duration;

use podwright_cri_api::v1;
use podwright_podsandbox::model::{ContainerConfig, ContainerSnapshot, SandboxSnapshot};
use tonic::Status;

use super::sandboxes::absent_is_done;
use crate::chunks::{self, Messages};
use crate::field::{self, BadField, MAX_ARGUMENT_BYTES, Within as _};
use crate::service::{Cri, MAX_MESSAGE_BYTES};
use crate::status::from_engine;
use crate::{answer, convert, lookup, observe};

/// Output of a command that an answer carries: a whole message less what stands around it. Clients take no longer ones.
const MAX_OUTPUT_BYTES: usize = MAX_MESSAGE_BYTES - 1024;
/// Longest time that a stop waits before it kills: a year. A kubelet without a limit gives more than any clock takes.
const MAX_STOP_SECONDS: u64 = 365 * 24 * 3600;

/// Prepares a container.
pub(super) async fn create(
    cri: &Cri,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, Status> {
    let config = field::required("config", request.config)?;
    let config = convert::container(config).within("config")?;
    let sandbox = lookup::known_sandbox(&cri.engine, "pod_sandbox_id", request.pod_sandbox_id)?;
    fits(&config, &sandbox)?;
    let id = cri.engine.create_container(&sandbox.id, config).await.map_err(|e| from_engine(&e))?;
    observe::note_container(&id);
    Ok(v1::CreateContainerResponse { container_id: id.to_string() })
}

fn fits(config: &ContainerConfig, sandbox: &SandboxSnapshot) -> Result<(), BadField> {
    if config.security.privileged && !sandbox.config.security.privileged {
        let problem = "is set, but the sandbox is not privileged; make the sandbox privileged too";
        return Err(BadField::new("config.linux.security_context.privileged", problem));
    }
    Ok(())
}

/// Starts a container.
pub(super) async fn start(cri: &Cri, request: v1::StartContainerRequest) -> Result<v1::StartContainerResponse, Status> {
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    cri.engine.start_container(&container.id).await.map_err(|e| from_engine(&e))?;
    Ok(v1::StartContainerResponse {})
}

/// Stops a container; an unknown one is stopped.
pub(super) async fn stop(cri: &Cri, request: v1::StopContainerRequest) -> Result<v1::StopContainerResponse, Status> {
    // Less than no time is no time, as other runtimes have it.
    let seconds = u64::try_from(request.timeout).unwrap_or(0).min(MAX_STOP_SECONDS);
    if let Some(container) = lookup::container(&cri.engine, "container_id", request.container_id)? {
        observe::note_pod(&container.sandbox);
        absent_is_done(cri.engine.stop_container(&container.id, Duration::from_secs(seconds)).await)?;
    }
    Ok(v1::StopContainerResponse {})
}

/// Removes a container; an unknown one is removed.
pub(super) async fn remove(
    cri: &Cri,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, Status> {
    if let Some(container) = lookup::container(&cri.engine, "container_id", request.container_id)? {
        observe::note_pod(&container.sandbox);
        absent_is_done(cri.engine.remove_container(&container.id).await)?;
    }
    Ok(v1::RemoveContainerResponse {})
}

/// Lists containers, the newest first.
pub(super) async fn list(cri: &Cri, request: v1::ListContainersRequest) -> Result<v1::ListContainersResponse, Status> {
    let containers = found(cri, request.filter)?.iter().map(answer::container_item).collect();
    chunks::whole(v1::ListContainersResponse { containers }, "StreamContainers")
}

/// Lists containers, the newest first, in as many messages as it takes. All are as they were at one time.
pub(super) fn stream(
    cri: &Cri,
    request: v1::StreamContainersRequest,
) -> Result<Messages<v1::StreamContainersResponse>, Status> {
    let items = found(cri, request.filter)?.into_iter().map(|container| answer::container_item(&container));
    Ok(chunks::stream(items, |containers| v1::StreamContainersResponse { containers }))
}

fn found(cri: &Cri, filter: Option<v1::ContainerFilter>) -> Result<Vec<ContainerSnapshot>, Status> {
    let mut asked = filter.unwrap_or_default();
    let (id, sandbox_id) = (std::mem::take(&mut asked.id), std::mem::take(&mut asked.pod_sandbox_id));
    let mut filter = convert::container_filter(asked)?;
    if !id.is_empty() {
        let Some(container) = lookup::container(&cri.engine, "filter.id", id)? else { return Ok(Vec::new()) };
        filter.id = Some(container.id);
    }
    if !sandbox_id.is_empty() {
        let sandbox = lookup::sandbox(&cri.engine, "filter.pod_sandbox_id", sandbox_id)?;
        let Some(sandbox) = sandbox else { return Ok(Vec::new()) };
        filter.sandbox = Some(sandbox.id);
    }
    let mut found = cri.engine.containers(&filter);
    found.sort_by_key(|container| std::cmp::Reverse(container.created_at_nanos));
    Ok(found)
}

/// Describes a container.
pub(super) async fn status(
    cri: &Cri,
    request: v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, Status> {
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    Ok(v1::ContainerStatusResponse {
        status: Some(answer::container_status(&container, |image| cri.images.status(image))),
        info: if request.verbose { answer::container_info(&container) } else { Default::default() },
    })
}

/// Changes limits; what is zero or empty stays as it is.
pub(super) async fn update_resources(
    cri: &Cri,
    request: v1::UpdateContainerResourcesRequest,
) -> Result<v1::UpdateContainerResourcesResponse, Status> {
    let linux = field::required("linux", request.linux)?;
    let resources = convert::changed_resources(linux).within("linux")?;
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    cri.engine.update_container(&container.id, resources).await.map_err(|e| from_engine(&e))?;
    Ok(v1::UpdateContainerResourcesResponse {})
}

/// Opens a log anew.
pub(super) async fn reopen_log(
    cri: &Cri,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, Status> {
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    cri.engine.reopen_log(&container.id).await.map_err(|e| from_engine(&e))?;
    Ok(v1::ReopenContainerLogResponse {})
}

/// Runs a command.
pub(super) async fn exec_sync(cri: &Cri, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, Status> {
    let argv = command(request.cmd)?;
    let timeout = timeout(request.timeout)?;
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    let output = cri.engine.exec_sync(&container.id, argv, timeout).await.map_err(|e| from_engine(&e))?;
    let (mut stdout, mut stderr) = (output.stdout, output.stderr);
    fit(&mut stdout, &mut stderr, MAX_OUTPUT_BYTES);
    Ok(v1::ExecSyncResponse { stdout, stderr, exit_code: output.code })
}

/// Cuts both streams so that they fit together; a stream that needs less than half leaves the rest to the other.
fn fit(stdout: &mut Vec<u8>, stderr: &mut Vec<u8>, room: usize) {
    let half = room / 2;
    let for_stdout = room - stderr.len().min(half);
    stdout.truncate(for_stdout);
    stderr.truncate(room - stdout.len());
}

pub(super) fn command(cmd: Vec<String>) -> Result<Vec<String>, BadField> {
    if cmd.is_empty() {
        return Err(BadField::new("cmd", "is empty"));
    }
    field::texts("cmd", cmd, |field, value| field::text(field, value, MAX_ARGUMENT_BYTES))
}

/// Zero waits for ever.
fn timeout(seconds: i64) -> Result<Option<Duration>, BadField> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.min(MAX_STOP_SECONDS)))),
        Err(_) => Err(BadField::new("timeout", format!("{seconds} seconds is negative; 0 waits for ever"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_fits_into_an_answer() {
        let fitted = |stdout, stderr| {
            let (mut stdout, mut stderr) = (vec![0; stdout], vec![0; stderr]);
            fit(&mut stdout, &mut stderr, 10);
            (stdout.len(), stderr.len())
        };
        assert_eq!(fitted(3, 4), (3, 4));
        assert_eq!(fitted(20, 0), (10, 0));
        assert_eq!(fitted(20, 2), (8, 2));
        assert_eq!(fitted(2, 20), (2, 8));
        assert_eq!(fitted(20, 20), (5, 5));
    }
}

//! Checkpoints: CheckpointContainer. Containers that go on from one come by CreateContainer.

use std::time::Duration;

use podwright_cri_api::v1;
use tonic::Status;

use crate::field::{self, BadField};
use crate::service::Cri;
use crate::status::from_engine;
use crate::{lookup, observe};

/// For a checkpoint whose request names no time.
const USUAL_SECONDS: u64 = 120;
/// Longest time that a checkpoint may take.
const MAX_SECONDS: u64 = 24 * 3600;

/// Writes a container to an archive.
pub(super) async fn container(
    cri: &Cri,
    request: v1::CheckpointContainerRequest,
) -> Result<v1::CheckpointContainerResponse, Status> {
    let archive = field::absolute_path("location", request.location)?;
    let within = within(request.timeout)?;
    let container = lookup::known_container(&cri.engine, "container_id", request.container_id)?;
    observe::note_pod(&container.sandbox);
    cri.engine.checkpoint_container(&container.id, archive, within).await.map_err(|e| from_engine(&e))?;
    Ok(v1::CheckpointContainerResponse {})
}

fn within(seconds: i64) -> Result<Duration, BadField> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(Duration::from_secs(USUAL_SECONDS)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.min(MAX_SECONDS))),
        Err(_) => Err(BadField::new("timeout", format!("{seconds} is less than no time"))),
    }
}

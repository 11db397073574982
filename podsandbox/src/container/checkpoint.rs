//! Writing a running container to an archive, and making one that goes on from an archive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Container;
use crate::error::EngineError;
use crate::ladder::{Climb, Outcome};
use crate::model::ContainerState;
use crate::ports::{Checkpoint, RestorePlan};
use crate::record;
use crate::shared::{blocking, detached};

/// What a checkpoint needs for a while, in the container's directory.
const SCRATCH: &str = "checkpoint";
/// Images of the processes that it goes on from.
const IMAGES: &str = "restore";

/// Writes a running container to `archive`. It goes on, whatever comes of it.
pub(crate) async fn write(container: Arc<Container>, archive: PathBuf, within: Duration) -> Outcome {
    detached(async move {
        let what = format!("checkpoint {}", container.describe());
        let refuse = |why: &str| Err(EngineError::FailedPrecondition(format!("{what}: {why}")));
        if let Err(why) = handled_here(&container.sandbox.config.runtime_handler) {
            return refuse(&why);
        }
        let checkpoints = container.shared().ports.checkpoints.clone();
        if let Err(why) = checkpoints.may_write() {
            return refuse(&why);
        }
        if container.config.terminal {
            return refuse("it has a terminal, which can not be written to an archive");
        }
        let _operation = container.operation.lock().await;
        let ContainerState::Running { pid, .. } = container.live().durable.state else {
            return refuse("it does not run");
        };
        let scratch = container.dir().join(SCRATCH);
        blocking("make the directory for a checkpoint", &scratch, |scratch| {
            record::delete_tree(scratch)?;
            record::private_dir(scratch)
        })
        .await?;
        let checkpoint = Checkpoint {
            container: container.snapshot(),
            pid,
            upper: container.dir().join("rw/upper"),
            scratch: scratch.clone(),
            archive,
            within,
        };
        let written = checkpoints.write(checkpoint).await.map_err(|error| EngineError::from(error).within(&what));
        let removed = blocking("delete what a checkpoint needed in", &scratch, record::delete_tree).await;
        written.and(removed)
    })
    .await
}

/// Whether the containers of a pod are run by the built-in runtime. Another one knows nothing of a dump beside it, and what it runs must
/// not go on without it.
fn handled_here(runtime_handler: &str) -> Result<(), String> {
    match runtime_handler {
        "" => Ok(()),
        name => Err(format!(
            "its pod's runtime handler {name:?} has no checkpoints here; use a pod without one (runtimeClassName)"
        )),
    }
}

impl Container {
    /// Deletes what a checkpoint left that a restart of the daemon ended.
    pub(super) async fn forget_checkpoint(&self) -> Outcome {
        blocking("delete what a checkpoint needed in", &self.dir().join(SCRATCH), record::delete_tree).await
    }

    /// The image that it is made from: the one that was asked for, or the one that its archive names.
    pub(super) async fn wanted_image(&self) -> Result<String, EngineError> {
        let Some(archive) = &self.config.restore_from else { return Ok(self.config.image.clone()) };
        let checkpoints = &self.shared().ports.checkpoints;
        let what = || format!("make a container from {}", archive.display());
        let allowed = handled_here(&self.sandbox.config.runtime_handler).and_then(|()| checkpoints.may_restore());
        allowed.map_err(|why| EngineError::FailedPrecondition(format!("{}: {why}", what())))?;
        checkpoints.image_of(archive).await.map_err(|error| EngineError::from(error).within(what()))
    }

    /// Takes its archive apart.
    pub(super) async fn open_archive(&self) -> Outcome {
        let Some(archive) = &self.config.restore_from else { return Ok(()) };
        // What a try before this one left.
        self.delete_images().await?;
        let opened = self.shared().ports.checkpoints.open(archive, &self.images(), &self.dir().join("rw/upper")).await;
        opened.map_err(|error| EngineError::from(error).within(format!("make a container from {}", archive.display())))
    }

    pub(super) async fn delete_images(&self) -> Outcome {
        if self.config.restore_from.is_none() {
            return Ok(());
        }
        blocking("delete the images of processes at", &self.images(), |images: &Path| record::delete_tree(images)).await
    }

    /// From what its start goes on.
    pub(super) fn restore_plan(&self) -> Option<RestorePlan> {
        let program = || self.shared().ports.checkpoints.program();
        self.config.restore_from.as_ref().map(|_| RestorePlan { program: program(), images: self.images() })
    }

    fn images(&self) -> PathBuf {
        self.dir().join(IMAGES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_runtimes_have_no_checkpoints() {
        assert_eq!(handled_here(""), Ok(()));
        assert!(handled_here("gvisor").unwrap_err().contains("\"gvisor\""));
    }
}

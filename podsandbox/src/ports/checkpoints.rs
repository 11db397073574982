//! Writing a running container to an archive, and preparing one to go on from an archive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use super::PortError;
use crate::model::ContainerSnapshot;

/// A running container that is to be written to an archive.
#[derive(Debug)]
pub struct Checkpoint {
    /// The container as it is.
    pub container: ContainerSnapshot,
    /// Its first process.
    pub pid: i32,
    /// What it wrote over its image.
    pub upper: PathBuf,
    /// An empty directory of its own, which the caller removes.
    pub scratch: PathBuf,
    /// The archive to be; what is there is replaced.
    pub archive: PathBuf,
    /// For all of it.
    pub within: Duration,
}

/// Archives of containers that ran.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Whether archives can be written here.
    ///
    /// # Errors
    /// Why not, and what to do.
    fn may_write(&self) -> Result<(), String>;

    /// Writes an archive. The container stands still for a moment and goes on, whatever comes of it.
    ///
    /// # Errors
    /// A failure leaves what was at the archive's place.
    async fn write(&self, checkpoint: Checkpoint) -> Result<(), PortError>;

    /// Whether containers may go on from archives here.
    ///
    /// # Errors
    /// Why not, and what to do.
    fn may_restore(&self) -> Result<(), String>;

    /// Prepares a container: its processes' images are put into the new directory `images`, what it had written into the empty
    /// directory `upper`. `archive` is an archive's file, or a directory with what one has in it.
    ///
    /// # Errors
    /// `Invalid` for what can not be believed. What was made until then is the caller's to remove.
    async fn open(&self, archive: &Path, images: &Path, upper: &Path) -> Result<(), PortError>;

    /// The name of the image that an archive says it was made from. Nothing else of it is looked at, and nothing is made.
    ///
    /// # Errors
    /// As [`Checkpoints::open`].
    async fn image_of(&self, archive: &Path) -> Result<String, PortError>;

    /// The program that brings processes back.
    fn program(&self) -> PathBuf;
}

/// There are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCheckpoints;

fn none() -> PortError {
    PortError::Unavailable("checkpoints are not served here".to_owned())
}

#[async_trait]
impl Checkpoints for NoCheckpoints {
    async fn write(&self, _checkpoint: Checkpoint) -> Result<(), PortError> {
        Err(none())
    }

    fn may_write(&self) -> Result<(), String> {
        Err(none().to_string())
    }

    fn may_restore(&self) -> Result<(), String> {
        Err(none().to_string())
    }

    async fn open(&self, _archive: &Path, _images: &Path, _upper: &Path) -> Result<(), PortError> {
        Err(none())
    }

    async fn image_of(&self, _archive: &Path) -> Result<String, PortError> {
        Err(none())
    }

    fn program(&self) -> PathBuf {
        PathBuf::new()
    }
}

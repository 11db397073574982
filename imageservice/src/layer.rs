//! The way of one layer onto the disk: stored, hashed, inflated, hashed again and unpacked, side by side.
//!
//! ```text
//! pieces ─> store thread ──────────> inflate thread ──────────> unpack thread
//!           file, digest   16 pieces  decoder, diff id  8 blocks  tar, files
//! ```
//!
//! An encrypted layer is decrypted by the inflate thread.
//!
//! Threads of their own and not the runtime's blocking pool: a stage waits for the next one, so all of them must run. The
//! first stage that fails ends the others by closing its channel.

mod arriving;
mod blocks;
mod pipe;
mod stages;

use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use podwright_sys::{CapabilitySet, gain_nothing, keep_capabilities};
use podwright_types::Digest;
use tokio::sync::{mpsc, oneshot};

use crate::config::Limits;
use crate::encryption::LayerKey;
use crate::error::{ErrorKind, ImageError, Result};
use pipe::ChannelReader;

/// Pieces of a download on their way to the disk.
const PIECES: usize = 32;
/// Pieces on their way to the decoder.
const PIECES_TO_INFLATE: usize = 16;
/// Inflated blocks on their way to the unpacker.
const BLOCKS_TO_UNPACK: usize = 8;

/// What making a tree of somebody else's owners, modes, devices and attributes takes.
const UNPACKING: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    // Set-group-id of a group that is not ours.
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    // Attributes `trusted.*`, overlayfs' own among them, and those of security modules.
    .union(CapabilitySet::SYS_ADMIN);

/// What arrives from the network.
pub(crate) enum Piece {
    /// Bytes in their order.
    Data(Bytes),
    /// All have arrived. Without this one the download was given up.
    End,
}

/// Where compressed bytes come from.
pub(crate) enum Origin {
    /// From the network, after what an earlier attempt left in the partial file.
    Download {
        /// The partial file.
        file: PathBuf,
        /// Pieces to come.
        pieces: mpsc::Receiver<Piece>,
    },
    /// From a blob that is on disk already.
    Blob(PathBuf),
}

/// What is to be made of them.
pub(crate) struct LayerJob {
    /// What the compressed bytes must hash to.
    pub(crate) digest: Digest,
    /// How many there must be.
    pub(crate) size: u64,
    /// What opens it, if it is encrypted.
    pub(crate) key: Option<LayerKey>,
    /// Where to unpack, and what the inflated bytes must hash to; `None` if the layer is unpacked already.
    pub(crate) unpack: Option<(PathBuf, Digest)>,
    /// Bounds.
    pub(crate) limits: Limits,
    /// The image, for errors.
    pub(crate) name: String,
}

/// Makes the channel of a download.
pub(crate) fn pieces() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(PIECES)
}

/// How a stage ended that did not succeed.
enum End {
    /// By its own fault.
    Failed(ImageError),
    /// The next stage was gone, which says why by itself.
    NextGone,
    /// The download was given up, which its owner explains.
    GivenUp,
}

type StageResult = std::result::Result<(), End>;

/// Runs the stages and waits for all of them, whatever happens; so afterwards nobody writes any more.
pub(crate) async fn run(job: LayerJob, origin: Origin) -> Result<()> {
    let mut stages = Vec::new();
    let LayerJob { digest, size, key, unpack, limits, name } = job;
    let object = format!("layer {digest} of {name}");
    let mut to_inflate = None;
    if let Some((tree, diff_id)) = unpack {
        let (piece_sender, piece_receiver) = sync_channel(PIECES_TO_INFLATE);
        let (block_sender, block_receiver) = sync_channel(BLOCKS_TO_UNPACK);
        to_inflate = Some(piece_sender);
        let (limit, inflate_object) = (limits.layer_unpacked_bytes, object.clone());
        stages.push(spawn("layer-unpack", UNPACKING, {
            let object = object.clone();
            move || stages::unpack(block_receiver, &tree, &limits, &object)
        })?);
        stages.push(spawn("layer-inflate", CapabilitySet::empty(), move || {
            let mut source = ChannelReader::new(piece_receiver);
            match key {
                None => stages::inflate(&mut source, &block_sender, &diff_id, limit, &inflate_object),
                Some(key) => stages::decrypt(source, &key, &block_sender, &diff_id, limit, &inflate_object),
            }
        })?);
    }
    stages.push(spawn("layer-store", CapabilitySet::DAC_OVERRIDE, move || {
        stages::store(origin, to_inflate, &digest, size, &object)
    })?);
    let mut ends = Vec::new();
    // A stage that fails makes those after it fail too, so the one nearest to the source knows the cause.
    for stage in stages.into_iter().rev() {
        ends.push(stage.await.unwrap_or(Err(End::GivenUp)));
    }
    let mut outcome = Ok(());
    for end in ends {
        match end {
            Err(End::Failed(error)) => return Err(error),
            Err(End::GivenUp) => return Err(given_up(&name)),
            Err(End::NextGone) => outcome = Err(given_up(&name)),
            Ok(()) => {}
        }
    }
    outcome
}

fn given_up(name: &str) -> ImageError {
    ImageError::new(ErrorKind::Cancelled, "pull", name, "it was given up")
}

/// Starts the thread of a stage, which reads what strangers wrote and is left with these capabilities alone. That bounds what a mistake
/// in following a name can reach, and not what broken memory could: threads share that.
fn spawn(
    name: &str,
    kept: CapabilitySet,
    stage: impl FnOnce() -> StageResult + Send + 'static,
) -> Result<oneshot::Receiver<StageResult>> {
    let (sender, receiver) = oneshot::channel();
    let object = name.to_owned();
    let confine = move || {
        keep_capabilities(kept).and_then(|_| gain_nothing()).map_err(|errno| {
            let cause = std::io::Error::from(errno).to_string();
            End::Failed(ImageError::new(ErrorKind::Io, "take the capabilities of thread", &object, cause))
        })
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody listening means the pull is gone; its clean-up does not depend on this.
            let _ = sender.send(confine().and_then(|()| stage()));
        })
        .map_err(|error| ImageError::new(ErrorKind::Io, "start thread", name, error.to_string()))?;
    Ok(receiver)
}

#[cfg(test)]
mod tests;

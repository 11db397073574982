//! What each thread does with a layer.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;
use podwright_types::Digest;

use super::arriving::ArrivingBlob;
use super::blocks::Blocks;
use super::pipe::ChannelReader;
use super::{BLOCKS_TO_UNPACK, End, Origin, PIECES_TO_INFLATE, Piece, StageResult};
use crate::config::Limits;
use crate::encryption::{Decrypting, LayerKey};
use crate::error::{ErrorKind, ImageError};
use crate::failpoints::{self, fail_point};
use crate::hash::Hasher;
use crate::tar::read_up_to;
use crate::unpack::Decoder;

fn failed(kind: ErrorKind, step: &'static str, object: &str, cause: impl Into<String>) -> End {
    End::Failed(ImageError::new(kind, step, object, cause))
}

/// Takes compressed bytes in: to the file if they come from the network, to the hash, and to the next stage.
pub(super) fn store(
    origin: Origin,
    next: Option<SyncSender<Bytes>>,
    digest: &Digest,
    size: u64,
    object: &str,
) -> StageResult {
    let mut written = None;
    let mut intake = Intake { next, hasher: Hasher::new(digest.algorithm()), bytes: 0, size, object };
    match origin {
        Origin::Blob(path) => {
            let mut file = File::open(&path).map_err(|error| End::Failed(ImageError::io("read blob", &path, error)))?;
            intake.take_file(&mut file, &path)?;
        }
        Origin::Download { file: path, mut pieces } => {
            let mut blob =
                ArrivingBlob::open(&path).map_err(|error| End::Failed(ImageError::io("make file", &path, error)))?;
            intake.take_file(blob.present(), &path)?;
            loop {
                match pieces.blocking_recv() {
                    Some(Piece::Data(piece)) => {
                        blob.append(&piece).map_err(|error| End::Failed(ImageError::io("write", &path, error)))?;
                        fail_point(failpoints::BLOB_PARTLY);
                        intake.take(piece)?;
                    }
                    Some(Piece::End) => break,
                    None => return Err(End::GivenUp),
                }
            }
            written = Some((blob, path));
        }
    }
    intake.finish(digest)?;
    match written {
        // While other layers are still arriving.
        Some((blob, path)) => blob.sync().map_err(|error| End::Failed(ImageError::io("sync", &path, error))),
        None => Ok(()),
    }
}

struct Intake<'a> {
    next: Option<SyncSender<Bytes>>,
    hasher: Hasher,
    bytes: u64,
    size: u64,
    object: &'a str,
}

impl Intake<'_> {
    fn take(&mut self, piece: Bytes) -> StageResult {
        self.bytes += piece.len() as u64;
        if self.bytes > self.size {
            let cause = format!("it is longer than the {} bytes that the manifest promises", self.size);
            return Err(failed(ErrorKind::Corrupt, "download", self.object, cause));
        }
        self.hasher.update(&piece);
        match &self.next {
            Some(next) => next.send(piece).map_err(|_| End::NextGone),
            None => Ok(()),
        }
    }

    fn take_file(&mut self, file: &mut File, path: &Path) -> StageResult {
        let blocks = Blocks::new(PIECES_TO_INFLATE);
        loop {
            let mut block = blocks.take();
            let read =
                read_up_to(file, &mut block).map_err(|error| End::Failed(ImageError::io("read", path, error)))?;
            if read == 0 {
                return Ok(());
            }
            self.take(blocks.filled(block, read))?;
        }
    }

    fn finish(self, digest: &Digest) -> StageResult {
        // Dropping the channel to the next stage here lets it end while this one syncs.
        if self.bytes != self.size {
            let cause = format!("it has {} bytes and not the {} of the manifest", self.bytes, self.size);
            return Err(failed(ErrorKind::Corrupt, "verify", self.object, cause));
        }
        let found = self.hasher.finish();
        if found == *digest {
            return Ok(());
        }
        let cause = format!("its content has the digest {found}; the registry or the way to it changed it");
        Err(failed(ErrorKind::Corrupt, "verify", self.object, cause))
    }
}

/// Decrypts and inflates. That the content was not changed is known at its end, and what comes of it is kept only then.
pub(super) fn decrypt(
    source: ChannelReader,
    key: &LayerKey,
    next: &SyncSender<Bytes>,
    diff_id: &Digest,
    limit: u64,
    object: &str,
) -> StageResult {
    let corrupt = |error: std::io::Error| failed(ErrorKind::Corrupt, "decrypt", object, error.to_string());
    let mut opened = Decrypting::new(source, key).map_err(corrupt)?;
    let outcome = inflate(&mut opened, next, diff_id, limit, object);
    match &outcome {
        // What does not inflate may have been changed, which says more.
        Err(End::Failed(error)) if error.kind() != ErrorKind::Corrupt => outcome,
        Err(End::NextGone | End::GivenUp) => outcome,
        Ok(()) | Err(End::Failed(_)) => opened.finish().map_err(corrupt).and(outcome),
    }
}

/// Inflates, bounds and hashes.
pub(super) fn inflate(
    source: &mut impl BufRead,
    next: &SyncSender<Bytes>,
    diff_id: &Digest,
    limit: u64,
    object: &str,
) -> StageResult {
    let corrupt = |error: std::io::Error| {
        failed(ErrorKind::Corrupt, "decompress", object, format!("{error}; push the image again"))
    };
    let mut decoder = Decoder::new(source).map_err(corrupt)?;
    let mut hasher = Hasher::new(diff_id.algorithm());
    let blocks = Blocks::new(BLOCKS_TO_UNPACK);
    let mut bytes = 0;
    loop {
        let mut block = blocks.take();
        let length = read_up_to(&mut decoder, &mut block).map_err(corrupt)?;
        if length == 0 {
            break;
        }
        let block = blocks.filled(block, length);
        bytes += length as u64;
        if bytes > limit {
            let cause = format!("it inflates to more than the limit of {limit} bytes");
            return Err(failed(ErrorKind::LimitExceeded, "decompress", object, cause));
        }
        hasher.update(&block);
        next.send(block).map_err(|_| End::NextGone)?;
    }
    let found = hasher.finish();
    if found == *diff_id {
        return Ok(());
    }
    let cause = format!("its inflated content has the digest {found}, the image configuration says {diff_id}");
    Err(failed(ErrorKind::Corrupt, "verify", object, cause))
}

/// Unpacks. The stage before decides whether what came was the right thing.
pub(super) fn unpack(source: Receiver<Bytes>, tree: &Path, limits: &Limits, object: &str) -> StageResult {
    let mut source = ChannelReader::new(source);
    let implied = crate::unpack::unpack(&mut source, tree, limits, object).map_err(End::Failed)?;
    crate::content::note(tree, &implied).map_err(End::Failed)?;
    // The reader drains, so this is the end; asking again costs nothing.
    source.fill_buf().map(|_| ()).map_err(|error| failed(ErrorKind::Io, "unpack", object, error.to_string()))
}

//! What each thread does with a layer.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use bytes::Bytes;
use podwright_types::Digest;

use super::pipe::ChannelReader;
use super::{End, Origin, Piece, StageResult};
use crate::config::Limits;
use crate::error::{ErrorKind, ImageError};
use crate::failpoints::{self, fail_point};
use crate::hash::Hasher;
use crate::unpack::Decoder;

/// Size of blocks that are read from disk or inflated.
const BLOCK_BYTES: usize = 256 << 10;

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
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(|error| End::Failed(ImageError::io("make file", &path, error)))?;
            intake.take_file(&mut file, &path)?;
            loop {
                match pieces.blocking_recv() {
                    Some(Piece::Data(piece)) => {
                        file.write_all(&piece).map_err(|error| End::Failed(ImageError::io("write", &path, error)))?;
                        fail_point(failpoints::BLOB_PARTLY);
                        intake.take(piece)?;
                    }
                    Some(Piece::End) => break,
                    None => return Err(End::GivenUp),
                }
            }
            written = Some((file, path));
        }
    }
    intake.finish(digest)?;
    match written {
        // While other layers are still arriving.
        Some((file, path)) => file.sync_data().map_err(|error| End::Failed(ImageError::io("sync", &path, error))),
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
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            let read = file.read(&mut block).map_err(|error| End::Failed(ImageError::io("read", path, error)))?;
            if read == 0 {
                return Ok(());
            }
            block.truncate(read);
            self.take(block.into())?;
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

/// Inflates, bounds and hashes.
pub(super) fn inflate(
    source: ChannelReader,
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
    let mut bytes = 0;
    loop {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        decoder.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block).map_err(corrupt)?;
        if block.is_empty() {
            break;
        }
        bytes += block.len() as u64;
        if bytes > limit {
            let cause = format!("it inflates to more than the limit of {limit} bytes");
            return Err(failed(ErrorKind::LimitExceeded, "decompress", object, cause));
        }
        hasher.update(&block);
        next.send(block.into()).map_err(|_| End::NextGone)?;
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

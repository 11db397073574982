//! Blobs and layers of a pull: found on disk, or fetched once however many pulls want them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use podwright_types::Digest;
use tokio::sync::mpsc;

use super::blocking;
use super::locks::Key;
use super::partial::is_worth_keeping;
use super::pull::Pull;
use crate::config::Patience;
use crate::encryption::LayerKey;
use crate::error::{ErrorKind, ImageError, Result};
use crate::failpoints::{self, fail_point};
use crate::hash::digest_of;
use crate::layer::{self, LayerJob, Origin, Piece};
use crate::manifest::Descriptor;
use crate::progress::{LayerState, Progress};
use crate::registry::Session;

/// So much progress makes a broken connection count as the first one again.
const GOOD_PROGRESS_BYTES: u64 = 1 << 20;

/// What a layer is made of.
#[derive(Clone, Copy)]
struct Source<'a> {
    blob: &'a Descriptor,
    key: Option<&'a LayerKey>,
}

/// How fast a download goes. Only waiting for the network counts; a slow disk is not the registry's fault.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// What is wrong, where too little came for too long.
    fn too_slow(&mut self, bytes: u64, waited: Duration, patience: &Patience) -> Option<String> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < patience.progress {
            return None;
        }
        let Self { waited, bytes } = std::mem::take(self);
        (bytes < patience.least_bytes).then(|| format!("only {bytes} bytes came in {} s", waited.as_secs()))
    }
}

impl Pull {
    /// The text of the configuration, checked.
    pub(super) async fn config_text(&self, session: &Session, config: &Descriptor) -> Result<Vec<u8>> {
        let limit = self.inner.config.limits.config_bytes;
        if config.size > limit {
            let cause = format!("its configuration has {} bytes; the limit is {limit}", config.size);
            return Err(self.error(ErrorKind::LimitExceeded, "fetch configuration of", cause));
        }
        if self.has_part(config)? {
            let (inner, digest) = (Arc::clone(&self.inner), config.digest.clone());
            return blocking("read configuration", move || inner.content.read_blob(&digest)).await;
        }
        let (sender, mut receiver) = layer::pieces();
        let collect = async {
            let mut text = Vec::new();
            while let Some(Piece::Data(piece)) = receiver.recv().await {
                text.extend_from_slice(&piece);
            }
            text
        };
        let (downloaded, text) = tokio::join!(self.download(session, config, 0, sender), collect);
        downloaded?;
        let found = digest_of(config.digest.algorithm(), &text);
        if found == config.digest {
            return Ok(text);
        }
        let cause = format!("the configuration {} came with the digest {found}", config.digest);
        Err(self.error(ErrorKind::Corrupt, "verify configuration of", cause))
    }

    /// Writes a checked text, unless it is there.
    pub(super) async fn keep_text(&self, digest: &Digest, text: &[u8]) -> Result<()> {
        let _guard = self.inner.locks.lock(Key::Blob(digest.clone())).await;
        if self.has_blob(digest) {
            return Ok(());
        }
        let (inner, key, bytes) = (Arc::clone(&self.inner), digest.clone(), text.to_vec());
        blocking("write blob", move || inner.content.write_blob(&key, &bytes)).await?;
        self.inner.catalog().blobs.insert(digest.clone(), text.len() as u64);
        Ok(())
    }

    /// Brings one layer onto the disk, compressed and unpacked.
    pub(super) async fn layer(
        &self,
        session: &Session,
        blob: &Descriptor,
        diff_id: &Digest,
        key: Option<&LayerKey>,
    ) -> Result<()> {
        let blob_lock = self.inner.locks.lock(Key::Blob(blob.digest.clone()));
        let _blob_guard = self.unless_cancelled(async { Ok(blob_lock.await) }).await?;
        let layer_lock = self.inner.locks.lock(Key::Layer(diff_id.clone()));
        let _layer_guard = self.unless_cancelled(async { Ok(layer_lock.await) }).await?;
        let has_blob = self.has_part(blob)?;
        let has_layer = self.inner.catalog().layers.contains_key(diff_id);
        let source = Source { blob, key };
        if !(has_blob && has_layer) {
            let mut result = self.make_layer(session, source, diff_id, has_blob, has_layer).await;
            // What is on the disk may have been damaged there.
            if has_blob && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
                tracing::warn!(blob = %blob.digest, "a blob is damaged on disk and is fetched again");
                result = self.make_layer(session, source, diff_id, false, has_layer).await;
            }
            if let Err(error) = result {
                self.discard_layer(diff_id).await;
                return Err(error);
            }
        }
        let state = LayerState::Done;
        self.report(Progress::Layer { digest: blob.digest.clone(), total_bytes: blob.size, state });
        Ok(())
    }

    async fn make_layer(
        &self,
        session: &Session,
        source: Source<'_>,
        diff_id: &Digest,
        has_blob: bool,
        has_layer: bool,
    ) -> Result<()> {
        let Source { blob, key } = source;
        let unpack = if has_layer {
            None
        } else {
            let (inner, id) = (Arc::clone(&self.inner), diff_id.clone());
            let tree = blocking("make layer directory", move || inner.content.begin_layer(&id)).await?;
            Some((tree, diff_id.clone()))
        };
        let is_unpacked = unpack.is_some();
        let job = LayerJob {
            digest: blob.digest.clone(),
            size: blob.size,
            key: key.cloned(),
            unpack,
            limits: self.inner.config.limits.clone(),
            name: self.name(),
        };
        if has_blob {
            layer::run(job, Origin::Blob(self.inner.content.blob(&blob.digest))).await?;
        } else {
            self.run_download(session, blob, job).await?;
        }
        let (inner, id, digest) = (Arc::clone(&self.inner), diff_id.clone(), blob.digest.clone());
        let size = blocking("publish layer", move || {
            if !has_blob {
                fail_point(failpoints::BLOB_WHOLE);
                inner.content.publish_blob(&digest)?;
                fail_point(failpoints::BLOB_PUBLISHED);
            }
            if is_unpacked { inner.content.publish_layer(&id).map(Some) } else { Ok(None) }
        })
        .await?;
        let mut catalog = self.inner.catalog();
        catalog.blobs.insert(blob.digest.clone(), blob.size);
        if let Some(size) = size {
            catalog.layers.insert(diff_id.clone(), size);
        }
        Ok(())
    }

    async fn run_download(&self, session: &Session, blob: &Descriptor, job: LayerJob) -> Result<()> {
        let _slot = self.unless_cancelled(async { Ok(self.inner.downloads.acquire().await) }).await?;
        let file = self.inner.content.partial_blob(&blob.digest);
        // What a cancelled pull left is continued; what is too long can not be right.
        let known = match std::fs::metadata(&file).map(|metadata| metadata.len()) {
            Ok(length) if length <= blob.size => length,
            Ok(_) => {
                let (inner, digest) = (Arc::clone(&self.inner), blob.digest.clone());
                blocking("discard", move || inner.content.discard_partial_blob(&digest)).await?;
                0
            }
            Err(_) => 0,
        };
        let (sender, pieces) = layer::pieces();
        let download = self.unless_cancelled(self.download(session, blob, known, sender));
        let (downloaded, stored) = tokio::join!(download, layer::run(job, Origin::Download { file, pieces }));
        let result = match (downloaded, stored) {
            (Ok(()), stored) => stored,
            // Each of the two fails if the other does; the disk's and the archive's errors are the more precise ones.
            (Err(_), Err(error)) if error.kind() != ErrorKind::Cancelled => Err(error),
            (Err(error), _) => Err(error),
        };
        if let Err(error) = &result
            && !is_worth_keeping(error.kind())
        {
            let (inner, digest) = (Arc::clone(&self.inner), blob.digest.clone());
            blocking("discard", move || inner.content.discard_partial_blob(&digest)).await?;
        }
        result
    }

    /// Sends a blob's pieces from `known` bytes on. A broken connection is resumed where it broke.
    async fn download(
        &self,
        session: &Session,
        blob: &Descriptor,
        known: u64,
        sender: mpsc::Sender<Piece>,
    ) -> Result<()> {
        let patience = session.patience();
        let mut received = known;
        let mut failures = 0;
        let mut pause = patience.backoff;
        while received < blob.size {
            let before = received;
            let mut pace = Pace::default();
            let mut body = session.blob(&blob.digest, blob.size, received).await?;
            let broke = loop {
                let asked_at = Instant::now();
                let next = tokio::select! {
                    next = body.next() => next,
                    // A receiver that has gone says why by itself.
                    () = sender.closed() => return Ok(()),
                };
                let waited = asked_at.elapsed();
                match next {
                    Ok(Some((came, piece))) => {
                        received += piece.len() as u64;
                        if !piece.is_empty() && !self.pass_on(&sender, piece, received, blob).await? {
                            return Ok(());
                        }
                        if let Some(broke) = pace.too_slow(came, waited, patience) {
                            break broke;
                        }
                    }
                    Ok(None) => break "it ended early".to_owned(),
                    Err(cause) => break cause,
                }
            };
            if received >= blob.size {
                break;
            }
            if received - before >= GOOD_PROGRESS_BYTES {
                failures = 0;
                pause = patience.backoff;
            }
            failures += 1;
            if failures >= patience.attempts {
                let cause = format!("{broke}, after {received} of {} bytes; try again later", blob.size);
                let object = format!("{} of {}", blob.digest, session.name());
                return Err(ImageError::new(ErrorKind::RegistryUnavailable, "download", object, cause));
            }
            tracing::debug!(blob = %blob.digest, received, broke, "a download is resumed");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(patience.backoff_max);
        }
        let _ = sender.send(Piece::End).await;
        Ok(())
    }

    /// Hands a piece to the next stage; whether it still wants more.
    async fn pass_on(
        &self,
        sender: &mpsc::Sender<Piece>,
        piece: Bytes,
        received: u64,
        blob: &Descriptor,
    ) -> Result<bool> {
        if received > blob.size {
            let object = format!("{} of {}", blob.digest, self.name());
            let cause = format!("it is longer than the {} bytes that the manifest promises", blob.size);
            return Err(ImageError::new(ErrorKind::Corrupt, "download", object, cause));
        }
        let state = LayerState::Downloading { bytes: received };
        self.report(Progress::Layer { digest: blob.digest.clone(), total_bytes: blob.size, state });
        Ok(sender.send(Piece::Data(piece)).await.is_ok())
    }

    async fn discard_layer(&self, diff_id: &Digest) {
        let (inner, id) = (Arc::clone(&self.inner), diff_id.clone());
        if let Err(error) = blocking("discard", move || inner.content.discard_partial_layer(&id)).await {
            tracing::warn!(%error, "a part of a failed pull stays until the next start");
        }
    }

    /// Whether a part is here; an error if the manifest lies about its size, as it would be were it fetched.
    fn has_part(&self, part: &Descriptor) -> Result<bool> {
        let known = self.inner.catalog().blobs.get(&part.digest).copied();
        let Some(size) = known.filter(|size| *size != part.size) else { return Ok(known.is_some()) };
        let cause = format!("{} has {size} bytes and not the {} of the manifest", part.digest, part.size);
        Err(self.error(ErrorKind::Corrupt, "verify", cause))
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.inner.catalog().blobs.contains_key(digest)
    }
}

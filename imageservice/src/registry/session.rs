//! The registry as one pull sees it: manifests and blobs, from the first server that has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use podwright_types::{Digest, ImageReference};
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RANGE};
use tokio::sync::OnceCell;

use super::Registry;
use super::hosts::Host;
use super::request::{About, Means, Server, body_bounded, header, reason};
use crate::auth::Credentials;
use crate::config::{ImageConfig, Patience};
use crate::error::{ErrorKind, ImageError, Result};
use crate::manifest;

/// The registry of one image for one pull.
pub(crate) struct Session {
    registry: Arc<Registry>,
    name: String,
    path: String,
    patience: Patience,
    max_manifest_bytes: u64,
    servers: Vec<LazyServer>,
}

/// A server whose client is made when it is first asked.
struct LazyServer {
    host: Host,
    credentials: Credentials,
    server: OnceCell<Server>,
}

/// A fetched manifest; its digest is not checked yet.
pub(crate) struct FetchedManifest {
    pub(crate) content_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl Session {
    pub(super) fn new(
        registry: Arc<Registry>,
        reference: &ImageReference,
        servers: Vec<(Host, Credentials)>,
        config: &ImageConfig,
    ) -> Self {
        Self {
            registry,
            name: reference.to_string(),
            path: reference.path().to_owned(),
            patience: config.patience.clone(),
            max_manifest_bytes: config.limits.manifest_bytes,
            servers: servers
                .into_iter()
                .map(|(host, credentials)| LazyServer { host, credentials, server: OnceCell::new() })
                .collect(),
        }
    }

    /// Fetches a manifest by tag.
    pub(crate) async fn manifest_by_tag(&self, tag: &str) -> Result<FetchedManifest> {
        self.manifest(tag, |host| host.can_resolve).await
    }

    /// Fetches a manifest by digest.
    pub(crate) async fn manifest_by_digest(&self, digest: &Digest) -> Result<FetchedManifest> {
        self.manifest(digest.as_str(), |host| host.can_pull).await
    }

    async fn manifest(&self, selector: &str, fits: impl Fn(&Host) -> bool) -> Result<FetchedManifest> {
        let about = About { step: "fetch manifest of", object: &self.name };
        let what = format!("manifests/{selector}");
        let headers = header(ACCEPT, manifest::ACCEPT);
        let mut pause = self.patience.backoff;
        for attempt in 1.. {
            let (server, response) = self.ask_any(&what, &headers, about, &fits).await?;
            let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            match body_bounded(response, self.max_manifest_bytes, &self.patience).await {
                Ok(bytes) => return Ok(FetchedManifest { content_type, bytes }),
                Err((ErrorKind::RegistryUnavailable, _)) if attempt < self.patience.attempts => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.patience.backoff_max);
                }
                Err((kind, cause)) => return Err(server.error(kind, about, &cause)),
            }
        }
        Err(ImageError::new(ErrorKind::RegistryUnavailable, about.step, about.object, "no attempts are allowed"))
    }

    /// Opens a blob from `offset` on. Servers that do not know ranges are read from the start and the known part is skipped.
    pub(crate) async fn blob(&self, digest: &Digest, size: u64, offset: u64) -> Result<BlobStream> {
        let object = format!("{digest} of {}", self.name);
        let about = About { step: "fetch blob", object: &object };
        let what = format!("blobs/{digest}");
        let headers = if offset > 0 { header(RANGE, &format!("bytes={offset}-")) } else { HeaderMap::new() };
        let (server, response) = self.ask_any(&what, &headers, about, &|host| host.can_pull).await?;
        let is_partial = response.status().as_u16() == 206;
        let starts_at = if is_partial { offset } else { 0 };
        if let Some(length) = response.content_length()
            && length != size.saturating_sub(starts_at)
        {
            let cause = format!("it announces {length} bytes where the manifest promises {}", size - starts_at);
            return Err(server.error(ErrorKind::Corrupt, about, &cause));
        }
        Ok(BlobStream { response, skip: offset - starts_at, idle: self.patience.idle })
    }

    /// Asks the servers in turn for something of the repository; the last one, the registry itself, gets all the attempts, a mirror one.
    async fn ask_any(
        &self,
        what: &str,
        headers: &HeaderMap,
        about: About<'_>,
        fits: &impl Fn(&Host) -> bool,
    ) -> Result<(&Server, Response)> {
        let fitting: Vec<&LazyServer> = self.servers.iter().filter(|lazy| fits(&lazy.host)).collect();
        let mut earlier = Vec::new();
        for (position, lazy) in fitting.iter().enumerate() {
            let is_last = position + 1 == fitting.len();
            let attempts = if is_last { self.patience.attempts } else { 1 };
            let means = Means { registry: &self.registry, credentials: &lazy.credentials, patience: &self.patience };
            let path = format!("{}/{what}", lazy.host.repository.as_ref().unwrap_or(&self.path));
            let result = match lazy.get(&self.patience).await {
                Ok(server) => server.get(&path, headers, about, &means, attempts).await.map(|got| (server, got)),
                Err(error) => Err(error),
            };
            match result {
                Ok(found) => return Ok(found),
                Err(error) if is_last => return Err(after_mirrors(error, &earlier)),
                Err(error) => {
                    tracing::warn!(%error, "a mirror did not serve; the next server is asked");
                    earlier.push(error.to_string());
                }
            }
        }
        let cause = "hosts.toml names no server with this capability; add pull and resolve to one";
        Err(ImageError::new(ErrorKind::Invalid, about.step, about.object, cause))
    }

    /// Time limits and retries of this session.
    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The reference being pulled.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl LazyServer {
    async fn get(&self, patience: &Patience) -> Result<&Server> {
        self.server.get_or_try_init(|| Server::find(self.host.clone(), patience)).await
    }
}

fn after_mirrors(error: ImageError, earlier: &[String]) -> ImageError {
    if earlier.is_empty() {
        return error;
    }
    let text = format!("mirrors failed before: {}", earlier.join("; "));
    error.and(&text)
}

/// The body of a blob.
pub(crate) struct BlobStream {
    response: Response,
    skip: u64,
    idle: Duration,
}

impl BlobStream {
    /// The next piece, with how many bytes came for it; what was known before is left out of the piece. `None` at the end. The error says
    /// what happened, and the caller may ask for the rest.
    pub(crate) async fn next(&mut self) -> std::result::Result<Option<(u64, Bytes)>, String> {
        let mut chunk = match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(format!("the connection broke: {}", reason(&error))),
            Err(_) => return Err(format!("nothing came for {:?}", self.idle)),
        };
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
        self.skip -= skipped as u64;
        let came = chunk.len() as u64;
        Ok(Some((came, chunk.split_off(skipped))))
    }
}

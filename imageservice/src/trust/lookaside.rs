//! Simple signatures beside a registry: files `<repository>@<algorithm>=<hex>/signature-<n>` below a URL, from 1 until one is missing.

use std::fmt;
use std::path::PathBuf;

use podwright_imagetrust::Signature;
use podwright_types::{Digest, ImageReference};
use reqwest::{Client, Url};

use super::gather::{Basket, MAX_SIGNATURE_BYTES};
use super::untrusted;
use crate::config::Patience;
use crate::error::{ErrorKind, ImageError, Result};
use crate::registry::{body_bounded, plain_client, reason};

/// What is being done, for errors.
const STEP: &str = "fetch signature of";

/// The directory of one manifest's signatures.
pub(super) enum Place {
    /// On a server.
    Web(Url),
    /// On this host.
    Directory(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => write!(f, "{url}"),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Place {
    pub(super) fn new(base: &str, asked: &ImageReference, manifest: &Digest) -> Result<Self> {
        let wrong = |why: &str| {
            untrusted(
                asked,
                &format!("the lookaside {base:?} of registries.d {why}; write file:///path, http:// or https://"),
            )
        };
        let name = format!("{}@{}={}", asked.path(), manifest.algorithm().name(), manifest.hex());
        let mut url: Url = base.parse().map_err(|_| wrong("is no URL"))?;
        let below = format!("{}/{name}", url.path().trim_end_matches('/'));
        match url.scheme() {
            "file" if url.host_str().is_none_or(str::is_empty) => Ok(Self::Directory(PathBuf::from(below))),
            "http" | "https" => {
                url.set_path(&below);
                Ok(Self::Web(url))
            }
            _ => Err(wrong("is of a kind that is not known")),
        }
    }

    /// Puts the signatures into the basket.
    pub(super) async fn fetch(&self, basket: &mut Basket, patience: &Patience, asked: &ImageReference) -> Result<()> {
        let client = match self {
            Self::Web(url) => Some(plain_client(url, patience)?),
            Self::Directory(_) => None,
        };
        for number in 1_usize.. {
            let found = match (self, &client) {
                (Self::Web(url), Some(client)) => get(client, url, number, patience, asked).await?,
                (Self::Web(_), None) => None,
                (Self::Directory(path), _) => read(path.join(format!("signature-{number}"))).await?,
            };
            let Some(message) = found else { break };
            basket.add(Signature::Simple(message)).map_err(|cause| untrusted(asked, &cause))?;
        }
        Ok(())
    }
}

async fn get(
    client: &Client,
    directory: &Url,
    number: usize,
    patience: &Patience,
    asked: &ImageReference,
) -> Result<Option<Vec<u8>>> {
    let mut url = directory.clone();
    url.set_path(&format!("{}/signature-{number}", directory.path()));
    let failed = |kind, cause: &str| ImageError::new(kind, STEP, asked, format!("at {url}: {cause}"));
    let unavailable = |cause: &str| failed(ErrorKind::RegistryUnavailable, cause);
    let response = match tokio::time::timeout(patience.response, client.get(url.clone()).send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(unavailable(&reason(&error))),
        Err(_) => return Err(unavailable(&format!("no answer within {:?}", patience.response))),
    };
    match response.status().as_u16() {
        200 => body_bounded(response, MAX_SIGNATURE_BYTES, patience).await.map(Some).map_err(|(kind, cause)| {
            failed(if kind == ErrorKind::LimitExceeded { ErrorKind::Untrusted } else { kind }, &cause)
        }),
        404 | 410 => Ok(None),
        status => Err(unavailable(&format!("it answered {status}"))),
    }
}

async fn read(path: PathBuf) -> Result<Option<Vec<u8>>> {
    let task = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        // A pipe would be waited for without end.
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() <= MAX_SIGNATURE_BYTES => {}
            Ok(_) => {
                let cause = format!("it is no file, or has more than {MAX_SIGNATURE_BYTES} bytes");
                return Err(ImageError::new(ErrorKind::Untrusted, "read signature", path.display(), cause));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io("read signature", &path, error)),
        }
        let mut bytes = Vec::new();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_SIGNATURE_BYTES).read_to_end(&mut bytes))
            .map_err(|error| ImageError::io("read signature", &path, error))?;
        Ok(Some(bytes))
    });
    task.await.unwrap_or_else(|error| {
        Err(ImageError::new(ErrorKind::Io, STEP, "an image", "the task broke off; try again").with_source(error))
    })
}

//! HTTP clients: TLS roots, client certificates, time limits.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, Url};

use super::hosts::{Host, is_localhost};
use crate::config::Patience;
use crate::error::{ErrorKind, ImageError, Result};

/// Most redirects that a server which is no registry may send.
const MAX_REDIRECTS: usize = 5;

/// Makes the client for one server.
pub(super) fn build(host: &Host, connect_timeout: Duration) -> Result<Client> {
    install_crypto();
    let own = certificates(host)?;
    let identity = identity(host)?;
    let builder = || {
        let mut builder = Client::builder()
            .user_agent(concat!("podwright/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(host.connect_timeout.unwrap_or(connect_timeout))
            .tls_danger_accept_invalid_certs(host.skip_verify)
            .tcp_nodelay(true);
        if let Some(identity) = &identity {
            builder = builder.identity(identity.clone());
        }
        if host.base.host_str().is_some_and(is_localhost) {
            builder = builder.no_proxy();
        }
        builder
    };
    // A server without TLS needs no roots, and reading those of the system takes milliseconds.
    if host.base.scheme() == "http" {
        return finish(builder().tls_certs_only(own), host);
    }
    // On a machine without any root certificates the verifier of the platform can not be made; then only `ca` counts.
    match builder().tls_certs_merge(own.clone()).build() {
        Ok(client) => Ok(client),
        Err(_) => finish(builder().tls_certs_only(own), host),
    }
}

/// Makes the client for a server that is no registry: with the system's roots, without credentials.
pub(crate) fn plain(url: &Url, patience: &Patience) -> Result<Client> {
    install_crypto();
    let mut builder = Client::builder()
        .user_agent(concat!("podwright/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
        .connect_timeout(patience.connect);
    if url.host_str().is_some_and(is_localhost) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| {
        ImageError::new(ErrorKind::Invalid, "prepare TLS for", url, "the system's certificates can not be read")
            .with_source(error)
    })
}

fn finish(builder: ClientBuilder, host: &Host) -> Result<Client> {
    builder.build().map_err(|error| {
        ImageError::new(ErrorKind::Invalid, "prepare TLS for", host.origin(), "certificates or keys do not fit")
            .with_source(error)
    })
}

/// reqwest is built without a provider of cryptography; ring is ours.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody else having installed one before is just as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn certificates(host: &Host) -> Result<Vec<Certificate>> {
    let mut all = Vec::new();
    for file in &host.ca {
        let found = Certificate::from_pem_bundle(&read(file)?).map_err(|error| not_pem(file, error))?;
        if found.is_empty() {
            return Err(ImageError::new(ErrorKind::Invalid, "read CA file", file.display(), "it holds no certificate"));
        }
        all.extend(found);
    }
    Ok(all)
}

/// The first pair; a TLS handshake offers one.
fn identity(host: &Host) -> Result<Option<Identity>> {
    let Some((certificate, key)) = host.client_pairs.first() else { return Ok(None) };
    let mut pem = read(certificate)?;
    if let Some(key) = key {
        pem.push(b'\n');
        pem.extend(read(key)?);
    }
    Identity::from_pem(&pem).map(Some).map_err(|error| not_pem(certificate, error))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| ImageError::io("read certificate file", file, error))
}

fn not_pem(file: &Path, error: reqwest::Error) -> ImageError {
    ImageError::new(ErrorKind::Invalid, "read certificate file", file.display(), "it is no valid PEM")
        .with_source(error)
}

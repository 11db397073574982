//! The registry side of a pull: manifests and blobs by the distribution specification.
//!
//! Owns servers, credentials, retries and time limits. Digests are checked by whoever takes the bytes in.

mod challenge;
mod client;
mod hosts;
mod request;
mod session;
mod token;

use std::sync::Arc;

use podwright_types::ImageReference;

pub(crate) use session::Session;

use crate::auth::{Auth, Credentials, from_docker_config};
use crate::config::ImageConfig;
use crate::error::Result;

/// What pulls share: access tokens.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tokens: token::TokenCache,
}

impl Registry {
    /// Prepares the registry of `reference` for one pull. The hosts file and docker's configuration are read anew.
    pub(crate) fn session(
        self: &Arc<Self>,
        reference: &ImageReference,
        auth: Option<&Auth>,
        config: &ImageConfig,
    ) -> Result<Session> {
        let credentials = credentials(reference.domain(), auth, config)?;
        let hosts = hosts::hosts_for(config.hosts_dir.as_deref(), reference.domain())?;
        Ok(Session::new(Arc::clone(self), reference, credentials, hosts, config))
    }
}

fn credentials(domain: &str, auth: Option<&Auth>, config: &ImageConfig) -> Result<Credentials> {
    let given = auth.map_or(Ok(Credentials::Anonymous), |auth| auth.credentials_for(domain))?;
    match (&given, &config.docker_config) {
        (Credentials::Anonymous, Some(file)) => from_docker_config(file, domain),
        _ => Ok(given),
    }
}

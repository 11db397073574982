//! The registry side of a pull: manifests and blobs by the distribution specification.
//!
//! Owns servers, credentials, retries and time limits. Digests are checked by whoever takes the bytes in.

mod challenge;
mod client;
mod hosts;
mod registries;
mod request;
mod session;
mod token;

use std::sync::Arc;

use podwright_types::ImageReference;

pub(crate) use client::plain as plain_client;
pub(crate) use request::{body_bounded, reason};
pub(crate) use session::Session;

use crate::auth::{Auth, Credentials, from_docker_config};
use crate::config::ImageConfig;
use crate::error::Result;
use hosts::Host;

/// What pulls share: access tokens, and registries.conf as it was read last.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tokens: token::TokenCache,
    registries: registries::Registries,
}

impl Registry {
    /// Prepares the registry of `reference` for one pull. The hosts file and docker's configuration are read anew, and registries.conf if it
    /// has changed.
    pub(crate) fn session(
        self: &Arc<Self>,
        reference: &ImageReference,
        auth: Option<&Auth>,
        config: &ImageConfig,
    ) -> Result<Session> {
        let servers = self
            .hosts(reference, config)?
            .into_iter()
            .map(|host| credentials(&host, reference, auth, config).map(|credentials| (host, credentials)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Session::new(Arc::clone(self), reference, servers, config))
    }

    /// The servers for an image: by the hosts.toml of its registry, by registries.conf, by the hosts.toml for all registries, and else the
    /// registry itself. What registries.conf blocks is blocked before all that.
    fn hosts(&self, reference: &ImageReference, config: &ImageConfig) -> Result<Vec<Host>> {
        let (domain, hosts_dir) = (reference.domain(), config.hosts_dir.as_deref());
        let choice = match &config.registries_conf {
            Some(file) => self.registries.find(file, reference)?,
            None => None,
        };
        let Some(choice) = choice else { return hosts::hosts_for(hosts_dir, domain) };
        choice.check_allowed(reference)?;
        if let Some(own) = hosts::own_hosts_for(hosts_dir, domain)? {
            return Ok(own);
        }
        let servers = choice.servers(reference)?;
        Ok(servers.into_iter().map(|host| hosts::with_certificates(hosts_dir, host)).collect())
    }
}

/// Reads a registries.conf, and forgets what it says.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_registries_file(text: &str) {
    registries::fuzz(text);
}

/// Reads a hosts file, and forgets what it says.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_hosts_file(text: &str) {
    hosts::parse_file(text);
}

/// Reads a challenge, and forgets what it says.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_challenge(text: &str) {
    let _ = challenge::parse(std::iter::once(text));
}

/// What one server may see. Credentials that name a server are for that one alone, be it the registry or a mirror. Those that name
/// none are for the registry and for mirrors that nobody on the way can listen to.
fn credentials(
    host: &Host,
    reference: &ImageReference,
    auth: Option<&Auth>,
    config: &ImageConfig,
) -> Result<Credentials> {
    let name = if host.is_mirror { host.name() } else { reference.domain().to_owned() };
    let given = match auth {
        Some(auth) if !auth.server_address.is_empty() || host.may_see_all_credentials() => {
            auth.credentials_for(&name)?
        }
        Some(_) | None => Credentials::Anonymous,
    };
    match (&given, &config.docker_config) {
        (Credentials::Anonymous, Some(file)) => {
            from_docker_config(file, &name, host.repository.as_deref().unwrap_or(reference.path()))
        }
        _ => Ok(given),
    }
}

#[cfg(test)]
mod tests;

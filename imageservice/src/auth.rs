//! Credentials: those of a CRI `AuthConfig`, and those of docker's `config.json`.
//!
//! Owns reading them. How a registry wants them is left to `registry`. Nothing here is ever printed.

pub(crate) mod docker_config;

use std::fmt;

use base64::Engine as _;

pub(crate) use docker_config::from_docker_config;

use crate::error::{ErrorKind, ImageError, Result};

/// The fields of a CRI `AuthConfig`; empty ones are not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: String,
    /// `username:password` in base64, instead of the two.
    pub auth: String,
    /// The registry these are for; empty is any.
    pub server_address: String,
    /// A refresh token, to be traded for an access token.
    pub identity_token: String,
    /// An access token, sent as it is.
    pub registry_token: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// Credentials in the form that the registry protocol uses.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Credentials {
    /// None: the public's rights.
    Anonymous,
    /// Name and password.
    Basic { username: String, password: String },
    /// A refresh token.
    Refresh(String),
    /// An access token.
    Access(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic",
            Self::Refresh(_) => "Refresh",
            Self::Access(_) => "Access",
        })
    }
}

impl Auth {
    /// The credentials to use with the registry `domain`.
    pub(crate) fn credentials_for(&self, domain: &str) -> Result<Credentials> {
        if !self.server_address.is_empty() && !same_registry(&self.server_address, domain) {
            return Ok(Credentials::Anonymous);
        }
        if !self.username.is_empty() {
            return Ok(Credentials::Basic { username: self.username.clone(), password: self.password.clone() });
        }
        if !self.identity_token.is_empty() {
            return Ok(Credentials::Refresh(self.identity_token.clone()));
        }
        if !self.registry_token.is_empty() {
            return Ok(Credentials::Access(self.registry_token.clone()));
        }
        if self.auth.is_empty() { Ok(Credentials::Anonymous) } else { decode_basic(&self.auth, domain) }
    }
}

/// Reads `username:password` in base64. Docker pads passwords with NUL bytes.
fn decode_basic(text: &str, domain: &str) -> Result<Credentials> {
    let invalid = |cause: &str| ImageError::new(ErrorKind::Invalid, "read credentials for", domain, cause);
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .map_err(|_| invalid("the auth field is not base64; encode username:password"))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("the auth field does not decode to text"))?;
    let (username, password) =
        text.split_once(':').ok_or_else(|| invalid("the auth field does not decode to username:password"))?;
    Ok(Credentials::Basic { username: username.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

/// Compares a configured address, with or without scheme and path, to a registry's host.
fn same_registry(address: &str, domain: &str) -> bool {
    let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    let host = host.split('/').next().unwrap_or(host);
    let canonical = |host: &str| match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_ascii_lowercase(),
    };
    canonical(host) == canonical(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.into(), password: password.into() }
    }

    #[test]
    fn each_form_is_understood() {
        let auth = Auth { auth: "dXNlcjpwYTpzcw==".into(), ..Auth::default() };
        assert_eq!(auth.credentials_for("r.example").unwrap(), basic("user", "pa:ss"));
        let auth = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
        assert_eq!(auth.credentials_for("r.example").unwrap(), basic("u", "p"));
        let auth = Auth { identity_token: "t".into(), ..Auth::default() };
        assert_eq!(auth.credentials_for("r.example").unwrap(), Credentials::Refresh("t".into()));
        let auth = Auth { registry_token: "t".into(), ..Auth::default() };
        assert_eq!(auth.credentials_for("r.example").unwrap(), Credentials::Access("t".into()));
        assert_eq!(Auth::default().credentials_for("r.example").unwrap(), Credentials::Anonymous);
    }

    #[test]
    fn credentials_stay_with_their_registry() {
        let auth = |server: &str| Auth { server_address: server.into(), username: "u".into(), ..Auth::default() };
        assert_eq!(auth("https://other.example").credentials_for("r.example").unwrap(), Credentials::Anonymous);
        assert_eq!(auth("https://r.example/v1/").credentials_for("r.example").unwrap(), basic("u", ""));
        assert_eq!(auth("https://index.docker.io/v1/").credentials_for("docker.io").unwrap(), basic("u", ""));
    }

    #[test]
    fn malformed_auth_is_told_without_the_secret() {
        for bad in ["%%%", "dXNlcg==", "/////w=="] {
            let error = Auth { auth: bad.into(), ..Auth::default() }.credentials_for("r.example").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(!error.to_string().contains(bad));
        }
        let auth = Auth { username: "user".into(), password: "secret".into(), ..Auth::default() };
        assert!(!format!("{auth:?}").contains("secret"));
    }
}

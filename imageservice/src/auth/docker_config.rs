//! Docker's `config.json` and containers-auth.json(5), of which `auths` is read: entries for a registry, or for what is below a path of it.
//! Credential helpers are programs; they are not executed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Auth, Credentials, same_registry};
use crate::error::{ErrorKind, ImageError, Result};

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// Finds the credentials for a repository in docker's configuration file; a file that is not there holds none.
pub(crate) fn from_docker_config(file: &Path, domain: &str, repository: &str) -> Result<Credentials> {
    match read_bounded(file)? {
        Some(text) => parse(&text, file, domain, repository),
        None => Ok(Credentials::Anonymous),
    }
}

fn read_bounded(file: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ImageError::io("open docker configuration", file, error)),
    };
    let mut text = Vec::new();
    opened
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| ImageError::io("read docker configuration", file, error))?;
    Ok(Some(text))
}

pub(crate) fn parse(text: &[u8], file: &Path, domain: &str, repository: &str) -> Result<Credentials> {
    let config: DockerConfig = serde_json::from_slice(text).map_err(|error| {
        // The parser's text could quote a secret; line and column do not.
        let place = format!("it is not valid at line {} column {}; repair it", error.line(), error.column());
        ImageError::new(ErrorKind::Invalid, "read docker configuration", file.display(), place)
    })?;
    let fitting = config.auths.into_iter().filter_map(|(key, entry)| Some((reach(&key, domain, repository)?, entry)));
    // Of equal ones the first.
    match fitting.rev().max_by_key(|(length, _)| *length) {
        Some((_, entry)) => Auth {
            username: entry.username,
            password: entry.password,
            auth: entry.auth,
            server_address: String::new(),
            identity_token: entry.identitytoken,
            registry_token: entry.registrytoken,
        }
        .credentials_for(domain),
        None => {
            if config.cred_helpers.keys().any(|server| same_registry(server, domain)) {
                tracing::warn!(
                    registry = domain,
                    file = %file.display(),
                    "credential helpers are not executed; put the credentials under auths"
                );
            }
            Ok(Credentials::Anonymous)
        }
    }
}

/// How long the path of an entry is, if it is for a repository. Docker's own keys have a scheme or end in the version of an API.
fn reach(key: &str, domain: &str, repository: &str) -> Option<usize> {
    if !same_registry(key, domain) {
        return None;
    }
    let path = match key.split_once('/') {
        Some((_, path)) if !key.contains("://") => path.trim_end_matches('/'),
        Some(_) | None => "",
    };
    if matches!(path, "" | "v1" | "v2") {
        return Some(0);
    }
    let is_below = matches!(repository.strip_prefix(path)?.bytes().next(), None | Some(b'/'));
    is_below.then_some(path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_counts() {
        let text = br#"{"auths": {"r.example": {"username": "all"}, "r.example/team": {"username": "team"},
            "r.example/team/app": {"username": "app"}, "r.example/v1/": {"username": "old"}, "o.example/a": {"username": "a"}}}"#;
        let user =
            |domain: &str, repository: &str| match parse(text, Path::new("auth.json"), domain, repository).unwrap() {
                Credentials::Basic { username, .. } => username,
                other => format!("{other:?}"),
            };
        assert_eq!(user("r.example", "team/app/web"), "app");
        assert_eq!(user("r.example", "team/apple"), "team");
        assert_eq!(user("r.example", "teams/app"), "all");
        assert_eq!(user("r.example", "v1"), "all");
        assert_eq!(user("o.example", "a"), "a");
        assert_eq!(user("o.example", "b"), "Anonymous");
    }

    #[test]
    fn auths_are_found_by_host() {
        let text = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"r.example:5000":{"identitytoken":"t"}},
            "credHelpers":{"gcr.example":"gcr"}}"#;
        let file = Path::new("config.json");
        let basic = Credentials::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(parse(text, file, "docker.io", "library/app").unwrap(), basic);
        assert_eq!(parse(text, file, "r.example:5000", "app").unwrap(), Credentials::Refresh("t".into()));
        assert_eq!(parse(text, file, "gcr.example", "app").unwrap(), Credentials::Anonymous);
        assert_eq!(parse(text, file, "r.example", "app").unwrap(), Credentials::Anonymous);
    }

    #[test]
    fn a_broken_file_is_told_by_place() {
        let error = parse(b"{\"auths\": {\"r\": \"secret\"}}", Path::new("config.json"), "r", "app").unwrap_err();
        assert!(error.to_string().contains("line 1") && !error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_missing_file_holds_nothing() {
        let none = from_docker_config(Path::new("/nonexistent/config.json"), "r", "app").unwrap();
        assert_eq!(none, Credentials::Anonymous);
    }
}

//! The text of one `hosts.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::Host;

#[derive(Deserialize)]
struct HostsFile {
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    defaults: Settings,
}

/// What can be set for a server. Unknown keys are left alone: containerd knows some that do not concern pulls.
#[derive(Deserialize, Default)]
struct Settings {
    #[serde(default)]
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    ca: Option<OneOrMany>,
    #[serde(default)]
    client: Option<ClientFiles>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: Option<toml::Table>,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    One(String),
    Many(Vec<OneOrMany>),
}

/// Parses a file in `directory`; `default` is the registry itself. The error says what is wrong and where.
pub(super) fn parse(text: &str, directory: &Path, default: Host) -> Result<Vec<Host>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut hosts = Vec::with_capacity(file.host.len() + 1);
    for (server, value) in file.host {
        let settings: Settings = value.try_into().map_err(|error| format!("host {server:?}: {}", error))?;
        hosts.push(host(&server, settings, directory)?);
    }
    hosts.push(match file.server {
        Some(server) => host(&server, file.defaults, directory)?,
        None => apply(default, file.defaults, directory)?,
    });
    Ok(hosts)
}

fn host(server: &str, settings: Settings, directory: &Path) -> Result<Host, String> {
    let text = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    let mut base: Url = text.parse().map_err(|error| format!("host {server:?} is no URL: {error}"))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(format!("host {server:?} must begin with http:// or https:// and name a host"));
    }
    let path = base.path().trim_end_matches('/').to_owned();
    if !settings.override_path && !path.ends_with("/v2") {
        base.set_path(&format!("{path}/v2"));
    } else {
        base.set_path(&path);
    }
    apply(Host::plain(base), settings, directory).map_err(|cause| format!("host {server:?}: {cause}"))
}

fn apply(mut host: Host, settings: Settings, directory: &Path) -> Result<Host, String> {
    if let Some(capabilities) = settings.capabilities.filter(|list| !list.is_empty()) {
        if let Some(odd) = capabilities.iter().find(|c| !["pull", "resolve", "push", "referrers"].contains(&c.as_str()))
        {
            return Err(format!("capability {odd:?} is unknown; use pull, resolve and push"));
        }
        host.can_pull = capabilities.iter().any(|c| c == "pull");
        host.can_resolve = capabilities.iter().any(|c| c == "resolve");
    }
    let absolute = |file: String| -> PathBuf { directory.join(file) };
    host.ca = settings.ca.map(OneOrMany::into_vec).unwrap_or_default().into_iter().map(absolute).collect();
    host.client_pairs = client_pairs(settings.client, directory)?;
    host.skip_verify = settings.skip_verify;
    host.headers = headers(settings.header.unwrap_or_default())?;
    host.connect_timeout = settings.dial_timeout.as_deref().map(duration).transpose()?;
    Ok(host)
}

fn client_pairs(files: Option<ClientFiles>, directory: &Path) -> Result<Vec<(PathBuf, Option<PathBuf>)>, String> {
    let entries = match files {
        None => return Ok(Vec::new()),
        Some(ClientFiles::One(file)) => vec![OneOrMany::One(file)],
        Some(ClientFiles::Many(entries)) => entries,
    };
    entries
        .into_iter()
        .map(|entry| match entry.into_vec().as_slice() {
            [certificate] => Ok((directory.join(certificate), None)),
            [certificate, key] if key.is_empty() => Ok((directory.join(certificate), None)),
            [certificate, key] => Ok((directory.join(certificate), Some(directory.join(key)))),
            other => Err(format!("a client pair has {} files; give certificate and key", other.len())),
        })
        .collect()
}

fn headers(table: toml::Table) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for (name, value) in table {
        let parsed_name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no header name"))?;
        let values: OneOrMany = value.try_into().map_err(|_| format!("header {name:?} must be a string or a list"))?;
        for value in values.into_vec() {
            let value = value.parse().map_err(|_| format!("the value of header {name:?} has control characters"))?;
            headers.push((parsed_name.clone(), value));
        }
    }
    Ok(headers)
}

/// A duration as Go writes it, of one unit: `500ms`, `10s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("dial_timeout {text:?} is no duration; write it as 500ms, 10s or 2m");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| bad())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(bad),
        _ => Err(bad()),
    }
}

//! `hosts.toml`: which servers answer for a registry, and how they are spoken to. The format is containerd's.
//!
//! Owns reading it, the defaults without it, and what a server is to the rest. Connecting is left to `client`.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::error::{ErrorKind, ImageError, Result};

/// Directory of the hosts file that is used where no other fits.
const DEFAULT_DIRECTORY: &str = "_default";
/// The file in it.
const HOSTS_FILE: &str = "hosts.toml";
/// The server behind Docker's registry name.
const DOCKER_SERVER: &str = "registry-1.docker.io";

/// One server that can answer for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Where the API is, with `/v2` but without a slash at its end.
    pub(crate) base: Url,
    /// It may be asked what a tag stands for.
    pub(crate) can_resolve: bool,
    /// It may be asked for content by digest.
    pub(crate) can_pull: bool,
    /// Files of certificate authorities trusted besides the system's.
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate and key files to prove who we are; the key may be in the first file.
    pub(crate) client_pairs: Vec<(PathBuf, Option<PathBuf>)>,
    /// Any certificate is taken.
    pub(crate) skip_verify: bool,
    /// Headers for each request.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Time limit of a connection.
    pub(crate) connect_timeout: Option<Duration>,
    /// The registry's own name, sent as `ns` to a mirror.
    pub(crate) namespace: Option<String>,
    /// The repository there, where registries.conf says it; else it is that of the reference.
    pub(crate) repository: Option<String>,
    /// It answers in the place of the registry that the reference names.
    pub(crate) is_mirror: bool,
    /// The same without TLS, where it may turn out to speak plain HTTP.
    pub(crate) plain_base: Option<Url>,
}

impl Host {
    pub(super) fn plain(base: Url) -> Self {
        Self {
            base,
            can_resolve: true,
            can_pull: true,
            ca: Vec::new(),
            client_pairs: Vec::new(),
            skip_verify: false,
            headers: Vec::new(),
            connect_timeout: None,
            namespace: None,
            repository: None,
            is_mirror: false,
            plain_base: None,
        }
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// Whether it may see credentials that name no server: the registry itself, and mirrors of hosts.toml that nobody on the way can listen
    /// to. Those of registries.conf may not, as with podman.
    pub(crate) fn may_see_all_credentials(&self) -> bool {
        !self.is_mirror || (self.repository.is_none() && self.is_private())
    }

    /// Host and, where it is not the usual one, port.
    pub(crate) fn name(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether nobody on the way to it can listen.
    fn is_private(&self) -> bool {
        self.base.scheme() == "https" || is_localhost(&self.name())
    }

    /// The URL of something below the API's root.
    pub(crate) fn url(&self, path: &str) -> Result<Url> {
        let text = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        let mut url: Url =
            text.parse().map_err(|_| ImageError::new(ErrorKind::Invalid, "build URL", &text, "it is no URL"))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }
}

/// The servers for the registry `domain`, in the order to try them; the registry itself is the last.
pub(super) fn hosts_for(hosts_dir: Option<&Path>, domain: &str) -> Result<Vec<Host>> {
    let default = default_host(domain)?;
    match hosts_dir.and_then(|dir| find_directory(dir, domain)) {
        Some(directory) => of_directory(&directory, domain, default),
        None => Ok(vec![default]),
    }
}

/// The servers of a hosts.toml that is for this registry alone, if there is one.
pub(super) fn own_hosts_for(hosts_dir: Option<&Path>, domain: &str) -> Result<Option<Vec<Host>>> {
    match hosts_dir.and_then(|dir| own_directory(dir, domain)).filter(|directory| directory.join(HOSTS_FILE).exists()) {
        Some(directory) => of_directory(&directory, domain, default_host(domain)?).map(Some),
        None => Ok(None),
    }
}

fn of_directory(directory: &Path, domain: &str, default: Host) -> Result<Vec<Host>> {
    let path = directory.join(HOSTS_FILE);
    let mut hosts = match std::fs::read_to_string(&path) {
        Ok(text) => file::parse(&text, directory, default)
            .map_err(|cause| ImageError::new(ErrorKind::Invalid, "read hosts file", path.display(), cause))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => vec![docker_certificates(directory, default)],
        Err(error) => return Err(ImageError::io("read hosts file", &path, error)),
    };
    let own = default_origin(domain)?;
    for host in &mut hosts {
        if host.base.host_str() != own.host_str() || host.base.port_or_known_default() != own.port_or_known_default() {
            host.namespace = Some(domain.to_owned());
            host.is_mirror = true;
        }
    }
    Ok(hosts)
}

/// Gives a server the certificates that lie for it beside hosts files, as Docker lays them out.
pub(super) fn with_certificates(hosts_dir: Option<&Path>, host: Host) -> Host {
    match hosts_dir.and_then(|dir| own_directory(dir, &host.name())) {
        Some(directory) => docker_certificates(&directory, host),
        None => host,
    }
}

/// Parses a hosts file of `registry.example`, and forgets what it says.
#[cfg(feature = "fuzzing")]
pub(super) fn parse_file(text: &str) {
    if let Ok(default) = default_host("registry.example") {
        let _ = file::parse(text, Path::new("/certs.d/registry.example"), default);
    }
}

/// The first of containerd's candidate directories that exists.
fn find_directory(hosts_dir: &Path, domain: &str) -> Option<PathBuf> {
    let default = hosts_dir.join(DEFAULT_DIRECTORY);
    own_directory(hosts_dir, domain).or_else(|| Some(default).filter(|directory| directory.is_dir()))
}

/// The directory of one registry.
fn own_directory(hosts_dir: &Path, domain: &str) -> Option<PathBuf> {
    let with_port = domain.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = with_port.iter().map(String::as_str).chain([domain]);
    names.map(|name| hosts_dir.join(name)).find(|directory| directory.is_dir())
}

fn default_origin(domain: &str) -> Result<Url> {
    // As containerd: a registry on this very host speaks plain HTTP unless it is on the port of HTTPS.
    let is_plain = is_localhost(domain) && !domain.ends_with(":443");
    origin(if is_plain { "http" } else { "https" }, domain)
}

/// Where the API of a registry is, whatever the scheme.
pub(super) fn api(scheme: &str, domain: &str) -> Result<Url> {
    let mut base = origin(scheme, domain)?;
    base.set_path("/v2");
    Ok(base)
}

fn origin(scheme: &str, domain: &str) -> Result<Url> {
    let server = if domain == "docker.io" { DOCKER_SERVER } else { domain };
    format!("{scheme}://{server}")
        .parse()
        .map_err(|_| ImageError::new(ErrorKind::Invalid, "find registry", domain, "the host is not valid in a URL"))
}

fn default_host(domain: &str) -> Result<Host> {
    let mut base = default_origin(domain)?;
    base.set_path("/v2");
    Ok(Host::plain(base))
}

/// Whether a host, with or without port, is this machine.
pub(crate) fn is_localhost(server: &str) -> bool {
    let host = match server.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => server.rsplit_once(':').map_or(server, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A directory without hosts.toml is read as Docker does: `*.crt` are authorities, `NAME.cert` and `NAME.key` a client pair.
fn docker_certificates(directory: &Path, mut host: Host) -> Host {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                host.client_pairs.push((path, Some(key)));
            }
            _ => {}
        }
    }
    host
}

#[cfg(test)]
mod tests;

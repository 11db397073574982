//! The files that a pod's containers find in /etc: resolv.conf, hostname and hosts. Their content is checked by `validate`
//! before; nothing here lets a line be added.

use std::fs;
use std::io;
use std::path::Path;

use podwright_types::SandboxId;

use crate::model::{DnsConfig, NamespaceMode, SandboxConfig};
use crate::record::{private_dir, replace};

/// Characters of a sandbox's id that make the hostname of a pod that names none.
const HOSTNAME_OF_ID: usize = 12;
/// Largest resolv.conf of the host that is copied, in bytes.
const RESOLV_CONF_BYTES: usize = 256 << 10;

/// Writes all three into the sandbox's directory.
pub(super) fn write(dir: &Path, config: &SandboxConfig, host_resolv_conf: &Path) -> io::Result<()> {
    private_dir(dir)?;
    let resolv = match &config.dns {
        Some(dns) => resolv_conf(dns),
        None => host_copy(host_resolv_conf)?,
    };
    let id = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let name = hostname_or(config, id);
    let hosts = match config.namespaces.network {
        NamespaceMode::Node => fs::read("/etc/hosts").unwrap_or_else(|_| hosts(&name).into_bytes()),
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => hosts(&name).into_bytes(),
    };
    replace(&dir.join("resolv.conf"), &resolv, 0o644, false)?;
    replace(&dir.join("hostname"), format!("{name}\n").as_bytes(), 0o644, false)?;
    replace(&dir.join("hosts"), &hosts, 0o644, false)
}

/// The hostname inside.
pub(super) fn hostname(config: &SandboxConfig, id: &SandboxId) -> String {
    hostname_or(config, id.as_str())
}

fn hostname_or(config: &SandboxConfig, id: &str) -> String {
    match (config.hostname.is_empty(), &config.namespaces.network) {
        (false, _) => config.hostname.clone(),
        (true, NamespaceMode::Node) => host_name(),
        (true, _) => id.get(..HOSTNAME_OF_ID).unwrap_or(id).to_owned(),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn host_copy(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(mut bytes) => {
            bytes.truncate(RESOLV_CONF_BYTES);
            Ok(bytes)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn resolv_conf(dns: &DnsConfig) -> Vec<u8> {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text.into_bytes()
}

fn hosts(name: &str) -> String {
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn dns_is_written_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let dns = DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["a.svc".into(), "b".into()],
            options: vec!["ndots:5".into()],
        };
        let config = SandboxConfig { hostname: "web".into(), dns: Some(dns), ..SandboxConfig::default() };
        write(dir.path(), &config, Path::new("/nonexistent")).unwrap();
        assert_eq!(text(dir.path(), "resolv.conf"), "search a.svc b\nnameserver 10.0.0.10\noptions ndots:5\n");
        assert_eq!(text(dir.path(), "hostname"), "web\n");
        assert!(text(dir.path(), "hosts").contains("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn without_dns_the_host_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        fs::write(&host, "nameserver 192.0.2.1\n").unwrap();
        write(&dir.path().join("pod"), &SandboxConfig::default(), &host).unwrap();
        assert_eq!(text(&dir.path().join("pod"), "resolv.conf"), "nameserver 192.0.2.1\n");
    }
}

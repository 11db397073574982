//! `PodSandboxConfig` to [`SandboxConfig`].

use std::net::IpAddr;
use std::path::PathBuf;

use podwright_cri_api::v1;
use podwright_podsandbox::model::{DnsConfig, PortMapping, Protocol, SandboxConfig};

use super::{resources, security};
use crate::field::{self, BadField, Within as _, shown};

/// Longest hostname that the kernel takes.
const MAX_HOSTNAME_BYTES: usize = 64;
/// Longest line of a resolv.conf that resolvers read.
const MAX_DNS_BYTES: usize = 2048;

/// Converts the configuration of a sandbox.
pub(crate) fn sandbox(config: v1::PodSandboxConfig, runtime_handler: String) -> Result<SandboxConfig, BadField> {
    let metadata = field::required("metadata", config.metadata)?;
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let (namespaces, security) = security::of_sandbox(context).within("linux.security_context")?;
    let host_network = namespaces.network == podwright_podsandbox::model::NamespaceMode::Node;
    Ok(SandboxConfig {
        name: field::name("name", metadata.name).within("metadata")?,
        namespace: field::name("namespace", metadata.namespace).within("metadata")?,
        uid: field::name("uid", metadata.uid).within("metadata")?,
        attempt: metadata.attempt,
        hostname: if host_network { String::new() } else { hostname(config.hostname)? },
        log_directory: field::absolute_path_or_empty("log_directory", config.log_directory)?,
        dns: config.dns_config.map(dns).transpose().within("dns_config")?,
        port_mappings: port_mappings(config.port_mappings)?,
        labels: field::map("labels", config.labels)?,
        annotations: field::map("annotations", config.annotations)?,
        runtime_handler,
        cgroup_parent: cgroup_parent(linux.cgroup_parent).within("linux")?,
        sysctls: sysctls(linux.sysctls).within("linux")?,
        namespaces,
        security,
        overhead: linux.overhead.map(resources::whole_resources).transpose().within("linux.overhead")?,
        resources: linux.resources.map(resources::whole_resources).transpose().within("linux.resources")?,
    })
}

fn hostname(value: String) -> Result<String, BadField> {
    let value = field::line("hostname", value, MAX_HOSTNAME_BYTES)?;
    if value.contains(['/', ' ']) {
        return Err(BadField::new("hostname", format!("{} is not a host name", shown(&value))));
    }
    Ok(value)
}

/// Each text becomes part of a line of resolv.conf, so none may begin a line of its own.
fn dns(config: v1::DnsConfig) -> Result<DnsConfig, BadField> {
    let word = |field: &str, value: String| {
        let value = field::line(field, value, MAX_DNS_BYTES)?;
        if value.is_empty() || value.contains(char::is_whitespace) {
            return Err(BadField::new(field, format!("{} is not one word", shown(&value))));
        }
        Ok(value)
    };
    Ok(DnsConfig {
        servers: field::texts("servers", config.servers, word)?,
        searches: field::texts("searches", config.searches, word)?,
        options: field::texts("options", config.options, word)?,
    })
}

/// Mappings without a port of the host map nothing and are left out.
fn port_mappings(mappings: Vec<v1::PortMapping>) -> Result<Vec<PortMapping>, BadField> {
    let mappings = field::each("port_mappings", mappings, port_mapping)?;
    Ok(mappings.into_iter().flatten().collect())
}

fn port_mapping(mapping: v1::PortMapping) -> Result<Option<PortMapping>, BadField> {
    let host_port = port("host_port", mapping.host_port)?;
    let container_port = port("container_port", mapping.container_port)?;
    let protocol = protocol(mapping.protocol)?;
    let host_ip = host_ip(&mapping.host_ip)?;
    if host_port == 0 {
        return Ok(None);
    }
    if container_port == 0 {
        return Err(BadField::new("container_port", "is 0; ports go from 1 to 65535"));
    }
    Ok(Some(PortMapping { protocol, container_port, host_port, host_ip }))
}

fn port(field: &str, value: i32) -> Result<u16, BadField> {
    u16::try_from(value).map_err(|_| BadField::new(field, format!("{value} is not a port; ports go from 1 to 65535")))
}

fn protocol(value: i32) -> Result<Protocol, BadField> {
    Ok(match field::known::<v1::Protocol>("protocol", value)? {
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
        v1::Protocol::Sctp => Protocol::Sctp,
    })
}

fn host_ip(value: &str) -> Result<Option<IpAddr>, BadField> {
    if value.is_empty() {
        return Ok(None);
    }
    let address: IpAddr =
        value.parse().map_err(|_| BadField::new("host_ip", format!("{} is not an IP address", shown(value))))?;
    // All addresses is what no address says too.
    Ok(Some(address).filter(|address| !address.is_unspecified()))
}

/// A path or the name of a slice; which one fits is for the driver to say.
fn cgroup_parent(value: String) -> Result<String, BadField> {
    let value = field::line("cgroup_parent", value, field::MAX_PATH_BYTES)?;
    let inner = PathBuf::from(&value);
    if inner.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(BadField::new("cgroup_parent", format!("{} has \"..\"", shown(&value))));
    }
    Ok(value)
}

/// Names become paths below /proc/sys, so their characters are few; values are written as they are, so they are one line.
fn sysctls(
    values: std::collections::BTreeMap<String, String>,
) -> Result<std::collections::BTreeMap<String, String>, BadField> {
    let values = field::map("sysctls", values)?;
    for (key, value) in &values {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if key.is_empty() || key.contains("..") || !key.chars().all(named) {
            return Err(BadField::new("sysctls", format!("{} is not the name of a sysctl", shown(key))));
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(BadField::new("sysctls", format!("the value of {} has a control character", shown(key))));
        }
    }
    // Both ways to write a name are one sysctl.
    Ok(values.into_iter().map(|(key, value)| (dotted(key), value)).collect())
}

/// `net/ipv4/conf/eth0.1/x` as sysctl(8) takes it: the first separator tells which one separates.
fn dotted(key: String) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.get(at..).is_some_and(|rest| rest.starts_with('/')) => key
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        Some(_) | None => key,
    }
}

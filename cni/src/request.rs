//! What a pod asks of its network and what it gets: plain data, the shape of `podsandbox::ports::network`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use podwright_types::SandboxId;
use serde::{Deserialize, Serialize};

/// Which network a pod was made with; a pod keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// Ours.
    Embedded,
    /// Plugins.
    Cni,
}

/// Transport protocol of a port mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Number in the IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port of the host that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port inside the pod.
    pub container_port: u16,
    /// Port on the host; mappings with 0 are ignored.
    pub host_port: u16,
    /// Address of the host to bind to; `None` and the unspecified addresses mean all.
    pub host_ip: Option<IpAddr>,
}

/// Lines of the pod's resolv.conf, for plugins with the `dns` capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSettings {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// A pod that joins or leaves a network.
#[derive(Debug, Clone)]
pub struct PodRequest {
    /// Sandbox.
    pub sandbox: SandboxId,
    /// Name of the pod.
    pub name: String,
    /// Kubernetes namespace of the pod.
    pub namespace: String,
    /// Unique id of the pod.
    pub uid: String,
    /// Which network.
    pub kind: NetworkKind,
    /// The pod's network namespace; `None` when it is gone.
    pub netns: Option<Arc<OwnedFd>>,
    /// Where it is pinned, for plugins.
    pub netns_path: Option<PathBuf>,
    /// Ports of the host that lead in.
    pub port_mappings: Vec<PortMapping>,
    /// Resolver configuration of the pod.
    pub dns: Option<DnsSettings>,
    /// Annotations; `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth` are read, for plugins.
    pub annotations: BTreeMap<String, String>,
}

/// What a pod got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// Addresses of the pod's `eth0`, the first being the main one.
    pub addresses: Vec<IpAddr>,
}

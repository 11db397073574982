//! The network of a pod.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use podwright_types::SandboxId;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::PortError;
use crate::model::{DnsConfig, NetworkStatus, PortMapping};

/// Which network a pod was made with. Recorded; a pod keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// Ours.
    Embedded,
    /// Plugins.
    Cni,
}

/// A network namespace.
#[derive(Debug, Clone)]
pub struct Netns {
    /// The namespace; `None` when it is gone already (tear-down after a crash).
    pub fd: Option<Arc<OwnedFd>>,
    /// Where it is pinned, for plugins; `None` for embedded pods.
    pub path: Option<PathBuf>,
}

/// A pod that joins or leaves a network.
#[derive(Debug, Clone)]
pub struct NetworkRequest {
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
    /// Its namespace.
    pub netns: Netns,
    /// Ports of the host that lead in.
    pub port_mappings: Vec<PortMapping>,
    /// Resolver configuration of the pod.
    pub dns: Option<DnsConfig>,
    /// Annotations (`kubernetes.io/ingress-bandwidth` and `egress-bandwidth` are read).
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Networks of this host.
#[async_trait]
pub trait Network: Send + Sync {
    /// The kind that a pod made now gets.
    fn kind_for_new_pods(&self) -> NetworkKind;

    /// Whether pods can be connected now.
    ///
    /// # Errors
    /// The reason in words, for the NetworkReady condition.
    fn ready(&self) -> Result<(), String>;

    /// What a pod's set-up or teardown waits for right now, in words, for whoever asks why it takes so long; `None` if it waits for nothing
    /// that has a name.
    fn waits_for(&self, _sandbox: &SandboxId) -> Option<String> {
        None
    }

    /// Makes a network namespace, with its loopback link up. It lasts as long as somebody holds it.
    async fn make_namespace(&self) -> Result<OwnedFd, PortError>;

    /// Connects a pod; CNI ADD. Repeated for the same sandbox it returns the recorded result.
    async fn setup(&self, request: &NetworkRequest) -> Result<NetworkStatus, PortError>;

    /// Connects to a port on the loopback of a network namespace (`None`: the host's), by IPv4, then IPv6. The caller has a
    /// deadline.
    ///
    /// # Errors
    /// `Unavailable` if nobody listens there.
    async fn connect(&self, netns: Option<OwnedFd>, port: u16) -> Result<TcpStream, PortError>;

    /// Disconnects a pod; CNI DEL. Nothing recorded is success.
    async fn teardown(&self, request: &NetworkRequest) -> Result<(), PortError>;
}

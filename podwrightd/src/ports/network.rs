//! [`Network`] over the pod networks.

mod dial;

use std::os::fd::OwnedFd;

use async_trait::async_trait;
use podwright_cni::{CniError, DnsSettings, Networks, PodRequest};
use podwright_podsandbox::model::{NetworkStatus, PortMapping, Protocol};
use podwright_podsandbox::ports::{Network, NetworkKind, NetworkRequest, PortError};

use tokio::net::TcpStream;

use super::{errno_of, failed_with, whole_text};

/// Networks of this host.
pub(crate) struct PodNetworks(pub(crate) Networks);

#[async_trait]
impl Network for PodNetworks {
    fn kind_for_new_pods(&self) -> NetworkKind {
        match self.0.kind_for_new_pods() {
            podwright_cni::NetworkKind::Embedded => NetworkKind::Embedded,
            podwright_cni::NetworkKind::Cni => NetworkKind::Cni,
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.0.ready()
    }

    fn waits_for(&self, sandbox: &podwright_types::SandboxId) -> Option<String> {
        self.0.waits_for(sandbox)
    }

    async fn make_namespace(&self) -> Result<OwnedFd, PortError> {
        podwright_cni::make_namespace().await.map_err(|error| failed(&error))
    }

    async fn setup(&self, request: &NetworkRequest) -> Result<NetworkStatus, PortError> {
        let joined = self.0.setup(&converted(request)).await.map_err(|error| failed(&error))?;
        Ok(NetworkStatus { addresses: joined.addresses })
    }

    async fn connect(&self, netns: Option<OwnedFd>, port: u16) -> Result<TcpStream, PortError> {
        dial::connect(netns, port).await
    }

    async fn teardown(&self, request: &NetworkRequest) -> Result<(), PortError> {
        self.0.teardown(&converted(request)).await.map_err(|error| failed(&error))
    }
}

fn failed(error: &CniError) -> PortError {
    match error {
        CniError::PoolFull { .. } => PortError::Exhausted(whole_text(error)),
        _ => failed_with(errno_of(error), whole_text(error)),
    }
}

fn converted(request: &NetworkRequest) -> PodRequest {
    PodRequest {
        sandbox: request.sandbox.clone(),
        name: request.name.clone(),
        namespace: request.namespace.clone(),
        uid: request.uid.clone(),
        kind: match request.kind {
            NetworkKind::Embedded => podwright_cni::NetworkKind::Embedded,
            NetworkKind::Cni => podwright_cni::NetworkKind::Cni,
        },
        netns: request.netns.fd.clone(),
        netns_path: request.netns.path.clone(),
        port_mappings: request.port_mappings.iter().map(port_mapping).collect(),
        dns: request.dns.as_ref().map(|dns| DnsSettings {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        annotations: request.annotations.clone(),
    }
}

fn port_mapping(mapping: &PortMapping) -> podwright_cni::PortMapping {
    podwright_cni::PortMapping {
        protocol: match mapping.protocol {
            Protocol::Tcp => podwright_cni::Protocol::Tcp,
            Protocol::Udp => podwright_cni::Protocol::Udp,
            Protocol::Sctp => podwright_cni::Protocol::Sctp,
        },
        container_port: mapping.container_port,
        host_port: mapping.host_port,
        host_ip: mapping.host_ip,
    }
}

//! A sandbox, as lists and its status tell it.

use podwright_cri_api::v1;
use podwright_podsandbox::model::{NamespaceMode, NamespaceModes, SandboxConfig, SandboxSnapshot, SandboxState};

use super::{id_mappings, namespace_mode};

/// A sandbox in a list.
pub(crate) fn sandbox_item(sandbox: &SandboxSnapshot) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.id.to_string(),
        metadata: Some(metadata(&sandbox.config)),
        state: state(sandbox.state).into(),
        created_at: sandbox.created_at_nanos,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.config.runtime_handler.clone(),
    }
}

/// A sandbox in full.
pub(crate) fn sandbox_status(sandbox: &SandboxSnapshot) -> v1::PodSandboxStatus {
    v1::PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: Some(metadata(&sandbox.config)),
        state: state(sandbox.state).into(),
        created_at: sandbox.created_at_nanos,
        network: Some(network(sandbox)),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(namespaces(&sandbox.config.namespaces)) }),
        }),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.config.runtime_handler.clone(),
    }
}

/// Name, uid, namespace and attempt.
pub(crate) fn metadata(config: &SandboxConfig) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        attempt: config.attempt,
    }
}

fn state(state: SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

/// On the host's network the addresses are the host's, which clients know themselves.
fn network(sandbox: &SandboxSnapshot) -> v1::PodSandboxNetworkStatus {
    if sandbox.config.namespaces.network == NamespaceMode::Node {
        return v1::PodSandboxNetworkStatus::default();
    }
    let mut addresses = sandbox.network.addresses.iter().map(ToString::to_string);
    v1::PodSandboxNetworkStatus {
        ip: addresses.next().unwrap_or_default(),
        additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
    }
}

/// The namespaces as they were asked for: a kubelet that finds other ones makes the sandbox anew.
pub(super) fn namespaces(modes: &NamespaceModes) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: namespace_mode(&modes.network).into(),
        pid: namespace_mode(&modes.pid).into(),
        ipc: namespace_mode(&modes.ipc).into(),
        target_id: String::new(),
        userns_options: modes.user.as_ref().map(|user| v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: id_mappings(&user.uids),
            gids: id_mappings(&user.gids),
        }),
    }
}

//! The verbose part of a status: JSON for people and for the tools that read containerd's.

use std::collections::BTreeMap;

use podwright_podsandbox::model::{ContainerSnapshot, ContainerState, NamespaceMode, SandboxSnapshot, SandboxState};
use serde_json::{Value, json};

use super::config_json;

/// What tools that ask for the type of the runtime are told.
const RUNTIME_TYPE: &str = "podwright";

fn info(value: &Value) -> BTreeMap<String, String> {
    BTreeMap::from([("info".to_owned(), value.to_string())])
}

/// Of a sandbox.
pub(crate) fn sandbox_info(sandbox: &SandboxSnapshot) -> BTreeMap<String, String> {
    let running = sandbox.state == SandboxState::Ready;
    info(&json!({
        "pid": sandbox.pid,
        "processStatus": if running { "running" } else { "stopped" },
        "netNamespaceClosed": !running,
        "message": sandbox.message,
        "runtimeHandler": sandbox.config.runtime_handler,
        "runtimePath": sandbox.handler.as_ref().map(|handler| &handler.path),
        "runtimeType": RUNTIME_TYPE,
        "config": config_json::sandbox(&sandbox.config),
        "runtimeSpec": runtime_spec(sandbox),
        "cniResult": network_result(sandbox),
    }))
}

/// A sandbox has no process of its own to specify; tools look here for the path of its network namespace.
fn runtime_spec(sandbox: &SandboxSnapshot) -> Value {
    let own_network = sandbox.config.namespaces.network == NamespaceMode::Pod;
    let network = match (&sandbox.netns_path, own_network) {
        (Some(path), true) => vec![json!({ "type": "network", "path": path })],
        (None, true) => vec![json!({ "type": "network" })],
        (_, false) => Vec::new(),
    };
    json!({
        "hostname": sandbox.config.hostname,
        "annotations": sandbox.config.annotations,
        "linux": { "namespaces": network, "cgroupsPath": sandbox.config.cgroup_parent },
    })
}

fn network_result(sandbox: &SandboxSnapshot) -> Value {
    let addresses = sandbox.network.addresses.iter();
    let configs: Vec<Value> = addresses.map(|ip| json!({ "IP": ip.to_string() })).collect();
    if configs.is_empty() { Value::Null } else { json!({ "Interfaces": { "eth0": { "IPConfigs": configs } } }) }
}

/// Of a container.
pub(crate) fn container_info(container: &ContainerSnapshot) -> BTreeMap<String, String> {
    let pid = match &container.state {
        ContainerState::Running { pid, .. } => *pid,
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Unknown => 0,
    };
    let spec: Value = serde_json::from_str(&container.runtime_spec).unwrap_or(Value::Null);
    info(&json!({
        "sandboxID": container.sandbox.as_str(),
        "pid": pid,
        "removing": false,
        "runtimeType": RUNTIME_TYPE,
        "config": config_json::container(&container.config),
        "runtimeSpec": spec,
    }))
}

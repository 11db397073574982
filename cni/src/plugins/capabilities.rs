//! What plugins are told of a pod: `CNI_ARGS`, and `runtimeConfig` as far as each plugin's `capabilities` ask for it.

use serde_json::{Map, Value, json};

use super::quantity;
use crate::config::Prefix;
use crate::request::PodRequest;

/// All that plugins may ask for.
pub(super) fn offered(request: &PodRequest, pod_cidrs: &[Prefix]) -> Result<Map<String, Value>, String> {
    let mut offered = Map::new();
    let mappings: Vec<Value> = request.port_mappings.iter().filter(|mapping| mapping.host_port != 0).map(|mapping| {
        let host_ip = mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        json!({"hostPort": mapping.host_port, "containerPort": mapping.container_port, "protocol": mapping.protocol.to_string(), "hostIP": host_ip})
    }).collect();
    if !mappings.is_empty() {
        offered.insert("portMappings".to_owned(), Value::Array(mappings));
    }
    if let Some(bandwidth) = bandwidth(request)? {
        offered.insert("bandwidth".to_owned(), bandwidth);
    }
    if let Some(dns) = &request.dns {
        offered.insert(
            "dns".to_owned(),
            json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}),
        );
    }
    if !pod_cidrs.is_empty() {
        let ranges = pod_cidrs.iter().map(|prefix| json!([{"subnet": prefix.to_string()}])).collect();
        offered.insert("ipRanges".to_owned(), Value::Array(ranges));
    }
    offered.insert("aliases".to_owned(), json!([request.name]));
    offered.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(request.annotations));
    Ok(offered)
}

/// The part of `offered` that a plugin's configuration asks for.
pub(super) fn wanted(plugin: &Map<String, Value>, offered: &Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(capabilities)) = plugin.get("capabilities") else { return Map::new() };
    let asked = capabilities.iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(name, _)| name);
    asked.filter_map(|name| Some((name.clone(), offered.get(name)?.clone()))).collect()
}

/// `CNI_ARGS`.
pub(super) fn arguments(request: &PodRequest) -> Result<String, String> {
    let id = request.sandbox.as_str();
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &request.namespace),
        ("K8S_POD_NAME", &request.name),
        ("K8S_POD_INFRA_CONTAINER_ID", id),
        ("K8S_POD_UID", &request.uid),
    ];
    if let Some((key, value)) = pairs.iter().find(|(_, value)| value.contains([';', '=', '\0', '\n'])) {
        return Err(format!("{key} can not be {value:?}; CNI has no way to say that"));
    }
    Ok(pairs.map(|(key, value)| format!("{key}={value}")).join(";"))
}

fn bandwidth(request: &PodRequest) -> Result<Option<Value>, String> {
    let mut bandwidth = Map::new();
    for direction in ["ingress", "egress"] {
        if let Some(text) = request.annotations.get(&format!("kubernetes.io/{direction}-bandwidth")) {
            let rate = quantity::bits_per_second(text)?;
            bandwidth.insert(format!("{direction}Rate"), rate.into());
            // The plugin wants a burst; Kubernetes has no word for it, so it is as good as unlimited.
            bandwidth.insert(format!("{direction}Burst"), u32::MAX.into());
        }
    }
    Ok((!bandwidth.is_empty()).then_some(Value::Object(bandwidth)))
}

//! Configurations as JSON, with the field names of the API: the part of them that tools read.

use podwright_podsandbox::model::{ContainerConfig, MountSource, SandboxConfig};
use serde_json::{Value, json};

/// Configuration of a sandbox.
pub(super) fn sandbox(config: &SandboxConfig) -> Value {
    json!({
        "metadata": {
            "name": config.name,
            "uid": config.uid,
            "namespace": config.namespace,
            "attempt": config.attempt,
        },
        "hostname": config.hostname,
        "log_directory": config.log_directory,
        "dns_config": config.dns.as_ref().map(|dns| json!({
            "servers": dns.servers, "searches": dns.searches, "options": dns.options,
        })),
        "port_mappings": config.port_mappings.iter().map(|m| json!({
            "protocol": m.protocol, "container_port": m.container_port, "host_port": m.host_port, "host_ip": m.host_ip,
        })).collect::<Vec<_>>(),
        "labels": config.labels,
        "annotations": config.annotations,
        "linux": { "cgroup_parent": config.cgroup_parent, "sysctls": config.sysctls },
    })
}

/// Configuration of a container. The environment is in the runtime specification already.
pub(super) fn container(config: &ContainerConfig) -> Value {
    json!({
        "metadata": { "name": config.name, "attempt": config.attempt },
        "image": { "image": config.image, "user_specified_image": config.user_specified_image },
        "command": config.command,
        "args": config.args,
        "working_dir": config.working_directory,
        "mounts": config.mounts.iter().map(|m| json!({
            "container_path": m.destination,
            "host_path": match &m.source {
                MountSource::Host(path) => path.to_string_lossy().into_owned(),
                MountSource::Image { .. } => String::new(),
            },
            "readonly": m.readonly,
        })).collect::<Vec<_>>(),
        "labels": config.labels,
        "annotations": config.annotations,
        "log_path": config.log_path,
        "stdin": config.stdin,
        "tty": config.terminal,
    })
}

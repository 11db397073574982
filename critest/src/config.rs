//! Configurations as kubelet writes them, with the least in them.

use std::path::Path;

use podwright_cri_api::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PortMapping,
};

/// A pod that was made, with what it was made from.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its id.
    pub id: String,
    /// Its configuration.
    pub config: PodSandboxConfig,
}

/// A pod of this name, in a cgroup, with its log directory under `logs`.
#[must_use]
pub fn pod_config(logs: &Path, cgroup_parent: &str, name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: logs.join(name).display().to_string(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.into(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(NamespaceOption { pid: 1, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A container of this name and image with a command; it logs to `<name>.log`.
#[must_use]
pub fn container(name: &str, image: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: image.into(), user_specified_image: image.into(), ..Default::default() }),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources::default()),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(NamespaceOption { pid: 1, ..Default::default() }),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// A container that runs a shell script.
#[must_use]
pub fn shell(name: &str, image: &str, script: &str) -> ContainerConfig {
    container(name, image, &["sh", "-c", script])
}

/// The Linux part of a container's configuration, to be changed.
pub fn linux(config: &mut ContainerConfig) -> (&mut LinuxContainerResources, &mut LinuxContainerSecurityContext) {
    let linux = config.linux.get_or_insert_default();
    (linux.resources.get_or_insert_default(), linux.security_context.get_or_insert_default())
}

/// A mount without propagation.
#[must_use]
pub fn mount(host_path: &Path, container_path: &str) -> Mount {
    Mount { host_path: host_path.display().to_string(), container_path: container_path.into(), ..Default::default() }
}

/// A mount of an image, or of a directory in it.
#[must_use]
pub fn image_mount(image: &str, container_path: &str, sub_path: &str) -> Mount {
    Mount {
        container_path: container_path.into(),
        readonly: true,
        image: Some(ImageSpec { image: image.into(), ..Default::default() }),
        image_sub_path: sub_path.into(),
        ..Default::default()
    }
}

/// A TCP port of the host that leads to a port of the pod.
#[must_use]
pub fn host_port(host_port: i32, container_port: i32) -> PortMapping {
    PortMapping { host_port, container_port, ..Default::default() }
}

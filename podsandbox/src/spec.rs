//! From what was asked for and what the image says to the OCI runtime specification of a container. Strings of the image and
//! annotations of the caller never become control keys.

pub(crate) mod adjusted;
mod capabilities;
mod devices;
mod labels;
mod mounts;
mod process;
mod resources;

use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Root, Spec};
use podwright_types::SandboxId;

use crate::error::EngineError;
use crate::model::{ContainerConfig, NamespaceMode, Propagation, Resources, SandboxConfig, Seccomp, SecurityConfig};
use crate::ports::{ImageConfig, NamespaceChoice, NamespacePlan, PidPlan};

/// Version of the OCI runtime specification that is written; older external runtimes refuse newer ones.
const OCI_VERSION: &str = "1.1.0";

/// All that a specification is made from.
pub(crate) struct Input {
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) sandbox: SandboxId,
    pub(crate) sandbox_config: Arc<SandboxConfig>,
    pub(crate) image: ImageConfig,
    /// For each mount of an image the directories that show it, the topmost first.
    pub(crate) image_volumes: Vec<Vec<PathBuf>>,
    /// Where the pod's resolv.conf, hostname and hosts are.
    pub(crate) sandbox_dir: PathBuf,
    pub(crate) shm_dir: PathBuf,
    pub(crate) cgroup_path: String,
    pub(crate) hostname: String,
    /// The default AppArmor profile, where there is one.
    pub(crate) apparmor_profile: Option<String>,
    /// Whether labels of SELinux are given, where the host has it.
    pub(crate) selinux: bool,
}

impl Input {
    fn selinux(&self) -> Result<labels::SelinuxLabels, EngineError> {
        let (own, pods) = (&self.config.security, &self.sandbox_config.security);
        labels::selinux(self.selinux, own, pods, &self.sandbox)
    }
}

/// Writes the specification, JSON. Looks at the host's devices and profiles.
pub(crate) fn generate(input: &Input) -> Result<Spec, EngineError> {
    let security = &input.config.security;
    check_seccomp(&seccomp(security))?;
    let mut root = Root::default();
    // The runtime builds the root file system from the layers that it is given.
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(security.readonly_rootfs));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.into())
        .set_root(Some(root))
        .set_hostname(None)
        .set_process(Some(process::process(input)?))
        .set_mounts(Some(mounts::mounts(input)?))
        .set_annotations(Some(annotations(input)))
        .set_linux(Some(linux(input)?));
    Ok(spec)
}

fn linux(input: &Input) -> Result<Linux, EngineError> {
    let (config, security) = (&input.config, &input.config.security);
    let devices = devices::devices(&config.devices, security.privileged)?;
    let mut limits = resources::resources(&config.resources);
    limits.set_devices(Some(devices.rules));
    let paths = |paths: &[PathBuf]| {
        let shown = || paths.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        Some(if security.privileged { Vec::new() } else { shown() })
    };
    let mut linux = Linux::default();
    linux
        .set_resources(Some(limits))
        .set_devices(Some(devices.nodes))
        .set_cgroups_path(Some(PathBuf::from(&input.cgroup_path)))
        .set_namespaces(Some(namespaces(&namespace_plan(&input.sandbox_config, config))))
        .set_masked_paths(paths(&security.masked_paths))
        .set_readonly_paths(paths(&security.readonly_paths))
        .set_mount_label(input.selinux()?.files)
        .set_rootfs_propagation(rootfs_propagation(config))
        .set_seccomp(None);
    if let Some(user) = &input.sandbox_config.namespaces.user {
        linux.set_uid_mappings(Some(mounts::id_mappings(&user.uids)));
        linux.set_gid_mappings(Some(mounts::id_mappings(&user.gids)));
    }
    Ok(linux)
}

fn rootfs_propagation(config: &ContainerConfig) -> Option<String> {
    let asks = |wanted| config.mounts.iter().any(|mount| mount.propagation == wanted);
    if asks(Propagation::Bidirectional) {
        return Some("rshared".into());
    }
    asks(Propagation::HostToContainer).then(|| "rslave".into())
}

/// What tools read that know containerd; all of it is ours, nothing comes from the caller's annotations.
fn annotations(input: &Input) -> std::collections::HashMap<String, String> {
    let (config, pod) = (&input.config, &input.sandbox_config);
    let image = if config.user_specified_image.is_empty() { &config.image } else { &config.user_specified_image };
    [
        ("container-type", "container"),
        ("container-name", &config.name),
        ("image-name", image),
        ("sandbox-id", input.sandbox.as_str()),
        ("sandbox-name", &pod.name),
        ("sandbox-namespace", &pod.namespace),
        ("sandbox-uid", &pod.uid),
    ]
    .into_iter()
    .map(|(key, value)| (format!("io.kubernetes.cri.{key}"), value.to_owned()))
    .collect()
}

/// Which namespaces a container joins and gets.
pub(crate) fn namespace_plan(pod: &SandboxConfig, container: &ContainerConfig) -> NamespacePlan {
    let pod_or_host = |mode: &NamespaceMode| match mode {
        NamespaceMode::Node => NamespaceChoice::Host,
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => NamespaceChoice::Pod,
    };
    let network = pod_or_host(&pod.namespaces.network);
    let own_cgroups = resources::unified() && !container.security.privileged;
    NamespacePlan {
        network,
        ipc: pod_or_host(&pod.namespaces.ipc),
        uts: network,
        pid: pid_plan(pod, container),
        user: if pod.namespaces.user.is_some() { NamespaceChoice::Pod } else { NamespaceChoice::Host },
        cgroup: if own_cgroups { NamespaceChoice::New } else { NamespaceChoice::Host },
    }
}

/// The namespaces of a container by its specification, JSON, which may have been adjusted. The plan that the specification was made
/// with is the rule.
pub(crate) fn planned_namespaces(spec: &str, plan: NamespacePlan) -> Result<NamespacePlan, EngineError> {
    let spec: Spec = serde_json::from_str(spec).map_err(|e| unreadable(&e))?;
    adjusted::namespaces(&spec, plan)
}

/// "The pod's" is whatever the pod has.
fn pid_plan(pod: &SandboxConfig, container: &ContainerConfig) -> PidPlan {
    match (&container.pid_mode, &pod.namespaces.pid) {
        (NamespaceMode::Target(id), _) => PidPlan::Target(id.clone()),
        (NamespaceMode::Node, _) | (NamespaceMode::Pod, NamespaceMode::Node) => PidPlan::Host,
        (NamespaceMode::Pod, NamespaceMode::Pod) => PidPlan::Pod,
        (NamespaceMode::Container, _) | (NamespaceMode::Pod, NamespaceMode::Container | NamespaceMode::Target(_)) => {
            PidPlan::Own
        }
    }
}

fn namespaces(plan: &NamespacePlan) -> Vec<LinuxNamespace> {
    let not_host = |choice, kind| (choice != NamespaceChoice::Host).then_some(kind);
    [
        Some(LinuxNamespaceType::Mount),
        (plan.pid != PidPlan::Host).then_some(LinuxNamespaceType::Pid),
        not_host(plan.network, LinuxNamespaceType::Network),
        not_host(plan.ipc, LinuxNamespaceType::Ipc),
        not_host(plan.uts, LinuxNamespaceType::Uts),
        not_host(plan.user, LinuxNamespaceType::User),
        not_host(plan.cgroup, LinuxNamespaceType::Cgroup),
    ]
    .into_iter()
    .flatten()
    .map(|kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace
    })
    .collect()
}

/// The SELinux label of files that all containers of a pod share, if the host has SELinux and `wanted` says that it is used.
pub(crate) fn shared_label(
    wanted: bool,
    pod: &SandboxConfig,
    sandbox: &SandboxId,
) -> Result<Option<String>, EngineError> {
    labels::shared_files(wanted, &pod.security, sandbox)
}

/// The filter in force.
pub(crate) fn seccomp(security: &SecurityConfig) -> Seccomp {
    if security.privileged { Seccomp::Unconfined } else { security.seccomp.clone() }
}

fn check_seccomp(seccomp: &Seccomp) -> Result<(), EngineError> {
    let Seccomp::Localhost(path) = seccomp else { return Ok(()) };
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(EngineError::Invalid(format!("seccomp profile {}: it is no regular file", path.display()))),
        Err(e) => Err(EngineError::Invalid(format!(
            "seccomp profile {}: {e}; put the profile on this node or choose RuntimeDefault",
            path.display()
        ))),
    }
}

/// The signal that stops a container, as a Linux number.
pub(crate) fn stop_signal(asked: Option<i32>, image: &str) -> Result<i32, EngineError> {
    process::stop_signal(asked, image)
}

/// The limits as OCI `linux.resources`, JSON, without device rules.
pub(crate) fn resources_json(limits: &Resources) -> Result<String, EngineError> {
    to_json(&resources::resources(limits))
}

/// A specification with other limits; its device rules stay.
pub(crate) fn with_resources(spec: &str, limits: &Resources) -> Result<String, EngineError> {
    let mut spec: Spec = serde_json::from_str(spec).map_err(|e| unreadable(&e))?;
    let mut linux = spec.linux().clone().unwrap_or_default();
    let before = linux.resources().clone().unwrap_or_default();
    linux.set_resources(Some(resources::over(before, limits)));
    spec.set_linux(Some(linux));
    to_json(&spec)
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, EngineError> {
    serde_json::to_string(value).map_err(|e| unreadable(&e))
}

fn unreadable(error: &serde_json::Error) -> EngineError {
    EngineError::Internal(format!("read or write the OCI specification: {error}"))
}

#[cfg(test)]
mod tests;

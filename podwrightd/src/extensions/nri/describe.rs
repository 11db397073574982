//! Pods and containers as plugins see them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime as oci;
use oci_spec::runtime::Spec;
use podwright_nri::api;
use podwright_podsandbox::model::{ContainerSnapshot, ContainerState, SandboxSnapshot, Seccomp};

use super::limits;

/// A pod.
pub(super) fn pod(sandbox: &SandboxSnapshot) -> api::PodSandbox {
    let config = &sandbox.config;
    let told = sandbox.limits.as_deref();
    let overhead = told.map(|limits| &limits.overhead).or(config.overhead.as_ref());
    let resources = told.map(|limits| &limits.containers).or(config.resources.as_ref());
    let network = sandbox.netns_path.as_ref();
    let network = network.map(|path| api::LinuxNamespace { r#type: "network".into(), path: text(path) });
    let linux = api::LinuxPodSandbox {
        pod_overhead: overhead.map(limits::told),
        pod_resources: resources.map(limits::told),
        cgroup_parent: config.cgroup_parent.clone(),
        cgroups_path: String::new(),
        namespaces: network.into_iter().collect(),
        resources: resources.map(limits::told),
    };
    api::PodSandbox {
        id: sandbox.id.to_string(),
        name: config.name.clone(),
        uid: config.uid.clone(),
        namespace: config.namespace.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: config.runtime_handler.clone(),
        linux: Some(linux),
        pid: u32::try_from(sandbox.pid).unwrap_or_default(),
        ips: sandbox.network.addresses.iter().map(ToString::to_string).collect(),
    }
}

/// A container that is there.
pub(super) fn made(container: &ContainerSnapshot) -> api::Container {
    // It is our own; one that can not be read tells less.
    let spec: Spec = serde_json::from_str(&container.runtime_spec).unwrap_or_default();
    self::container(container, &spec)
}

/// A container with a specification that may not be its own yet.
pub(super) fn container(container: &ContainerSnapshot, spec: &Spec) -> api::Container {
    let config = &container.config;
    let now = now(&container.state);
    let process = spec.process().as_ref();
    let lines = |lines: Option<&Vec<String>>| lines.cloned().unwrap_or_default();
    let name = if config.user_specified_image.is_empty() { &config.image } else { &config.user_specified_image };
    let mut linux = spec.linux().as_ref().map(linux).unwrap_or_default();
    linux.oom_score_adj =
        process.and_then(|process| process.oom_score_adj()).map(|score| api::OptionalInt { value: score.into() });
    linux.seccomp_profile = Some(profile(&config.security.seccomp));
    linux.resources = Some(limits::told(&container.resources));
    api::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox.to_string(),
        name: config.name.clone(),
        state: now.state.into(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        args: lines(process.and_then(|process| process.args().as_ref())),
        env: lines(process.and_then(|process| process.env().as_ref())),
        mounts: spec.mounts().iter().flatten().map(mount).collect(),
        hooks: spec.hooks().as_ref().map(hooks),
        linux: Some(linux),
        pid: now.pid,
        rlimits: process.and_then(|process| process.rlimits().as_ref()).into_iter().flatten().map(rlimit).collect(),
        created_at: container.created_at_nanos,
        started_at: now.started_at,
        finished_at: now.finished_at,
        exit_code: now.exit_code,
        status_reason: now.reason,
        status_message: now.message,
        cdi_devices: config.cdi_devices.iter().map(|name| api::CdiDevice { name: name.clone() }).collect(),
        user: process.map(|process| user(process.user())),
        image: Some(api::Image {
            name: name.clone(),
            digest: container.image_ref.clone(),
            config_digest: container.image_id.clone(),
        }),
    }
}

/// Where a container stands.
#[derive(Default)]
struct Now {
    state: api::ContainerState,
    pid: u32,
    started_at: i64,
    finished_at: i64,
    exit_code: i32,
    reason: String,
    message: String,
}

fn now(state: &ContainerState) -> Now {
    match state {
        ContainerState::Created => Now { state: api::ContainerState::ContainerCreated, ..Now::default() },
        ContainerState::Running { pid, started_at_nanos } => Now {
            state: api::ContainerState::ContainerRunning,
            pid: u32::try_from(*pid).unwrap_or_default(),
            started_at: *started_at_nanos,
            ..Now::default()
        },
        ContainerState::Exited { started_at_nanos, exit } => Now {
            state: api::ContainerState::ContainerStopped,
            started_at: started_at_nanos.unwrap_or_default(),
            finished_at: exit.finished_at_nanos,
            exit_code: exit.code,
            reason: exit.reason.clone(),
            message: exit.message.clone(),
            ..Now::default()
        },
        ContainerState::Unknown => Now::default(),
    }
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

fn optional(path: Option<&PathBuf>) -> String {
    path.map(|path| text(path)).unwrap_or_default()
}

fn sorted(map: Option<&HashMap<String, String>>) -> BTreeMap<String, String> {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn mount(mount: &oci::Mount) -> api::Mount {
    api::Mount {
        destination: text(mount.destination()),
        r#type: mount.typ().clone().unwrap_or_default(),
        source: optional(mount.source().as_ref()),
        options: mount.options().clone().unwrap_or_default(),
    }
}

fn rlimit(limit: &oci::PosixRlimit) -> api::PosixRlimit {
    api::PosixRlimit { r#type: limit.typ().to_string(), hard: limit.hard(), soft: limit.soft() }
}

fn user(user: &oci::User) -> api::User {
    let additional_gids = user.additional_gids().clone().unwrap_or_default();
    api::User { uid: user.uid(), gid: user.gid(), additional_gids }
}

#[allow(deprecated, reason = "the stage is deprecated, its hooks are in use")]
fn hooks(hooks: &oci::Hooks) -> api::Hooks {
    let all = |list: &Option<Vec<oci::Hook>>| list.iter().flatten().map(hook).collect();
    api::Hooks {
        prestart: all(hooks.prestart()),
        create_runtime: all(hooks.create_runtime()),
        create_container: all(hooks.create_container()),
        start_container: all(hooks.start_container()),
        poststart: all(hooks.poststart()),
        poststop: all(hooks.poststop()),
    }
}

fn hook(hook: &oci::Hook) -> api::Hook {
    api::Hook {
        path: text(hook.path()),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout: hook.timeout().map(|value| api::OptionalInt { value }),
    }
}

fn linux(linux: &oci::Linux) -> api::LinuxContainer {
    let namespace = |namespace: &oci::LinuxNamespace| api::LinuxNamespace {
        r#type: namespace.typ().to_string(),
        path: optional(namespace.path().as_ref()),
    };
    api::LinuxContainer {
        namespaces: linux.namespaces().iter().flatten().map(namespace).collect(),
        devices: linux.devices().iter().flatten().map(device).collect(),
        cgroups_path: optional(linux.cgroups_path().as_ref()),
        sysctl: sorted(linux.sysctl().as_ref()),
        ..api::LinuxContainer::default()
    }
}

fn device(device: &oci::LinuxDevice) -> api::LinuxDevice {
    let kind = match device.typ() {
        oci::LinuxDeviceType::A => "a",
        oci::LinuxDeviceType::B => "b",
        oci::LinuxDeviceType::C => "c",
        oci::LinuxDeviceType::U => "u",
        oci::LinuxDeviceType::P => "p",
    };
    api::LinuxDevice {
        path: text(device.path()),
        r#type: kind.to_owned(),
        major: device.major(),
        minor: device.minor(),
        file_mode: device.file_mode().map(|value| api::OptionalFileMode { value }),
        uid: device.uid().map(|value| api::OptionalUInt32 { value }),
        gid: device.gid().map(|value| api::OptionalUInt32 { value }),
    }
}

fn profile(seccomp: &Seccomp) -> api::SecurityProfile {
    use api::security_profile::ProfileType;
    let (kind, localhost_ref) = match seccomp {
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::Localhost(path) => (ProfileType::Localhost, text(path)),
    };
    api::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

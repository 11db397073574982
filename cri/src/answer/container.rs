//! A container, as lists and its status tell it.

use podwright_cri_api::v1;
use podwright_imageservice::ImageInfo;
use podwright_podsandbox::model::{
    ContainerConfig, ContainerSnapshot, ContainerState, Exit, Mount, MountSource, Propagation, ResolvedUser,
};

use super::id_mappings;
use super::resources::linux_resources;
use crate::convert;

/// Reason of an end with code 0.
const COMPLETED: &str = "Completed";
/// Reason of any other end.
const ERROR: &str = "Error";
/// Reason of an end by the kernel's out-of-memory killer.
const OOM_KILLED: &str = "OOMKilled";

/// What a state means on the wire.
struct Told {
    state: v1::ContainerState,
    started_at: i64,
    exit: Option<Exit>,
}

/// A container in a list.
pub(crate) fn container_item(container: &ContainerSnapshot) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox.to_string(),
        metadata: Some(metadata(&container.config)),
        image: Some(v1::ImageSpec {
            image: container.config.image.clone(),
            user_specified_image: container.config.user_specified_image.clone(),
            ..Default::default()
        }),
        image_ref: container.image_ref.clone(),
        state: told(&container.state).state.into(),
        created_at: container.created_at_nanos,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}

/// A container in full. `image` is what the store knows of its image, `find` looks other images up.
pub(crate) fn container_status(
    container: &ContainerSnapshot,
    find: impl Fn(&str) -> Option<ImageInfo>,
) -> v1::ContainerStatus {
    let Told { state, started_at, exit } = told(&container.state);
    let (finished_at, exit_code, reason, message) =
        exit.map_or_else(Default::default, |exit| (exit.finished_at_nanos, exit.code, reason(&exit), exit.message));
    v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(metadata(&container.config)),
        state: state.into(),
        created_at: container.created_at_nanos,
        started_at,
        finished_at,
        exit_code,
        image: Some(image_spec(container, find(&container.image_id))),
        image_ref: container.image_ref.clone(),
        reason,
        message,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        mounts: mounts(container),
        log_path: container.log_path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        resources: Some(v1::ContainerResources { linux: Some(linux_resources(&container.resources)), windows: None }),
        image_id: container.image_id.clone(),
        user: container.user.as_ref().map(|user| v1::ContainerUser { linux: Some(linux_user(user)) }),
        stop_signal: convert::from_linux(container.stop_signal).into(),
    }
}

fn told(state: &ContainerState) -> Told {
    match state {
        ContainerState::Created => Told { state: v1::ContainerState::ContainerCreated, started_at: 0, exit: None },
        ContainerState::Running { started_at_nanos, .. } => {
            Told { state: v1::ContainerState::ContainerRunning, started_at: *started_at_nanos, exit: None }
        }
        ContainerState::Exited { started_at_nanos, exit } => Told {
            state: v1::ContainerState::ContainerExited,
            started_at: started_at_nanos.unwrap_or_default(),
            exit: Some(exit.clone()),
        },
        ContainerState::Unknown => Told { state: v1::ContainerState::ContainerUnknown, started_at: 0, exit: None },
    }
}

fn reason(exit: &Exit) -> String {
    match (exit.reason.as_str(), exit.oom_killed, exit.code) {
        ("", true, _) => OOM_KILLED.to_owned(),
        ("", false, 0) => COMPLETED.to_owned(),
        ("", false, _) => ERROR.to_owned(),
        (given, _, _) => given.to_owned(),
    }
}

/// The container is made from an image id; people look for the name.
fn image_spec(container: &ContainerSnapshot, image: Option<ImageInfo>) -> v1::ImageSpec {
    let config = &container.config;
    let tag = image.and_then(|image| image.repo_tags.into_iter().next());
    let written = Some(config.user_specified_image.clone()).filter(|written| !written.is_empty());
    v1::ImageSpec {
        image: tag.or(written).unwrap_or_else(|| config.image.clone()),
        user_specified_image: config.user_specified_image.clone(),
        ..Default::default()
    }
}

/// Name and attempt.
pub(super) fn metadata(config: &ContainerConfig) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: config.name.clone(), attempt: config.attempt }
}

fn mounts(container: &ContainerSnapshot) -> Vec<v1::Mount> {
    let mut image_ids = container.volume_images.iter().cloned();
    container.config.mounts.iter().map(|asked| mount(asked, &mut image_ids)).collect()
}

/// `image_ids` are those of the image mounts to come.
fn mount(mount: &Mount, image_ids: &mut impl Iterator<Item = String>) -> v1::Mount {
    let (host_path, image, image_sub_path) = match &mount.source {
        MountSource::Host(path) => (path.to_string_lossy().into_owned(), None, String::new()),
        MountSource::Image { image, sub_path } => {
            // What PullImage gave, whatever the image was called here.
            let image_ref = image_ids.next().unwrap_or_default();
            let spec = v1::ImageSpec { image: image.clone(), image_ref, ..Default::default() };
            (String::new(), Some(spec), sub_path.to_string_lossy().into_owned())
        }
    };
    v1::Mount {
        container_path: mount.destination.to_string_lossy().into_owned(),
        host_path,
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation(mount.propagation).into(),
        uid_mappings: id_mappings(&mount.uid_mappings),
        gid_mappings: id_mappings(&mount.gid_mappings),
        recursive_read_only: mount.recursive_readonly,
        image,
        image_sub_path,
        mount_options: Vec::new(),
    }
}

fn propagation(propagation: Propagation) -> v1::MountPropagation {
    match propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    }
}

fn linux_user(user: &ResolvedUser) -> v1::LinuxContainerUser {
    v1::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.supplemental_groups.iter().map(|gid| i64::from(*gid)).collect(),
    }
}

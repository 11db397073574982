//! `Mount` and `Device` to the model.

use podwright_cri_api::v1;
use podwright_podsandbox::model::{Device, Mount, MountSource, Propagation};

use super::namespace::id_mapping;
use crate::field::{self, BadField, shown};

/// Converts a mount.
pub(crate) fn mount(mount: v1::Mount) -> Result<Mount, BadField> {
    let propagation = propagation(mount.propagation)?;
    if mount.recursive_read_only {
        recursive(mount.readonly, propagation)?;
    }
    if !mount.mount_options.is_empty() {
        return Err(BadField::new("mount_options", "is not supported, as Status tells in its features"));
    }
    Ok(Mount {
        destination: field::absolute_path("container_path", mount.container_path)?,
        source: source(mount.host_path, mount.image, mount.image_sub_path)?,
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation,
        selinux_relabel: mount.selinux_relabel,
        uid_mappings: field::each("uidMappings", mount.uid_mappings, id_mapping)?,
        gid_mappings: field::each("gidMappings", mount.gid_mappings, id_mapping)?,
    })
}

fn propagation(value: i32) -> Result<Propagation, BadField> {
    Ok(match field::known("propagation", value)? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    })
}

/// A recursively read-only mount is an error rather than something weaker.
fn recursive(readonly: bool, propagation: Propagation) -> Result<(), BadField> {
    if !readonly {
        return Err(BadField::new("recursive_read_only", "needs readonly"));
    }
    if propagation != Propagation::Private {
        return Err(BadField::new("recursive_read_only", "needs the propagation PROPAGATION_PRIVATE"));
    }
    Ok(())
}

fn source(host_path: String, image: Option<v1::ImageSpec>, sub_path: String) -> Result<MountSource, BadField> {
    let image = image.map(|spec| spec.image).filter(|image| !image.is_empty());
    match (host_path.is_empty(), image) {
        // Kubelet names the sub-path of any volume here, and has put it into the path already.
        (false, None) => Ok(MountSource::Host(field::absolute_path("host_path", host_path)?)),
        (true, Some(image)) => Ok(MountSource::Image {
            image: field::name("image.image", image)?,
            sub_path: field::inner_path("image_sub_path", sub_path)?,
        }),
        (false, Some(_)) => Err(BadField::new("host_path", "is given beside image; give one of them")),
        (true, None) => Err(BadField::new("host_path", "is empty")),
    }
}

/// Converts a device.
pub(crate) fn device(device: v1::Device) -> Result<Device, BadField> {
    let permissions = device.permissions;
    if permissions.len() > 3 || !permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return Err(BadField::new("permissions", format!("{} is not made of r, w and m", shown(&permissions))));
    }
    Ok(Device {
        host_path: field::absolute_path("host_path", device.host_path)?,
        container_path: field::absolute_path("container_path", device.container_path)?,
        permissions,
    })
}

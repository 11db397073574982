//! Devices of the host in a container, and the rules of its device cgroup.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::EngineError;
use crate::model::Device;

/// Deepest directory below a device directory that is looked into.
const MAX_DEPTH: usize = 8;
/// Directories of /dev that are not devices of the host, or made anew in each container.
const NOT_DEVICES: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts"];

/// Device nodes, and who may use which.
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

/// The devices of a container: those asked for, or all when it is privileged.
pub(super) fn devices(asked: &[Device], privileged: bool) -> Result<Devices, EngineError> {
    let mut nodes = Vec::new();
    if privileged {
        let host = Path::new("/dev");
        walk(host, host, 0, &mut nodes).map_err(|e| failed(host, &e))?;
    }
    let mut rules = if privileged { vec![rule(true, None, None, None, "rwm")] } else { default_rules() };
    for device in asked {
        let found = expand(device)?;
        rules.extend(
            found
                .iter()
                .map(|node| rule(true, Some(node.typ()), Some(node.major()), Some(node.minor()), &device.permissions)),
        );
        nodes.retain(|node| found.iter().all(|new| new.path() != node.path()));
        nodes.extend(found);
    }
    Ok(Devices { nodes, rules })
}

/// Nothing, but making nodes and the devices that every container has.
fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let any = [LinuxDeviceType::C, LinuxDeviceType::B].map(|kind| rule(true, Some(kind), None, None, "m"));
    // null, zero, full, random, urandom, tty, console, ptmx, pts
    let own = [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ]
    .map(|(major, minor)| rule(true, Some(LinuxDeviceType::C), Some(major), minor, "rwm"));
    [rule(false, None, None, None, "rwm")].into_iter().chain(any).chain(own).collect()
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(kind).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}

fn expand(device: &Device) -> Result<Vec<LinuxDevice>, EngineError> {
    let meta = fs::metadata(&device.host_path).map_err(|e| failed(&device.host_path, &e))?;
    let mut nodes = Vec::new();
    if meta.is_dir() {
        walk(&device.host_path, &device.container_path, 0, &mut nodes).map_err(|e| failed(&device.host_path, &e))?;
        return Ok(nodes);
    }
    match node(&meta, device.container_path.clone()) {
        Some(node) => Ok(vec![node]),
        None => Err(EngineError::Invalid(format!(
            "device {}: it is neither a device nor a directory of devices; mount it as a volume",
            device.host_path.display()
        ))),
    }
}

fn failed(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Invalid(format!("device {}: {error}; name a device of this node", path.display()))
}

fn walk(host: &Path, inside: &Path, depth: usize, nodes: &mut Vec<LinuxDevice>) -> io::Result<()> {
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        let (name, below) = (entry.file_name(), inside.join(entry.file_name()));
        // Links are not followed: what they lead to is found by its own name.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < MAX_DEPTH {
            if !NOT_DEVICES.iter().any(|skipped| name == *skipped) {
                walk(&entry.path(), &below, depth + 1, nodes)?;
            }
        } else if name != "console" {
            nodes.extend(node(&meta, below));
        }
    }
    Ok(())
}

fn node(meta: &fs::Metadata, inside: PathBuf) -> Option<LinuxDevice> {
    let kind = meta.file_type();
    let kind = if kind.is_char_device() {
        LinuxDeviceType::C
    } else if kind.is_block_device() {
        LinuxDeviceType::B
    } else {
        return None;
    };
    let number = meta.rdev();
    let mut device = LinuxDevice::default();
    device
        .set_path(inside)
        .set_typ(kind)
        .set_major(i64::from(rustix::fs::major(number)))
        .set_minor(i64::from(rustix::fs::minor(number)))
        .set_file_mode(Some(meta.mode() & 0o7777))
        .set_uid(Some(meta.uid()))
        .set_gid(Some(meta.gid()));
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str) -> Device {
        Device { host_path: host.into(), container_path: "/dev/x".into(), permissions: "rw".into() }
    }

    #[test]
    fn a_device_gets_its_node_and_its_rule() {
        let devices = devices(&[asked("/dev/null")], false).unwrap();
        let node = &devices.nodes[0];
        assert_eq!((node.path().to_str(), node.major(), node.minor()), (Some("/dev/x"), 1, 3));
        assert_eq!(devices.rules.last().unwrap().access().as_deref(), Some("rw"));
    }

    #[test]
    fn everything_else_is_denied_first() {
        let devices = devices(&[], false).unwrap();
        assert!(!devices.rules[0].allow());
    }

    #[test]
    fn a_file_is_no_device() {
        assert!(matches!(devices(&[asked("/etc/passwd")], false), Err(EngineError::Invalid(_))));
        assert!(matches!(devices(&[asked("/dev/nonexistent")], false), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn privileged_gets_the_devices_of_the_host() {
        let devices = devices(&[], true).unwrap();
        assert!(devices.nodes.iter().any(|node| node.path() == Path::new("/dev/null")));
        assert!(devices.nodes.iter().all(|node| !node.path().starts_with("/dev/pts")));
    }
}

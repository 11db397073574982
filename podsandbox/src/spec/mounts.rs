//! The mounts of a container: those that every container has, those of the pod, and those asked for.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount as OciMount};

use super::Input;
use crate::error::EngineError;
use crate::model::{IdMapping, Mount, MountSource, NamespaceMode, Propagation, UserNamespace};

/// The source gets the container's SELinux label, if it has one.
const RELABEL: &str = "Z";

/// All mounts, in the order in which they are made.
pub(super) fn mounts(input: &Input) -> Result<Vec<OciMount>, EngineError> {
    let asked = &input.config.mounts;
    let is_asked = |destination: &Path| asked.iter().any(|mount| normal(&mount.destination) == destination);
    let dev = is_asked(Path::new("/dev"));
    let mut all = defaults(input);
    let is_below_dev = |mount: &OciMount| dev && mount.destination().starts_with("/dev/");
    all.retain(|mount| !is_asked(mount.destination()) && !is_below_dev(mount));
    let mut own = of_the_pod(input);
    own.retain(|mount| !is_asked(mount.destination()) && !lies_on_the_host(mount.destination(), asked));
    let mut image_volumes = input.image_volumes.iter();
    for mount in asked {
        own.push(match &mount.source {
            MountSource::Host(source) => of_the_host(mount, source),
            MountSource::Image { .. } => {
                let directories = image_volumes.next().map_or(&[][..], Vec::as_slice);
                of_an_image(mount, directories, input.sandbox_config.namespaces.user.as_ref())?
            }
        });
    }
    // Parents first, whatever the order they came in: a volume on /etc does not hide the pod's resolv.conf. The sort is stable.
    own.sort_by_key(|mount| mount.destination().components().count());
    all.extend(own);
    Ok(all)
}

/// Whether what is mounted here would show up on the host too: below a volume that hands mounts back.
fn lies_on_the_host(destination: &Path, asked: &[Mount]) -> bool {
    let hands_back = |mount: &&Mount| mount.propagation == Propagation::Bidirectional;
    asked.iter().filter(hands_back).any(|mount| destination.starts_with(normal(&mount.destination)))
}

fn mount(destination: impl Into<PathBuf>, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> OciMount {
    let mut mount = OciMount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

fn defaults(input: &Input) -> Vec<OciMount> {
    let access = if input.config.security.privileged { "rw" } else { "ro" };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

fn of_the_pod(input: &Input) -> Vec<OciMount> {
    let shm = match input.sandbox_config.namespaces.ipc {
        NamespaceMode::Node => Path::new("/dev/shm"),
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => &input.shm_dir,
    };
    let access = if input.config.security.readonly_rootfs { "ro" } else { "rw" };
    let file = |name: &str| {
        let mut made = mount(
            Path::new("/etc").join(name),
            "bind",
            input.sandbox_dir.join(name),
            &["rbind", "rprivate", access, RELABEL],
        );
        if let Some(user) = &input.sandbox_config.namespaces.user {
            set_mappings(&mut made, &user.uids, &user.gids);
        }
        made
    };
    vec![
        mount("/dev/shm", "bind", shm, &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]),
        file("hostname"),
        file("hosts"),
        file("resolv.conf"),
    ]
}

fn of_the_host(asked: &Mount, source: &Path) -> OciMount {
    let mut options = vec!["rbind", propagation(asked.propagation)];
    options.extend(match (asked.readonly, asked.recursive_readonly) {
        (_, true) => ["rro"].as_slice(),
        (true, false) => ["ro"].as_slice(),
        (false, false) => ["rw"].as_slice(),
    });
    if asked.selinux_relabel {
        options.push(RELABEL);
    }
    let mut made = mount(normal(&asked.destination), "bind", source, &options);
    if !asked.uid_mappings.is_empty() {
        set_mappings(&mut made, &asked.uid_mappings, &asked.gid_mappings);
    }
    made
}

/// An image, or a part of it: one directory, or the overlay of several. Nothing in it opens a device or changes the user.
fn of_an_image(asked: &Mount, directories: &[PathBuf], user: Option<&UserNamespace>) -> Result<OciMount, EngineError> {
    const FLAGS: [&str; 4] = ["ro", "nosuid", "nodev", "rprivate"];
    let destination = normal(&asked.destination);
    let mut made = match directories {
        [] => {
            // An image without layers.
            let options = [&FLAGS[..], &["mode=755", "size=4k"]].concat();
            return Ok(mount(destination, "tmpfs", "tmpfs", &options));
        }
        [only] => mount(destination, "bind", only, &[&["bind"], &FLAGS[..]].concat()),
        several => {
            let directories = several.iter().map(|path| escaped(path)).collect::<Result<Vec<_>, _>>();
            let directories = directories.map_err(|error| error.of_image_volume(&asked.destination))?;
            let list = format!("lowerdir={}", directories.join(":"));
            mount(destination, "overlay", "overlay", &[&[list.as_str()], &FLAGS[..]].concat())
        }
    };
    // The files are an image's as those of the root are, so the pod's mapping is theirs.
    if let Some(user) = user {
        set_mappings(&mut made, &user.uids, &user.gids);
    }
    Ok(made)
}

/// A path for `lowerdir`, as mount(8) writes it.
fn escaped(path: &Path) -> Result<String, EngineError> {
    let text = path.to_str().ok_or_else(|| EngineError::Invalid(format!("{}: it is no UTF-8", path.display())))?;
    Ok(text.replace('\\', r"\\").replace(':', r"\:"))
}

/// Shows the files of a mount, and of what is mounted below it, with other owners.
pub(super) fn set_mappings(mount: &mut OciMount, uids: &[IdMapping], gids: &[IdMapping]) {
    let mut options = mount.options().clone().unwrap_or_default();
    options.push("ridmap".to_owned());
    mount
        .set_options(Some(options))
        .set_uid_mappings(Some(id_mappings(uids)))
        .set_gid_mappings(Some(id_mappings(gids)));
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    }
}

/// Mappings as the specification writes them.
pub(super) fn id_mappings(mappings: &[IdMapping]) -> Vec<LinuxIdMapping> {
    let one = |mapping: &IdMapping| {
        LinuxIdMappingBuilder::default()
            .host_id(mapping.host_id)
            .container_id(mapping.container_id)
            .size(mapping.length)
            .build()
            // It has defaults for all, so nothing can be missing.
            .unwrap_or_default()
    };
    mappings.iter().map(one).collect()
}

/// Without `.`, doubled and trailing slashes. `..` was refused before.
fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| !matches!(c, Component::CurDir)).collect()
}

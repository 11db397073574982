//! Device nodes and links in a container's `/dev`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use podwright_sys::{Errno, clone_tree};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, makedev, mknodat, statat, symlinkat, unlinkat};

use crate::error::{Failure, Step};
use crate::launch::MappedRoot;
use crate::mounts::move_onto;
use crate::root::{Root, exists_at, split};

/// Path, major, minor of what every container has.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Name in `/dev`, target.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

struct Node<'a> {
    path: &'a Path,
    kind: FileType,
    device: u64,
    mode: u32,
    owner: (u32, u32),
}

/// Makes the standard nodes, those of the specification, and the links.
pub(crate) fn populate(root: &Root, devices: &[LinuxDevice]) -> Result<(), Failure> {
    for (path, major, minor) in NODES {
        make(root, &standard(Path::new(path), major, minor, (0, 0)))?;
    }
    for device in devices {
        make(root, &node(device)?)?;
    }
    make_links(root, Path::new("/dev"), (0, 0))
}

/// The same in a `/dev` that is attached nowhere yet. Nobody can make devices in a user namespace, so the host's root does it; what
/// every container has belongs to the container's root, what was asked for to whom it belongs on the host.
pub(crate) fn populate_detached(dev: &OwnedFd, devices: &[LinuxDevice], owner: MappedRoot) -> Result<(), Failure> {
    let root = Root::new(dev.try_clone().step("use", || "/dev")?);
    let below = |path: &Path| path.strip_prefix("/dev").map(|rest| Path::new("/").join(rest)).ok();
    for (path, major, minor) in NODES {
        let path = below(Path::new(path)).unwrap_or_default();
        make(&root, &standard(&path, major, minor, (owner.uid, owner.gid)))?;
    }
    for device in devices {
        let asked = device.path();
        let path = below(asked).ok_or_else(|| {
            let reason = "in a pod with a user namespace a device has to lie below /dev";
            Failure::because("make the device", asked.display(), reason)
        })?;
        make(&root, &Node { path: &path, ..node(device)? })?;
    }
    make_links(&root, Path::new("/"), (owner.uid, owner.gid))
}

fn standard(path: &Path, major: u32, minor: u32, owner: (u32, u32)) -> Node<'_> {
    Node { path, kind: FileType::CharacterDevice, device: makedev(major, minor), mode: 0o666, owner }
}

fn make_links(root: &Root, dev: &Path, owner: (u32, u32)) -> Result<(), Failure> {
    let dev = root.ensure_directory(dev, Mode::from_raw_mode(0o755))?;
    for (name, target) in LINKS {
        let what = || format!("/dev/{name}");
        match symlinkat(target, &dev, name) {
            Ok(()) => give(&dev, Path::new(name), owner).step("change the owner of", what)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure::errno("make the link", what(), errno)),
        }
    }
    Ok(())
}

fn give(directory: &OwnedFd, name: &Path, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    rustix::fs::chownat(directory, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
}

fn node(device: &LinuxDevice) -> Result<Node<'_>, Failure> {
    let path = device.path().as_path();
    let refuse = |reason: &str| Failure::because("make the device", path.display(), reason);
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(refuse("type `a` stands for no device; use c, b or p")),
    };
    let number = |value: i64| u32::try_from(value).map_err(|_| refuse("its number is out of range"));
    let device_number = makedev(number(device.major())?, number(device.minor())?);
    let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    Ok(Node { path, kind, device: device_number, mode: device.file_mode().unwrap_or(0o666) & 0o7777, owner })
}

fn make(root: &Root, node: &Node<'_>) -> Result<(), Failure> {
    let what = || node.path.display();
    let (parent, name) = split(node.path)?;
    let directory = root.ensure_directory(parent, Mode::from_raw_mode(0o755))?;
    let mode = Mode::from_raw_mode(node.mode);
    if let Ok(there) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        if FileType::from_raw_mode(there.st_mode) == node.kind && there.st_rdev == node.device {
            return Ok(());
        }
        unlinkat(&directory, name, AtFlags::empty()).step("replace", what)?;
    }
    mknodat(&directory, name, node.kind, mode, node.device).step("make the device", what)?;
    give(&directory, name, node.owner).step("change the owner of", what)
}

/// Puts a terminal where `/dev/console` is.
pub(crate) fn bind_console(root: &Root, terminal: impl AsFd) -> Result<(), Failure> {
    let what = || "/dev/console";
    let dev = root.ensure_directory(Path::new("/dev"), Mode::from_raw_mode(0o755))?;
    if !exists_at(&dev, Path::new("console")) {
        mknodat(&dev, "console", FileType::RegularFile, Mode::from_raw_mode(0o620), 0).step("make", what)?;
    }
    let target: OwnedFd = root.handle(Path::new("/dev/console")).step("open", what)?;
    let tree = clone_tree(terminal, Path::new(""), false).step("clone the terminal for", what)?;
    move_onto(&tree, &target).step("mount the terminal on", what)
}

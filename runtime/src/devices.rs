//! Device nodes and links in a container's `/dev`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use podwright_sys::{Errno, clone_tree};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, makedev, mknodat, statat, symlinkat, unlinkat};

use crate::error::{Failure, Step};
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
        let device = makedev(major, minor);
        make(
            root,
            &Node { path: Path::new(path), kind: FileType::CharacterDevice, device, mode: 0o666, owner: (0, 0) },
        )?;
    }
    for device in devices {
        make(root, &node(device)?)?;
    }
    let dev = root.ensure_directory(Path::new("/dev"), Mode::from_raw_mode(0o755))?;
    for (name, target) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failure::errno("make the link", format_args!("/dev/{name}"), errno)),
        }
    }
    Ok(())
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
    if node.owner == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(node.owner.0), Gid::from_raw(node.owner.1));
    rustix::fs::chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .step("change the owner of", what)
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

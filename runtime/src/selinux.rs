//! SELinux labels of files: a volume that is given to a container with all that is in it. Labels of processes are in `lsm`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use podwright_sys::Errno;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, XattrFlags, lgetxattr, lsetxattr, setxattr};

use crate::error::{Failure, Step};
use crate::root;

const ATTRIBUTE: &str = "security.selinux";
/// Deepest directory of a volume that gets a label.
const MAX_DEPTH: usize = 256;

/// What the node itself lives from: with a container's label on it, the node would be locked out.
const KEPT: [&str; 25] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/etc/pki", "/etc/ssh", "/home", "/lib", "/lib32", "/lib64", "/media",
    "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log",
];

/// Gives a path of the host and all below it this label. Links are labelled and not followed. A file system that has no labels is left
/// as it is.
pub(crate) fn relabel(path: &Path, label: &str) -> Result<(), Failure> {
    let what = || path.display();
    if KEPT.iter().any(|kept| root::normalized(path) == Path::new(kept)) || path.starts_with("/usr") {
        let reason = "it is a directory of the node itself; use a directory below it, or no relabelling";
        return Err(Failure::because("relabel", what(), reason));
    }
    let top = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open", what)?;
    let through = format!("/proc/self/fd/{}", top.as_raw_fd());
    match setxattr(through.as_str(), ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Err(Errno::NOTSUP) => return Ok(()),
        result => result.step("relabel", what)?,
    }
    if !root::is_directory(&top).step("look at", what)? {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, through.as_str(), flags, Mode::empty()).step("open", what)?;
    below(&top, label, 0).step("relabel what is in", what)
}

fn below(directory: &OwnedFd, label: &str, depth: usize) -> Result<(), Errno> {
    if depth >= MAX_DEPTH {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match one(directory, name.to_bytes(), label) {
            // Gone meanwhile, or on a file system of its own without labels.
            Err(Errno::NOENT | Errno::NOTSUP) => continue,
            result => result?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
            continue;
        }
        match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(inner) => below(&inner, label, depth + 1)?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Through the directory's descriptor: whoever renames something above meanwhile changes nothing.
fn one(directory: &OwnedFd, name: &[u8], label: &str) -> Result<(), Errno> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let mut now = [0; 512];
    let length = lgetxattr(path.as_slice(), ATTRIBUTE, &mut now).unwrap_or(0);
    if now.get(..length).is_some_and(|now| now.strip_suffix(&[0]).unwrap_or(now) == label.as_bytes()) {
        return Ok(());
    }
    lsetxattr(path.as_slice(), ATTRIBUTE, label.as_bytes(), XattrFlags::empty())
}

/// Labels the root of a mount that takes no `context` option.
pub(crate) fn label_root(mount: impl AsFd, label: &str, at: &Path) -> Result<(), Failure> {
    let path = format!("/proc/self/fd/{}", mount.as_fd().as_raw_fd());
    match setxattr(path.as_str(), ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(Failure::errno("label", at.display(), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label_of(path: &Path) -> Option<String> {
        let mut value = [0; 128];
        let length = lgetxattr(path, ATTRIBUTE, &mut value).ok()?;
        Some(String::from_utf8_lossy(&value[..length]).into_owned())
    }

    #[test]
    fn root_a_volume_is_relabelled_and_links_are_not_followed() {
        const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";
        let top = tempfile::tempdir().unwrap();
        let (volume, outside) = (top.path().join("volume"), top.path().join("outside"));
        std::fs::create_dir_all(volume.join("a/b")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(volume.join("a/file"), "").unwrap();
        std::fs::write(outside.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("a/link")).unwrap();
        relabel(&volume, LABEL).unwrap();
        for path in ["", "a", "a/b", "a/file", "a/link"] {
            assert_eq!(label_of(&volume.join(path)).as_deref(), Some(LABEL), "{path}");
        }
        assert_eq!(label_of(&outside.join("file")), None);
        assert_eq!(label_of(&outside), None);
        relabel(&volume.join("a/file"), "system_u:object_r:other_t:s0").unwrap();
        assert_eq!(label_of(&volume.join("a/file")).as_deref(), Some("system_u:object_r:other_t:s0"));
    }

    #[test]
    fn the_node_itself_is_not_relabelled() {
        for path in ["/", "/etc", "/etc/", "/usr/share", "/var/../etc", "/proc"] {
            let failure = relabel(Path::new(path), "x").unwrap_err();
            assert!(failure.text.contains("the node itself"), "{path}: {failure}");
        }
    }
}

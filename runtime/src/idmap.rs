//! Mounts that show files with other owners: those of the pod's user namespace, or others that a volume asks for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIdMappingBuilder;
use podwright_sys::{Errno, MountAttributes, clone_tree, set_mount_attributes};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::error::{Failure, Step};
use crate::launch::IdMappings;
use crate::users;

/// An id to try with; any but that of root.
const PROBE_ID: u32 = 65_536;

/// Maps the owners of what a detached mount shows.
pub(crate) fn apply(mount: impl AsFd, namespace: BorrowedFd<'_>, recursive: bool, at: &Path) -> Result<(), Failure> {
    let attributes = MountAttributes { id_mapping: Some(namespace), recursive, ..MountAttributes::default() };
    set_mount_attributes(mount, &attributes).map_err(|errno| explain(errno, at))
}

fn explain(errno: Errno, at: &Path) -> Failure {
    let reason = match errno {
        Errno::INVAL => "its file system, or one mounted below it, can not map ids (or is mapped already); \
                         use a volume on ext4, xfs, btrfs or tmpfs, or a pod without a user namespace"
            .to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    Failure { errno: errno.raw_os_error(), ..Failure::because("map the ids of", at.display(), reason) }
}

/// Whether user namespaces can be made here, and the files of a directory be shown in them.
///
/// # Errors
/// Why not.
pub fn can_map_ids(directory: &Path) -> Result<(), Failure> {
    let range = || vec![LinuxIdMappingBuilder::default().host_id(PROBE_ID).size(1_u32).build().unwrap_or_default()];
    let namespace = users::make(&IdMappings { uids: range(), gids: range() })?;
    let tree = clone_tree(CWD, directory, false).step("clone the mount of", || directory.display())?;
    apply(&tree, namespace.as_fd(), false, directory)
}

/// The namespaces that mounts are mapped by, each made once.
pub(crate) struct Mapper<'a> {
    /// The pod's.
    pod: Option<(&'a IdMappings, BorrowedFd<'a>)>,
    others: Vec<(IdMappings, OwnedFd)>,
}

impl<'a> Mapper<'a> {
    pub(crate) fn new(pod: Option<(&'a IdMappings, BorrowedFd<'a>)>) -> Self {
        Self { pod, others: Vec::new() }
    }

    /// A descriptor of one's own for a namespace with these mappings.
    pub(crate) fn owned(&mut self, wanted: &IdMappings) -> Result<OwnedFd, Failure> {
        self.namespace(wanted)?.try_clone_to_owned().step("keep", || "a user namespace")
    }

    /// A namespace with these mappings.
    pub(crate) fn namespace(&mut self, wanted: &IdMappings) -> Result<BorrowedFd<'_>, Failure> {
        if let Some((mappings, fd)) = self.pod
            && mappings == wanted
        {
            return Ok(fd);
        }
        let at = match self.others.iter().position(|(mappings, _)| mappings == wanted) {
            Some(at) => at,
            None => {
                self.others.push((wanted.clone(), users::make(wanted)?));
                self.others.len() - 1
            }
        };
        let found = self.others.get(at).map(|(_, fd)| fd.as_fd());
        found.ok_or_else(|| Failure::because("map the ids of", "a mount", "a bug: its namespace is not there"))
    }
}

/// Covers each directory with a mapped mount of itself, in the caller's own mount namespace: overlayfs can not be mapped, what it
/// lies upon can. One mount serves all directories that lie side by side.
pub(crate) fn cover(directories: &[PathBuf], namespace: BorrowedFd<'_>) -> Result<Covered, Failure> {
    let places = places(directories)?;
    for place in &places {
        let tree = clone_tree(CWD, place, false).step("clone the mount of", || place.display())?;
        apply(&tree, namespace, false, place)?;
        move_mount(&tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .step("attach the mapped", || place.display())?;
    }
    Ok(Covered(places))
}

/// What is covered, until it is not any more. An overlay that was mounted meanwhile has it for ever.
pub(crate) struct Covered(Vec<PathBuf>);

impl Covered {
    pub(crate) fn uncover(self) -> Result<(), Failure> {
        for place in self.0.into_iter().rev() {
            unmount(&place, UnmountFlags::DETACH).step("uncover", || place.display())?;
        }
        Ok(())
    }
}

/// What to cover: the one directory above all, if all are on its mount.
fn places(directories: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let above = common_parent(directories);
    if let Some(above) = above.filter(|above| above.parent().is_some()) {
        let on = mount_of(above)?;
        let mut same = true;
        for directory in directories {
            same = same && mount_of(directory)? == on;
        }
        if same {
            return Ok(vec![above.to_owned()]);
        }
    }
    Ok(directories.to_vec())
}

fn common_parent(directories: &[PathBuf]) -> Option<&Path> {
    let mut above = directories.first()?.as_path();
    while !directories.iter().all(|directory| directory.starts_with(above)) {
        above = above.parent()?;
    }
    Some(above)
}

fn mount_of(path: &Path) -> Result<u64, Failure> {
    let status = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).step("look at", || path.display())?;
    Ok(status.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn directories_side_by_side_have_one_parent() {
        assert_eq!(common_parent(&paths(&["/a/x/fs", "/a/y/fs"])), Some(Path::new("/a")));
        assert_eq!(common_parent(&paths(&["/a/x/fs"])), Some(Path::new("/a/x/fs")));
        assert_eq!(common_parent(&paths(&["/a/x", "/b/y"])), Some(Path::new("/")));
        assert_eq!(common_parent(&[]), None);
    }

    #[test]
    fn nothing_above_everything_is_covered() {
        assert_eq!(places(&paths(&["/proc", "/usr"])).unwrap(), paths(&["/proc", "/usr"]));
        assert_eq!(places(&paths(&["/usr/lib", "/usr/bin"])).unwrap(), paths(&["/usr"]));
    }
}

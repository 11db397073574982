//! The mark by which a cgroup of ours is told from one of another daemon on the same host. On the pod's cgroup, in one hierarchy.

use std::path::{Path, PathBuf};

use podwright_cgroups::Hierarchy;
use podwright_podsandbox::MARK_BYTES;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

/// The extended attribute; `trusted` ones are root's.
const ATTRIBUTE: &str = "trusted.podwright.owner";

/// Makes the cgroup, in one hierarchy, and marks it. The shim makes it in all of them; a kernel without these attributes leaves it without
/// a mark.
pub(crate) fn put(hierarchy: &Hierarchy, path: &str, mark: &str) {
    let Ok(cgroup) = hierarchy.cgroup(path) else { return };
    let first = match hierarchy {
        Hierarchy::V1(mounts) => mounts
            .iter()
            .find_map(|mount| cgroup.directory(mount.controllers.first()?))
            .filter(|directory| std::fs::create_dir_all(directory).is_ok()),
        Hierarchy::V2(_) => cgroup.directory("").filter(|_| cgroup.create().is_ok()),
    };
    if let Some(directory) = first
        && let Err(error) = lsetxattr(&directory, ATTRIBUTE, mark.as_bytes(), XattrFlags::empty())
    {
        tracing::debug!(cgroup = %directory.display(), %error, "a cgroup is not marked; `check` does not remove it beside other daemons");
    }
}

/// The mark of a cgroup, if it has one in any of these places, directories of hierarchies.
pub(crate) fn read(places: &[PathBuf], name: &Path) -> Option<String> {
    places.iter().find_map(|place| {
        let mut text = [0; MARK_BYTES];
        let length = lgetxattr(place.join(name), ATTRIBUTE, &mut text).ok()?;
        Some(String::from_utf8_lossy(text.get(..length)?).into_owned())
    })
}

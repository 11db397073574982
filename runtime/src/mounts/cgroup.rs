//! `/sys/fs/cgroup` of a container: with v2 a cgroup2 file system, with v1 a directory with one bind mount for each hierarchy.

use std::os::fd::OwnedFd;
use std::path::Path;

use podwright_cgroups::Hierarchy;
use podwright_sys::{MountAttributes, Propagation, clone_tree, set_mount_attributes};
use rustix::fs::CWD;

use super::{attach_tree, new_file_system, set_attributes};
use crate::error::{Failure, Step};
use crate::options::Options;
use crate::root::Root;

/// What there is to attach.
pub(crate) enum Trees {
    /// A new cgroup2 file system, which shows the tree from the process's cgroup namespace on.
    V2,
    /// Name of the directory, detached mount of the process's cgroup there.
    V1(Vec<(String, OwnedFd)>),
    /// The host's whole tree of v2.
    Host(OwnedFd),
}

/// Opens the cgroups of the calling process, which is in its cgroup by now.
pub(crate) fn prepare(own_namespace: bool) -> Result<Trees, Failure> {
    let hierarchy = Hierarchy::detect().map_err(|error| Failure::because("find", "the host's cgroups", error))?;
    let mounts = match &hierarchy {
        Hierarchy::V2(_) if own_namespace => return Ok(Trees::V2),
        Hierarchy::V2(mount_point) => return clone(mount_point).map(Trees::Host),
        Hierarchy::V1(mounts) => mounts,
    };
    let path = "/proc/self/cgroup";
    let own = std::fs::read_to_string(path).step("read", || path)?;
    let mut trees = Vec::new();
    for mount in mounts.iter() {
        let Some(name) = mount.mount_point.file_name().and_then(|name| name.to_str()) else { continue };
        let directory = own_path(&own, &mount.controllers)
            .and_then(|path| hierarchy.cgroup(path).ok())
            .zip(mount.controllers.first())
            .and_then(|(cgroup, controller)| cgroup.directory(controller))
            .unwrap_or_else(|| mount.mount_point.clone());
        trees.push((name.to_owned(), clone(&directory)?));
    }
    Ok(Trees::V1(trees))
}

fn clone(path: &Path) -> Result<OwnedFd, Failure> {
    let tree = clone_tree(CWD, path, false).step("clone the mount of", || path.display())?;
    let attributes = MountAttributes { propagation: Some(Propagation::Private), ..MountAttributes::default() };
    set_mount_attributes(&tree, &attributes).step("make private", || path.display())?;
    Ok(tree)
}

/// The path in the line of `/proc/self/cgroup` for these controllers.
fn own_path<'a>(own: &'a str, controllers: &[String]) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names.split(',').eq(controllers.iter().map(String::as_str)).then_some(path)
    })
}

impl Trees {
    pub(super) fn attach(self, root: &Root, at: &Path, options: &Options) -> Result<(), Failure> {
        match self {
            Self::V2 => {
                let mount = new_file_system("cgroup2", "cgroup", &[])?;
                set_attributes(&mount, options, at)?;
                attach_tree(root, &mount, at, true)
            }
            Self::Host(tree) => {
                set_attributes(&tree, options, at)?;
                attach_tree(root, &tree, at, true)
            }
            Self::V1(trees) => {
                let top = new_file_system("tmpfs", "cgroup", &["mode=755".to_owned(), "size=64k".to_owned()])?;
                attach_tree(root, &top, at, true)?;
                for (name, tree) in trees {
                    set_attributes(&tree, options, at)?;
                    attach_tree(root, &tree, &at.join(&name), true)?;
                    link_controllers(&top, &name);
                }
                set_attributes(&top, options, at)
            }
        }
    }
}

/// `cpu` and `cpuacct` beside `cpu,cpuacct`, as programs expect them. One that is there already is as good.
fn link_controllers(top: &OwnedFd, name: &str) {
    for controller in name.split(',').filter(|controller| *controller != name) {
        let _ = rustix::fs::symlinkat(name, top, controller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_line() {
        let own = "9:name=systemd:/a\n2:cpu,cpuacct:/b:c\n0::/d\n";
        assert_eq!(own_path(own, &["cpu".to_owned(), "cpuacct".to_owned()]), Some("/b:c"));
        assert_eq!(own_path(own, &["name=systemd".to_owned()]), Some("/a"));
        assert_eq!(own_path(own, &["cpu".to_owned()]), None);
    }
}

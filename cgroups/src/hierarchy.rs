//! Which cgroup file systems the host has, read from `/proc/self/mountinfo`. A hybrid host, with v1 controllers beside a
//! cgroup2 mount, counts as v1.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Cgroup, Error};

/// The cgroup file systems of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// One tree for each mount. Shared, for every handle of a cgroup holds it.
    V1(Arc<[V1Mount]>),
    /// One tree, mounted here.
    V2(Arc<Path>),
}

/// A mount of cgroup v1 with its controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Mount {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Which cgroup is at the mount point; `/` on a host.
    pub root: PathBuf,
    /// Controllers, several where they are mounted together; `name=systemd` for one without any.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// Finds out.
    ///
    /// # Errors
    /// If nothing is mounted or mountinfo can not be read.
    pub fn detect() -> Result<Self, Error> {
        let path = Path::new("/proc/self/mountinfo");
        let text = std::fs::read(path).map_err(|cause| Error::file("read", path, cause))?;
        Self::from_mountinfo(&String::from_utf8_lossy(&text))
    }

    /// The hierarchies in the text of a mountinfo file; see proc_pid_mountinfo(5).
    ///
    /// # Errors
    /// `NoHierarchy` if it has none.
    pub fn from_mountinfo(mountinfo: &str) -> Result<Self, Error> {
        let mut v1: Vec<V1Mount> = Vec::new();
        let mut v2 = None;
        for (root, mount_point, kind, options) in mountinfo.lines().filter_map(fields) {
            match kind {
                "cgroup2" => v2 = v2.or(Some(mount_point)),
                "cgroup" => {
                    let controllers: Vec<String> =
                        options.split(',').filter(|o| is_controller(o)).map(str::to_owned).collect();
                    // A second mount of the same tree (as in a container) adds nothing.
                    if !controllers.is_empty() && !v1.iter().any(|seen| seen.controllers == controllers) {
                        v1.push(V1Mount { mount_point, root, controllers });
                    }
                }
                _ => {}
            }
        }
        if v1.iter().any(|mount| mount.controllers.iter().any(|c| !c.starts_with("name="))) {
            return Ok(Self::V1(v1.into()));
        }
        v2.map(|root| Self::V2(root.into())).ok_or(Error::NoHierarchy)
    }

    /// A handle for the cgroup at `path`, as `/a/b`. Touches nothing.
    ///
    /// # Errors
    /// `Invalid` if the path is not absolute or climbs.
    pub fn cgroup(&self, path: &str) -> Result<Cgroup, Error> {
        Cgroup::new(self.clone(), path)
    }

    /// Whether this is v2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        matches!(self, Self::V2(_))
    }
}

impl V1Mount {
    /// The directory of a cgroup in this hierarchy.
    pub(crate) fn directory(&self, relative: &str) -> PathBuf {
        // Where a container shows only a part of the tree, paths below that part are shortened to fit.
        let absolute = Path::new("/").join(relative);
        let below = absolute.strip_prefix(&self.root).or_else(|_| absolute.strip_prefix("/"));
        self.mount_point.join(below.unwrap_or(Path::new(relative)))
    }

    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// What this crate has limits for, and `name=systemd`. The other options of a mount (`rw`, `seclabel`, ...) differ by host.
fn is_controller(option: &str) -> bool {
    matches!(
        option,
        "blkio" | "cpu" | "cpuacct" | "cpuset" | "devices" | "freezer" | "hugetlb" | "memory" | "pids" | "name=systemd"
    )
}

/// Root, mount point, type and super options of a line.
fn fields(line: &str) -> Option<(PathBuf, PathBuf, &str, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, mount_point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let kind = filesystem.next()?;
    Some((unescape(root), unescape(mount_point), kind, filesystem.nth(1)?))
}

/// mountinfo writes space, tab, line end and backslash as `\040` and so on.
fn unescape(text: &str) -> PathBuf {
    let plain = text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 /x /sys/fs/cgroup/a\\040b rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_v1_with_its_controllers_as_mounted() {
        let Ok(Hierarchy::V1(mounts)) = Hierarchy::from_mountinfo(HYBRID) else { panic!("not v1") };
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(mounts[1].mount_point, Path::new("/sys/fs/cgroup/a b"));
        assert_eq!(mounts[1].directory("x/y"), Path::new("/sys/fs/cgroup/a b/y"));
        assert_eq!(mounts[0].directory("x/y"), Path::new("/sys/fs/cgroup/cpu,cpuacct/x/y"));
    }

    #[test]
    fn cgroup2_alone_is_v2() {
        let line = "25 23 0:22 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(Hierarchy::from_mountinfo(line).unwrap(), Hierarchy::V2(Path::new("/sys/fs/cgroup").into()));
        assert!(matches!(Hierarchy::from_mountinfo("rubbish - "), Err(Error::NoHierarchy)));
    }

    #[test]
    fn systemd_beside_cgroup2_is_v2_whatever_labels_the_mount_has() {
        let lines = "\
25 23 0:22 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,seclabel,xattr,name=systemd
26 23 0:23 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,seclabel,net_cls
27 23 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,seclabel
";
        assert!(Hierarchy::from_mountinfo(lines).unwrap().is_v2());
    }

    #[test]
    fn paths_that_climb_are_refused() {
        let v2 = Hierarchy::V2(Path::new("/sys/fs/cgroup").into());
        for bad in ["", "a", "/", "/a/../b", "/a/./b", "/a\0", "/a\n", "//"] {
            assert!(v2.cgroup(bad).is_err(), "{bad:?} was taken");
        }
    }
}

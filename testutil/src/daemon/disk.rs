//! A small disk of a test's own, to be filled or to fail.

use anyhow::{Context, Result};

use crate::host::TestHost;

/// What kind of disk.
#[derive(Debug, Clone)]
pub enum SmallDisk {
    /// Memory, with these mount options (`size=64m,nr_inodes=3000`).
    Tmpfs(&'static str),
    /// A file with ext4, of so many MiB; after an error it is read-only.
    Ext4(u32),
}

impl SmallDisk {
    /// One file system for all that grows, bound where the daemon looks for it.
    pub(super) fn mount(&self, host: &TestHost) -> Result<()> {
        let (names, make) = match self {
            Self::Tmpfs(options) => ("root state logs", format!("mount -t tmpfs -o {options} tmpfs disk")),
            // Where a node has a real disk, /run is none of it.
            Self::Ext4(megabytes) => (
                "root logs",
                format!(
                    "truncate -s {megabytes}M disk.img; mkfs.ext4 -q disk.img; mount -o loop,errors=remount-ro disk.img disk"
                ),
            ),
        };
        let bind = format!("for name in {names}; do mkdir -p $name disk/$name; mount --bind disk/$name $name; done");
        let script = format!("set -e; cd \"$0\"; mkdir disk; {make}; {bind}");
        host.run(&["sh", "-c", &script, &host.dir().display().to_string()]).context("mounting a small disk").map(drop)
    }
}

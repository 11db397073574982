//! The least that a container can cost: a clone into new namespaces, the mounts, an exec. No cgroup, no user, no filter, no record.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use podwright_sys::{CloneFlags, Clones, clone_process, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{WaitId, WaitIdOptions, chdir, pivot_root, waitid};
use rustix::thread::UnshareFlags;

/// What a container of Kubernetes has mounted: type and place.
const MOUNTS: [(&str, &str); 4] = [("proc", "proc"), ("sysfs", "sys"), ("tmpfs", "dev"), ("tmpfs", "run")];

/// Runs `/bin/true` of a root file system; returns its exit code.
pub(crate) fn run(rootfs: &Path, network: bool) -> Result<u8> {
    match clone_process(CloneFlags::NEWPID, None).context("cloning")? {
        Clones::Child => Err(enter(rootfs, network).err().unwrap_or_else(|| anyhow::anyhow!("nothing was executed"))),
        Clones::Parent(process) => {
            let status = waitid(WaitId::Pid(process.pid), WaitIdOptions::EXITED)?.context("no exit status")?;
            Ok(u8::try_from(status.exit_status().context("the child was killed")?)?)
        }
    }
}

fn enter(rootfs: &Path, network: bool) -> Result<()> {
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    unshare(if network { flags | UnshareFlags::NEWNET } else { flags }).context("making namespaces")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("keeping mounts private")?;
    let tree = open_tree(CWD, rootfs, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let tree = tree.with_context(|| format!("cloning {}", rootfs.display()))?;
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, rootfs, flags).context("mounting the root")?;
    for (kind, place) in MOUNTS {
        let options = MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(kind, rootfs.join(place), kind, options, None).with_context(|| format!("mounting {kind}"))?;
    }
    chdir(rootfs).context("entering the root")?;
    pivot_root(".", ".").context("pivoting")?;
    unmount(".", UnmountFlags::DETACH).context("leaving the old root")?;
    chdir("/").context("entering the new root")?;
    Err(Command::new("/bin/true").exec()).context("executing /bin/true")
}

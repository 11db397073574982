//! The emulator: Debian 13's qemu, unpacked beside the guests' images.
//!
//! Debian 12's (7.2) loses the flags of a compare-and-swap now and then, and the guest's kernel dies of it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::bootstrap::{Extent, bootstrap};
use super::image::Suite;

/// A qemu that runs from a directory, with the libraries beside it.
pub(super) struct Emulator {
    root: PathBuf,
}

impl Emulator {
    /// Makes it under `target/vm`, or finds it there.
    pub(super) fn ensure(target: &Path) -> Result<Self> {
        let parent = target.join("vm");
        let root = parent.join("emulator");
        if !root.exists() {
            println!("vm: unpacking qemu with mmdebstrap (once; about half a minute)");
            fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
            // Whole or not at all.
            let work = tempfile::tempdir_in(&parent)?;
            let unpacked = work.path().join("root");
            bootstrap(&unpacked, Suite::Trixie, Extent::Unpacked, "qemu-system-x86")?;
            fs::rename(&unpacked, &root).with_context(|| format!("moving the emulator to {}", root.display()))?;
        }
        Ok(Self { root })
    }

    /// A command line that begins with the emulator.
    pub(super) fn command(&self) -> Command {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(self.root.join("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(self.root.join("usr/bin/qemu-system-x86_64"));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            command.args([OsString::from("-L"), self.root.join(firmware).into_os_string()]);
        }
        command
    }
}

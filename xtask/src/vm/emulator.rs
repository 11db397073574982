//! The emulator: Debian 13's qemu, unpacked beside the guests' images.
//!
//! Debian 12's (7.2) loses the flags of a compare-and-swap now and then, and the guest's kernel dies of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::image::{self, Suite};

/// A qemu that runs from a directory, with the libraries beside it.
pub(super) struct Emulator {
    root: PathBuf,
}

impl Emulator {
    /// Makes it under `target/vm`, or finds it there.
    pub(super) fn ensure(target: &Path) -> Result<Self> {
        let root = target.join("vm/qemu");
        if !root.exists() {
            println!("vm: unpacking qemu with debootstrap (once; about two minutes)");
            image::debootstrap(&root, Suite::Trixie, "qemu-system-x86")?;
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

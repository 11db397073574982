//! qemu's storage daemon, which records what is written to a disk: Debian 13's, unpacked beside the guests' images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::bootstrap::{Extent, bootstrap};
use super::image::Suite;

/// Unpacks it under `target/vm`, or finds it there.
///
/// # Errors
/// The packages can not be had or unpacked.
pub(crate) fn ensure(target: &Path) -> Result<PathBuf> {
    let parent = target.join("vm");
    let root = parent.join("storage");
    if !root.exists() {
        println!("vm: unpacking qemu's storage daemon with mmdebstrap (once; about half a minute)");
        fs::create_dir_all(&parent).with_context(|| format!("making {}", parent.display()))?;
        // Whole or not at all.
        let work = tempfile::tempdir_in(&parent)?;
        let unpacked = work.path().join("root");
        bootstrap(&unpacked, Suite::Trixie, Extent::Unpacked, "qemu-utils")?;
        fs::rename(&unpacked, &root).with_context(|| format!("moving it to {}", root.display()))?;
    }
    Ok(root)
}

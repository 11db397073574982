//! `cargo xtask vm`: a Debian with systemd and the unified cgroup hierarchy under qemu's software emulation, and a payload
//! that runs in it. Owns the root image, the payload disk and the boot; what is tested is up to the payload.

mod image;
mod payload;
mod qemu;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use image::Suite;

/// Boots `suite` and runs `<payload>/run` in it, with the payload mounted read-only on `/payload`.
///
/// What the script prints appears line by line. The guest has no network.
///
/// # Errors
/// The guest could not be made, did not come to its end within `limit_seconds`, or the script failed.
pub(crate) fn run(target: &Path, suite: Suite, payload: &Path, limit_seconds: u64) -> Result<()> {
    let root = image::ensure(target, suite).with_context(|| format!("making the root image of {suite:?}"))?;
    let disk = image::pack(payload).with_context(|| format!("packing {} into a disk", payload.display()))?;
    match qemu::boot(&root, disk.path(), limit_seconds)? {
        0 => Ok(()),
        code => bail!("the payload in the {suite:?} guest ended with exit code {code}; its output is above"),
    }
}

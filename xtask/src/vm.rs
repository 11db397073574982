//! `cargo xtask vm`: a Debian with systemd and the unified cgroup hierarchy under qemu's software emulation, and a payload
//! that runs in it. Owns the root image, the payload disk and the boot; what is tested is up to the payload.

mod emulator;
mod image;
mod payload;
mod qemu;

use std::path::Path;

use anyhow::{Context, Result, bail};

pub(crate) use image::Suite;
pub(crate) use payload::Driver;

use crate::build::{self, Profile};
use crate::process::step;
use crate::workspace::Workspace;

/// What runs if nothing is named: pods, their containers and their limits.
const DEFAULT_TESTS: &[&str] = &["lifecycle", "containers"];

/// Runs tests of critest in a guest.
///
/// # Errors
/// Something can not be built, the guest does not come to its end, or a test failed.
pub(crate) fn test(
    workspace: &Workspace,
    suite: Suite,
    driver: Driver,
    tests: &[String],
    limit_seconds: u64,
) -> Result<()> {
    build::run(workspace, Profile::Dev)?;
    let defaults = || DEFAULT_TESTS.iter().map(|&test| test.to_owned()).collect();
    let chosen = if tests.is_empty() { defaults() } else { tests.to_vec() };
    let payload = payload::collect(workspace, &Profile::Dev.output(workspace), &chosen, driver)?;
    step(&format!("running {} in a {suite:?} guest on cgroup v2 with the {driver:?} driver", chosen.join(", ")));
    run(&workspace.target, suite, payload.path(), limit_seconds)
}

/// Boots `suite` and runs `<payload>/run` in it, with the payload mounted read-only on `/payload`.
///
/// What the script prints appears line by line. The guest has no network.
///
/// # Errors
/// The guest could not be made, did not come to its end within `limit_seconds`, or the script failed.
fn run(target: &Path, suite: Suite, payload: &Path, limit_seconds: u64) -> Result<()> {
    let root = image::ensure(target, suite).with_context(|| format!("making the root image of {suite:?}"))?;
    let disk = image::pack(payload).with_context(|| format!("packing {} into a disk", payload.display()))?;
    let emulator = emulator::Emulator::ensure(target).context("unpacking the emulator")?;
    match qemu::boot(&emulator, &root, disk.path(), limit_seconds)? {
        0 => Ok(()),
        code => bail!("the payload in the {suite:?} guest ended with exit code {code}; its output is above"),
    }
}

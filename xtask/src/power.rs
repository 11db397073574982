//! `cargo xtask power-loss`: builds the daemon and the harness (critest's podwright-power), gets qemu's storage daemon, and starts it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::{self, Arguments, Profile};
use crate::process::{self, step};
use crate::workspace::Workspace;
use crate::{setup, vm};

/// Its name.
const HARNESS: &str = "podwright-power";

/// Builds and starts the harness in our place.
pub(crate) fn run(workspace: &Workspace, options: &Arguments) -> Result<()> {
    process::ensure_root("the power cuts")?;
    setup::for_guests()?;
    build::run(workspace, Profile::Dev)?;
    // In our place, so that nobody returns before it has cleaned up.
    Err(command(workspace, options)?.exec()).with_context(|| format!("starting {HARNESS}"))
}

/// The harness, built, for programs that are built and packages that are there.
pub(crate) fn command(workspace: &Workspace, options: &Arguments) -> Result<Command> {
    step("building the power cuts");
    let mut command = build::harness_command(workspace, HARNESS, Profile::Dev, Profile::Dev)?;
    let emulator = vm::storage::ensure(&workspace.target).context("unpacking qemu's storage daemon")?;
    command.arg("--emulator").arg(emulator).args(options.words());
    Ok(command)
}

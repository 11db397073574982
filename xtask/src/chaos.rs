//! `cargo xtask chaos`: a daemon with fail points, and the harness that kills it at each of them. The harness is
//! critest's podwright-chaos; this builds and starts it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::build::{self, Arguments, Profile};
use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// Builds and starts the harness in our place.
pub(crate) fn run(workspace: &Workspace, options: &Arguments) -> Result<()> {
    process::ensure_root("the kill loop")?;
    setup::for_tests()?;
    // In our place, so that nobody returns before it has cleaned up.
    Err(command(workspace, options)?.exec()).with_context(|| format!("starting {HARNESS}"))
}

/// The harness, built, with a daemon that has fail points.
pub(crate) fn command(workspace: &Workspace, options: &Arguments) -> Result<Command> {
    build::run(workspace, Profile::Chaos)?;
    step("building the kill loop");
    let mut command = build::harness_command(workspace, HARNESS, Profile::Dev, Profile::Chaos)?;
    command.args(options.words());
    Ok(command)
}

/// Its name.
const HARNESS: &str = "podwright-chaos";

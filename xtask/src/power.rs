//! `cargo xtask power-loss`: builds the daemon and the harness (critest's podwright-power), gets qemu's storage daemon, and starts it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::workspace::Workspace;
use crate::{setup, vm};

/// Its name.
const HARNESS: &str = "podwright-power";

/// What is passed on. The harness alone knows its flags and their defaults.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Arguments of the harness, such as --points 40 --seed 1; --help shows them all.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Options {
    /// With these arguments.
    pub(crate) fn of(words: &[&str]) -> Self {
        Self { arguments: words.iter().map(OsString::from).collect() }
    }
}

/// Builds and starts the harness in our place.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    process::ensure_root("the power cuts")?;
    setup::for_guests()?;
    build::run(workspace, Profile::Dev)?;
    // In our place, so that nobody returns before it has cleaned up.
    Err(command(workspace, options)?.exec()).with_context(|| format!("starting {HARNESS}"))
}

/// The harness, built, for programs that are built and packages that are there.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<Command> {
    step("building the power cuts");
    let mut command = build::harness_command(workspace, HARNESS, Profile::Dev, Profile::Dev)?;
    let emulator = vm::storage::ensure(&workspace.target).context("unpacking qemu's storage daemon")?;
    command.arg("--emulator").arg(emulator).args(&options.arguments);
    Ok(command)
}

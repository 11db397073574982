//! `cargo xtask chaos`: a daemon with fail points, and the harness that kills it at each of them. The harness is
//! critest's podwright-chaos; this builds and starts it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// What is passed on. The harness alone knows its flags and their defaults.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Arguments of the harness, such as --seconds 60 --seed 1; --help shows them all.
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
    process::ensure_root("the kill loop")?;
    setup::for_tests()?;
    // In our place, so that nobody returns before it has cleaned up.
    Err(command(workspace, options)?.exec()).with_context(|| format!("starting {HARNESS}"))
}

/// The harness, built, with a daemon that has fail points.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<Command> {
    build::run(workspace, Profile::Chaos)?;
    step("building the kill loop");
    let mut command = build::harness_command(workspace, HARNESS, Profile::Dev, Profile::Chaos)?;
    command.args(&options.arguments);
    Ok(command)
}

/// Its name.
const HARNESS: &str = "podwright-chaos";

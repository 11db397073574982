//! `cargo xtask chaos`: a daemon with fail points, and the harness that kills it at each of them. The harness is
//! critest's podwright-chaos; this builds and starts it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// What is passed on.
#[derive(Args)]
pub(crate) struct Options {
    /// How long to strike.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Chooses the order of the steps; the same seed gives it again.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the names of all steps, and strikes nothing.
    #[arg(long)]
    list: bool,
    /// Prints each strike.
    #[arg(long)]
    verbose: bool,
    /// Only steps whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Fails if a step was never reached. All are in some three minutes on two cores that do nothing else.
    #[arg(long)]
    complete: bool,
}

/// Builds and starts the harness in our place.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    process::ensure_root("the kill loop")?;
    setup::for_tests()?;
    build::run(workspace, Profile::Chaos)?;
    step("building the kill loop");
    process::run(&mut workspace.cargo(&["build", "--quiet", "--package", "podwright-critest", "--bin", HARNESS]))?;
    let mut command = Command::new(workspace.target.join("debug").join(HARNESS));
    command.env("PODWRIGHT_BIN_DIR", Profile::Chaos.output(workspace));
    command.args(["--seconds", &options.seconds.to_string(), "--seed", &options.seed.to_string()]);
    command.args(["--only", &options.only]);
    let flags = [("--list", options.list), ("--verbose", options.verbose), ("--complete", options.complete)];
    command.args(flags.iter().filter(|(_, wanted)| *wanted).map(|(flag, _)| flag));
    // In our place, so that nobody returns before it has cleaned up.
    Err(command.exec()).with_context(|| format!("starting {HARNESS}"))
}

/// Its name.
const HARNESS: &str = "podwright-chaos";

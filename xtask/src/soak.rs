//! `cargo xtask soak`: builds the programs and lets `podwright-soak` (critest/src/bin) make and remove pods.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// How long it soaks, and what.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Pods, made and removed.
    #[arg(long, default_value_t = 10_000)]
    pods: u32,
    /// Pods between two looks at the daemon; the last look is compared with the first.
    #[arg(long, default_value_t = 1_000)]
    every: u32,
    /// With the daemon as tests have it, which is built sooner and runs slower.
    #[arg(long)]
    dev: bool,
}

impl Options {
    /// What a run of all tests has time for.
    pub(crate) const SHORT: Self = Self { pods: 600, every: 200, dev: true };

    fn programs(&self) -> Profile {
        if self.dev { Profile::Dev } else { Profile::Release }
    }
}

/// Builds what is needed, and starts it in our place.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    process::ensure_root("the soak")?;
    setup::for_tests()?;
    build::run(workspace, options.programs())?;
    // In our place, so that nobody returns before it has cleaned up.
    Err(command(workspace, options)?.exec()).context("starting podwright-soak")
}

/// The harness, built, for programs that are built.
pub(crate) fn command(workspace: &Workspace, options: &Options) -> Result<Command> {
    step("building the soak");
    let mut command = build::harness_command(workspace, "podwright-soak", Profile::Dev, options.programs())?;
    command.args(["--pods", &options.pods.to_string(), "--every", &options.every.to_string()]);
    Ok(command)
}

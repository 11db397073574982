//! `cargo xtask bench`: builds release programs and lets `podwright-bench` (critest/src/bin) measure them, alone or beside peers.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::build::{self, Profile};
use crate::process::{self, step};
use crate::setup;
use crate::workspace::Workspace;

/// The document whose table a run with peers rewrites.
const PAGE: &str = "docs/performance.md";

/// What is measured, and beside whom.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runtimes to compare with: containerd-runc, containerd-crun. They are looked for in PATH.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// A runtime that already runs: its name and its endpoint. Repeatable.
    #[arg(long = "peer", value_name = "NAME=unix:///SOCKET")]
    given: Vec<String>,
    /// Pods one after the other.
    #[arg(long, default_value_t = 100)]
    pods: u32,
    /// Idle pods of the rows at scale: lists, usage, memory, start of the daemon. Measured at 50, 100 and 500 on the way, with peers too.
    #[arg(long, default_value_t = 500)]
    many: u32,
    /// Idle pods of the rows of density, which are ours alone; 0 leaves them out.
    #[arg(long, default_value_t = 1500)]
    density: u32,
    /// Only rows whose name contains one of these; docs/performance.md stays as it is then.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Writes the rows as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the distributions as an SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
}

impl Options {
    fn missing(&self) -> Vec<&'static str> {
        let parts = |peer: &str| match peer {
            "containerd-runc" => &["containerd", "containerd-shim-runc-v2", "runc"][..],
            "containerd-crun" => &["containerd", "containerd-shim-runc-v2", "crun"][..],
            _ => &[],
        };
        let mut missing: Vec<&str> =
            self.peers.iter().flat_map(|peer| parts(peer)).copied().filter(|name| !process::installed(name)).collect();
        missing.dedup();
        missing
    }

    fn arguments(&self, workspace: &Workspace) -> Vec<String> {
        let mut words = vec!["--pods".to_owned(), self.pods.to_string(), "--many".into(), self.many.to_string()];
        words.extend(["--density".into(), self.density.to_string()]);
        let mut put = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        self.peers.iter().for_each(|peer| put("--peers", peer.clone()));
        self.given.iter().for_each(|given| put("--peer", given.clone()));
        self.rows.iter().for_each(|row| put("--rows", row.clone()));
        if let Some(path) = &self.json {
            put("--json", path.display().to_string());
        }
        if let Some(path) = &self.plot {
            put("--plot", path.display().to_string());
        }
        if self.rows.is_empty() && !(self.peers.is_empty() && self.given.is_empty()) {
            put("--page", workspace.root.join(PAGE).display().to_string());
        }
        words
    }
}

/// Builds what is measured, and measures it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    process::ensure_root("the benchmark")?;
    setup::for_tests()?;
    let missing = options.missing();
    ensure!(
        missing.is_empty(),
        "the peers need {}, which are not in PATH: install Debian's packages containerd, runc and crun (trixie's or newer)",
        missing.join(", ")
    );
    build::run(workspace, Profile::Release)?;
    step("building the benchmark");
    build::harness(workspace, "podwright-bundle", Profile::Release)?;
    let mut command = build::harness_command(workspace, "podwright-bench", Profile::Release, Profile::Release)?;
    command.args(options.arguments(workspace));
    // In our place, so that Ctrl-C is its own to handle and nobody returns before it has cleaned up.
    Err(command.exec()).context("starting podwright-bench")
}

//! `cargo xtask critest`: the CRI's own validation suite against our daemon. Started by xtask, which builds what it needs.
//!
//! Owns the run: registry, daemon, critest, and the judgement of its report. Each part has a file.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program for a terminal.

mod images;
mod report;
mod run;
mod skips;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use report::AtLimit;

/// Runs critest against podwrightd.
#[derive(Parser)]
struct Arguments {
    /// Directory with critest and ginkgo.
    #[arg(long)]
    programs: PathBuf,
    /// Directory with what the images are made of; see `xtask/src/critest/parts.rs`.
    #[arg(long)]
    parts: PathBuf,
    /// The skips that are allowed.
    #[arg(long)]
    skips: PathBuf,
    /// Where logs and reports go.
    #[arg(long)]
    output: PathBuf,
    /// Stream over WebSocket.
    #[arg(long)]
    websocket: bool,
    /// Specs that run at once.
    #[arg(long, default_value_t = 1)]
    parallel: u32,
    /// Run the benchmarks and not the specs.
    #[arg(long)]
    benchmark: bool,
    /// Run the specs of NRI, which dial the daemon as plugins do.
    #[arg(long, conflicts_with_all = ["endpoint", "contender"])]
    nri: bool,
    /// Show everything that critest prints.
    #[arg(long)]
    verbose: bool,
    /// A daemon that runs already, `unix://…`; its hosts.toml files are in --hosts-dir.
    #[arg(long, requires = "hosts_dir")]
    endpoint: Option<String>,
    /// Another runtime in place of podwrightd, started here.
    #[arg(long, conflicts_with = "endpoint")]
    contender: Option<Contender>,
    /// A runtime handler that runs all pods: podwright-oci, or a runtime in PATH.
    #[arg(long, conflicts_with_all = ["endpoint", "contender"])]
    handler: Option<String>,
    /// Where the daemon of --endpoint looks for hosts.toml files.
    #[arg(long)]
    hosts_dir: Option<PathBuf>,
    /// Time limit of all specs together.
    #[arg(long, default_value_t = 1800)]
    limit_seconds: u64,
    /// Specs that the limit does not let run count as not run, not as failed.
    #[arg(long)]
    leave_at_limit: bool,
    /// Arguments of critest.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runtimes that run pods with a part of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Contender {
    /// containerd, with podwright-oci in place of runc.
    ContainerdPodwrightOci,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match judge(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything passed that had to.
async fn judge(arguments: &Arguments) -> Result<bool> {
    let skips = skips::Skips::read(&arguments.skips)?;
    let mut stage = stage::Stage::set(arguments).await?;
    let outcome = run::critest(arguments, &stage, &skips)?;
    let left = stage.leave().await;
    let at_limit = if arguments.leave_at_limit { AtLimit::Leave } else { AtLimit::Fail };
    let mut faults = outcome.report.faults(&skips, outcome.chosen, at_limit);
    // It ends badly at its limit, too.
    faults.extend(outcome.ended_badly.filter(|_| !outcome.report.is_cut(at_limit)));
    faults.extend(left.err().map(|error| format!("{error:#}")));
    outcome.report.print(&skips, outcome.chosen, at_limit);
    for fault in &faults {
        println!("fault: {fault}");
    }
    println!("everything that critest printed: {}", arguments.output.join(run::LOG).display());
    if outcome.report.is_cut(at_limit) {
        println!("the limit of {} s was reached; what was not run is named above", arguments.limit_seconds);
        println!("{}", outcome.report.counts());
    } else {
        println!("{}", outcome.closing_line);
    }
    Ok(faults.is_empty())
}

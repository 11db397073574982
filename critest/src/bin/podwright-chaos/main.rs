//! `cargo xtask chaos`: kills the daemon at every named step, its shims, plugins and registry, under load, and looks whether
//! anything was lost or left. Started by xtask, which builds the daemon with fail points.
//!
//! Two arenas run side by side, one on the embedded network and one on the bridge plugin; each has a daemon, a registry and a load
//! of its own. `schedule` says what is struck and when, `arena` strikes, `load` and its parts are what a kubelet and its users would do.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // It is a program for a terminal.

mod arena;
mod call;
mod churn;
mod images;
mod load;
mod schedule;
mod script;
mod shims;
mod steady;
mod strike;
mod tally;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use podwright_testutil::program;

use arena::Network;
use tally::Tally;

#[derive(Parser)]
struct Arguments {
    /// How long to strike. What was begun is finished after it.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Chooses the order of the steps and what the load does.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the names of all steps.
    #[arg(long)]
    list: bool,
    /// Prints each strike and what came of it.
    #[arg(long)]
    verbose: bool,
    /// Only steps whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Fails if a step was never reached; for runs that are long enough for all.
    #[arg(long)]
    complete: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let points = fail_points()?;
    let steps = schedule::all_steps(&points);
    if arguments.list {
        steps.iter().for_each(|step| println!("{step}"));
        println!("{} steps", steps.len());
        return Ok(ExitCode::SUCCESS);
    }
    let tally = Tally::new(arguments.verbose);
    fight(&arguments, &points, &tally)?;
    let chosen: Vec<String> = steps.into_iter().filter(|step| step.contains(&arguments.only)).collect();
    Ok(if tally.close(&chosen, arguments.complete) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each arena has a thread: what waits for a daemon in one does not hold up the other.
fn fight(arguments: &Arguments, points: &[String], tally: &Tally) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let arena = |network: Network, salt: u64| {
        let seed = arguments.seed.wrapping_mul(2).wrapping_add(salt);
        let strikes = schedule::Schedule::new(points, network, seed, &arguments.only);
        let tally = tally.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, arena::run(network, strikes, seed, end, tally))
        })
    };
    let threads = [arena(Network::Embedded, 0), arena(Network::Bridge, 1)];
    let outcomes = threads.map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("the arena's thread panicked"))));
    outcomes.into_iter().collect()
}

/// The daemon's own points; only a build for this has any.
fn fail_points() -> Result<Vec<String>> {
    let daemon = program("podwrightd")?;
    let output = Command::new(&daemon).arg("fail-points").output().context("asking podwrightd for its fail points")?;
    ensure!(
        output.status.success(),
        "{} has no fail points; build it with --features failpoints, as `cargo xtask chaos` does",
        daemon.display()
    );
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

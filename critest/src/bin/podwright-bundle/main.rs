//! Runs a bundle with our runtime library alone, as `crun run` and `runc run` do: from config.json and a root file system to the end
//! of the program, in a cgroup of its own. For the bench, which also has it time other programs and do the bare work of the kernel.
//!
//! It has one thread: containers are clones of it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // The times that it takes are its output.

mod bare;
mod bundle;
mod clock;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
enum Command {
    /// Runs a bundle to its end, and ends with its exit code.
    Run {
        /// Directory with config.json.
        bundle: PathBuf,
    },
    /// Clones into new namespaces, mounts what a container needs, executes /bin/true. The least that a container can cost.
    Bare {
        /// Root file system.
        rootfs: PathBuf,
        /// Keeps the network of the caller.
        #[arg(long)]
        host_network: bool,
    },
    /// Runs a command some times and prints the nanoseconds of each run. `{}` in it stands for the number of the run.
    Time {
        /// Runs.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Number of the first run.
        #[arg(long, default_value_t = 0)]
        first: u32,
        /// The command.
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Run { bundle } => bundle::run(&bundle).map(ExitCode::from),
        Command::Bare { rootfs, host_network } => bare::run(&rootfs, !host_network).map(ExitCode::from),
        Command::Time { count, first, words } => clock::run(first, count, &words).map(|()| ExitCode::SUCCESS),
    }
}

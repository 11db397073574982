//! `cargo xtask`: the commands that developers and CI use.
//!
//! Owns their order and their words; the tests themselves are in the crates and in critest/.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program for a terminal.

mod bench;
mod build;
mod chaos;
mod check;
mod critest;
mod fuzz;
mod power;
mod process;
mod setup;
mod soak;
mod suite;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use build::Profile;
use workspace::Workspace;

/// Developer commands of Podwright.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the packages that are missing, saying which.
    Setup,
    /// Build the daemon, the shim and the test tools into target/podwright (or target/podwright-release).
    Build {
        /// Optimise.
        #[arg(long)]
        release: bool,
    },
    /// Format, lints, documentation, licences, the rules of the house, unit tests.
    Check,
    /// Set up, check, and run every test. Needs root.
    Test {
        /// Only tests whose name contains this, without the checks.
        filter: Option<String>,
        /// Without the guest with systemd, cgroup v2 and AppArmor, in which critest runs too (up to twelve minutes).
        #[arg(long)]
        no_guest: bool,
    },
    /// Run critest, the CRI's own validation suite, against our daemon. Needs root.
    Critest(#[command(flatten)] critest::Options),
    /// Show a pod: two containers, their logs, an exec, the address. Needs root, but no internet once built.
    Demo,
    /// Measure start-up, throughput, memory and the rest with release builds, beside other runtimes if they are named. Needs root.
    Bench(#[command(flatten)] bench::Options),
    /// Kill the daemon at every named step, its shims, plugins and registry, under load; nothing may be lost or left. Needs root.
    Chaos(build::Arguments),
    /// Make, use and remove thousands of pods: the daemon may not grow, and nothing may be left. Needs root.
    Soak(#[command(flatten)] soak::Options),
    /// Cut the power at every flush of a disk and between, and look whether the daemon opens what is left. Needs root, /dev/fuse, loop devices.
    PowerLoss(#[command(flatten)] build::Arguments),
    /// Fuzz every parser with libFuzzer, from the corpus in fuzz/corpus.
    Fuzz {
        /// For all targets together.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Only these.
        targets: Vec<String>,
    },
    /// Run tests of the whole in a guest with systemd and cgroup v2, under qemu.
    Vm(#[command(flatten)] vm::Options),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Build { release } => build::run(&workspace, if release { Profile::Release } else { Profile::Dev }),
        Command::Check => check::run(&workspace),
        Command::Test { filter, no_guest } => suite::test(&workspace, filter.as_deref(), !no_guest),
        Command::Critest(options) => suite::critest(&workspace, &options),
        Command::Demo => suite::demo(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Chaos(options) => chaos::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
        Command::PowerLoss(options) => power::run(&workspace, &options),
        Command::Fuzz { seconds, targets } => fuzz::run(&workspace, seconds, &targets),
        Command::Vm(options) => {
            setup::for_guests()?;
            vm::test(&workspace, &options)
        }
    }
}

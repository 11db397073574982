//! `podwright`: what operators ask beyond crictl. Owns words and output; the answers are the daemon's, by the admin API.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program for a terminal.

mod check;
mod client;
mod images;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Asks podwrightd what crictl does not.
#[derive(Parser)]
#[command(name = "podwright", version, max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which daemon is meant.
#[derive(Args)]
struct Place {
    /// State directory of the daemon.
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/podwright")]
    state: PathBuf,
    /// Root directory of the daemon.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/podwright")]
    root: PathBuf,
}

/// Form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Show what was done for a pod, step by step, and what it waits for now.
    Why {
        /// Sandbox id, its start, or namespace/name.
        pod: String,
        /// Form of the answer.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Check what the host must have, and whether anything is left on it that belongs to no pod. Fails if a line says FAIL.
    Check {
        /// Remove what belongs to no pod. What another daemon or somebody else may own stays.
        #[arg(long)]
        repair: bool,
    },
    /// What concerns the images on this node.
    Images {
        #[command(subcommand)]
        command: Images,
    },
    /// Print the version of this program and of the daemon.
    Version,
}

#[derive(Subcommand)]
enum Images {
    /// Read every byte of the image store, and fetch or unpack again what is damaged. Fails if something stays damaged.
    Verify {
        /// Only tell.
        #[arg(long)]
        no_repair: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("podwright: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Place { state, root } = &arguments.place;
    match &arguments.command {
        Command::Why { pod, output } => runtime.block_on(why::run(state, pod, *output)).map(|()| true),
        Command::Check { repair } => Ok(runtime.block_on(check::run(state, root, *repair))),
        Command::Images { command: Images::Verify { no_repair } } => {
            runtime.block_on(images::verify(state, !no_repair))
        }
        Command::Version => {
            println!("podwright   {}", env!("CARGO_PKG_VERSION"));
            match runtime.block_on(client::version(state)) {
                Ok(daemon) => println!("podwrightd  {} (kernel {})", daemon.version, daemon.kernel),
                Err(error) => println!("podwrightd  not reached: {error:#}"),
            }
            Ok(true)
        }
    }
}

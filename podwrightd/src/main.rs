//! The Podwright daemon: serves the Kubernetes CRI on a unix socket.
//!
//! Owns flags and configuration, the wiring of the parts, telemetry and its own start and end. What the calls do is in the
//! crates that it wires.

#![forbid(unsafe_code)]

mod admin;
mod config;
mod daemon;
mod extensions;
#[cfg(feature = "failpoints")]
mod failpoints;
mod flags;
mod handlers;
mod host;
mod incoming;
mod listener;
mod logging;
mod ports;
mod privileges;
mod rest;
mod serve;
mod settings;
mod systemd;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Config, DEFAULT_FILE};
use crate::flags::{Cli, Command, ConfigAction, DaemonFlags};
use crate::ports::whole_text;

/// Threads that run tasks. Everything waits more than it computes, and each thread has memory of its own.
const MAX_WORKER_THREADS: usize = 4;
/// Threads that may wait for the kernel, as for a file system. They end when they have nothing to do.
const MAX_BLOCKING_THREADS: usize = 512;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Config { action: ConfigAction::Default }) => print(DEFAULT_FILE),
        Some(Command::Config { action: ConfigAction::Check { file } }) => check(&file),
        #[cfg(feature = "failpoints")]
        Some(Command::FailPoints) => print(&failpoints::list()),
        None => serve(cli.daemon),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "podwrightd: {}", whole_text(&*error));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn check(file: &Path) -> anyhow::Result<()> {
    Config::read(file)?;
    print(&format!("{}: ok\n", file.display()))
}

fn serve(flags: DaemonFlags) -> anyhow::Result<()> {
    let config = flags.resolve()?;
    logging::install(&config.log)?;
    privileges::give_up()?;
    #[cfg(feature = "failpoints")]
    failpoints::arm_from_environment()?;
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKER_THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(serve::THREAD_IDLE)
        .enable_all()
        .build()?;
    let done = runtime.block_on(daemon::run(config));
    // A blocking task that hangs on a dead file system must not keep the daemon from ending.
    runtime.shutdown_background();
    done
}

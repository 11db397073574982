//! podwright-oci: Podwright's runtime library behind the OCI runtime command line, for podman, containerd and whatever else calls a
//! runtime by its name.
//!
//! Owns the command line, what is kept of a container between two calls, and the words of errors. How containers are made is left
//! to `podwright-runtime`. No process of it stays: a container is the child of whoever called.
//!
//! It has one thread: containers are clones of it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program for a terminal.

mod arguments;
mod bundle;
mod clock;
mod container;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod freeze;
mod gate;
mod kill;
mod launch;
mod list;
mod log;
mod namespaces;
mod process;
mod start;
mod status;
mod store;
mod template;
mod terminal;
mod update;
mod waiting;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser as _;

use arguments::{Arguments, Command};
use store::Store;

/// Exit code of a call that failed.
const FAILED: u8 = 1;
/// Exit code of an exec that failed, which its process could have had as well.
const EXEC_FAILED: u8 = 255;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = log::Log::new(arguments.log.clone(), arguments.log_format);
    let failed = if matches!(arguments.command, Command::Exec(_)) { EXEC_FAILED } else { FAILED };
    match run(arguments, &log) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error);
            ExitCode::from(failed)
        }
    }
}

fn run(arguments: Arguments, log: &log::Log) -> Result<ExitCode> {
    let store = Store::new(arguments.root);
    let cgroups = if arguments.systemd_cgroup { launch::Cgroups::Systemd } else { launch::Cgroups::Files };
    match arguments.command {
        Command::Create(options) => create::create(&store, &options, cgroups, log)?,
        Command::Start { id } => start::start(&store, &id)?,
        Command::Run(options) => return create::run(&store, &options, cgroups, log),
        Command::State { id } => status::print(&store, &id)?,
        Command::Kill(options) => kill::kill(&store, &options)?,
        Command::Delete { force, id } => delete::delete(&store, &id, force, log)?,
        Command::Exec(options) => return exec::exec(&store, &options, log),
        Command::List(options) => list::containers(&store, &options)?,
        Command::Ps(options) => list::processes(&store, &options)?,
        Command::Events(options) => events::events(&store, &options)?,
        Command::Update(options) => update::update(&store, &options)?,
        Command::Pause { id } => freeze::pause(&store, &id)?,
        Command::Resume { id } => freeze::resume(&store, &id)?,
        Command::Features => features::print()?,
        Command::Spec { bundle, rootless } => template::write(bundle.as_deref(), rootless)?,
        Command::Checkpoint { .. } => bail!(
            "checkpoint is not supported by podwright-oci: it does not drive CRIU; use runc or crun with CRIU installed for containers \
             that are to be checkpointed"
        ),
        Command::Restore { .. } => bail!(
            "restore is not supported by podwright-oci: it does not drive CRIU; use runc or crun with CRIU installed to restore a container"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

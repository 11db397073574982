//! `create` and `run`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::arguments::{CreateOptions, RunOptions};
use crate::foreground;
use crate::launch::{self, Cgroups, Until};
use crate::log::Log;
use crate::store::Store;
use crate::terminal::Console;
use crate::{container, delete};

/// Makes a container that waits for `start`.
pub(crate) fn create(store: &Store, options: &CreateOptions, cgroups: Cgroups, log: &Log) -> Result<()> {
    let mut console = Console::of(options.console_socket.as_deref(), false);
    launch::launch(store, options, cgroups, &mut console, Until::Gate, log)
        .map(drop)
        .with_context(|| format!("cannot create container {:?}", options.id))
}

/// Runs a container to its end, and ends as it did; or leaves it running.
pub(crate) fn run(store: &Store, options: &RunOptions, cgroups: Cgroups, log: &Log) -> Result<ExitCode> {
    let id = &options.create.id;
    let mut console = Console::of(options.create.console_socket.as_deref(), !options.detach);
    // Before the clone, so that no signal is lost.
    let signals = if options.detach { None } else { Some(foreground::Signals::catch()?) };
    let launched = launch::launch(store, &options.create, cgroups, &mut console, Until::Program, log)
        .with_context(|| format!("cannot run container {id:?}"))?;
    let Some(signals) = signals else { return Ok(ExitCode::SUCCESS) };
    let code = foreground::serve(&launched.starting, console, &signals);
    if options.keep {
        return code;
    }
    let record = launched.place.record()?;
    let deleted =
        record.map_or(Ok(()), |record| delete::remove(&launched.place, &container::cgroup(&record)?, &record, log));
    let code = code?;
    deleted.with_context(|| format!("cannot delete container {id:?}")).map(|()| code)
}

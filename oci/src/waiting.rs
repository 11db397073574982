//! Following a process on its way to its program.

use std::os::fd::OwnedFd;

use anyhow::{Context, Error, Result, anyhow};
use podwright_runtime::{FailureKind, Progress, Starting};
use rustix::event::{PollFd, PollFlags, poll};

use crate::log::Log;

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It waits at its gate.
    Gate,
    /// Its program runs.
    Program,
}

/// Waits until it waits at its gate or its program runs. `terminal` gets the master of its terminal.
pub(crate) fn follow(
    starting: &mut Starting,
    mut terminal: impl FnMut(OwnedFd) -> Result<()>,
    log: Option<&Log>,
) -> Result<Reached> {
    loop {
        poll(&mut [PollFd::new(&*starting, PollFlags::IN)], None).context("waiting for the container's process")?;
        match starting.on_readable()? {
            Progress::Pending | Progress::Moved | Progress::Resolved(_) => {}
            Progress::Waiting => starting.release()?,
            Progress::Terminal(master) => terminal(master)?,
            Progress::Ready => return Ok(Reached::Gate),
            Progress::Warning(text) => log.into_iter().for_each(|log| log.warning(&text)),
            Progress::Started => return Ok(Reached::Program),
            Progress::Failed(failure) => return Err(error(failure)),
        }
    }
}

/// Callers of runtimes tell "not found" and "permission denied" by these words.
fn error(failure: podwright_runtime::Failure) -> Error {
    let text = match failure.kind {
        FailureKind::ProgramNotFound => {
            failure.text.replace("not found in $PATH", "executable file not found in $PATH")
        }
        FailureKind::ProgramNotExecutable | FailureKind::Setup => failure.text,
    };
    anyhow!(text)
}

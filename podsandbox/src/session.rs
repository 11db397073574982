//! A client's share in the streams of a process: of a command that is executed for it, or of a container it attaches to.
//!
//! The streams are pipes to the process or its log writer, so nothing is copied here and a slow client holds back nobody but
//! itself. What carries them to the client is left to front ends.

mod streams;

use std::sync::Arc;

use podwright_types::{ContainerId, ExecId};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::container::Container;
use crate::error::EngineError;
use crate::model::ContainerState;
use crate::ports::Shim;

pub use crate::sandbox::forward::{PodConnection, PodEnd};
pub use streams::{Input, Output};
pub(crate) use streams::{pair_to_read, pair_to_write};

/// Size of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns of characters.
    pub columns: u16,
    /// Rows of characters.
    pub rows: u16,
}

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamChoice {
    /// It sends input.
    pub stdin: bool,
    /// It takes standard output.
    pub stdout: bool,
    /// It takes standard error; on a terminal that is part of standard output.
    pub stderr: bool,
    /// The command gets a terminal. Means nothing for an attach: a container has one, or has none.
    pub tty: bool,
    /// The terminal's size at the beginning, where it is known.
    pub size: Option<TerminalSize>,
}

/// Streams that were chosen, and the control of their process. The parts may be taken out and used by different tasks.
#[derive(Debug)]
pub struct Session {
    /// Input; dropping it or shutting it down is its end. `None` if it was not chosen, or if the container attached to keeps
    /// no stdin: what a client sends then has no reader.
    pub stdin: Option<Input>,
    /// Standard output, or that of the terminal.
    pub stdout: Option<Output>,
    /// Standard error; `None` on a terminal.
    pub stderr: Option<Output>,
    /// The process.
    pub control: SessionControl,
}

/// How a session's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEnd {
    /// Exit code of the command, or of the container attached to; 128 + n after signal n.
    pub code: i32,
}

/// The process of a session. Dropping it kills a command that runs still, and detaches from a container.
pub struct SessionControl {
    shim: Arc<dyn Shim>,
    container: Arc<Container>,
    kind: Kind,
}

enum Kind {
    Exec {
        exec: ExecId,
        end: EndOfExec,
        /// Its end tells the task that looks after the command.
        _caller: oneshot::Sender<()>,
    },
    Attach {
        _place: OwnedSemaphorePermit,
    },
}

/// Where the end of a command is told.
pub(crate) type EndOfExec = watch::Receiver<Option<Result<SessionEnd, EngineError>>>;

impl std::fmt::Debug for SessionControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionControl").field("container", &self.container.id).finish_non_exhaustive()
    }
}

impl SessionControl {
    pub(crate) fn of_exec(
        container: Arc<Container>,
        shim: Arc<dyn Shim>,
        exec: ExecId,
        end: EndOfExec,
        caller: oneshot::Sender<()>,
    ) -> Self {
        Self { shim, container, kind: Kind::Exec { exec, end, _caller: caller } }
    }

    pub(crate) fn of_attach(container: Arc<Container>, shim: Arc<dyn Shim>, place: OwnedSemaphorePermit) -> Self {
        Self { shim, container, kind: Kind::Attach { _place: place } }
    }

    /// The container.
    #[must_use]
    pub fn container(&self) -> &ContainerId {
        &self.container.id
    }

    /// Changes the size of the terminal.
    ///
    /// # Errors
    /// `Invalid` if there is none; see [`EngineError`].
    pub async fn resize(&self, size: TerminalSize) -> Result<(), EngineError> {
        let exec = match &self.kind {
            Kind::Exec { exec, .. } => Some(exec),
            Kind::Attach { .. } => None,
        };
        Ok(self.shim.resize(&self.container.id, exec, size).await?)
    }

    /// Waits for the end of the command, or of the container attached to. What it printed can still be read afterwards: read
    /// the outputs to their end first. Cancel safe; may be called again.
    ///
    /// # Errors
    /// `Unavailable` if nobody can tell the end, because the shim ended first.
    pub async fn wait(&mut self) -> Result<SessionEnd, EngineError> {
        match &mut self.kind {
            Kind::Exec { end, .. } => {
                let told = end.wait_for(Option::is_some).await.map(|end| end.clone());
                told.ok().flatten().unwrap_or_else(|| Err(EngineError::Unavailable(SHIM_GONE.into())))
            }
            Kind::Attach { .. } => end_of(&self.container).await,
        }
    }
}

/// Why there is no end to tell.
pub(crate) const SHIM_GONE: &str = "the pod's shim ended before the command";

async fn end_of(container: &Container) -> Result<SessionEnd, EngineError> {
    let mut changes = container.changes();
    loop {
        changes.borrow_and_update();
        match &container.live().durable.state {
            ContainerState::Exited { exit, .. } => return Ok(SessionEnd { code: exit.code }),
            ContainerState::Unknown => {
                let text = "the container's shim does not answer, so its end is not known".to_owned();
                return Err(EngineError::Unavailable(text));
            }
            ContainerState::Created | ContainerState::Running { .. } => {}
        }
        if changes.changed().await.is_err() {
            return Err(EngineError::Unavailable("the container is gone".into()));
        }
    }
}

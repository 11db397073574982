//! A process on its way to its program, as its parent sees it.
//!
//! ```text
//! Pending ─> [Waiting ─ release()] ─> [Terminal] ─> Resolved ─> [Ready ─ at_gate()] ─> Started
//!    └────────────┴───────────────────────┴────────────┴────────────────┴──────────> Failed
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podwright_sys::{Errno, Process};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};

use crate::error::{Error, Failure};
use crate::message::{self, Incoming, Message, User};
use crate::users;

/// What became of a [`Starting`] since it was last asked.
#[derive(Debug)]
pub enum Progress {
    /// Nothing; ask again when its descriptor is readable.
    Pending,
    /// It waits for [`Starting::release`].
    Waiting,
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// The user that will run its program.
    Resolved(User),
    /// It waits at its gate, where whoever comes hears of the rest.
    Ready,
    /// Something that is worth a line in a log.
    Warning(String),
    /// Another process goes on in its place; [`Starting::pid`] is that one's from now on, and the end of the old one is of no
    /// meaning.
    Moved,
    /// Its program runs. Nothing follows.
    Started,
    /// It gave up and ends by itself; its parent reaps it. Nothing follows.
    Failed(Failure),
}

/// What its socket had.
enum Received {
    Message(Incoming),
    Nothing,
    End,
}

/// A process on its way to its program. Dropping it does not end the process.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    socket: OwnedFd,
    executing: bool,
    /// The process that speaks for it, where it can not itself.
    helper: Option<Process>,
}

impl Starting {
    pub(crate) fn new(process: Process, socket: OwnedFd) -> Self {
        Self { process, socket, executing: false, helper: None }
    }

    /// The process is a helper, which tells of another and hands it over.
    pub(crate) fn by_helper(self) -> Result<Self, Error> {
        let failed = |error: std::io::Error| {
            Error::system("keep", "the helper of another runtime")(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        let pidfd = self.process.pidfd.try_clone().map_err(failed);
        let pidfd = pidfd.inspect_err(|_| {
            // It would go on with nobody who knows of it.
            let _ = pidfd_send_signal(&self.process.pidfd, Signal::KILL);
        })?;
        let helper = Process { pid: self.process.pid, pidfd };
        Ok(Self { helper: Some(helper), ..self })
    }

    /// Kills the process that speaks for it with all that it runs, if there is one.
    pub fn kill_helper(&self) {
        let Some(helper) = &self.helper else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Not reaped yet: the number is still its own. It leads its process group.
        if waitid(WaitId::PidFd(helper.pidfd.as_fd()), options).is_ok() {
            let _ = kill_process_group(helper.pid, Signal::KILL);
            let _ = pidfd_send_signal(&helper.pidfd, Signal::KILL);
        }
    }

    /// One that waits at its gate goes on, and is heard over `socket`, a SOCK_SEQPACKET connection to the gate that does not block.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn at_gate(process: Process, socket: OwnedFd) -> Result<Self, Error> {
        let starting = Self::new(process, socket);
        starting.release()?;
        Ok(starting)
    }

    /// Its pid in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// A descriptor for the process.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd.as_fd()
    }

    /// Keeps the descriptor for the process, when starting is over.
    #[must_use]
    pub fn into_pidfd(self) -> OwnedFd {
        self.process.pidfd
    }

    /// Lets a process go on that waits to be put into its cgroup.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn release(&self) -> Result<(), Error> {
        podwright_sys::send_packet(&self.socket, b"go", &[])
            .map_err(Error::system("release", format!("process {}", self.pid().as_raw_nonzero())))
    }

    /// Takes one message of the child. To be called when [`Self::as_fd`](AsFd::as_fd) is readable, again and again until
    /// `Started` or `Failed`; never blocks.
    ///
    /// # Errors
    /// If the child can not be understood.
    pub fn on_readable(&mut self) -> Result<Progress, Error> {
        let mut incoming = self.receive()?;
        if let Received::Message(Incoming { message: Message::Executing, .. }) = incoming {
            self.executing = true;
            // The end follows, and may be there already.
            incoming = self.receive()?;
        }
        let incoming = match incoming {
            Received::Message(incoming) => incoming,
            Received::Nothing => return Ok(Progress::Pending),
            Received::End => return Ok(self.end()),
        };
        Ok(match incoming.message {
            Message::Waiting => Progress::Waiting,
            Message::Terminal => incoming.fds.into_iter().next().map_or(Progress::Pending, Progress::Terminal),
            Message::Resolved(user) => Progress::Resolved(user),
            Message::Ready => Progress::Ready,
            Message::Warning(text) => Progress::Warning(text),
            Message::Failed(failure) => Progress::Failed(failure),
            Message::Moved => return self.follow(incoming.fds),
            Message::Namespaces | Message::Executing => Progress::Pending,
        })
    }

    fn receive(&self) -> Result<Received, Error> {
        match message::receive(&self.socket) {
            Ok(Some(incoming)) => Ok(Received::Message(incoming)),
            Ok(None) | Err(Errno::CONNRESET) => Ok(Received::End),
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(cause) => Err(Error::system("hear from", format!("process {}", self.pid().as_raw_nonzero()))(cause)),
        }
    }

    fn follow(&mut self, fds: Vec<OwnedFd>) -> Result<Progress, Error> {
        let died =
            || Progress::Failed(Failure::because("start", "the process", "it was killed as soon as it was cloned"));
        let Some(pidfd) = fds.into_iter().next() else { return Ok(died()) };
        let failed = |error: std::io::Error| {
            let cause = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::system("find the pid of", "the second child of a container")(cause)
        };
        let Some(pid) = users::visible_pid(&pidfd).map_err(failed)? else { return Ok(died()) };
        self.process = Process { pid, pidfd };
        if self.helper.is_some() {
            // It waits for that, and the process does not come to us before.
            self.release()?;
        }
        Ok(Progress::Moved)
    }

    /// The socket closed: by the exec, or because the child died before it.
    fn end(&self) -> Progress {
        if self.executing {
            return Progress::Started;
        }
        let reason = "it was killed before it executed its program; the kernel log tells if memory was short";
        Progress::Failed(Failure::because("start", "the process", reason))
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

//! One attached client: where a container's output goes beside the log.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::control::ClientFds;
use super::log::Stream;

/// What waits for a client of a log before it is dropped for its slowness.
const MAX_BACKLOG_BYTES: usize = 256 * 1024;

/// What happens when a client does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It is dropped: the log goes first.
    Drop,
    /// The container waits: nobody else takes its output.
    Wait,
}

/// A write end with what waits for it.
#[derive(Debug, Default)]
struct Output {
    fd: Option<OwnedFd>,
    backlog: Vec<u8>,
}

impl Output {
    fn new(fd: Option<OwnedFd>) -> Self {
        Self { fd: fd.filter(|fd| rustix::io::ioctl_fionbio(fd, true).is_ok()), backlog: Vec::new() }
    }

    fn send(&mut self, mut bytes: &[u8]) {
        if self.backlog.is_empty() {
            bytes = bytes.get(self.write(bytes)..).unwrap_or_default();
        }
        if self.fd.is_some() {
            self.backlog.extend_from_slice(bytes);
        }
    }

    fn pump_or_drop(&mut self) {
        let unread = |fd: &OwnedFd| {
            let mut set = [PollFd::new(fd, PollFlags::empty())];
            poll(&mut set, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        if self.fd.as_ref().is_some_and(unread) {
            *self = Self::default();
        }
        let backlog = std::mem::take(&mut self.backlog);
        let written = self.write(&backlog);
        if self.fd.is_some() {
            self.backlog = backlog;
            self.backlog.drain(..written);
        }
    }

    /// Writes as much as goes; closes the descriptor if nobody reads it any more.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let (Some(fd), Some(rest)) = (&self.fd, bytes.get(written..).filter(|rest| !rest.is_empty())) {
            match rustix::io::write(fd, rest) {
                Ok(length) => written += length,
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => break,
                Err(_) => self.fd = None,
            }
        }
        written
    }
}

/// An attached client.
#[derive(Debug)]
pub(super) struct Client {
    /// Where its input comes from.
    pub(super) stdin: Option<OwnedFd>,
    stdout: Output,
    stderr: Output,
    patience: Patience,
    /// It came with an input.
    brought_input: bool,
    /// It came with an output.
    brought_output: bool,
}

impl Client {
    /// Takes a client's streams, and makes them non-blocking.
    pub(super) fn new(fds: ClientFds, patience: Patience) -> Self {
        let stdin = fds.stdin.filter(|fd| rustix::io::ioctl_fionbio(fd, true).is_ok());
        let (stdout, stderr) = (Output::new(fds.stdout), Output::new(fds.stderr));
        let brought_output = stdout.fd.is_some() || stderr.fd.is_some();
        Self { brought_input: stdin.is_some(), stdin, stdout, stderr, patience, brought_output }
    }

    /// Sends output.
    pub(super) fn send(&mut self, stream: Stream, bytes: &[u8]) {
        let output = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        output.send(bytes);
        if self.patience == Patience::Drop && output.backlog.len() > MAX_BACKLOG_BYTES {
            // All of it: half of what is said, and an input that nobody reads, would not tell it that it was cut off.
            (self.stdin, self.stdout, self.stderr) = (None, Output::default(), Output::default());
        }
    }

    /// Sends what waited; a write end that nobody reads any more is closed.
    pub(super) fn pump_or_drop(&mut self) {
        self.stdout.pump_or_drop();
        self.stderr.pump_or_drop();
    }

    /// It took its outputs and takes none of them any more: it has left. What it sent last is read only if the container
    /// wants it now; otherwise a container that never reads would keep every client that ever left.
    pub(super) fn has_left(&self) -> bool {
        self.brought_output && self.stdout.fd.is_none() && self.stderr.fd.is_none()
    }

    /// It came with an input.
    pub(super) fn brought_input(&self) -> bool {
        self.brought_input
    }

    /// Write ends that have nothing waiting.
    pub(super) fn idle_outputs(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.stdout, &self.stderr]
            .into_iter()
            .filter(|output| output.backlog.is_empty())
            .filter_map(|o| o.fd.as_ref())
    }

    /// Write ends that have something waiting.
    pub(super) fn blocked_on(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.stdout, &self.stderr]
            .into_iter()
            .filter(|output| !output.backlog.is_empty())
            .filter_map(|o| o.fd.as_ref())
    }

    /// The container must not be read from until this client has taken what waits.
    pub(super) fn holds_back(&self) -> bool {
        self.patience == Patience::Wait && self.blocked_on().next().is_some()
    }

    /// Nothing connects it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.stdin.is_none() && self.stdout.fd.is_none() && self.stderr.fd.is_none()
    }
}

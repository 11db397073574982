//! The container's stdin: bytes on their way from a client. Between pipes the kernel moves them; those for a terminal are read and written.

use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::FileType;
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{SpliceFlags, splice};

/// Read from a client at once, as much as a pipe holds; more waits in the client's pipe.
const CHUNK_BYTES: usize = 64 * 1024;
/// Moved from a client's pipe at once: all that it and ours can hold.
const MOVED_BYTES: usize = 1 << 20;
/// Less than this is read and written: moved, each key stroke would take one of the pipe's 16 places.
const TYPED_BYTES: u64 = 4096;

/// Write end of the container's stdin, or its terminal.
#[derive(Debug, Default)]
pub(super) struct Input {
    fd: Option<OwnedFd>,
    /// What was read at once, of which the container took `taken` bytes. Empty when all are taken.
    waiting: Vec<u8>,
    taken: usize,
    /// It is a pipe, so nothing has to be read.
    is_pipe: bool,
    /// The pipe took no more; what comes waits in the client's.
    is_full: bool,
    close_when_empty: bool,
}

impl Input {
    /// Takes the write end, and makes it non-blocking.
    pub(super) fn new(fd: Option<OwnedFd>) -> Self {
        let fd = fd.filter(|fd| rustix::io::ioctl_fionbio(fd, true).is_ok());
        let kind =
            fd.as_ref().and_then(|fd| rustix::fs::fstat(fd).ok()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        Self { fd, is_pipe: kind == Some(FileType::Fifo), ..Self::default() }
    }

    /// Open, and ready to take more from clients.
    pub(super) fn wants_more(&self) -> bool {
        self.fd.is_some() && self.waiting.is_empty() && !self.is_full && !self.close_when_empty
    }

    /// It is closed, and nothing that clients send can arrive.
    pub(super) fn is_closed(&self) -> bool {
        self.fd.is_none()
    }

    /// What to wait on to get rid of what is waiting.
    pub(super) fn blocked_on(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| self.is_full || !self.waiting.is_empty())
    }

    /// Closes it after what is waiting.
    pub(super) fn close(&mut self) {
        self.close_when_empty = true;
        self.pump();
    }

    /// Takes from a client that has something or has ended, when it wants more; false when the client sends nothing more.
    pub(super) fn take_from(&mut self, client: &OwnedFd) -> bool {
        match &self.fd {
            Some(fd) if self.is_pipe && !has_little(client) => {
                match splice(client, None, fd, None, MOVED_BYTES, SpliceFlags::NONBLOCK) {
                    Ok(0) => false,
                    Ok(_) | Err(Errno::INTR) => true,
                    // It was not the client's pipe that had nothing.
                    Err(Errno::AGAIN) => {
                        self.is_full = true;
                        true
                    }
                    // The container closed its end. What clients send is read and dropped with them.
                    Err(Errno::PIPE) => {
                        self.fd = None;
                        true
                    }
                    // One of them is nothing that the kernel moves.
                    Err(Errno::INVAL) => {
                        self.is_pipe = false;
                        self.read_from(client)
                    }
                    Err(_) => false,
                }
            }
            Some(_) | None => self.read_from(client),
        }
    }

    /// Takes what a client sent last before it left, if the container takes nothing now: as much as is read at once.
    pub(super) fn keep_last_of(&mut self, client: &OwnedFd) {
        if self.is_full && self.waiting.is_empty() {
            self.read_from(client);
        }
    }

    /// Takes what a client has sent before the input is to be closed: as much as is read at once.
    pub(super) fn keep_rest_of(&mut self, client: &OwnedFd) {
        if self.fd.is_some() && self.waiting.is_empty() {
            self.read_from(client);
        }
    }

    fn read_from(&mut self, client: &OwnedFd) -> bool {
        self.waiting.clear();
        self.taken = 0;
        self.waiting.reserve_exact(CHUNK_BYTES);
        match rustix::io::read(client, spare_capacity(&mut self.waiting)) {
            Ok(0) => false,
            Ok(_) => {
                self.pump();
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Has memory that [`Self::shrink`] gives back.
    pub(super) fn can_shrink(&self) -> bool {
        self.waiting.is_empty() && self.waiting.capacity() > 0
    }

    /// Gives memory back while nothing happens.
    pub(super) fn shrink(&mut self) {
        if self.can_shrink() {
            self.waiting = Vec::new();
        }
    }

    /// Writes as much as the container takes; called once it takes something.
    pub(super) fn pump(&mut self) {
        self.is_full = false;
        while let Some(fd) = &self.fd
            && !self.waiting.is_empty()
        {
            match rustix::io::write(fd, self.waiting.get(self.taken..).unwrap_or_default()) {
                Ok(length) => {
                    self.taken += length;
                    if self.taken >= self.waiting.len() {
                        self.waiting.clear();
                    }
                }
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // The container closed its end.
                    self.fd = None;
                    self.waiting = Vec::new();
                }
            }
        }
        if self.close_when_empty {
            self.fd = None;
        }
    }
}

/// A client's pipe holds something, but not much.
fn has_little(client: &OwnedFd) -> bool {
    ioctl_fionread(client).is_ok_and(|bytes| bytes < TYPED_BYTES)
}

#[cfg(test)]
mod tests;

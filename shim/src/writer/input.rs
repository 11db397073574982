//! The container's stdin: bytes on their way from a client.

use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

/// Read from a client at once, as much as a pipe holds; more waits in the client's pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// Write end of the container's stdin, or its terminal.
#[derive(Debug, Default)]
pub(super) struct Input {
    fd: Option<OwnedFd>,
    /// What was read at once, of which the container took `taken` bytes. Empty when all are taken.
    waiting: Vec<u8>,
    taken: usize,
    close_when_empty: bool,
}

impl Input {
    /// Takes the write end, and makes it non-blocking.
    pub(super) fn new(fd: Option<OwnedFd>) -> Self {
        let fd = fd.filter(|fd| rustix::io::ioctl_fionbio(fd, true).is_ok());
        Self { fd, ..Self::default() }
    }

    /// Open, and ready to take more from clients.
    pub(super) fn wants_more(&self) -> bool {
        self.fd.is_some() && self.waiting.is_empty() && !self.close_when_empty
    }

    /// It is closed, and nothing that clients send can arrive.
    pub(super) fn is_closed(&self) -> bool {
        self.fd.is_none()
    }

    /// What to wait on to get rid of what is waiting.
    pub(super) fn blocked_on(&self) -> Option<&OwnedFd> {
        self.fd.as_ref().filter(|_| !self.waiting.is_empty())
    }

    /// Closes it after what is waiting.
    pub(super) fn close(&mut self) {
        self.close_when_empty = true;
        self.pump();
    }

    /// Reads from a client, when it wants more; false when the client sends nothing more.
    pub(super) fn take_from(&mut self, client: &OwnedFd) -> bool {
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

    /// Writes as much as the container takes.
    pub(super) fn pump(&mut self) {
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

//! The container's stdin: bytes on their way from a client.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Read from a client at once; more waits in the client's pipe.
const CHUNK_BYTES: usize = 4096;

/// Write end of the container's stdin, or its terminal.
#[derive(Debug, Default)]
pub(super) struct Input {
    fd: Option<OwnedFd>,
    waiting: Vec<u8>,
    close_when_empty: bool,
}

impl Input {
    /// Takes the write end, and makes it non-blocking.
    pub(super) fn new(fd: Option<OwnedFd>) -> Self {
        let fd = fd.filter(|fd| rustix::io::ioctl_fionbio(fd, true).is_ok());
        Self { fd, waiting: Vec::new(), close_when_empty: false }
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

    /// Reads from a client; false when the client sends nothing more.
    pub(super) fn take_from(&mut self, client: &OwnedFd) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        match rustix::io::read(client, &mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.waiting.extend_from_slice(chunk.get(..length).unwrap_or_default());
                self.pump();
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Writes as much as the container takes.
    pub(super) fn pump(&mut self) {
        while let Some(fd) = &self.fd
            && !self.waiting.is_empty()
        {
            match rustix::io::write(fd, &self.waiting) {
                Ok(length) => drop(self.waiting.drain(..length)),
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

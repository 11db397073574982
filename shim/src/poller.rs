//! epoll with typed tokens.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// Events taken at once.
const MAX_EVENTS: usize = 32;

/// What a descriptor belongs to; the numbers are serials, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The listening socket.
    Listener,
    /// The signalfd.
    Signals,
    /// A daemon's connection.
    Connection(u32),
    /// A process on its way to its program.
    Start(u32),
    /// A log writer's control socket.
    Writer(u32),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, serial) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Connection(serial) => (2, serial),
            Self::Start(serial) => (3, serial),
            Self::Writer(serial) => (4, serial),
        };
        kind << 32 | u64::from(serial)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let serial = (packed & u64::from(u32::MAX)) as u32;
        match packed >> 32 {
            0 => Some(Self::Listener),
            1 => Some(Self::Signals),
            2 => Some(Self::Connection(serial)),
            3 => Some(Self::Start(serial)),
            4 => Some(Self::Writer(serial)),
            _ => None,
        }
    }
}

/// The set of descriptors that the shim waits for.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Waits until `fd` is readable, or has ended.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::IN)?)
    }

    /// Waits for the end of `fd` only: what comes over it before waits until then, and wakes nobody.
    pub(crate) fn add_for_end(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::empty())?)
    }

    /// Waits until `fd` is readable, or writable too.
    pub(crate) fn want_write(&self, fd: impl AsFd, token: Token, write: bool) -> io::Result<()> {
        let flags = if write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token.pack()), flags)?)
    }

    /// Must be called before a descriptor is closed: a forked child may still hold it open, and then epoll goes on to tell of it.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for something to do.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = Vec::with_capacity(MAX_EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().filter_map(|event| Token::unpack(event.data.u64())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wake_nobody_who_waits_for_the_end() {
        let poller = Poller::new().unwrap();
        let (ours, theirs) = podwright_sys::packet_pair().unwrap();
        poller.add_for_end(&ours, Token::Start(1)).unwrap();
        podwright_sys::send_packet(&theirs, b"a word", &[]).unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), []);
        drop(theirs);
        assert_eq!(poller.wait(None).unwrap(), [Token::Start(1)]);
        let mut buffer = [0; 16];
        assert_eq!(podwright_sys::receive_packet(&ours, &mut buffer).unwrap().length, 6);
    }

    #[test]
    fn tokens_come_back() {
        for token in [Token::Listener, Token::Signals, Token::Connection(u32::MAX), Token::Start(0), Token::Writer(7)] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }
}

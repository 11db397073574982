//! nf_tables over netlink: transactions of typed changes, all or nothing. Knows nothing of pods.

mod change;
mod encode;
mod expression;

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink;

pub(crate) use change::{Chain, ChainKind, Change, Element, Hook, KeyPart, Set};
pub(crate) use expression::{Expression, REGISTER, Source};

/// A socket that speaks to nf_tables of one network namespace.
pub(crate) struct NftSocket {
    socket: Socket,
}

impl fmt::Debug for NftSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NftSocket").field("fd", &self.socket.as_raw_fd()).finish()
    }
}

impl NftSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: netlink::connect(NETLINK_NETFILTER)? })
    }

    /// Makes the changes to an `inet` table in one transaction: all of them or, with an error, none.
    pub(crate) fn commit(&self, table: &str, changes: &[Change]) -> io::Result<()> {
        self.socket.send(&encode::transaction(table, changes), 0)?;
        let mut first_error = None;
        let mut answered = 0;
        while let Some(packet) = netlink::receive(&self.socket)? {
            for code in encode::answers(&packet) {
                answered += 1;
                if code != 0 && first_error.is_none() {
                    first_error = Some(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None if answered < changes.len() => Err(io::Error::other("the kernel did not answer every change")),
            None => Ok(()),
        }
    }

    /// How many rules an `inet` table has; none if there is no such table.
    pub(crate) fn rules(&self, table: &str) -> io::Result<usize> {
        self.count(&encode::list_rules(table), encode::count_rules)
    }

    /// How many elements a set or map of an `inet` table has.
    pub(crate) fn elements(&self, table: &str, set: &str) -> io::Result<usize> {
        self.count(&encode::list_elements(table, set), encode::count_elements)
    }

    fn count(&self, question: &[u8], count: impl Fn(&[u8]) -> usize) -> io::Result<usize> {
        self.socket.send(question, 0)?;
        let mut found = 0;
        while let Some(packet) = netlink::receive(&self.socket)? {
            if let Some(code) = encode::answers(&packet).into_iter().find(|code| *code != 0) {
                return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
            }
            found += count(&packet);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;

//! One daemon's connection: what it has sent, and what waits to be sent to it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use podwright_shim_api::{MAX_PACKET_BYTES, Packet, Reply, Request, socket};
use prost::Message;

/// Packets that wait for a daemon that does not read. With more the connection is closed: a daemon that comes back asks for
/// the state, so nothing is lost.
const MAX_QUEUED: usize = 512;

/// What was read.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A request with its descriptors.
    Request(Box<Request>, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// It hung up, or sent something that is no message.
    Ended,
}

#[derive(Debug)]
struct Queued {
    packet: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Names it among all connections that ever were.
    pub(crate) serial: u32,
    /// It said hello, and gets events.
    pub(crate) greeted: bool,
    /// Whether the loop waits until it can be written to.
    pub(crate) awaits_room: bool,
    socket: OwnedFd,
    queue: VecDeque<Queued>,
}

impl Connection {
    pub(crate) fn new(serial: u32, socket: OwnedFd) -> Self {
        Self { serial, greeted: false, awaits_room: false, socket, queue: VecDeque::new() }
    }

    pub(crate) fn receive(&self) -> Incoming {
        // Most packets are short; a buffer for the longest would stay in the heap of every shim.
        let mut buffer = match socket::next_length(&self.socket) {
            Ok(length) => vec![0; length.min(MAX_PACKET_BYTES)],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Incoming::Nothing,
            Err(_) => return Incoming::Ended,
        };
        let (length, fds) = match socket::receive(&self.socket, &mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Incoming::Nothing,
            Err(_) => return Incoming::Ended,
        };
        match buffer.get(..length).map(Request::decode) {
            Some(Ok(request)) if length > 0 => Incoming::Request(Box::new(request), fds),
            _ => Incoming::Ended,
        }
    }

    /// Sends a packet, or queues it; false if the connection is of no use any more.
    pub(crate) fn send(&mut self, id: u64, reply: Reply, fds: Vec<OwnedFd>) -> bool {
        let packet = Packet { id, reply: Some(reply) }.encode_to_vec();
        self.queue.push_back(Queued { packet, fds });
        self.queue.len() <= MAX_QUEUED && self.flush()
    }

    /// Sends what is queued; false if the connection is of no use any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(Queued { packet, fds }) = self.queue.front() {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match socket::send(&self.socket, packet, &fds) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        self.queue.shrink_to_fit();
        true
    }

    /// Something waits until the daemon reads.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.queue.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

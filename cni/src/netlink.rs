//! rtnetlink in batches: many requests in one write, their answers in order. Knows nothing of pods.

mod messages;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

pub(crate) use messages::{
    Veth, add_address, add_default_route, add_host_route, add_neighbour, add_veth, delete_address, delete_link,
    dump_addresses, dump_links, dump_routes, get_link, link_up, no_link_local,
};

/// Group of link events.
const LINK_GROUP: u32 = 1;

/// One request of a batch.
#[derive(Debug)]
pub(crate) struct Request {
    /// What is to be done.
    pub(crate) message: RouteNetlinkMessage,
    /// Flags beside REQUEST and ACK.
    pub(crate) flags: u16,
    /// What it does, for errors.
    pub(crate) what: &'static str,
}

/// The kernel's answer to one request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Why it was refused.
    pub(crate) error: Option<io::Error>,
    /// What it returned.
    pub(crate) messages: Vec<RouteNetlinkMessage>,
    /// What the request did.
    pub(crate) what: &'static str,
}

impl Answer {
    /// The error, unless its number is one of `tolerated`.
    pub(crate) fn check(
        self,
        tolerated: &[rustix::io::Errno],
    ) -> Result<Vec<RouteNetlinkMessage>, (&'static str, io::Error)> {
        match self.error {
            Some(error) if !tolerated.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {
                Err((self.what, error))
            }
            _ => Ok(self.messages),
        }
    }
}

/// A socket that speaks to one network namespace.
pub(crate) struct RouteSocket {
    socket: Socket,
}

impl fmt::Debug for RouteSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RouteSocket").field("fd", &self.socket.as_raw_fd()).finish()
    }
}

impl RouteSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: connect(NETLINK_ROUTE)? })
    }

    /// Sends the requests in one write and collects the answers. The kernel carries out each even if one before it failed; it
    /// has answered all when the write returns.
    pub(crate) fn batch(&self, requests: Vec<Request>) -> io::Result<Vec<Answer>> {
        let mut answers: Vec<Answer> =
            requests.iter().map(|request| Answer { what: request.what, ..Answer::default() }).collect();
        if requests.is_empty() {
            return Ok(answers);
        }
        let mut bytes = Vec::with_capacity(1024);
        for (request, sequence) in requests.into_iter().zip(1..) {
            append(&mut bytes, request, sequence);
        }
        self.socket.send(&bytes, 0)?;
        while let Some(packet) = receive(&self.socket)? {
            for (sequence, answer) in split(&packet) {
                let index = usize::try_from(sequence).unwrap_or(0).wrapping_sub(1);
                if let Some(slot) = answers.get_mut(index) {
                    match answer {
                        Ok(message) => slot.messages.push(message),
                        Err(error) => slot.error = Some(error),
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Sends one request.
    pub(crate) fn one(&self, request: Request) -> io::Result<Vec<RouteNetlinkMessage>> {
        let answer = self.batch(vec![request])?.pop().unwrap_or_default();
        answer.error.map_or(Ok(answer.messages), Err)
    }
}

/// A socket that hears of links that come and go.
pub(crate) struct LinkEvents {
    socket: Socket,
}

impl fmt::Debug for LinkEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LinkEvents").field("fd", &self.socket.as_raw_fd()).finish()
    }
}

impl AsRawFd for LinkEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl LinkEvents {
    /// Subscribes in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        socket.add_membership(LINK_GROUP)?;
        Ok(Self { socket })
    }

    /// Names of links that went away; `WouldBlock` when there is no more to hear, other errors when something was missed.
    pub(crate) fn gone(&self) -> io::Result<Vec<String>> {
        let packet = receive(&self.socket)?.ok_or(io::ErrorKind::WouldBlock)?;
        let names = split(&packet).into_iter().filter_map(|(_, message)| match message {
            Ok(RouteNetlinkMessage::DelLink(link)) => link_name(&link),
            _ => None,
        });
        Ok(names.collect())
    }
}

/// Name of a link.
pub(crate) fn link_name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// MTU of a link.
pub(crate) fn link_mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// The first link of an answer.
pub(crate) fn first_link(messages: Vec<RouteNetlinkMessage>) -> Option<LinkMessage> {
    messages.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    })
}

/// Opens a non-blocking netlink socket connected to the kernel.
pub(crate) fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    socket.set_cap_ack(true)?;
    Ok(socket)
}

/// The next packet that waits, if any.
pub(crate) fn receive(socket: &Socket) -> io::Result<Option<Vec<u8>>> {
    loop {
        match socket.recv_from_full() {
            Ok((packet, _)) => return Ok(Some(packet)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn append(bytes: &mut Vec<u8>, request: Request, sequence: u32) {
    let mut header = NetlinkHeader::default();
    let ack = if request.flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
    header.flags = NLM_F_REQUEST | ack | request.flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    if let Some(room) = bytes.get_mut(start..) {
        message.serialize(room);
    }
}

/// The messages of a packet with the sequence numbers of their requests: data or errors. What can not be read is left out.
fn split(packet: &[u8]) -> Vec<(u32, io::Result<RouteNetlinkMessage>)> {
    let mut found = Vec::new();
    let mut rest = packet;
    while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(one) = rest.get(..length).filter(|_| length >= 16) else { break };
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) {
            Ok(NetlinkMessage { header, payload: NetlinkPayload::InnerMessage(message), .. }) => {
                found.push((header.sequence_number, Ok(message)));
            }
            Ok(NetlinkMessage { header, payload: NetlinkPayload::Error(error), .. }) if error.code.is_some() => {
                found.push((header.sequence_number, Err(error.to_io())));
            }
            Ok(_) => {}
            Err(unknown) => tracing::debug!(error = %unknown, "skipping a netlink message"),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

//! Flushing what connection tracking remembers of UDP to a host port.
//!
//! The NAT tables see only the first packet of a flow. A client that keeps sending from one port keeps its flow alive, and would
//! reach the pod that had the port before, or the host, for ever. Knows nothing of pods.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;
const IPCTNL_MSG_CT_GET: u16 = IPCTNL_MSG_CT_NEW | 1;
const IPCTNL_MSG_CT_DELETE: u16 = IPCTNL_MSG_CT_NEW | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const IPPROTO_UDP: u8 = 17;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLA_TYPE_MASK: u16 = 0x3fff;
const HEADER_BYTES: usize = 16;
/// Family, version and resource after the header.
const FAMILY_BYTES: usize = 4;

/// A socket that speaks to connection tracking of one network namespace.
pub(crate) struct ConntrackSocket {
    socket: Socket,
}

impl fmt::Debug for ConntrackSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConntrackSocket").field("fd", &self.socket.as_raw_fd()).finish()
    }
}

impl ConntrackSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: netlink::connect(NETLINK_NETFILTER)? })
    }

    /// Forgets the UDP flows that were first sent to one of `ports`.
    pub(crate) fn forget_udp(&self, ports: &[u16]) -> io::Result<()> {
        self.socket.send(&message(IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &[0; FAMILY_BYTES]), 0)?;
        let mut doomed = Vec::new();
        while let Some(packet) = netlink::receive(&self.socket)? {
            doomed.extend(messages(&packet).filter_map(|body| deletion(body, ports)));
        }
        for message in doomed {
            // A flow that ended by itself meanwhile is as good.
            self.socket.send(&message, 0)?;
        }
        while netlink::receive(&self.socket)?.is_some() {}
        Ok(())
    }
}

/// The request that deletes the flow of a dumped message, if it is one to forget.
fn deletion(body: &[u8], ports: &[u16]) -> Option<Vec<u8>> {
    let (family, flow) = body.split_at_checked(FAMILY_BYTES)?;
    let tuple = find(flow, CTA_TUPLE_ORIG)?;
    let protocol = find(payload(tuple)?, CTA_TUPLE_PROTO).and_then(payload)?;
    let number = find(protocol, CTA_PROTO_NUM).and_then(payload)?.first().copied()?;
    let port =
        find(protocol, CTA_PROTO_DST_PORT).and_then(payload)?.first_chunk().map(|port| u16::from_be_bytes(*port))?;
    let is_doomed = number == IPPROTO_UDP && ports.contains(&port);
    let zone = find(flow, CTA_ZONE).unwrap_or_default();
    is_doomed.then(|| message(IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST, &[family, tuple, zone].concat()))
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX).to_ne_bytes();
    [&length[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat()
}

/// Bodies of the flows in a packet.
fn messages(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))?;
        let length = usize::try_from(length).ok().filter(|length| *length >= HEADER_BYTES)?;
        let one = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(one)
    })
    .filter(|message| message.get(4..6) == Some(&IPCTNL_MSG_CT_NEW.to_ne_bytes()[..]))
    .filter_map(|message| message.get(HEADER_BYTES..))
}

/// The first attribute of a kind, header and padding included.
fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let (header, _) = rest.split_first_chunk::<4>()?;
        let [a, b, c, d] = *header;
        let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
        let whole = length.next_multiple_of(4).min(rest.len());
        if u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK == wanted {
            return rest.get(..whole);
        }
        rest = rest.get(whole..)?;
    }
}

/// The value of an attribute.
fn payload(attribute: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_ne_bytes(*attribute.first_chunk::<2>()?));
    attribute.get(4..length)
}

//! The rtnetlink requests that the embedded network is made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Request;

/// A pair of links, one end in the host and one in a pod.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    /// Name of the host's end.
    pub(crate) host_name: &'a str,
    /// Hardware address of the host's end.
    pub(crate) host_mac: [u8; 6],
    /// Name of the pod's end.
    pub(crate) pod_name: &'a str,
    /// Hardware address of the pod's end.
    pub(crate) pod_mac: [u8; 6],
    /// Network namespace of the pod.
    pub(crate) netns: BorrowedFd<'a>,
    /// MTU of both ends.
    pub(crate) mtu: u32,
}

/// Makes a pair of links, both down.
pub(crate) fn add_veth(veth: &Veth<'_>) -> Request {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(veth.pod_name.to_owned()),
        LinkAttribute::Address(veth.pod_mac.to_vec()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::NetNsFd(veth.netns.as_raw_fd()),
    ];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(veth.host_name.to_owned()),
        LinkAttribute::Address(veth.host_mac.to_vec()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Request { message: RouteNetlinkMessage::NewLink(link), flags: NLM_F_CREATE | NLM_F_EXCL, what: "making the link" }
}

/// Lets a link that is still down have no link-local IPv6 address: nothing speaks to the host there, and thousands cost.
pub(crate) fn no_link_local(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])]),
    ];
    Request { message: RouteNetlinkMessage::SetLink(link), flags: 0, what: "setting the link's IPv6 mode" }
}

fn up_link() -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

/// Asks for a link by name.
pub(crate) fn get_link(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request { message: RouteNetlinkMessage::GetLink(link), flags: 0, what: "looking for the link" }
}

/// Removes a link by name.
pub(crate) fn delete_link(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request { message: RouteNetlinkMessage::DelLink(link), flags: 0, what: "removing the link" }
}

/// Sets a link up.
pub(crate) fn link_up(name: &str) -> Request {
    let mut link = up_link();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request { message: RouteNetlinkMessage::SetLink(link), flags: 0, what: "setting up the link" }
}

/// Gives a link an address, that alone; IPv6 is usable at once.
pub(crate) fn add_address(index: u32, address: IpAddr) -> Request {
    let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
    Request { message, flags: NLM_F_CREATE | NLM_F_REPLACE, what: "adding the address" }
}

/// Takes an address from a link.
pub(crate) fn delete_address(index: u32, address: IpAddr) -> Request {
    Request {
        message: RouteNetlinkMessage::DelAddress(address_message(index, address)),
        flags: 0,
        what: "removing the address",
    }
}

fn address_message(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = bits(address);
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.header.flags = if address.is_ipv6() { AddressHeaderFlags::Nodad } else { AddressHeaderFlags::empty() };
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// Route to one address over a link; `source` is what the host itself speaks from.
pub(crate) fn add_host_route(index: u32, address: IpAddr, source: Option<IpAddr>) -> Request {
    let mut message = route(address, bits(address));
    message.header.scope = if address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(address)), RouteAttribute::Oif(index)];
    message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))));
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        what: "adding the route",
    }
}

/// Default route over a gateway that is on the link, whatever the addresses say.
pub(crate) fn add_default_route(index: u32, gateway: IpAddr) -> Request {
    let mut message = route(gateway, 0);
    message.header.flags = RouteFlags::Onlink;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(gateway)), RouteAttribute::Oif(index)];
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        what: "adding the default route",
    }
}

fn route(like: IpAddr, length: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(like);
    message.header.destination_prefix_length = length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message
}

/// Hardware address of a neighbour, for good.
pub(crate) fn add_neighbour(index: u32, address: IpAddr, mac: [u8; 6]) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unspec;
    let destination = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message.attributes =
        vec![NeighbourAttribute::Destination(destination), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    Request {
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        what: "adding the neighbour",
    }
}

/// Asks for all links.
pub(crate) fn dump_links() -> Request {
    Request { message: RouteNetlinkMessage::GetLink(LinkMessage::default()), flags: NLM_F_DUMP, what: "listing links" }
}

/// Asks for all addresses of all links.
pub(crate) fn dump_addresses() -> Request {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    Request { message, flags: NLM_F_DUMP, what: "listing addresses" }
}

/// Asks for all routes of a family.
pub(crate) fn dump_routes(ipv4: bool) -> Request {
    let like = if ipv4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let mut message = RouteMessage::default();
    message.header.address_family = family(like);
    Request { message: RouteNetlinkMessage::GetRoute(message), flags: NLM_F_DUMP, what: "listing routes" }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

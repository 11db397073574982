//! What a pod needs of the host's kernel, made and removed on the network thread.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rustix::io::Errno;

use super::lease::{HOST_MAC, Lease, POD_GATEWAY4, POD_GATEWAY6, Pools};
use super::sysctl;
use crate::config::Prefix;
use crate::error::CniError;
use crate::host::{HostNet, kernel};
use crate::netlink::{self, Answer, Request, RouteSocket, Veth};

/// Name of the pod's link.
const POD_LINK: &str = "eth0";
/// Index of `lo`, in every namespace.
const LOOPBACK_INDEX: u32 = 1;
const DEFAULT_MTU: u32 = 1500;

/// Makes link, addresses, routes and neighbours; what is there already stays. Returns whether the pod could take IPv6.
pub(super) fn connect(net: &HostNet, lease: &Lease, netns: &OwnedFd, mtu: u32) -> Result<bool, CniError> {
    let pod = net
        .socket_in(netns.as_fd())
        .map_err(|error| kernel("entering the network namespace of", lease.sandbox.as_str(), error))?;
    let host_index = make_link(net, &pod, lease, netns, mtu)?;
    let ipv6 = configure_pod(&pod, lease)?;
    let mut requests = Vec::new();
    for address in lease.addresses() {
        requests.push(netlink::add_host_route(host_index, address, lease.pools.gateway(address.is_ipv4())));
        requests.push(netlink::add_neighbour(host_index, address, lease.pod_mac()));
    }
    run(&net.route, requests, &lease.link, &[])?;
    if lease.ipv4.is_some() && !lease.port_mappings.is_empty() {
        sysctl::route_localnet(&lease.link)?;
    }
    Ok(ipv6)
}

/// Makes the pair of links; returns the index of the host's end.
fn make_link(net: &HostNet, pod: &RouteSocket, lease: &Lease, netns: &OwnedFd, mtu: u32) -> Result<u32, CniError> {
    let veth = || Veth {
        host_name: &lease.link,
        host_mac: HOST_MAC,
        pod_name: POD_LINK,
        pod_mac: lease.pod_mac(),
        netns: netns.as_fd(),
        mtu,
    };
    let make = || {
        let mut requests = vec![netlink::add_veth(&veth())];
        if lease.ipv6.is_some() {
            requests.push(netlink::no_link_local(&lease.link));
        }
        // Asked for while it is down. To be asked for makes the kernel act at once on changes of the link that it put off, and one that is
        // up and whose peer is not yet up costs a walk over all IPv6 routes of the host.
        requests.extend([netlink::get_link(&lease.link), netlink::link_up(&lease.link)]);
        run(&net.route, requests, &lease.link, &[Errno::EXIST])
    };
    let mut messages = match make() {
        Ok(messages) => messages,
        Err(_) if link_exists(pod, POD_LINK)? && !link_exists(&net.route, &lease.link)? => {
            let reason = format!("its network namespace has an {POD_LINK} already; give it one of its own");
            return Err(CniError::Request { sandbox: lease.sandbox.clone(), reason });
        }
        Err(error) => return Err(error),
    };
    if !link_exists(pod, POD_LINK)? {
        // The name is taken by a link of an attempt that was cut short, whose namespace is another.
        delete(net, &lease.link)?;
        messages = make()?;
    }
    let link = netlink::first_link(messages);
    link.map(|link| link.header.index).ok_or_else(|| kernel("looking for the link", &*lease.link, Errno::NODEV.into()))
}

fn configure_pod(pod: &RouteSocket, lease: &Lease) -> Result<bool, CniError> {
    let links =
        run(pod, vec![netlink::link_up("lo"), netlink::link_up(POD_LINK), netlink::get_link(POD_LINK)], POD_LINK, &[])?;
    let index = netlink::first_link(links).map(|link| link.header.index);
    let index = index.ok_or_else(|| kernel("looking for the pod's link", POD_LINK, Errno::NODEV.into()))?;
    if let Some(ipv4) = lease.ipv4 {
        run(pod, pod_requests(index, ipv4, POD_GATEWAY4), POD_LINK, &[])?;
    }
    match lease.ipv6.map(|ipv6| run(pod, pod_requests(index, ipv6, POD_GATEWAY6), POD_LINK, &[])) {
        None => Ok(false),
        Some(Ok(_)) => Ok(true),
        // The pod has IPv6 switched off by a sysctl of its own.
        Some(Err(CniError::Kernel { source, .. })) if source.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {
            Ok(false)
        }
        Some(Err(error)) => Err(error),
    }
}

fn pod_requests(index: u32, address: IpAddr, gateway: IpAddr) -> Vec<Request> {
    vec![
        netlink::add_address(index, address),
        netlink::add_neighbour(index, gateway, HOST_MAC),
        netlink::add_default_route(index, gateway),
    ]
}

/// Whether there is a link of this name.
pub(super) fn link_exists(socket: &RouteSocket, name: &str) -> Result<bool, CniError> {
    match socket.one(netlink::get_link(name)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(false),
        Err(error) => Err(kernel("looking for the link", name, error)),
    }
}

/// Removes a link; none is success. This waits for the kernel's grace periods, tens of milliseconds.
pub(super) fn delete(net: &HostNet, name: &str) -> Result<(), CniError> {
    run(&net.route, vec![netlink::delete_link(name)], name, &[Errno::NODEV]).map(drop)
}

/// Names of all links that start with `prefix`.
pub(super) fn links_with_prefix(net: &HostNet, prefix: &str) -> Result<Vec<String>, CniError> {
    let messages = run(&net.route, vec![netlink::dump_links()], "the host", &[])?;
    let names = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => netlink::link_name(&link),
        _ => None,
    });
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// Gives the host its addresses in the pools, on `lo`: what pods see the host as.
pub(super) fn add_gateways(net: &HostNet, pools: &[Pools]) -> Result<(), CniError> {
    let requests = gateways(pools).map(|address| netlink::add_address(LOOPBACK_INDEX, address)).collect();
    run(&net.route, requests, "lo", &[]).map(drop)
}

/// Takes them away.
pub(super) fn remove_gateways(net: &HostNet, pools: &[Pools]) -> Result<(), CniError> {
    let requests = gateways(pools).map(|address| netlink::delete_address(LOOPBACK_INDEX, address)).collect();
    run(&net.route, requests, "lo", &[Errno::ADDRNOTAVAIL]).map(drop)
}

fn gateways(pools: &[Pools]) -> impl Iterator<Item = IpAddr> {
    pools.iter().flat_map(|pools| [pools.gateway(true), pools.gateway(false)]).flatten()
}

/// Ranges that the host has routes to, the default ones excepted.
pub(super) fn routed_prefixes(net: &HostNet) -> Result<Vec<Prefix>, CniError> {
    Ok(routes(net)?.iter().filter_map(destination).collect())
}

fn routes(net: &HostNet) -> Result<Vec<RouteMessage>, CniError> {
    let mut messages = run(&net.route, vec![netlink::dump_routes(true)], "the host", &[])?;
    messages.extend(run(&net.route, vec![netlink::dump_routes(false)], "the host", &[]).unwrap_or_default());
    let routes = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    Ok(routes.collect())
}

fn destination(route: &RouteMessage) -> Option<Prefix> {
    if matches!(route.header.kind, RouteType::Multicast | RouteType::Broadcast) {
        return None;
    }
    let length = route.header.destination_prefix_length;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    Prefix::new(address, length).filter(|prefix| prefix.length() > 0)
}

/// MTU of the link that the default route uses.
pub(super) fn default_mtu(net: &HostNet) -> Result<u32, CniError> {
    let outward = routes(net)?
        .into_iter()
        .filter(|route| route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast);
    let index = outward.flat_map(|route| route.attributes).find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(index),
        _ => None,
    });
    let Some(index) = index else { return Ok(DEFAULT_MTU) };
    let links = run(&net.route, vec![netlink::dump_links()], "the host", &[])?;
    let mtu = links.into_iter().find_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) if link.header.index == index => netlink::link_mtu(&link),
        _ => None,
    });
    Ok(mtu.unwrap_or(DEFAULT_MTU))
}

/// Carries out a batch; the first refusal that is not tolerated is the error.
fn run(
    socket: &RouteSocket,
    requests: Vec<Request>,
    object: &str,
    tolerated: &[Errno],
) -> Result<Vec<RouteNetlinkMessage>, CniError> {
    let answers: Vec<Answer> =
        socket.batch(requests).map_err(|error: io::Error| kernel("speaking to the kernel about", object, error))?;
    let mut messages = Vec::new();
    for answer in answers {
        messages.extend(answer.check(tolerated).map_err(|(what, error)| kernel(what, object, error))?);
    }
    Ok(messages)
}

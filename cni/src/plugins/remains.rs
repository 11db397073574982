//! What a repeated DEL needs of the pod's link. Plugins that masquerade (bridge, ptp) take the addresses of the link, delete the link
//! and then the rules of those addresses. One that is killed in between, or fails there, leaves rules that no later DEL finds, as the
//! link is gone. So the addresses are recorded before the first DEL, and each later one finds a link that has them.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressScope};

use super::attachment::POD_LINK;
use crate::error::CniError;
use crate::files;
use crate::host::{HostNet, kernel};
use crate::netlink::{self, Request, RouteSocket, Veth};

/// The other end of a stand-in. It goes with it, or with the namespace.
const OTHER_END: &str = "podwright-gone";
const MTU: u32 = 1500;

/// Returns the addresses of the pod's link, as they are or as they were `recorded`. If the link is gone that had some, another one is
/// made that has them.
pub(super) fn keep(net: &HostNet, netns: &Path, recorded: Option<&[IpAddr]>) -> Result<Vec<IpAddr>, CniError> {
    let file = std::fs::File::open(netns).map_err(files::error("opening the network namespace", netns))?;
    let failed = |what| move |error| kernel(what, netns.display().to_string(), error);
    let pod = net.socket_in(file.as_fd()).map_err(failed("entering the network namespace"))?;
    if let Some(index) = index(&pod) {
        let found = addresses(&pod, index).map_err(failed("listing the addresses in"))?;
        return Ok(recorded.map_or(found, <[IpAddr]>::to_vec));
    }
    let recorded = recorded.unwrap_or_default();
    if !recorded.is_empty() {
        stand_in(&pod, &file, recorded).map_err(failed("making a stand-in for the pod's link in"))?;
    }
    Ok(recorded.to_vec())
}

fn index(pod: &RouteSocket) -> Option<u32> {
    let links = pod.one(netlink::get_link(POD_LINK)).ok()?;
    netlink::first_link(links).map(|link| link.header.index)
}

/// Those that are not of the link alone.
fn addresses(pod: &RouteSocket, index: u32) -> std::io::Result<Vec<IpAddr>> {
    let messages = pod.one(netlink::dump_addresses())?;
    let own = messages.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(address)
            if address.header.index == index && address.header.scope == AddressScope::Universe =>
        {
            Some(address.attributes)
        }
        _ => None,
    });
    let told = own.filter_map(|attributes| {
        attributes.into_iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(address),
            _ => None,
        })
    });
    Ok(told.collect())
}

fn stand_in(pod: &RouteSocket, netns: &std::fs::File, addresses: &[IpAddr]) -> std::io::Result<()> {
    let veth = Veth {
        host_name: POD_LINK,
        host_mac: [2, 0, 0, 0, 0, 1],
        pod_name: OTHER_END,
        pod_mac: [2, 0, 0, 0, 0, 2],
        netns: netns.as_fd(),
        mtu: MTU,
    };
    one(pod, netlink::add_veth(&veth))?;
    let Some(index) = index(pod) else { return Ok(()) };
    addresses.iter().try_for_each(|address| one(pod, netlink::add_address(index, *address)))
}

fn one(pod: &RouteSocket, request: Request) -> std::io::Result<()> {
    pod.one(request).map(drop)
}

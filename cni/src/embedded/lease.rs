//! What an embedded pod holds: addresses, a link and host ports. Recorded before any of it is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podwright_types::SandboxId;
use serde::{Deserialize, Serialize};

use crate::config::Prefix;
use crate::request::PortMapping;

/// Hardware address of the host's end of every pod's link; each is alone with its pod.
pub(super) const HOST_MAC: [u8; 6] = [0xee; 6];

/// Where pods send what is not for themselves. The host never has these addresses: pods know the hardware address.
pub(super) const POD_GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The same for IPv6.
pub(super) const POD_GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Where addresses are taken from. Of each pool the first address names the network, the second is the host's, and
/// the last stays unused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pools {
    /// IPv4.
    pub(super) ipv4: Option<Prefix>,
    /// IPv6.
    pub(super) ipv6: Option<Prefix>,
}

impl Pools {
    /// The host's address in a pool.
    pub(super) fn gateway(&self, ipv4: bool) -> Option<IpAddr> {
        if ipv4 { self.ipv4 } else { self.ipv6 }.and_then(|pool| pool.at(1))
    }

    /// One past the last offset that pods may have, in every pool.
    pub(super) fn end(&self) -> u32 {
        [self.ipv4, self.ipv6].into_iter().flatten().map(|pool| pool.size().saturating_sub(1)).min().unwrap_or(0)
    }
}

/// What a pod holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    /// Whose it is.
    pub(super) sandbox: SandboxId,
    /// Name of the host's end of its link.
    pub(super) link: String,
    /// Where its addresses are from.
    pub(super) pools: Pools,
    /// IPv4 address.
    pub(super) ipv4: Option<IpAddr>,
    /// IPv6 address.
    pub(super) ipv6: Option<IpAddr>,
    /// Its host ports.
    pub(super) port_mappings: Vec<PortMapping>,
}

impl Lease {
    /// Its addresses, IPv4 first.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.ipv4.into_iter().chain(self.ipv6).collect()
    }

    /// Hardware address of the pod's end, made from the address.
    pub(super) fn pod_mac(&self) -> [u8; 6] {
        let [a, b, c, d] = match (self.ipv4, self.ipv6) {
            (Some(IpAddr::V4(v4)), _) => v4.octets(),
            (_, Some(IpAddr::V6(v6))) => v6.octets().last_chunk::<4>().copied().unwrap_or_default(),
            _ => [0; 4],
        };
        [0x0a, 0x58, a, b, c, d]
    }
}

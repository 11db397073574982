//! Who holds what, in memory: leases, the addresses taken, and the host ports taken. Does no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use podwright_types::SandboxId;

use super::lease::{Lease, Pools};
use crate::error::CniError;
use crate::request::{PortMapping, Protocol};

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Recorded; what was made of it is not known.
    Intended,
    /// Connected.
    Connected,
    /// Disconnected; its link may still be there, and then its addresses may not be given away.
    Leaving,
}

/// The leases of this daemon.
#[derive(Debug, Default)]
pub(super) struct Book {
    leases: BTreeMap<SandboxId, (Lease, Phase)>,
    links: HashMap<String, SandboxId>,
    taken: HashSet<IpAddr>,
    claims: HashMap<(Protocol, u16), Vec<Claim>>,
    /// Where new pods get addresses, once chosen.
    pub(super) pools: Option<Pools>,
    /// Pools that the host's table and gateways were made for; `None` when nothing is made.
    pub(super) base: Option<Vec<Pools>>,
    /// MTU of new pods, once looked up.
    pub(super) mtu: Option<u32>,
    next: u32,
}

#[derive(Debug)]
struct Claim {
    ip: Option<IpAddr>,
    holder: SandboxId,
}

impl Claim {
    /// Whether both would get some of the same packets.
    fn meets(&self, other: Option<IpAddr>) -> bool {
        match (self.ip, other) {
            (None, _) | (_, None) => true,
            (Some(mine), Some(other)) => {
                mine.is_ipv4() == other.is_ipv4() && (mine == other || mine.is_unspecified() || other.is_unspecified())
            }
        }
    }
}

impl Book {
    /// The lease of a sandbox.
    pub(super) fn get(&self, sandbox: &SandboxId) -> Option<&(Lease, Phase)> {
        self.leases.get(sandbox)
    }

    /// Takes note of how far a pod is.
    pub(super) fn set_phase(&mut self, sandbox: &SandboxId, phase: Phase) {
        if let Some((_, current)) = self.leases.get_mut(sandbox) {
            *current = phase;
        }
    }

    /// All leases.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&Lease, Phase)> {
        self.leases.values().map(|(lease, phase)| (lease, *phase))
    }

    /// Those whose rules are to be in the table.
    pub(super) fn with_rules(&self) -> impl Iterator<Item = &Lease> {
        self.leases().filter(|(_, phase)| *phase != Phase::Leaving).map(|(lease, _)| lease)
    }

    /// Sandboxes with a lease.
    pub(super) fn holders(&self) -> BTreeSet<SandboxId> {
        self.leases.keys().cloned().collect()
    }

    /// Whether there is no lease.
    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Who has the link.
    pub(super) fn holder_of_link(&self, link: &str) -> Option<&SandboxId> {
        self.links.get(link)
    }

    /// All pools that the host must know: that of new pods, then those of old ones.
    pub(super) fn wanted_pools(&self) -> Vec<Pools> {
        let mut wanted: Vec<Pools> = self.pools.into_iter().collect();
        for (lease, _) in self.leases.values() {
            if !wanted.contains(&lease.pools) {
                wanted.push(lease.pools);
            }
        }
        wanted
    }

    /// Takes addresses and ports for a pod.
    pub(super) fn take(
        &mut self,
        sandbox: &SandboxId,
        link: String,
        port_mappings: Vec<PortMapping>,
    ) -> Result<Lease, CniError> {
        let pools = self.pools.ok_or_else(|| CniError::NoPool { reason: "none was chosen".to_owned() })?;
        if let Some(holder) = self.links.get(&link) {
            return Err(CniError::Request {
                sandbox: sandbox.clone(),
                reason: format!("its link {link} is that of pod sandbox {holder}"),
            });
        }
        self.check_ports(sandbox, &port_mappings)?;
        let (ipv4, ipv6) = self.next_free(&pools).ok_or_else(|| CniError::PoolFull {
            sandbox: sandbox.clone(),
            pool: pools.ipv4.or(pools.ipv6).unwrap_or(FULL),
        })?;
        let lease = Lease { sandbox: sandbox.clone(), link, pools, ipv4, ipv6, port_mappings };
        self.insert(lease.clone());
        Ok(lease)
    }

    /// Enters a lease that exists.
    pub(super) fn insert(&mut self, lease: Lease) {
        self.links.insert(lease.link.clone(), lease.sandbox.clone());
        self.taken.extend(lease.addresses());
        for mapping in &lease.port_mappings {
            let claim = Claim { ip: mapping.host_ip, holder: lease.sandbox.clone() };
            self.claims.entry((mapping.protocol, mapping.host_port)).or_default().push(claim);
        }
        self.leases.insert(lease.sandbox.clone(), (lease, Phase::Intended));
    }

    /// Gives the ports of a pod back; its addresses stay taken.
    pub(super) fn free_ports(&mut self, sandbox: &SandboxId) {
        let Some((lease, _)) = self.leases.get(sandbox) else { return };
        for mapping in &lease.port_mappings {
            let key = (mapping.protocol, mapping.host_port);
            if let Some(claims) = self.claims.get_mut(&key) {
                claims.retain(|claim| claim.holder != *sandbox);
                if claims.is_empty() {
                    self.claims.remove(&key);
                }
            }
        }
    }

    /// Strikes a lease out.
    pub(super) fn remove(&mut self, sandbox: &SandboxId) {
        self.free_ports(sandbox);
        if let Some((lease, _)) = self.leases.remove(sandbox) {
            self.links.remove(&lease.link);
            for address in lease.addresses() {
                self.taken.remove(&address);
            }
        }
    }

    fn check_ports(&self, sandbox: &SandboxId, mappings: &[PortMapping]) -> Result<(), CniError> {
        for (index, mapping) in mappings.iter().enumerate() {
            let taken = self.claims.get(&(mapping.protocol, mapping.host_port)).into_iter().flatten();
            if let Some(claim) = taken.into_iter().find(|claim| claim.meets(mapping.host_ip)) {
                return Err(taken_port(sandbox, &claim.holder, mapping));
            }
            let own = mappings.iter().take(index).find(|other| {
                (other.protocol, other.host_port) == (mapping.protocol, mapping.host_port)
                    && Claim { ip: other.host_ip, holder: sandbox.clone() }.meets(mapping.host_ip)
            });
            if own.is_some() {
                return Err(taken_port(sandbox, sandbox, mapping));
            }
        }
        Ok(())
    }

    /// The next offset that is free in both pools. Addresses go round, so that one just released rests.
    fn next_free(&mut self, pools: &Pools) -> Option<(Option<IpAddr>, Option<IpAddr>)> {
        let (first, end) = (2, pools.end());
        let start = self.next.clamp(first, end.max(first));
        for offset in (start..end).chain(first..start.min(end)) {
            let ipv4 = pools.ipv4.and_then(|pool| pool.at(offset));
            let ipv6 = pools.ipv6.and_then(|pool| pool.at(offset));
            if ![ipv4, ipv6].into_iter().flatten().any(|address| self.taken.contains(&address)) {
                self.next = offset + 1;
                return Some((ipv4, ipv6));
            }
        }
        None
    }
}

/// Named in the error where there is no pool at all.
const FULL: crate::config::Prefix = crate::config::Prefix::NONE;

fn taken_port(sandbox: &SandboxId, holder: &SandboxId, mapping: &PortMapping) -> CniError {
    CniError::PortTaken {
        sandbox: sandbox.clone(),
        holder: holder.clone(),
        protocol: mapping.protocol,
        host_port: mapping.host_port,
        host_ip: mapping.host_ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> SandboxId {
        SandboxId::from_random([byte; 32])
    }

    fn book(pool: &str) -> Book {
        let pools = Pools { ipv4: Some(pool.parse().unwrap()), ipv6: Some("fd00::/64".parse().unwrap()) };
        Book { pools: Some(pools), ..Book::default() }
    }

    fn port(host_port: u16, host_ip: Option<&str>) -> PortMapping {
        PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        }
    }

    #[test]
    fn a_small_pool_fills_and_goes_round() {
        let mut book = book("10.0.0.0/29");
        let mut seen = Vec::new();
        for byte in 0..5 {
            seen.push(book.take(&id(byte), format!("l{byte}"), vec![]).unwrap().ipv4.unwrap().to_string());
        }
        assert_eq!(seen, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        let full = book.take(&id(9), "l9".to_owned(), vec![]).unwrap_err();
        assert!(full.to_string().contains("10.0.0.0/29"), "{full}");
        book.remove(&id(1));
        book.remove(&id(3));
        assert_eq!(book.take(&id(9), "l9".to_owned(), vec![]).unwrap().ipv4, Some("10.0.0.3".parse().unwrap()));
        assert_eq!(book.take(&id(8), "l8".to_owned(), vec![]).unwrap().ipv6, Some("fd00::5".parse().unwrap()));
    }

    #[test]
    fn host_ports_are_taken_once() {
        let mut book = book("10.0.0.0/24");
        book.take(&id(1), "l1".to_owned(), vec![port(80, Some("192.0.2.1")), port(81, None)]).unwrap();
        for (mapping, free) in [
            (port(80, Some("192.0.2.2")), true),
            (port(80, Some("::")), true),
            (port(80, Some("192.0.2.1")), false),
            (port(80, Some("0.0.0.0")), false),
            (port(80, None), false),
            (port(81, Some("192.0.2.2")), false),
            (port(82, None), true),
        ] {
            let text = format!("{mapping:?}");
            let result = book.take(&id(2), "l2".to_owned(), vec![mapping]);
            assert_eq!(result.is_ok(), free, "{text}");
            book.remove(&id(2));
        }
        assert!(book.take(&id(3), "l3".to_owned(), vec![port(90, None), port(90, Some("192.0.2.9"))]).is_err());
        book.remove(&id(1));
        assert!(book.taken.is_empty() && book.claims.is_empty() && book.links.is_empty() && book.is_empty());
    }
}

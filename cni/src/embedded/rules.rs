//! The nftables table of the embedded network: fixed chains, and maps with one element for each host port, so that a pod comes
//! and goes in constant time however many there are.
//!
//! - `guard`: pods can not reach the host's 127.0.0.0/8, which host ports on localhost open to them, nor use foreign addresses.
//! - `dnat_in`, `dnat_out`: host ports, from outside and from pods, and from the host itself.
//! - `snat`: a pod that reaches itself over a host port, and the host's localhost, appear as the pool's gateway; what leaves
//!   the pools appears as the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::lease::{Lease, Pools};
use crate::config::Prefix;
use crate::nft::{Chain, ChainKind, Change, Element, Expression, Hook, KeyPart, REGISTER, Source};
use crate::request::PortMapping;

use Expression::{Accept, Different, Dnat, Drop, Equal, In, Load, Map, Mask, Masquerade, Set, Snat};
use KeyPart::{Ipv4, Ipv6, Port, Protocol};

const RTN_LOCAL: u32 = 2;

/// What replaces the whole table, whether there was one or not.
pub(super) fn replace_table<'a>(
    link_prefix: &str,
    pools: &[Pools],
    leases: impl Iterator<Item = &'a Lease>,
) -> Vec<Change> {
    let mut changes = vec![Change::AddTable, Change::DeleteTable, Change::AddTable];
    changes.extend(sets().into_iter().map(Change::AddSet));
    changes.extend(chains().into_iter().map(Change::AddChain));
    changes.extend(guard(link_prefix).into_iter().map(rule("guard")));
    for chain in ["dnat_in", "dnat_out"] {
        changes.extend(host_ports().into_iter().map(rule(chain)));
    }
    changes.extend(source_nat(link_prefix, pools).into_iter().map(rule("snat")));
    changes.extend(leases.flat_map(elements).map(Change::AddElement));
    changes
}

/// How many rules the table for these pools has.
pub(super) fn count(link_prefix: &str, pools: &[Pools]) -> usize {
    let changes = replace_table(link_prefix, pools, std::iter::empty());
    changes.iter().filter(|change| matches!(change, Change::AddRule { .. })).count()
}

/// What removes the table, whether there is one or not.
pub(super) fn remove_table() -> Vec<Change> {
    vec![Change::AddTable, Change::DeleteTable]
}

fn rule(chain: &'static str) -> impl Fn(Vec<Expression>) -> Change {
    move |expressions| Change::AddRule { chain, expressions }
}

fn sets() -> Vec<crate::nft::Set> {
    let set = |name, key, data| crate::nft::Set { name, key, data };
    vec![
        set("ports4", &[Protocol, Port], &[Ipv4, Port]),
        set("bound4", &[Protocol, Ipv4, Port], &[Ipv4, Port]),
        set("hairpin4", &[Ipv4, Ipv4], &[]),
        set("ports6", &[Protocol, Port], &[Ipv6, Port]),
        set("bound6", &[Protocol, Ipv6, Port], &[Ipv6, Port]),
        set("hairpin6", &[Ipv6, Ipv6], &[]),
    ]
}

/// Their names.
pub(super) fn set_names() -> impl Iterator<Item = &'static str> {
    sets().into_iter().map(|set| set.name)
}

fn chains() -> Vec<Chain> {
    vec![
        Chain { name: "guard", kind: ChainKind::Filter, hook: Hook::Prerouting, priority: -300 },
        Chain { name: "dnat_in", kind: ChainKind::Nat, hook: Hook::Prerouting, priority: -100 },
        Chain { name: "dnat_out", kind: ChainKind::Nat, hook: Hook::Output, priority: -100 },
        Chain { name: "snat", kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 },
    ]
}

fn family(ipv4: bool) -> [Expression; 2] {
    [Load(Source::Family, REGISTER), Equal(REGISTER, vec![if ipv4 { 2 } else { 10 }])]
}

fn inside(source: Source, prefix: &Prefix) -> Vec<Expression> {
    vec![Load(source, REGISTER), Mask(REGISTER, prefix.mask_bytes()), Equal(REGISTER, bytes(prefix.address()))]
}

fn outside(source: Source, prefix: &Prefix) -> Vec<Expression> {
    vec![Load(source, REGISTER), Mask(REGISTER, prefix.mask_bytes()), Different(REGISTER, bytes(prefix.address()))]
}

fn prefix(address: IpAddr, length: u8) -> Option<Prefix> {
    Prefix::new(address, length)
}

fn loopback4() -> Option<Prefix> {
    prefix(Ipv4Addr::new(127, 0, 0, 0).into(), 8)
}

fn guard(link_prefix: &str) -> Vec<Vec<Expression>> {
    let from_pod = || vec![Load(Source::InName, REGISTER), Equal(REGISTER, link_prefix.as_bytes().to_vec())];
    let mut rules = Vec::new();
    if let Some(loopback) = loopback4() {
        rules.push([from_pod(), family(true).to_vec(), inside(Source::Destination4, &loopback), vec![Drop]].concat());
    }
    if let Some(link_local) = prefix(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10) {
        rules.push([from_pod(), family(false).to_vec(), inside(Source::Source6, &link_local), vec![Accept]].concat());
    }
    let foreign = vec![Load(Source::WayBack, REGISTER), Equal(REGISTER, vec![0]), Drop];
    rules.push([from_pod(), foreign].concat());
    rules
}

fn host_ports() -> Vec<Vec<Expression>> {
    [(true, "bound4", "ports4", Source::Destination4, 1), (false, "bound6", "ports6", Source::Destination6, 4)]
        .into_iter()
        .flat_map(|(ipv4, bound, any, destination, registers)| {
            let dnat = Dnat { ipv4, address: REGISTER, port: REGISTER + registers };
            let by_address = vec![
                Load(Source::Protocol, REGISTER),
                Load(destination, REGISTER + 1),
                Load(Source::DestinationPort, REGISTER + 1 + registers),
                Map(bound, REGISTER),
                dnat.clone(),
            ];
            let by_port = vec![
                Load(Source::DestinationType, REGISTER),
                Equal(REGISTER, RTN_LOCAL.to_ne_bytes().to_vec()),
                Load(Source::Protocol, REGISTER),
                Load(Source::DestinationPort, REGISTER + 1),
                Map(any, REGISTER),
                dnat,
            ];
            [[family(ipv4).to_vec(), by_address].concat(), [family(ipv4).to_vec(), by_port].concat()]
        })
        .collect()
}

fn source_nat(link_prefix: &str, pools: &[Pools]) -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    if let Some(gateway) = pools.iter().find_map(|pools| pools.gateway(true)) {
        let both =
            vec![Load(Source::Source4, REGISTER), Load(Source::Destination4, REGISTER + 1), In("hairpin4", REGISTER)];
        let snat = vec![Set(REGISTER, bytes(gateway)), Snat { ipv4: true, address: REGISTER }];
        rules.push([family(true).to_vec(), both, snat.clone()].concat());
        let to_pod = vec![Load(Source::OutName, REGISTER), Equal(REGISTER, link_prefix.as_bytes().to_vec())];
        if let Some(loopback) = loopback4() {
            rules.push([family(true).to_vec(), inside(Source::Source4, &loopback), to_pod, snat].concat());
        }
    }
    if let Some(gateway) = pools.iter().find_map(|pools| pools.gateway(false)) {
        let both =
            vec![Load(Source::Source6, REGISTER), Load(Source::Destination6, REGISTER + 4), In("hairpin6", REGISTER)];
        let snat = vec![Set(REGISTER, bytes(gateway)), Snat { ipv4: false, address: REGISTER }];
        rules.push([family(false).to_vec(), both, snat].concat());
    }
    let ranges: Vec<Prefix> = pools.iter().flat_map(|pools| [pools.ipv4, pools.ipv6]).flatten().collect();
    for range in &ranges {
        let destination = if range.is_ipv4() { Source::Destination4 } else { Source::Destination6 };
        rules.push([family(range.is_ipv4()).to_vec(), inside(destination, range), vec![Accept]].concat());
    }
    for range in &ranges {
        rules.push(masquerade(range));
    }
    rules
}

fn masquerade(range: &Prefix) -> Vec<Expression> {
    let ipv4 = range.is_ipv4();
    let (source, destination, multicast) = if ipv4 {
        (Source::Source4, Source::Destination4, prefix(Ipv4Addr::new(224, 0, 0, 0).into(), 4))
    } else {
        (Source::Source6, Source::Destination6, prefix(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8))
    };
    let unicast = multicast.map(|range| outside(destination, &range)).unwrap_or_default();
    [family(ipv4).to_vec(), inside(source, range), unicast, vec![Masquerade]].concat()
}

/// The elements of a pod's host ports.
pub(super) fn elements(lease: &Lease) -> Vec<Element> {
    let mut elements = Vec::new();
    for address in lease.addresses() {
        let before = elements.len();
        elements.extend(lease.port_mappings.iter().filter_map(|mapping| port_element(mapping, address)));
        if elements.len() > before {
            let set = if address.is_ipv4() { "hairpin4" } else { "hairpin6" };
            elements.push(Element { set, key: [bytes(address), bytes(address)].concat(), data: Vec::new() });
        }
    }
    elements
}

fn port_element(mapping: &PortMapping, pod: IpAddr) -> Option<Element> {
    let protocol = vec![mapping.protocol.number(), 0, 0, 0];
    let data = [bytes(pod), port(mapping.container_port)].concat();
    let ipv4 = pod.is_ipv4();
    match mapping.host_ip {
        Some(ip) if ip.is_ipv4() != ipv4 => None,
        Some(ip) if !ip.is_unspecified() => {
            let set = if ipv4 { "bound4" } else { "bound6" };
            Some(Element { set, key: [protocol, bytes(ip), port(mapping.host_port)].concat(), data })
        }
        _ => {
            let set = if ipv4 { "ports4" } else { "ports6" };
            Some(Element { set, key: [protocol, port(mapping.host_port)].concat(), data })
        }
    }
}

fn port(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

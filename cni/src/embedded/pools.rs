//! Where the embedded network's addresses are from.

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use super::lease::Pools;
use crate::config::{EmbeddedConfig, Prefix};
use crate::error::CniError;

/// Chooses: what the cluster says, else what is configured, else what was chosen before, else a range that the host has no route to.
pub(super) fn pick(
    config: &EmbeddedConfig,
    instance: &str,
    preferred: &[Prefix],
    current: Option<Pools>,
    routed: &[Prefix],
    ipv6: bool,
) -> Result<Pools, CniError> {
    let free = |pool: &Prefix| !routed.iter().any(|route| route.overlaps(pool));
    if !preferred.is_empty() {
        let of = |ipv4: bool| preferred.iter().find(|pool| pool.is_ipv4() == ipv4).copied();
        return Ok(Pools { ipv4: of(true), ipv6: of(false).filter(|_| ipv6 && config.ipv6) });
    }
    if let Some(pool) = config.ipv4_pool.filter(|pool| !free(pool)) {
        tracing::warn!(%pool, "the configured pool of the embedded network overlaps a route of the host");
    }
    let hash = Sha256::digest(instance.as_bytes());
    let [first, second, third, fourth, fifth, ..] = <[u8; 32]>::from(hash);
    let candidates = (0..64u8)
        .filter_map(|step| Prefix::new(Ipv4Addr::new(10, 192 + (first.wrapping_add(step) % 64), 0, 0).into(), 16));
    let kept = current.and_then(|pools| pools.ipv4).into_iter();
    let ipv4 = config.ipv4_pool.or_else(|| kept.chain(candidates).find(free)).ok_or_else(|| CniError::NoPool {
        reason: "routes of the host overlap every /16 of 10.192.0.0/10".to_owned(),
    })?;
    let unique = |byte: u8| u16::from(byte);
    let local = Ipv6Addr::new(
        0xfd00 | unique(first),
        unique(second) << 8 | unique(third),
        unique(fourth) << 8 | unique(fifth),
        0,
        0,
        0,
        0,
        0,
    );
    let ipv6 = if ipv6 && config.ipv6 { config.ipv6_pool.or_else(|| Prefix::new(local.into(), 64)) } else { None };
    Ok(Pools { ipv4: Some(ipv4), ipv6 })
}

/// Refuses names that can not be part of others.
pub(super) fn check_instance(instance: &str) -> Result<(), CniError> {
    let good =
        (1..=64).contains(&instance.len()) && instance.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good {
        return Ok(());
    }
    Err(CniError::Config {
        key: "instance",
        value: instance.to_owned(),
        expected: "it must be 1 to 64 letters, digits and dashes",
    })
}

/// Refuses pools that can not be.
pub(super) fn check_pools(config: &EmbeddedConfig) -> Result<(), CniError> {
    let bad = |key, pool: Prefix, expected| Err(CniError::Config { key, value: pool.to_string(), expected });
    match (config.ipv4_pool, config.ipv6_pool) {
        (Some(pool), _) if !pool.is_ipv4() || !(8..=29).contains(&pool.length()) => {
            bad("ipv4_pool", pool, "it must be an IPv4 range between /8 and /29, like 10.200.0.0/16")
        }
        (_, Some(pool)) if pool.is_ipv4() || !(48..=120).contains(&pool.length()) => {
            bad("ipv6_pool", pool, "it must be an IPv6 range between /48 and /120, like fd00:10::/64")
        }
        _ => Ok(()),
    }
}

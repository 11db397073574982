//! Pod networks: CNI plugins by the book, and the embedded default network, which needs none.
//!
//! Owns conflists, the running of plugins and their cached results, and the links, addresses, routes and nftables rules of
//! embedded pods. Makes network namespaces, and leaves to others: holding and pinning them, and when a pod joins or leaves.

#![forbid(unsafe_code)]

mod config;
mod conntrack;
mod embedded;
mod error;
mod failpoints;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host;
mod namespace;
mod netlink;
mod networks;
mod nft;
mod plugins;
mod request;
mod strays;
#[cfg(test)]
mod testhost;
mod traffic;

pub use config::{EmbeddedConfig, NetworkMode, NetworksConfig, Prefix, PrefixError, Timeouts};
pub use error::CniError;
#[cfg(feature = "failpoints")]
pub use failpoints::FAIL_POINTS;
pub use namespace::make_namespace;
pub use networks::{LoadedNetwork, Networks, NetworksInfo};
pub use request::{DnsSettings, NetworkKind, PodNetwork, PodRequest, PortMapping, Protocol};
pub use strays::Stray;
pub use traffic::{Counts, LinkTraffic, TrafficRequest};

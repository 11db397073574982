//! Settings of the pod networks, and address prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which network new pods get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Embedded until a client sends UpdateRuntimeConfig with a pod CIDR, plugins from then on.
    #[default]
    Auto,
    /// Always the embedded network.
    Embedded,
    /// Always plugins.
    Cni,
}

/// How long plugins may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// One whole ADD or DEL, all plugins together.
    pub operation: Duration,
    /// One STATUS, GC or VERSION.
    pub query: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { operation: Duration::from_secs(100), query: Duration::from_secs(10) }
    }
}

/// Settings of the embedded network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// IPv4 pool; `None` picks a /16 of 10.192.0.0/10 that no route of the host overlaps.
    pub ipv4_pool: Option<Prefix>,
    /// IPv6 pool; `None` makes a unique local /64 from the instance's name.
    pub ipv6_pool: Option<Prefix>,
    /// Whether pods get IPv6 addresses (where the kernel can).
    pub ipv6: bool,
    /// MTU of pods; `None` takes that of the default route's link.
    pub mtu: Option<u32>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { ipv4_pool: None, ipv6_pool: None, ipv6: true, mtu: None }
    }
}

/// Settings of all pod networks of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworksConfig {
    /// Which network new pods get.
    pub mode: NetworkMode,
    /// Directories with conflists, in order.
    pub conf_dirs: Vec<PathBuf>,
    /// Directories with plugins, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Where leases and cached results are kept.
    pub state_dir: PathBuf,
    /// Tells daemons side by side apart: part of the names of links and of the nftables table, and of the default pools.
    /// At most 64 letters, digits and dashes.
    pub instance: String,
    /// The embedded network.
    pub embedded: EmbeddedConfig,
    /// Time limits of plugins.
    pub timeouts: Timeouts,
}

impl NetworksConfig {
    /// The defaults, with everything kept in `state_dir`.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            mode: NetworkMode::Auto,
            conf_dirs: vec![PathBuf::from("/etc/cni/net.d")],
            bin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            state_dir,
            instance: "default".to_owned(),
            embedded: EmbeddedConfig::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// A range of addresses, `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Text that is no address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading the address range {text:?}: it must look like 10.1.0.0/16 or fd00:1::/64")]
pub struct PrefixError {
    text: String,
}

impl Prefix {
    /// The range of no address, for errors that have none to name.
    pub(crate) const NONE: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 32 };

    /// The range of `length` bits around `address`; `None` if there are no so many bits.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (length <= bits).then(|| Self { address: from_bits(to_bits(address) & mask(bits, length), address), length })
    }

    /// The first address, which is the network's.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The mask's bytes.
    #[must_use]
    pub fn mask_bytes(&self) -> Vec<u8> {
        if self.is_ipv4() {
            u32::try_from(mask(32, self.length)).unwrap_or(u32::MAX).to_be_bytes().to_vec()
        } else {
            mask(128, self.length).to_be_bytes().to_vec()
        }
    }

    /// Whether `address` lies inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.length).is_some_and(|other| other.address == self.address)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The address at `offset` from the first, if inside.
    #[must_use]
    pub fn at(&self, offset: u32) -> Option<IpAddr> {
        let address = from_bits(to_bits(self.address).checked_add(u128::from(offset))?, self.address);
        self.contains(address).then_some(address)
    }

    /// How many addresses there are, at most [`u32::MAX`].
    #[must_use]
    pub fn size(&self) -> u32 {
        let free = if self.is_ipv4() { 32 } else { 128 } - u32::from(self.length);
        1u32.checked_shl(free).unwrap_or(u32::MAX)
    }
}

fn mask(bits: u8, length: u8) -> u128 {
    let all = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
    all ^ all.checked_shr(u32::from(length)).unwrap_or(0)
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(0))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let error = || PrefixError { text: text.to_owned() };
        let (address, length) = text.split_once('/').ok_or_else(error)?;
        let address = address.parse().map_err(|_| error())?;
        Self::new(address, length.parse().map_err(|_| error())?).ok_or_else(error)
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_masked() {
        let prefix: Prefix = "10.88.7.9/20".parse().unwrap();
        assert_eq!(prefix.to_string(), "10.88.0.0/20");
        assert_eq!(prefix.size(), 4096);
        assert_eq!(prefix.at(258), Some("10.88.1.2".parse().unwrap()));
        assert_eq!(prefix.at(4096), None);
        assert_eq!(prefix.mask_bytes(), [255, 255, 240, 0]);
        let six: Prefix = "fd00:1::5/64".parse().unwrap();
        assert_eq!((six.to_string().as_str(), six.size()), ("fd00:1::/64", u32::MAX));
        assert!("0.0.0.0/0".parse::<Prefix>().unwrap().overlaps(&prefix));
        assert!(!prefix.overlaps(&six));
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/-1"] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_ranges_have_no_overflow() {
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert_eq!(all.size(), u32::MAX);
        assert_eq!("::/0".parse::<Prefix>().unwrap().mask_bytes(), [0; 16]);
        assert_eq!("1.2.3.4/32".parse::<Prefix>().unwrap().size(), 1);
    }
}

//! Values of the configuration that can be wrong: each is checked as it is read, so that the error points at its place.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Least level of the daemon's own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// Failures that somebody must look at.
    Error,
    /// What will become a failure.
    Warn,
    /// What changed.
    #[default]
    Info,
    /// Every call.
    Debug,
    /// Every step.
    Trace,
}

/// Form of a line of the daemon's own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Who makes the cgroups of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupDriverChoice {
    /// systemd where it runs the machine on cgroup v2, else cgroupfs.
    #[default]
    Auto,
    /// Podwright itself.
    Cgroupfs,
    /// systemd, over D-Bus.
    Systemd,
}

/// A number from 1 to 2^31 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Positive(u32);

impl Positive {
    pub(super) const fn of(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Positive {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        let in_range = i32::try_from(number).ok().filter(|n| *n >= 1);
        in_range
            .map(|n| Self(n.unsigned_abs()))
            .ok_or_else(|| format!("{number} is out of range; give 1 to {}", i32::MAX))
    }
}

impl From<Positive> for u32 {
    fn from(number: Positive) -> Self {
        number.0
    }
}

/// MTU of a link, 1280 (the least for IPv6) to 65535 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Mtu(u32);

impl Mtu {
    /// Bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Mtu {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        let in_range = u32::try_from(number).ok().filter(|n| (1280..=65535).contains(n));
        in_range.map(Self).ok_or_else(|| format!("an MTU of {number} bytes is out of range; give 1280 to 65535"))
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

/// A unix socket, written `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(PathBuf);

impl ListenAddress {
    /// Path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self("/run/podwright/podwright.sock".into())
    }
}

impl FromStr for ListenAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') && !path.contains('\0') {
            Ok(Self(path.into()))
        } else {
            Err(format!("{text:?} is no unix socket; write it as unix:///run/podwright/podwright.sock"))
        }
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

/// Address and port of the loopback, written `127.0.0.1:0` or `[::1]:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoopbackAddress(SocketAddr);

impl LoopbackAddress {
    /// Address and port.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl Default for LoopbackAddress {
    fn default() -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl TryFrom<String> for LoopbackAddress {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let address = text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
        let problem =
            "is no address and port of the loopback, and what is streamed is not encrypted; write 127.0.0.1:0";
        address.map(Self).ok_or_else(|| format!("{text:?} {problem}"))
    }
}

impl From<LoopbackAddress> for String {
    fn from(address: LoopbackAddress) -> Self {
        address.0.to_string()
    }
}

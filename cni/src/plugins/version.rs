//! Versions of the CNI specification.

use std::fmt;
use std::str::FromStr;

/// A version, ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u16, u16, u16);

impl Version {
    /// The first with CHECK, and with `prevResult` on DEL.
    pub(super) const WITH_CHECK: Self = Self(0, 4, 0);
    /// The first with STATUS and GC.
    pub(super) const WITH_STATUS: Self = Self(1, 1, 0);

    /// Whether we speak it.
    pub(super) fn is_supported(self) -> bool {
        [Self(0, 3, 0), Self(0, 3, 1), Self(0, 4, 0), Self(1, 0, 0), Self(1, 1, 0)].contains(&self)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(str::parse::<u16>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => Ok(Self(major, minor, patch)),
            _ => Err(format!("{text:?} is no version; write it as 1.0.0")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.0, self.1, self.2)
    }
}

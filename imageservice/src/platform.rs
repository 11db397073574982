//! Platforms of images, and which of them this host runs.

use std::fmt;

use serde::Deserialize;

/// Operating system, architecture and variant, in the words of the OCI image specification (those of Go).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, ...
    #[serde(default)]
    pub architecture: String,
    /// `v8`, `v7`, ... or empty.
    #[serde(default)]
    pub variant: String,
}

impl Platform {
    /// The platform of this machine.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well an image for `offered` runs here: smaller is better, `None` is not at all.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let (wanted, given) = (self.level(), offered.level());
        match (wanted, given) {
            (Some(wanted), Some(given)) => wanted.checked_sub(given),
            _ => (self.variant == offered.variant).then_some(0),
        }
    }

    /// The variant as a number: a CPU of one level runs what was built for those below. Without a variant the
    /// architecture's usual one is meant.
    fn level(&self) -> Option<u32> {
        let usual = match self.architecture.as_str() {
            "amd64" => 1,
            "arm64" => 8,
            "arm" => 7,
            _ => return self.variant.is_empty().then_some(0),
        };
        match self.variant.as_str() {
            "" => Some(usual),
            variant => variant.strip_prefix('v').and_then(|digits| digits.parse().ok()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(architecture: &str, variant: &str) -> Platform {
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    #[test]
    fn a_better_variant_ranks_first() {
        let v7 = platform("arm", "v7");
        assert_eq!(v7.rank(&platform("arm", "v7")), Some(0));
        assert_eq!(v7.rank(&platform("arm", "v6")), Some(1));
        assert_eq!(v7.rank(&platform("arm", "")), Some(0));
        assert_eq!(v7.rank(&platform("arm", "v8")), None);
        assert_eq!(platform("arm64", "v8").rank(&platform("arm64", "")), Some(0));
        assert_eq!(platform("amd64", "").rank(&platform("amd64", "v3")), None);
        assert_eq!(platform("amd64", "v3").rank(&platform("amd64", "v2")), Some(1));
        assert_eq!(platform("amd64", "").rank(&platform("arm64", "")), None);
        assert_eq!(platform("riscv64", "").rank(&platform("riscv64", "")), Some(0));
    }

    #[test]
    fn other_systems_do_not_fit() {
        let windows = Platform { os: "windows".into(), ..platform("amd64", "") };
        assert_eq!(platform("amd64", "").rank(&windows), None);
    }
}

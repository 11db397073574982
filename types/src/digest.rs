//! Content digests: `sha256:` or `sha512:` and lower-case hexadecimal digits.
//!
//! Owns their syntax. Computing them is left to whoever reads the content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hash functions that a digest may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DigestAlgorithm {
    /// SHA-256, which every registry speaks.
    Sha256,
    /// SHA-512, which the OCI specification also registers.
    Sha512,
}

impl DigestAlgorithm {
    /// The name before the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Hexadecimal digits of a digest.
    #[must_use]
    pub const fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// Why a string is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon between algorithm and digits.
    #[error("the digest has no algorithm; write it as sha256:<64 hexadecimal digits>")]
    NoAlgorithm,
    /// The algorithm is not supported.
    #[error("the digest algorithm {0:?} is not supported; use sha256 or sha512")]
    UnknownAlgorithm(String),
    /// There are too few or too many digits.
    #[error("the digest has {found} digits; {algorithm} has {expected}")]
    BadLength {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// Digits it has.
        expected: usize,
        /// Digits that were given.
        found: usize,
    },
    /// A digit is not `0-9` or `a-f`.
    #[error("the digest has a character at byte {position} that is no lower-case hexadecimal digit")]
    BadDigit {
        /// Byte offset among the digits.
        position: usize,
    },
}

/// The name of a piece of content by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: DigestAlgorithm,
    /// The whole text, so that `as_str` borrows.
    text: String,
}

impl Digest {
    /// Names content by the raw bytes of its SHA-256.
    #[must_use]
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self::from_hash(DigestAlgorithm::Sha256, hash)
    }

    /// Names content by the raw bytes of its SHA-512.
    #[must_use]
    pub fn from_sha512(hash: &[u8; 64]) -> Self {
        Self::from_hash(DigestAlgorithm::Sha512, hash)
    }

    fn from_hash(algorithm: DigestAlgorithm, hash: &[u8]) -> Self {
        let mut text = String::with_capacity(algorithm.name().len() + 1 + algorithm.hex_digits());
        text.push_str(algorithm.name());
        text.push(':');
        for byte in hash {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Self { algorithm, text }
    }

    /// The hash function.
    #[must_use]
    pub const fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// The digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// Algorithm, colon and digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        let algorithm = match name {
            "sha256" => DigestAlgorithm::Sha256,
            "sha512" => DigestAlgorithm::Sha512,
            other => return Err(DigestError::UnknownAlgorithm(other.chars().take(32).collect())),
        };
        let expected = algorithm.hex_digits();
        if hex.len() != expected {
            return Err(DigestError::BadLength { algorithm: algorithm.name(), expected, found: hex.len() });
        }
        match hex.bytes().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Some(position) => Err(DigestError::BadDigit { position }),
            None => Ok(Self { algorithm, text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_strict() {
        let hex = "a".repeat(64);
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
        assert!(format!("sha512:{hex}{hex}").parse::<Digest>().is_ok());
        assert_eq!(hex.parse::<Digest>(), Err(DigestError::NoAlgorithm));
        for bad in ["sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../../etc/passwd", ":"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?} was taken as a digest");
        }
        assert!(format!("sha256:{}", "A".repeat(64)).parse::<Digest>().is_err());
        assert!(format!("SHA256:{hex}").parse::<Digest>().is_err());
        assert!(format!("sha256:{hex}a").parse::<Digest>().is_err());
        assert!(format!("sha256:{hex}\n").parse::<Digest>().is_err());
    }

    #[test]
    fn hashes_become_digests() {
        let digest = Digest::from_sha256(&[0x0f; 32]);
        assert_eq!(digest.as_str(), format!("sha256:{}", "0f".repeat(32)));
        assert_eq!(digest.as_str().parse::<Digest>().as_ref(), Ok(&digest));
        assert_eq!(digest.hex().len(), 64);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_kept(text in "\\PC*") {
            if let Ok(digest) = text.parse::<Digest>() {
                proptest::prop_assert_eq!(digest.as_str(), text.as_str());
            }
        }
    }
}

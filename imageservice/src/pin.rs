//! Images that must not be collected: references, ids, or patterns of names. That is advice to those who collect (kubelet); whoever
//! removes such an image by name means it.

use std::str::FromStr;

use podwright_types::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

/// Longest pin, in bytes: that of a name with its registry.
const MAX_BYTES: usize = 512;

/// Names one image, or many by a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin {
    written: String,
    meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    /// A whole name, as images are listed.
    Name(String),
    Id(Digest),
    /// With `*` for any text; for whole names, as images are listed.
    Pattern(String),
}

/// Why a text pins nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{written:?} names no image; write a reference, an id (sha256:...), or names with * as in registry.example/team/*: {cause}"
)]
pub struct BadPin {
    written: String,
    cause: String,
}

impl Pin {
    /// Whether it is about the image of this id and these names.
    pub(crate) fn fits<'a>(&self, id: &Digest, mut names: impl Iterator<Item = &'a str>) -> bool {
        match &self.meaning {
            Meaning::Name(name) => names.any(|other| other == name),
            Meaning::Id(other) => other == id,
            Meaning::Pattern(pattern) => names.any(|name| is_like(pattern, name)),
        }
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(written: &str) -> Result<Self, BadPin> {
        let bad = |cause: String| BadPin { written: written.chars().take(64).collect(), cause };
        if written.len() > MAX_BYTES {
            return Err(bad(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let meaning = if let Ok(id) = written.parse() {
            Meaning::Id(id)
        } else if let Ok(id) = format!("sha256:{written}").parse() {
            Meaning::Id(id)
        } else if written.contains('*') {
            match written.chars().find(|letter| letter.is_whitespace() || letter.is_control()) {
                Some(letter) => return Err(bad(format!("it holds {letter:?}"))),
                None => Meaning::Pattern(written.to_owned()),
            }
        } else {
            Meaning::Name(written.parse::<ImageReference>().map_err(|error| bad(error.to_string()))?.canonical())
        };
        Ok(Self { written: written.to_owned(), meaning })
    }
}

impl TryFrom<String> for Pin {
    type Error = BadPin;
    fn try_from(written: String) -> Result<Self, BadPin> {
        written.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.written
    }
}

/// Whether a name is what a pattern stands for.
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|start| name.strip_prefix(start)) else { return false };
    let Some(end) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn fits(pin: &str, name: &str) -> bool {
        pin.parse::<Pin>().unwrap().fits(&ID.parse().unwrap(), [name].into_iter())
    }

    #[test]
    fn names_are_spelled_out_and_ids_are_whole() {
        assert!(fits("pause:3", "docker.io/library/pause:3"));
        assert!(fits("r.example/a", "r.example/a:latest"));
        assert!(!fits("r.example/a", "r.example/a:1"));
        assert!(fits(ID, "any:1") && fits(&ID[7..], "any:1"));
        assert!(!fits("aaaa", "any:1"));
    }

    #[test]
    fn patterns_are_for_whole_names() {
        for (pattern, fitting, other) in [
            ("r.example/*", "r.example/a/b:1", "x.r.example/a:1"),
            ("*/pause:*", "registry.k8s.io/pause:3.10", "registry.k8s.io/pause-x:3"),
            ("r/a*b*c:1", "r/axxbyyc:1", "r/acb:1"),
            ("r/aba*aba", "r/abaaba", "r/aba"),
            ("*", "anything", "anything"),
        ] {
            assert!(fits(pattern, fitting), "{pattern} {fitting}");
            assert_eq!(fits(pattern, other), pattern == "*", "{pattern} {other}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for bad in ["", "x/UPPER", "a b*", "a:b:c", &"*".repeat(MAX_BYTES + 1)] {
            let error = bad.parse::<Pin>().unwrap_err().to_string();
            assert!(error.contains("names no image") && error.len() < 400, "{error}");
        }
    }
}

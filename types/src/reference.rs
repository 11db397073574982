//! Image references: `[registry/]path[:tag][@digest]`, with Docker's short names spelled out.
//!
//! Owns syntax and normalisation. Which registry answers for a domain is left to the image service.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// Longest repository name that registries accept, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG_BYTES: usize = 128;
/// The registry of short names.
const DEFAULT_DOMAIN: &str = "docker.io";
/// Another name of the default registry.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where the default registry keeps images without a namespace.
const DEFAULT_NAMESPACE: &str = "library";
/// The tag when nothing is said.
const DEFAULT_TAG: &str = "latest";

/// Why a string is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The string is empty.
    #[error("the image reference is empty; write it as [registry/]name[:tag][@digest]")]
    Empty,
    /// The repository name is too long.
    #[error("the image name with its registry is {length} bytes long; a name has at most {MAX_NAME_BYTES}")]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// The string is an image id.
    #[error("64 hexadecimal digits are an image id and no name; pull by name")]
    IsAnId,
    /// The part before the first slash is no host.
    #[error("{domain:?} is no registry host; write host[:port], as in registry.example:5000")]
    BadDomain {
        /// The rejected part.
        domain: String,
    },
    /// The repository path is malformed.
    #[error(
        "{component:?} can not be part of an image name; use lower-case letters and digits, with single '.', '_' or '-' between them"
    )]
    BadPath {
        /// The rejected path component.
        component: String,
    },
    /// The tag is malformed.
    #[error(
        "{tag:?} is no tag; a tag has 1 to {MAX_TAG_BYTES} letters, digits, '_', '.' and '-' and does not begin with '.' or '-'"
    )]
    BadTag {
        /// The rejected tag.
        tag: String,
    },
    /// The digest is malformed.
    #[error("the image reference has a malformed digest after '@'")]
    BadDigest(#[source] DigestError),
}

/// A normalised image reference: it always has a registry, a path, and a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageReference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Host and port of the registry, as written: `docker.io` for short names.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside its registry: `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and path: `docker.io/library/busybox`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag; `latest` where neither tag nor digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name under which the image is kept: a digest decides, and then the tag is left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("{}/{}@{digest}", self.domain, self.path),
            (None, tag) => format!("{}/{}:{}", self.domain, self.path, tag.as_deref().unwrap_or(DEFAULT_TAG)),
        }
    }

    /// The same repository by digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { domain: self.domain.clone(), path: self.path.clone(), tag: None, digest: Some(digest) }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::IsAnId);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(ReferenceError::BadDigest)?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; before it, it is a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (domain, path) = split_domain(name);
        // As it is kept: a name that grows over the limit by what a short name leaves out could not be read again.
        let length = domain.len() + 1 + path.len();
        if length > MAX_NAME_BYTES {
            return Err(ReferenceError::NameTooLong { length });
        }
        check_domain(&domain)?;
        check_path(&path)?;
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(check_tag(tag)?),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { domain, path, tag, digest })
    }
}

/// Splits as Docker does: the first part is a host only if it looks like one.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if looks_like_host(first) => (first, path),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{DEFAULT_NAMESPACE}/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '[']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::BadDomain { domain: excerpt(domain) };
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (None, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(bad)?) })
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    if let Some(host) = host
        && !host.split('.').all(is_host_label)
    {
        return Err(bad());
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() => Err(bad()),
        _ => Ok(()),
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    match path.split('/').find(|component| !is_path_component(component)) {
        Some(component) => Err(ReferenceError::BadPath { component: excerpt(component) }),
        None => Ok(()),
    }
}

/// Runs of `a-z0-9`, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let allowed = component.chars().all(|c| is_word(c) || matches!(c, '.' | '_' | '-'));
    let framed = component.starts_with(is_word) && component.ends_with(is_word);
    let separators_fit = component
        .split(is_word)
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'));
    allowed && framed && separators_fit
}

fn check_tag(tag: &str) -> Result<String, ReferenceError> {
    let fits = !tag.is_empty()
        && tag.len() <= MAX_TAG_BYTES
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits { Ok(tag.to_owned()) } else { Err(ReferenceError::BadTag { tag: excerpt(tag) }) }
}

/// Enough of a rejected text to recognise it; the whole may be megabytes.
fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;

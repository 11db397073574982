//! Whether the name that a signature was made for is the one that was asked for: `signedIdentity` of a policy.

use podwright_types::ImageReference;

use crate::policy::RawIdentity;
use crate::scope::{canonical, folded, repository};

/// How the two names have to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The same name, with tag or digest.
    Exact,
    /// The same name; where a digest was asked for, the same repository.
    RepoDigestOrExact,
    /// The same repository.
    Repository,
    /// This name, whatever was asked for.
    ExactReference(String),
    /// This repository, whatever was asked for.
    ExactRepository(String),
    /// As [`Self::RepoDigestOrExact`], with the start of the name that was asked for replaced.
    Remap { prefix: String, signed_prefix: String },
}

/// A name in full; `exact` is absent where it has neither tag nor digest.
struct Name {
    repository: String,
    exact: Option<String>,
}

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        let parsed: ImageReference = text.parse().map_err(|error| format!("{error}"))?;
        let last = text.rsplit('/').next().unwrap_or(text);
        let exact = last.contains([':', '@']).then(|| folded(&parsed.to_string()));
        Ok(Self { repository: repository(&parsed), exact })
    }
}

impl Identity {
    pub(crate) fn from_raw(raw: RawIdentity) -> Result<Self, String> {
        let RawIdentity { kind, docker_reference, docker_repository, prefix, signed_prefix } = raw;
        let fields = (docker_reference, docker_repository, prefix, signed_prefix);
        match (kind.as_str(), fields) {
            ("matchExact", (None, None, None, None)) => Ok(Self::Exact),
            ("matchRepoDigestOrExact", (None, None, None, None)) => Ok(Self::RepoDigestOrExact),
            ("matchRepository", (None, None, None, None)) => Ok(Self::Repository),
            ("exactReference", (Some(reference), None, None, None)) => {
                let name = Name::parse(&reference)?;
                name.exact.map(Self::ExactReference).ok_or_else(|| {
                    format!("dockerReference {reference:?} has neither tag nor digest; add one, or use exactRepository")
                })
            }
            ("exactRepository", (None, Some(repository), None, None)) => {
                Ok(Self::ExactRepository(Name::parse(&repository)?.repository))
            }
            ("remapIdentity", (None, None, Some(prefix), Some(signed_prefix))) => {
                is_prefix(&prefix)?;
                is_prefix(&signed_prefix)?;
                Ok(Self::Remap { prefix: folded(&prefix), signed_prefix })
            }
            ("exactReference" | "exactRepository" | "remapIdentity", _) => Err(format!(
                "signedIdentity {kind} wants exactly dockerReference, dockerRepository, or prefix and signedPrefix"
            )),
            ("matchExact" | "matchRepoDigestOrExact" | "matchRepository", _) => {
                Err(format!("signedIdentity {kind} takes no other fields"))
            }
            _ => Err(format!("signedIdentity has the unknown type {kind:?}")),
        }
    }

    /// Compares what a signature says with what was asked for; the error tells both.
    pub(crate) fn check(&self, asked: &ImageReference, signed: &str) -> Result<(), String> {
        let name =
            Name::parse(signed).map_err(|error| format!("it is for {:?}, which is no name: {error}", cut(signed)))?;
        let wanted = match self {
            Self::Exact => canonical(asked),
            Self::RepoDigestOrExact => return repo_digest_or_exact(asked, &name, signed),
            Self::Repository if name.repository == repository(asked) => return Ok(()),
            Self::Repository => repository(asked),
            Self::ExactReference(reference) => reference.clone(),
            Self::ExactRepository(repository) if name.repository == *repository => return Ok(()),
            Self::ExactRepository(repository) => repository.clone(),
            Self::Remap { prefix, signed_prefix } => {
                return repo_digest_or_exact(&remapped(asked, prefix, signed_prefix)?, &name, signed);
            }
        };
        if name.exact.as_deref() == Some(wanted.as_str()) { Ok(()) } else { Err(differs(signed, &wanted)) }
    }
}

fn repo_digest_or_exact(asked: &ImageReference, name: &Name, signed: &str) -> Result<(), String> {
    if asked.digest().is_some() {
        let wanted = repository(asked);
        return if name.repository == wanted { Ok(()) } else { Err(differs(signed, &wanted)) };
    }
    if name.exact.as_deref() == Some(canonical(asked).as_str()) {
        return Ok(());
    }
    let mut text = differs(signed, &canonical(asked));
    if name.exact.is_none() && name.repository == repository(asked) {
        text.push_str(" (cosign signs without a tag: set signedIdentity to matchRepository)");
    }
    Err(text)
}

/// The asked name with another start, if it has the one that is replaced.
fn remapped(asked: &ImageReference, prefix: &str, signed_prefix: &str) -> Result<ImageReference, String> {
    let is_below = repository(asked).strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !is_below {
        return Ok(asked.clone());
    }
    let whole = canonical(asked);
    let rest = whole.strip_prefix(prefix).unwrap_or_default();
    let name = format!("{signed_prefix}{rest}");
    name.parse().map_err(|error| format!("remapIdentity makes {name:?} of the asked name: {error}"))
}

fn is_prefix(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/' | '[' | ']');
    let last = text.rsplit('/').next().unwrap_or_default();
    let has_tag = text.contains('/') && last.contains(':');
    if !text.is_empty() && text.chars().all(fits) && !text.starts_with('/') && !text.ends_with('/') && !has_tag {
        return Ok(());
    }
    Err(format!("{text:?} is neither host[:port] nor the start of a repository's name"))
}

fn differs(signed: &str, wanted: &str) -> String {
    format!("it is for {:?} and not for {wanted}", cut(signed))
}

/// Others choose this text.
fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests;

//! `policy.json`: what is required of images, by name. The language is containers-policy.json(5).
//!
//! As everywhere where the file is read, a key that is unknown or there twice makes the whole file wrong. Kinds of signatures that are not
//! verified here refuse what they are required of, and nothing else. Rules for other transports than `docker` are read and not used.

mod raw;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use podwright_types::ImageReference;
use sha2::{Digest as _, Sha256};

pub(crate) use raw::RawIdentity;
use raw::{RawPolicy, Requirements};

use crate::error::PolicyError;
use crate::identity::Identity;
use crate::keys::KeySource;
use crate::scope;

/// Most bytes of a policy.
const MAX_POLICY_BYTES: u64 = 4 << 20;
/// The transport that registries are.
const TRANSPORT: &str = "docker";

/// One thing that is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// Nothing.
    Accept,
    /// What can not be.
    Reject,
    /// An OpenPGP signature by one of these keys.
    SignedBy { keys: Vec<KeySource>, identity: Identity },
    /// A signature in cosign's format by one of these keys, and where there are keys of logs, an entry of one of them.
    SigstoreSigned { keys: Vec<KeySource>, logs: Vec<KeySource>, identity: Identity },
    /// What is not verified here; the text tells what to do.
    Unsupported(String),
}

/// A policy that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    path: PathBuf,
    digest: [u8; 32],
    default: Vec<Requirement>,
    scopes: BTreeMap<String, Vec<Requirement>>,
}

/// What a policy requires of one image. Every requirement has to be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(crate) policy: PathBuf,
    pub(crate) policy_digest: [u8; 32],
    pub(crate) place: String,
    pub(crate) requirements: Vec<Requirement>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// It can not be read, or is wrong.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let unreadable = |cause| PolicyError::Unreadable { path: path.to_owned(), cause };
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(unreadable(std::io::Error::other("it is no file")));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_POLICY_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge { path: path.to_owned(), limit: MAX_POLICY_BYTES });
        }
        Self::parse(path, &bytes)
    }

    /// Reads the text of a policy; `path` is for messages.
    ///
    /// # Errors
    /// It is wrong.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, PolicyError> {
        let wrong = |cause: String| PolicyError::Wrong { path: path.to_owned(), cause };
        let raw: RawPolicy = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let default = converted("default", raw.default).map_err(wrong)?;
        let mut scopes = BTreeMap::new();
        for (transport, raw_scopes) in raw.transports.0 {
            for (scope, requirements) in raw_scopes.0 {
                let place = format!("transports.{transport}.{scope:?}");
                let requirements = converted(&place, requirements).map_err(wrong)?;
                if transport == TRANSPORT && scopes.insert(scope::folded(&scope), requirements).is_some() {
                    return Err(wrong(format!("{place} comes twice: the case of a host makes no difference")));
                }
            }
        }
        Ok(Self { path: path.to_owned(), digest: Sha256::digest(text).into(), default, scopes })
    }

    /// What is required of an image: by its most specific scope, else by the transport's default, else by that of the policy.
    #[must_use]
    pub fn rule(&self, image: &ImageReference) -> Rule {
        let mut names = scope::names(image);
        names.push(String::new());
        let found = names.into_iter().find_map(|name| self.scopes.get(&name).map(|requirements| (name, requirements)));
        let (place, requirements) = match found {
            Some((name, requirements)) if name.is_empty() => ("the default for registries".to_owned(), requirements),
            Some((name, requirements)) => (format!("scope {name:?}"), requirements),
            None => ("the default".to_owned(), &self.default),
        };
        let requirements = requirements.clone();
        Rule { policy: self.path.clone(), policy_digest: self.digest, place, requirements }
    }
}

fn converted(place: &str, raw: Requirements) -> Result<Vec<Requirement>, String> {
    if raw.is_empty() {
        return Err(format!(
            "{place} is empty; write {{\"type\": \"insecureAcceptAnything\"}} or {{\"type\": \"reject\"}} into it"
        ));
    }
    let convert = |(position, one): (usize, raw::RawRequirement)| {
        one.converted().map_err(|cause| format!("{place}[{position}]: {cause}"))
    };
    raw.into_iter().enumerate().map(convert).collect()
}

#[cfg(test)]
mod tests;

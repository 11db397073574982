//! The decision: what a rule requires, against the signatures that were found.
//!
//! Every requirement of a rule has to be met; one good signature meets a requirement, however many bad ones there are.

use std::time::SystemTime;

use podwright_types::{DigestAlgorithm, ImageReference};
use sha2::{Digest as _, Sha256, Sha512};

use crate::Signature;
use crate::error::Untrusted;
use crate::identity::Identity;
use crate::keys::{KeyBytes, KeySource};
use crate::openpgp::Keyring;
use crate::payload::{self, Payload};
use crate::policy::{Requirement, Rule};
use crate::rekor;
use crate::sigstore::PublicKey;

/// Bad signatures of which an error tells more than their number.
const MOST_TOLD: usize = 3;

/// Which signatures a rule can only be decided with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those of simple signing.
    pub simple: bool,
    /// Those of cosign's format.
    pub sigstore: bool,
}

impl Wanted {
    /// Whether none is needed: the image is accepted.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        !self.simple && !self.sigstore
    }
}

/// A rule with the keys that it names.
#[derive(Debug)]
pub struct Material {
    rule: Rule,
    loaded: Vec<Loaded>,
    stamp: [u8; 32],
}

#[derive(Debug)]
enum Loaded {
    SignedBy { ring: Keyring, names: String, identity: Identity },
    SigstoreSigned { keys: Vec<PublicKey>, logs: Vec<PublicKey>, names: String, identity: Identity },
}

/// An image that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The signatures that decided, as positions in the list that was given.
    pub signatures: Vec<usize>,
    /// When one of them, or its key, expires.
    pub until: Option<SystemTime>,
}

impl Rule {
    /// What can be said without any signature: which ones are needed.
    ///
    /// # Errors
    /// The image is refused, whatever signatures it has.
    pub fn wanted(&self) -> Result<Wanted, Untrusted> {
        let mut wanted = Wanted::default();
        for requirement in &self.requirements {
            match requirement {
                Requirement::Accept => {}
                Requirement::Reject => return Err(self.refused("rejects it; pull another image, or change the policy")),
                Requirement::Unsupported(text) => return Err(self.refused(&format!("can not be met: {text}"))),
                Requirement::SignedBy { .. } => wanted.simple = true,
                Requirement::SigstoreSigned { .. } => wanted.sigstore = true,
            }
        }
        Ok(wanted)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// One can not be read or is no key; the image is refused then.
    pub fn material(self) -> Result<Material, Untrusted> {
        let mut hash = Sha256::new();
        hash.update(self.policy_digest);
        hash.update(self.place.as_bytes());
        let mut read = |sources: &[KeySource]| -> Result<Vec<KeyBytes>, String> {
            let keys: Vec<KeyBytes> = sources.iter().map(KeySource::read).collect::<Result<_, String>>()?;
            for key in &keys {
                hash.update((key.bytes.len() as u64).to_le_bytes());
                hash.update(&key.bytes);
            }
            Ok(keys)
        };
        let mut loaded = Vec::new();
        for requirement in &self.requirements {
            let result = match requirement {
                Requirement::Accept | Requirement::Reject | Requirement::Unsupported(_) => continue,
                Requirement::SignedBy { keys, identity } => read(keys).and_then(|keys| signed_by(&keys, identity)),
                Requirement::SigstoreSigned { keys, logs, identity } => read(keys)
                    .and_then(|keys| Ok((keys, read(logs)?)))
                    .and_then(|(keys, logs)| sigstore_signed(&keys, &logs, identity)),
            };
            loaded.push(result.map_err(|cause| self.refused(&format!("can not be met: {cause}")))?);
        }
        let stamp = hash.finalize().into();
        Ok(Material { rule: self, loaded, stamp })
    }

    fn refused(&self, cause: &str) -> Untrusted {
        Untrusted { policy: self.policy.clone(), place: self.place.clone(), cause: cause.to_owned() }
    }
}

impl Material {
    /// What tells this rule, with this policy and these keys, from any other: a decision holds while it stays the same.
    #[must_use]
    pub fn stamp(&self) -> [u8; 32] {
        self.stamp
    }

    /// Decides about the image with this manifest that was asked for by this name. Takes processor time.
    ///
    /// # Errors
    /// A requirement is not met; the text tells which, and what is wrong with the signatures.
    pub fn judge(
        &self,
        asked: &ImageReference,
        manifest: &[u8],
        signatures: &[Signature],
        now: SystemTime,
    ) -> Result<Accepted, Untrusted> {
        let mut accepted = Accepted { signatures: Vec::new(), until: None };
        for loaded in &self.loaded {
            let (position, until) =
                loaded.meet(asked, manifest, signatures, now).map_err(|cause| self.rule.refused(&cause))?;
            if !accepted.signatures.contains(&position) {
                accepted.signatures.push(position);
            }
            accepted.until = [accepted.until, until].into_iter().flatten().min();
        }
        Ok(accepted)
    }
}

impl Loaded {
    fn meet(
        &self,
        asked: &ImageReference,
        manifest: &[u8],
        signatures: &[Signature],
        now: SystemTime,
    ) -> Result<(usize, Option<SystemTime>), String> {
        let mut bad = Vec::new();
        for (position, signature) in signatures.iter().enumerate() {
            let result = match (self, signature) {
                (Self::SignedBy { ring, identity, .. }, Signature::Simple(message)) => {
                    ring.open(message, now).and_then(|opened| {
                        let payload = payload::parse(&opened.content, payload::SIMPLE)?;
                        fits(&payload, asked, manifest, identity).map(|()| opened.until)
                    })
                }
                (
                    Self::SigstoreSigned { keys, logs, identity, .. },
                    Signature::Sigstore { payload, signature, bundle },
                ) => {
                    let signed = rekor::Signed { payload, signature, bundle: bundle.as_deref() };
                    cosigned(keys, logs, &signed)
                        .and_then(|payload| fits(&payload, asked, manifest, identity))
                        .map(|()| None)
                }
                (Self::SignedBy { .. }, Signature::Sigstore { .. })
                | (Self::SigstoreSigned { .. }, Signature::Simple(_)) => continue,
            };
            match result {
                Ok(until) => return Ok((position, until)),
                Err(cause) => bad.push(cause),
            }
        }
        Err(self.missing(&bad))
    }

    fn missing(&self, bad: &[String]) -> String {
        let wants = match self {
            Self::SignedBy { names, .. } => format!("wants an OpenPGP signature (signedBy) by {names}"),
            Self::SigstoreSigned { names, .. } => format!("wants a sigstore signature (sigstoreSigned) by {names}"),
        };
        if bad.is_empty() {
            return format!("{wants}, and the image has none; sign it, or change the policy");
        }
        let told: Vec<String> =
            bad.iter().take(MOST_TOLD).enumerate().map(|(i, why)| format!("{}: {why}", i + 1)).collect();
        let more = match bad.len().saturating_sub(MOST_TOLD) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        format!("{wants}, and none of the {} found is accepted: {}{more}", bad.len(), told.join("; "))
    }
}

fn signed_by(keys: &[KeyBytes], identity: &Identity) -> Result<Loaded, String> {
    let mut ring = Keyring::default();
    for key in keys {
        ring.add(&key.bytes).map_err(|cause| format!("{}: {cause}", key.name))?;
    }
    Ok(Loaded::SignedBy { ring, names: names(keys), identity: identity.clone() })
}

fn sigstore_signed(keys: &[KeyBytes], logs: &[KeyBytes], identity: &Identity) -> Result<Loaded, String> {
    let parse = |key: &KeyBytes| PublicKey::parse(&key.bytes).map_err(|cause| format!("{}: {cause}", key.name));
    Ok(Loaded::SigstoreSigned {
        keys: keys.iter().map(parse).collect::<Result<_, String>>()?,
        logs: logs.iter().map(parse).collect::<Result<_, String>>()?,
        names: names(keys),
        identity: identity.clone(),
    })
}

fn names(keys: &[KeyBytes]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    names.join(" or ")
}

/// The payload of a signature in cosign's format, when one of the keys made it and, where that is wanted, a log knows it.
fn cosigned(keys: &[PublicKey], logs: &[PublicKey], signed: &rekor::Signed<'_>) -> Result<Payload, String> {
    let signature = rekor::decoded("the signature", signed.signature)?;
    let key = keys.iter().find(|key| key.verifies(signed.payload, &signature));
    let key = key.ok_or_else(|| "it is not by this key, or what it signs was changed".to_owned())?;
    if !logs.is_empty() {
        rekor::check(signed, key, logs)?;
    }
    payload::parse(signed.payload, payload::COSIGN)
}

/// Whether a signed text is about this image.
fn fits(payload: &Payload, asked: &ImageReference, manifest: &[u8], identity: &Identity) -> Result<(), String> {
    let found = digest_of(payload.digest.algorithm(), manifest);
    if found != payload.digest.hex() {
        return Err(format!("it is for the manifest {} and not for this one", payload.digest));
    }
    identity.check(asked, &payload.reference)
}

fn digest_of(algorithm: DigestAlgorithm, bytes: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match algorithm {
        DigestAlgorithm::Sha256 => hex(&Sha256::digest(bytes)),
        DigestAlgorithm::Sha512 => hex(&Sha512::digest(bytes)),
    }
}

#[cfg(test)]
mod tests;

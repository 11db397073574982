//! OpenPGP: keys, and messages that were signed by one of them. The library reads packets and does the arithmetic; which key may sign,
//! and until when, is decided here.
//!
//! A key has to be bound to itself (a good self-signature), may sign, is not revoked and not expired; a subkey is bound by its primary key
//! and binds itself back. As GnuPG does it, a key that is expired now makes no good signature, whenever it was made. Designated revokers
//! are not looked for.

mod certificate;

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{Deserializable as _, Message, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::VerifyingKey;

use certificate::Life;

/// Most bytes of what a message signs.
const MAX_CONTENT_BYTES: u64 = 1 << 20;
/// How often a message may be compressed in itself.
const MAX_COMPRESSIONS: usize = 2;
/// Most keys of a ring.
const MAX_KEYS: usize = 1024;
/// What a block of armoured keys begins with.
const ARMOR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Keys of which any may sign.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// What a message signs, when a key of the ring signed it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) content: Vec<u8>,
    pub(crate) until: Option<SystemTime>,
}

impl Keyring {
    /// Adds public keys: binary, or armoured in one block or several.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        let before = self.keys.len();
        match std::str::from_utf8(bytes).ok().filter(|text| text.contains(ARMOR)) {
            Some(text) => {
                for block in text.split(ARMOR).skip(1) {
                    let block = format!("{ARMOR}{block}");
                    let (keys, _) = SignedPublicKey::from_armor_many(block.as_bytes()).map_err(no_key)?;
                    self.take(keys)?;
                }
            }
            None => self.take(SignedPublicKey::from_bytes_many(bytes).map_err(no_key)?)?,
        }
        if self.keys.len() == before { Err("it holds no OpenPGP public key".to_owned()) } else { Ok(()) }
    }

    fn take(&mut self, keys: impl Iterator<Item = pgp::errors::Result<SignedPublicKey>>) -> Result<(), String> {
        for key in keys {
            if self.keys.len() >= MAX_KEYS {
                return Err(format!("it and those before it hold more than {MAX_KEYS} keys"));
            }
            self.keys.push(key.map_err(no_key)?);
        }
        Ok(())
    }

    /// Opens a signed message.
    pub(crate) fn open(&self, bytes: &[u8], now: SystemTime) -> Result<Opened, String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (message, content) = read(bytes)?;
        let signature = only_signature(&message)?;
        let own = check_form(signature, now)?;
        let mut cause = format!("it is by {}, which is none of these keys", issuer(signature));
        for certificate in &self.keys {
            match signed_by(&message, signature, certificate, now) {
                Some(Ok(life)) => {
                    let until = own.and(life).until().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
                    return Ok(Opened { content, until });
                }
                Some(Err(why)) => cause = why,
                None => {}
            }
        }
        Err(cause)
    }
}

/// Reads a message to its end.
fn read(bytes: &[u8]) -> Result<(Message<'_>, Vec<u8>), String> {
    let broken = |error: &dyn std::fmt::Display| format!("it is no OpenPGP message, or broken: {error}");
    let mut message = Message::from_bytes(bytes).map_err(|error| broken(&error))?;
    for _ in 0..MAX_COMPRESSIONS {
        if message.is_compressed() {
            message = message.decompress().map_err(|error| broken(&error))?;
        }
    }
    match &message {
        Message::Signed { reader, .. } if reader.get_ref().is_literal() => {}
        Message::Signed { .. } | Message::Literal { .. } | Message::Compressed { .. } | Message::Encrypted { .. } => {
            return Err("it is an OpenPGP message, but not a text with a signature".to_owned());
        }
    }
    let mut content = Vec::new();
    let mut limited = (&mut message).take(MAX_CONTENT_BYTES + 1);
    limited.read_to_end(&mut content).map_err(|error| broken(&error))?;
    if content.len() as u64 > MAX_CONTENT_BYTES {
        return Err(format!("it signs more than {MAX_CONTENT_BYTES} bytes"));
    }
    Ok((message, content))
}

fn only_signature<'a>(message: &'a Message<'_>) -> Result<&'a Signature, String> {
    let Message::Signed { reader, .. } = message else { return Err("it is not signed".to_owned()) };
    match (reader.num_signatures(), reader.signature(0)) {
        (1, Some(signature)) => Ok(signature),
        (1, None) => Err("it ends before its signature".to_owned()),
        (count, _) => Err(format!("it has {count} signatures where one is expected")),
    }
}

/// What a signature has to be, whoever made it; and how long it holds.
fn check_form(signature: &Signature, now: u64) -> Result<Life, String> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("it is not a signature over a document".to_owned());
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Md5 | HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160) | None => {
            return Err("its digest algorithm is broken or unknown; sign with SHA-256 or SHA-512".to_owned());
        }
        Some(_) => {}
    }
    // Else every key of the policy would have to be tried on each of very many.
    let (ids, fingerprints) = (signature.issuer_key_id().len(), signature.issuer_fingerprint().len());
    if ids + fingerprints == 0 {
        return Err("it does not say which key made it".to_owned());
    }
    if ids > 1 || fingerprints > 1 {
        return Err("it names several keys as the one that made it".to_owned());
    }
    certificate::check_own(signature)?;
    let created = signature.created().map(|created| u64::from(created.as_secs()));
    let created = created.ok_or_else(|| "it does not say when it was made".to_owned())?;
    let life = Life::of(created, signature.signature_expiration_time());
    if life.is_over(now) { Err("the signature is expired".to_owned()) } else { Ok(life) }
}

/// `None`: no key of this certificate made it.
fn signed_by(
    message: &Message<'_>,
    signature: &Signature,
    certificate: &SignedPublicKey,
    now: u64,
) -> Option<Result<Life, String>> {
    let made = |key: &dyn VerifyingKey| is_issuer(signature, key) && message.verify(key).is_ok();
    if made(&certificate.primary_key) {
        return Some(certificate::primary_may_sign(certificate, now));
    }
    if let Some(subkey) = certificate.public_subkeys.iter().find(|subkey| made(&subkey.key)) {
        return Some(certificate::subkey_may_sign(certificate, subkey, now));
    }
    let is_named = is_issuer(signature, &certificate.primary_key)
        || certificate.public_subkeys.iter().any(|subkey| is_issuer(signature, &subkey.key));
    is_named.then(|| Err(format!("it names {}, which did not sign this text", issuer(signature))))
}

/// Whether a signature says that it is by this key.
fn is_issuer(signature: &Signature, key: &dyn VerifyingKey) -> bool {
    let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
    ids.contains(&&key.legacy_key_id()) || fingerprints.contains(&&key.fingerprint())
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("key {fingerprint}"));
    let id = || signature.issuer_key_id().first().map(|id| format!("key {id}"));
    fingerprint.or_else(id).unwrap_or_else(|| "an unnamed key".to_owned())
}

fn no_key(error: pgp::errors::Error) -> String {
    format!("it holds no OpenPGP public key, or a broken one: {error}")
}

#[cfg(test)]
mod tests;

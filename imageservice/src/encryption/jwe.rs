//! JSON Web Encryption (RFC 7516) as far as ocicrypt uses it: JSON serialisation, A256GCM, and keys by RSA-OAEP or ECDH-ES.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrap as _};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::keys::PrivateKeys;

/// The one way to encrypt content that is known.
const ENCRYPTION: &str = "A256GCM";
const KEY_BYTES: usize = 32;

/// How it went.
pub(super) enum Opened {
    /// The content.
    Yes(Vec<u8>),
    /// No key fits; what some recipients use is not known.
    No { unknown: Vec<String> },
    /// It is no JWE.
    Malformed(String),
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    protected: String,
    #[serde(default)]
    unprotected: Header,
    #[serde(default)]
    recipients: Vec<Recipient>,
    // Of the only recipient, in the flattened form.
    #[serde(default)]
    header: Header,
    #[serde(default)]
    encrypted_key: String,
    #[serde(default)]
    aad: Option<String>,
    iv: String,
    ciphertext: String,
    tag: String,
}

#[derive(Deserialize, Default)]
struct Recipient {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    encrypted_key: String,
}

#[derive(Deserialize, Default, Clone)]
struct Header {
    alg: Option<String>,
    enc: Option<String>,
    epk: Option<PublicKey>,
    apu: Option<String>,
    apv: Option<String>,
    zip: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

/// A key of one message (RFC 7518, 4.6.1.1).
#[derive(Deserialize, Clone)]
struct PublicKey {
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Header {
    /// The header with what another part of the message says besides.
    fn or(self, other: &Self) -> Self {
        let other = other.clone();
        Self {
            alg: self.alg.or(other.alg),
            enc: self.enc.or(other.enc),
            epk: self.epk.or(other.epk),
            apu: self.apu.or(other.apu),
            apv: self.apv.or(other.apv),
            zip: self.zip.or(other.zip),
            crit: self.crit.or(other.crit),
        }
    }
}

/// Tries all keys on all recipients; each operation with a private key uses up one of `tries`.
pub(super) fn open(text: &[u8], keys: &PrivateKeys, tries: &mut usize) -> Opened {
    match read(text) {
        Some((message, protected)) => message.open(&protected, keys, tries),
        None => Opened::Malformed("a key for a recipient is no JWE in JSON; push the image again".to_owned()),
    }
}

fn read(text: &[u8]) -> Option<(Message, Header)> {
    let mut message: Message = serde_json::from_slice(text).ok()?;
    let protected = match message.protected.as_str() {
        "" => Header::default(),
        text => serde_json::from_slice(&decode(text)?).ok()?,
    };
    if message.recipients.is_empty() {
        let (header, encrypted_key) = (message.header.clone(), message.encrypted_key.clone());
        message.recipients.push(Recipient { header, encrypted_key });
    }
    Some((message, protected))
}

impl Message {
    fn open(&self, protected: &Header, keys: &PrivateKeys, tries: &mut usize) -> Opened {
        let mut unknown = Vec::new();
        for recipient in &self.recipients {
            let header = protected.clone().or(&self.unprotected).or(&recipient.header);
            let algorithm = header.alg.as_deref().unwrap_or_default();
            if header.enc.as_deref() != Some(ENCRYPTION) || header.zip.is_some() || header.crit.is_some() {
                unknown.push(format!("JWE by {algorithm:?} with something else than {ENCRYPTION}"));
                continue;
            }
            let Some(sealed) = decode(&recipient.encrypted_key) else { continue };
            let mut content_keys: Box<dyn Iterator<Item = Option<Vec<u8>>>> = match algorithm {
                "RSA-OAEP" => Box::new(keys.rsa.iter().map(|key| by_rsa(key, &OAEP_SHA1_MGF1SHA1, &sealed))),
                "RSA-OAEP-256" => Box::new(keys.rsa.iter().map(|key| by_rsa(key, &OAEP_SHA256_MGF1SHA256, &sealed))),
                "ECDH-ES+A256KW" => {
                    Box::new(keys.elliptic.iter().map(|key| unwrap(&agree(key, &header, algorithm)?, &sealed)))
                }
                "ECDH-ES" => Box::new(keys.elliptic.iter().map(|key| agree(key, &header, ENCRYPTION))),
                other => {
                    unknown.push(format!("JWE by {other:?}"));
                    continue;
                }
            };
            while *tries > 0 {
                let Some(key) = content_keys.next() else { break };
                *tries -= 1;
                if let Some(content) = key.and_then(|key| self.content(&key)) {
                    return Opened::Yes(content);
                }
            }
        }
        Opened::No { unknown }
    }

    /// The content, if the key is the right one.
    fn content(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut authenticated = self.protected.clone();
        if let Some(more) = &self.aad {
            authenticated.push('.');
            authenticated.push_str(more);
        }
        let nonce = Nonce::try_assume_unique_for_key(&decode(&self.iv)?).ok()?;
        let (mut content, tag) = (decode(&self.ciphertext)?, decode(&self.tag)?);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        key.open_in_place_separate_tag(nonce, Aad::from(authenticated.as_bytes()), &tag, &mut content).ok()?;
        Some(content)
    }
}

fn by_rsa(key: &OaepPrivateDecryptingKey, algorithm: &'static OaepAlgorithm, sealed: &[u8]) -> Option<Vec<u8>> {
    if sealed.len() != key.key_size_bytes() {
        return None;
    }
    let mut room = vec![0; key.min_output_size()];
    key.decrypt(algorithm, sealed, &mut room, None).ok().map(|content| content.to_vec())
}

/// A key agreed on with the sender's public key (RFC 7518, 4.6.2), for `purpose`.
fn agree(key: &agreement::PrivateKey, header: &Header, purpose: &str) -> Option<Vec<u8>> {
    let theirs = header.epk.as_ref()?;
    let (curve, bytes) = match theirs.crv.as_str() {
        "P-256" => (&agreement::ECDH_P256, 32),
        "P-384" => (&agreement::ECDH_P384, 48),
        "P-521" => (&agreement::ECDH_P521, 66),
        _ => return None,
    };
    if key.algorithm() != curve {
        return None;
    }
    let mut point = vec![4];
    for half in [&theirs.x, &theirs.y] {
        let half = decode(half)?;
        point.extend(std::iter::repeat_n(0, usize::checked_sub(bytes, half.len())?));
        point.extend(half);
    }
    let field = |text: &Option<String>| text.as_deref().map_or(Some(Vec::new()), decode);
    let (sender, receiver) = (field(&header.apu)?, field(&header.apv)?);
    agreement::agree(key, UnparsedPublicKey::new(curve, &point), (), |secret| {
        let mut hash = Sha256::new();
        hash.update(1_u32.to_be_bytes());
        hash.update(secret);
        for part in [purpose.as_bytes(), &sender, &receiver] {
            hash.update(u32::try_from(part.len()).map_err(|_| ())?.to_be_bytes());
            hash.update(part);
        }
        hash.update(256_u32.to_be_bytes());
        Ok(hash.finalize().to_vec())
    })
    .ok()
}

/// Unwraps a key by AES (RFC 3394).
fn unwrap(with: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut room = [0; KEY_BYTES];
    let key = KeyEncryptionKey::new(&AES_256, with).ok()?.unwrap(sealed, &mut room).ok()?;
    Some(key.to_vec())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

//! Entry points of the fuzz targets, with what must hold whatever the bytes are. Only with the feature `fuzzing`.

use std::path::Path;
use std::time::{Duration, SystemTime};

use podwright_types::ImageReference;

use crate::openpgp::Keyring;
use crate::sigstore::PublicKey;
use crate::{Policy, payload, places, rekor};

/// A policy: what it says about an image is said by the same words again.
pub fn policy(bytes: &[u8]) {
    let Ok(policy) = Policy::parse(Path::new("policy.json"), bytes) else { return };
    for image in ["registry.example:5000/a/b:v1", "busybox"] {
        let Ok(image) = image.parse::<ImageReference>() else { continue };
        let rule = policy.rule(&image);
        assert!(!rule.requirements.is_empty(), "nothing at all is required");
        let _ = rule.wanted();
    }
}

/// A file of registries.d.
pub fn registries_d(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        places::fuzz(text);
    }
}

/// What a signature is over.
pub fn signature_payload(bytes: &[u8]) {
    for kind in [payload::SIMPLE, payload::COSIGN] {
        if let Ok(read) = payload::parse(bytes, kind) {
            assert!(!read.digest.hex().is_empty(), "a payload names no digest");
        }
    }
}

/// A signed message and, after its length in two bytes, the keys that it may be by.
pub fn openpgp_message(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let (message, keys) = rest.split_at(length);
    let mut ring = Keyring::default();
    let _ = ring.add(keys);
    let _ = ring.open(message, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
}

/// The entry of a log, after a key.
pub fn rekor_bundle(bytes: &[u8]) {
    let key = b"-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
";
    let (Ok(key), Ok(text)) = (PublicKey::parse(key), std::str::from_utf8(bytes)) else { return };
    let signed = rekor::Signed { payload: b"", signature: "", bundle: Some(text) };
    assert!(rekor::check(&signed, &key, std::slice::from_ref(&key)).is_err(), "a log's promise was made up");
}

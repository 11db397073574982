//! Parts of encrypted layers that no public tool makes: broken annotations, hostile recipients, content that was changed.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};

use aws_lc_rs::cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;

fn layer(annotations: &[(&str, String)]) -> Descriptor {
    let with_prefix = |(key, value): &(&str, String)| (format!("org.opencontainers.image.enc.{key}"), value.clone());
    Descriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into(),
        digest: podwright_types::Digest::from_sha256(&[1; 32]),
        size: 1,
        platform: None,
        encryption: Some(annotations.iter().map(with_prefix).collect::<BTreeMap<_, _>>()),
    }
}

fn public(cipher: &str) -> (&'static str, String) {
    ("pubopts", STANDARD.encode(json!({"cipher": cipher, "hmac": STANDARD.encode([3; 32])}).to_string()))
}

fn jwe(text: &serde_json::Value) -> (&'static str, String) {
    ("keys.jwe", STANDARD.encode(text.to_string()))
}

fn error(annotations: &[(&str, String)]) -> ImageError {
    open_layers(None, [&layer(annotations)], "image").unwrap_err()
}

#[test]
fn plain_layers_need_no_keys() {
    let mut plain = layer(&[]);
    plain.media_type = "application/vnd.oci.image.layer.v1.tar+gzip".into();
    assert_eq!(open_layers(Some(Path::new("/proc/self/mem")), [&plain], "image").unwrap(), [None]);
}

#[test]
fn broken_annotations_are_told() {
    const GOOD: &str = "AES_256_CTR_HMAC_SHA256";
    for (annotations, part) in [
        (vec![], "pubopts"),
        (vec![("pubopts", "%".to_owned())], "malformed"),
        (vec![("pubopts", STANDARD.encode("1"))], "malformed"),
        (vec![public("ROT13")], "ROT13"),
        (vec![public(GOOD), ("keys.jwe", "%".to_owned())], "base64"),
        (vec![public(GOOD), jwe(&json!({"iv": 1}))], "no JWE"),
        (vec![public(GOOD), jwe(&json!({"protected": "e30x", "iv": "", "ciphertext": "", "tag": ""}))], "no JWE"),
    ] {
        let error = error(&annotations);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(part) && error.to_string().contains("layer sha256:0101"), "{error}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let header =
        |alg: &str, enc: &str| json!({"header": {"alg": alg, "enc": enc}, "iv": "", "ciphertext": "", "tag": ""});
    let other = jwe(&header("PBES2-HS256+A128KW", "A256GCM"));
    let error = error(&[
        public("AES_256_CTR_HMAC_SHA256"),
        other,
        ("keys.pkcs7", "x".into()),
        ("keys.provider.kms", "y".into()),
    ]);
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    for part in ["PBES2-HS256+A128KW", "for pkcs7", "for provider.kms", "decryption_keys_dir"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// A public key on P-256: that of the private key 7, 7, ....
fn sender() -> serde_json::Value {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
    let key = PrivateKey::from_private_key(&ECDH_P256, &[7; 32]).unwrap().compute_public_key().unwrap();
    let (x, y) = key.as_ref()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
}

#[test]
fn recipients_cost_a_bounded_number_of_tries() {
    let recipient = json!({"header": {"alg": "ECDH-ES", "epk": sender()}, "encrypted_key": ""});
    let protected = URL_SAFE_NO_PAD.encode(json!({"enc": "A256GCM"}).to_string());
    let message = json!({"protected": protected, "recipients": vec![recipient; 10], "iv": "AAAAAAAAAAAAAAAA", "ciphertext": "", "tag": ""});
    let annotations = [public("AES_256_CTR_HMAC_SHA256"), jwe(&message)];
    let keys = PrivateKeys::of_number(9);
    let mut tries = 11;
    assert_eq!(open(&keys, &layer(&annotations), &mut tries, "image").unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(tries, 1);
    assert_eq!(open(&keys, &layer(&annotations), &mut tries, "image").unwrap_err().kind(), ErrorKind::LimitExceeded);
}

/// Encrypts as ocicrypt does.
fn sealed(plain: &[u8]) -> (Vec<u8>, LayerKey) {
    let (key, nonce) = ([5; 32], [6; 16]);
    let unbound = UnboundCipherKey::new(&AES_256, &key).unwrap();
    let mut cipher = StreamingEncryptingKey::less_safe_ctr(unbound, EncryptionContext::Iv128((&nonce).into())).unwrap();
    let mut content = vec![0; plain.len() + 16];
    let length = cipher.update(plain, &mut content).unwrap().written().len();
    content.truncate(length);
    let hmac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &content).as_ref().to_vec();
    (content, LayerKey { key, nonce, hmac })
}

#[test]
fn content_comes_out_whole_or_ends_in_an_error() {
    let plain: Vec<u8> = (0..300_001_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    for length in [0, 1, 15, 16, 65_535, 65_536, 65_537, plain.len()] {
        let (mut content, key) = sealed(&plain[..length]);
        // Pieces of odd lengths.
        let open = |content: &[u8]| {
            let mut reader = Decrypting::new(BufReader::with_capacity(70_001, content), &key).unwrap();
            let mut out = Vec::new();
            reader.read_to_end(&mut out).map(|_| out)
        };
        assert!(open(&content).unwrap() == plain[..length], "{length}");
        let unread = Decrypting::new(content.as_slice(), &key).unwrap();
        unread.finish().unwrap();
        content.push(0);
        assert!(open(&content).unwrap_err().to_string().contains("HMAC"), "{length}: longer");
        content.pop();
        if content.pop().is_some() {
            assert!(open(&content).is_err(), "{length}: shorter");
            content.push(0);
            content[0] ^= 1;
            assert!(Decrypting::new(content.as_slice(), &key).unwrap().finish().is_err(), "{length}: changed");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let (_, key) = sealed(b"");
    assert_eq!(format!("{key:?}"), "LayerKey");
    let sealed = Sealed::parse(layer(&[public("AES_256_CTR_HMAC_SHA256")]).encryption.as_ref()).unwrap();
    let error = sealed.key(br#"{"symkey": "c2VjcmV0", "cipheroptions": {"nonce": "c2VjcmV0"}}"#).unwrap_err();
    assert!(!error.contains("c2VjcmV0"), "{error}");
}

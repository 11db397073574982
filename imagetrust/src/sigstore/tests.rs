//! Keys and signatures made by openssl.

#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podwright_testutil::signing::KeyPair;

use super::*;

fn public(pair: &KeyPair) -> Result<PublicKey, String> {
    PublicKey::parse(&std::fs::read(pair.public_key()).unwrap())
}

#[test]
fn each_kind_of_key_verifies_its_own_signatures() {
    let pairs = ["ec:P-256", "ec:P-384", "ed25519", "rsa:2048"].map(|kind| (kind, KeyPair::generate(kind).unwrap()));
    for (kind, pair) in &pairs {
        let key = public(pair).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let signature = STANDARD.decode(pair.sign(b"text").unwrap()).unwrap();
        assert!(key.verifies(b"text", &signature), "{kind}");
        assert!(!key.verifies(b"another text", &signature), "{kind}");
        assert!(!key.verifies(b"text", signature.get(1..).unwrap()), "{kind}");
        for (other, other_pair) in pairs.iter().filter(|(other, _)| other != kind) {
            assert!(!public(other_pair).unwrap().verifies(b"text", &signature), "{kind} by {other}");
        }
    }
}

#[test]
fn keys_that_can_not_verify_are_refused_at_once() {
    for kind in ["ec:P-521", "X25519"] {
        let error = public(&KeyPair::generate(kind).unwrap()).unwrap_err();
        assert!(error.contains("not supported"), "{kind}: {error}");
    }
    for text in [
        "",
        "no PEM",
        "-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(PublicKey::parse(text.as_bytes()).is_err(), "{text:?}");
    }
}

//! Decisions, with real keys.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podwright_testutil::image::sha256;
use podwright_testutil::signing::{Gpg, KeyPair, cosign_payload, simple_payload};

use super::*;
use crate::Policy;

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;
const NAME: &str = "r.example/a:v1";

fn judge(requirements: &str, asked: &str, signatures: &[Signature]) -> Result<Accepted, String> {
    let text = format!(r#"{{"default":[{requirements}]}}"#);
    let policy = Policy::parse(Path::new("/policy.json"), text.as_bytes()).unwrap();
    let asked = asked.parse().unwrap();
    let rule = policy.rule(&asked);
    let decide = || {
        rule.wanted()?;
        rule.material()?.judge(&asked, MANIFEST, signatures, SystemTime::now())
    };
    decide().map_err(|error| error.to_string())
}

fn cosign(pair: &KeyPair, reference: &str, digest: &str) -> Signature {
    let payload = cosign_payload(reference, digest);
    Signature::Sigstore { signature: pair.sign(&payload).unwrap(), payload, bundle: None }
}

fn key(pair: &KeyPair, more: &str) -> String {
    format!(r#"{{"type":"sigstoreSigned","keyPath":{:?}{more}}}"#, pair.public_key())
}

#[test]
fn one_good_signature_meets_each_requirement() {
    let gpg = Gpg::new().unwrap();
    gpg.generate("one@example", "ed25519", "never").unwrap();
    let data = STANDARD.encode(gpg.public_key("one@example").unwrap());
    let signed_by = format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyData":"{data}"}}"#);
    let (pair, other) = (KeyPair::generate("ec:P-256").unwrap(), KeyPair::generate("ec:P-256").unwrap());
    let digest = sha256(MANIFEST);
    let simple = |reference: &str, digest: &str| {
        Signature::Simple(gpg.sign("one@example", &simple_payload(reference, digest)).unwrap())
    };
    let good = [
        cosign(&other, NAME, &digest),
        simple("r.example/a:v2", &digest),
        simple(NAME, &digest),
        cosign(&pair, NAME, &digest),
    ];
    let both = format!("{signed_by},{}", key(&pair, ""));
    assert_eq!(judge(&both, NAME, &good).unwrap().signatures, [2, 3]);
    assert_eq!(judge(r#"{"type":"insecureAcceptAnything"}"#, NAME, &[]).unwrap().signatures, [0_usize; 0]);
    let error = judge(&both, NAME, &good[..3]).unwrap_err();
    assert!(
        error.contains("sigstoreSigned") && error.contains("not by this key") && error.contains("/policy.json"),
        "{error}"
    );
    let error = judge(&signed_by, NAME, &good[..2]).unwrap_err();
    assert!(error.contains("r.example/a:v2"), "{error}");
    assert!(judge(&signed_by, NAME, &good[..1]).unwrap_err().contains("has none"));
    let mixed = format!(r#"{signed_by},{{"type":"reject"}}"#);
    assert!(judge(&mixed, NAME, &good).unwrap_err().contains("rejects"));
    // The right signature of another image, moved here.
    let moved = [simple(NAME, &sha256(b"another manifest")), cosign(&pair, NAME, &sha256(b"another manifest"))];
    assert!(judge(&both, NAME, &moved).unwrap_err().contains("not for this one"));
    // One kind of payload does not stand for the other.
    let crossed = [Signature::Simple(gpg.sign("one@example", &cosign_payload(NAME, &digest)).unwrap())];
    assert!(judge(&signed_by, NAME, &crossed).unwrap_err().contains("atomic container signature"));
}

#[test]
fn keys_that_are_missing_or_none_refuse() {
    for (requirement, expected) in [
        (r#"{"type":"sigstoreSigned","keyPath":"/no/such/key"}"#, "/no/such/key"),
        (r#"{"type":"sigstoreSigned","keyPath":"/dev/zero"}"#, "no file"),
        (r#"{"type":"signedBy","keyType":"GPGKeys","keyPaths":["/no/such/key"]}"#, "/no/such/key"),
        (r#"{"type":"signedBy","keyType":"GPGKeys","keyData":"YWJj"}"#, "OpenPGP public key"),
        (r#"{"type":"sigstoreSigned","keyData":"YWJj"}"#, "BEGIN PUBLIC KEY"),
        (r#"{"type":"sigstoreSigned","fulcio":{},"rekorPublicKeyPath":"/r"}"#, "fulcio"),
    ] {
        let error = judge(requirement, NAME, &[]).unwrap_err();
        assert!(error.contains(expected), "{requirement}: {error}");
    }
}

#[test]
fn a_log_has_to_know_the_signature() {
    let (pair, log, other) = (
        KeyPair::generate("ec:P-256").unwrap(),
        KeyPair::generate("ec:P-256").unwrap(),
        KeyPair::generate("ec:P-256").unwrap(),
    );
    let payload = cosign_payload(NAME, &sha256(MANIFEST));
    let signature = pair.sign(&payload).unwrap();
    let requirement = key(&pair, &format!(r#","rekorPublicKeyPath":{:?}"#, log.public_key()));
    let hex = sha256(&payload).replace("sha256:", "");
    let entry = |key: &KeyPair, hash: &str, signature: &str, log: &KeyPair| {
        let pem = STANDARD.encode(std::fs::read(key.public_key()).unwrap());
        let body = format!(
            r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{hash}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{pem}"}}}}}}}}"#
        );
        let body = STANDARD.encode(body);
        let signed = format!(r#"{{"body":"{body}","integratedTime":1700000000,"logID":"c0ffee","logIndex":7}}"#);
        let promise = log.sign(signed.as_bytes()).unwrap();
        format!(
            r#"{{"SignedEntryTimestamp":"{promise}","Payload":{{"logIndex":7,"body":"{body}","logID":"c0ffee","integratedTime":1700000000}}}}"#
        )
    };
    let with = |bundle: Option<String>| {
        let signature = Signature::Sigstore { payload: payload.clone(), signature: signature.clone(), bundle };
        judge(&requirement, NAME, &[signature]).map(drop)
    };
    let good = entry(&pair, &hex, &signature, &log);
    with(Some(good.clone())).unwrap();
    let another = pair.sign(b"another").unwrap();
    for (bundle, expected) in [
        (None, "no transparency log"),
        (Some("{}".to_owned()), "can not be read"),
        (Some(good.replace(r#""logIndex":7"#, r#""logIndex":8"#)), "not signed by this"),
        (Some(entry(&pair, &hex, &signature, &other)), "not signed by this"),
        (Some(entry(&other, &hex, &signature, &log)), "another signature"),
        (Some(entry(&pair, &"0".repeat(64), &signature, &log)), "another signature"),
        (Some(entry(&pair, &hex, &another, &log)), "another signature"),
    ] {
        let error = with(bundle).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_decision_is_known_by_its_policy_and_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (KeyPair::generate("ed25519").unwrap(), KeyPair::generate("ed25519").unwrap());
    let path = dir.path().join("key.pem");
    let stamp = |more: &str| {
        let text = format!(r#"{{"default":[{{"type":"sigstoreSigned","keyPath":{path:?}}}]{more}}}"#);
        let policy = Policy::parse(Path::new("/policy.json"), text.as_bytes()).unwrap();
        policy.rule(&NAME.parse().unwrap()).material().unwrap().stamp()
    };
    std::fs::copy(one.public_key(), &path).unwrap();
    let first = stamp("");
    assert_eq!(first, stamp(""));
    assert_ne!(first, stamp(r#","transports":{}"#));
    std::fs::copy(two.public_key(), &path).unwrap();
    assert_ne!(first, stamp(""));
}

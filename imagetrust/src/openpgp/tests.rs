//! Keys and messages made by gpg.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use pgp::types::KeyDetails as _;
use podwright_testutil::signing::Gpg;

use super::*;

const CONTENT: &[u8] = b"what is signed";

fn ring(keys: &[Vec<u8>]) -> Keyring {
    let mut ring = Keyring::default();
    keys.iter().for_each(|key| ring.add(key).unwrap());
    ring
}

fn refused(ring: &Keyring, message: &[u8]) -> String {
    ring.open(message, SystemTime::now()).unwrap_err()
}

#[test]
fn a_message_opens_with_the_key_that_signed_it_and_no_other() {
    let gpg = Gpg::new().unwrap();
    gpg.generate("one@example", "ed25519", "never").unwrap();
    gpg.generate("two@example", "nistp256", "never").unwrap();
    gpg.generate("old@example", "rsa2048", "never").unwrap();
    let public = |user: &str| gpg.public_key(user).unwrap();
    for user in ["one@example", "two@example", "old@example"] {
        let message = gpg.sign(user, CONTENT).unwrap();
        let opened = ring(&[public(user)]).open(&message, SystemTime::now()).unwrap();
        assert_eq!((opened.content.as_slice(), opened.until), (CONTENT, None));
    }
    let message = gpg.sign("one@example", CONTENT).unwrap();
    assert!(refused(&ring(&[public("two@example")]), &message).contains("none of these keys"));
    // Several keys: in one file binary, and armoured one after the other.
    let binary = gpg.run(&["--export"], b"").unwrap();
    let joined = [public("two@example"), public("one@example")].concat();
    for keys in [binary, joined] {
        assert!(ring(&[keys]).open(&message, SystemTime::now()).is_ok());
    }
    for bad in
        [b"".to_vec(), b"no key".to_vec(), message.clone(), gpg.run(&["--armor", "--export-secret-keys"], b"").unwrap()]
    {
        assert!(Keyring::default().add(&bad).is_err(), "{}", String::from_utf8_lossy(&bad));
    }
}

#[test]
fn only_a_whole_message_with_one_good_signature_opens() {
    let gpg = Gpg::new().unwrap();
    gpg.generate("one@example", "ed25519", "never").unwrap();
    gpg.generate("two@example", "ed25519", "never").unwrap();
    let ring = ring(&[gpg.run(&["--export"], b"").unwrap()]);
    let sign = |more: &[&str]| gpg.run(&[&["--local-user", "one@example"], more].concat(), CONTENT).unwrap();
    let plain = sign(&["--compress-algo", "none", "--sign"]);
    assert!(ring.open(&plain, SystemTime::now()).is_ok());
    for end in 0..plain.len() {
        assert!(ring.open(&plain[..end], SystemTime::now()).is_err(), "cut at {end}");
    }
    let text = plain.windows(CONTENT.len()).position(|bytes| bytes == CONTENT).unwrap();
    let mut forged = plain.clone();
    forged[text] ^= 1;
    assert!(refused(&ring, &forged).contains("did not sign this text"));
    for position in 0..plain.len() {
        let mut changed = plain.clone();
        changed[position] ^= 1;
        if let Ok(opened) = ring.open(&changed, SystemTime::now()) {
            assert_eq!(opened.content, CONTENT, "changed at {position}");
        }
    }
    let both = sign(&["--local-user", "two@example", "--sign"]);
    assert!(refused(&ring, &both).contains("2 signatures"));
    assert!(refused(&ring, &sign(&["--detach-sign"])).contains("no OpenPGP message"));
    assert!(ring.open(&sign(&["--clear-sign"]), SystemTime::now()).is_err());
    assert!(refused(&ring, &sign(&["--store"])).contains("not a text with a signature"));
    let weak = sign(&["--digest-algo", "SHA1", "--allow-weak-digest-algos", "--sign"]);
    assert!(refused(&ring, &weak).contains("digest algorithm"));
    assert!(ring.open(&[plain, b"more".to_vec()].concat(), SystemTime::now()).is_err());
    let large = vec![b'a'; MAX_CONTENT_BYTES as usize + 1];
    let bomb = gpg.sign("one@example", &large).unwrap();
    assert!(bomb.len() < 20_000 && refused(&ring, &bomb).contains("more than"));
}

#[test]
fn a_key_signs_while_it_lives() {
    let gpg = Gpg::new().unwrap();
    gpg.generate("short@example", "ed25519", "seconds=1000").unwrap();
    gpg.generate("gone@example", "ed25519", "never").unwrap();
    let now = SystemTime::now();
    let message = gpg.sign("short@example", CONTENT).unwrap();
    let keys = ring(&[gpg.public_key("short@example").unwrap()]);
    let until = keys.open(&message, now).unwrap().until.unwrap();
    assert!(until > now && until <= now + Duration::from_secs(2000));
    let error = keys.open(&message, until + Duration::from_secs(1)).unwrap_err();
    assert!(error.contains("expired"), "{error}");
    let dying = gpg.run(&["--local-user", "gone@example", "--default-sig-expire", "seconds=1000", "--sign"], CONTENT);
    let (dying, lasting) = (dying.unwrap(), gpg.sign("gone@example", CONTENT).unwrap());
    let keys = ring(&[gpg.public_key("gone@example").unwrap()]);
    assert!(keys.open(&dying, now).unwrap().until.is_some());
    assert!(keys.open(&dying, now + Duration::from_secs(5000)).unwrap_err().contains("the signature is expired"));
    assert!(keys.open(&lasting, now + Duration::from_secs(5000)).is_ok());
    // gpg writes a revocation beside every new key, with a colon before it against accidents.
    let revocations = std::fs::read_dir(gpg.home().join("openpgp-revocs.d")).unwrap();
    for entry in revocations {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap().replace(":-----BEGIN", "-----BEGIN");
        gpg.run(&["--import"], text.as_bytes()).unwrap();
    }
    let keys = ring(&[gpg.public_key("gone@example").unwrap()]);
    assert!(refused(&keys, &lasting).contains("revoked"));
}

#[test]
fn subkeys_sign_if_they_are_for_that() {
    let gpg = Gpg::new().unwrap();
    gpg.run(&["--quick-generate-key", "one@example", "ed25519", "cert", "never"], b"").unwrap();
    let colons = gpg.run(&["--with-colons", "--list-keys"], b"").unwrap();
    let colons = String::from_utf8(colons).unwrap();
    let fingerprint = colons.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':');
    let without = gpg.public_key("one@example").unwrap();
    gpg.run(&["--quick-add-key", fingerprint, "ed25519", "sign", "never"], b"").unwrap();
    let message = gpg.sign("one@example", CONTENT).unwrap();
    let with_subkey = ring(&[gpg.public_key("one@example").unwrap()]);
    assert_eq!(with_subkey.open(&message, SystemTime::now()).unwrap().content, CONTENT);
    assert!(refused(&ring(&[without]), &message).contains("none of these keys"));
}

#[test]
fn what_a_key_says_about_itself_over_a_broken_digest_is_not_believed() {
    let gpg = Gpg::new().unwrap();
    let key = |user: &str, digest: &str| {
        let weak = ["--cert-digest-algo", digest, "--allow-weak-digest-algos"];
        gpg.run(&[&weak[..], &["--quick-generate-key", user, "rsa2048", "sign", "never"]].concat(), b"").unwrap();
    };
    // gpg itself takes no such key without being told so.
    let sign = |user: &str| gpg.run(&["--allow-weak-digest-algos", "--local-user", user, "--sign"], CONTENT).unwrap();
    for digest in ["MD5", "RIPEMD160", "SHA1"] {
        let user = format!("{digest}@example");
        key(&user, digest);
        let message = sign(&user);
        let ring = ring(&[gpg.public_key(&user).unwrap()]);
        match digest {
            "SHA1" => assert!(ring.open(&message, SystemTime::now()).is_ok()),
            _ => assert!(refused(&ring, &message).contains("no good signature over itself"), "{digest}"),
        }
    }
    key("sub@example", "SHA256");
    let colons = gpg.run(&["--with-colons", "--list-keys", "sub@example"], b"").unwrap();
    let colons = String::from_utf8(colons).unwrap();
    let fingerprint = colons.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':');
    let weak = ["--cert-digest-algo", "MD5", "--allow-weak-digest-algos"];
    gpg.run(&[&weak[..], &["--quick-add-key", fingerprint, "rsa2048", "sign", "never"]].concat(), b"").unwrap();
    let message = sign("sub@example");
    assert!(refused(&ring(&[gpg.public_key("sub@example").unwrap()]), &message).contains("is not bound to"));
}

/// It would have to be tried with every key, and so would one that names them all.
#[test]
fn a_signature_that_names_no_key_or_several_is_refused() {
    let gpg = Gpg::new().unwrap();
    gpg.generate("one@example", "ed25519", "never").unwrap();
    let ring = ring(&[gpg.public_key("one@example").unwrap()]);
    let mut message = gpg.run(&["--local-user", "one@example", "--compress-algo", "none", "--sign"], CONTENT).unwrap();
    assert!(ring.open(&message, SystemTime::now()).is_ok());
    let key = &ring.keys[0].primary_key;
    let fingerprint = [&[33, 4], key.fingerprint().as_bytes()].concat();
    let id = [&[16], key.legacy_key_id().as_ref()].concat();
    let mut several = message.clone();
    let position = several.windows(fingerprint.len()).rposition(|bytes| bytes == fingerprint).unwrap() - 1;
    let ids = [&[9][..], &id, &[9], &id, &[2, 100, 0]].concat();
    several[position..position + ids.len()].copy_from_slice(&ids);
    assert!(refused(&ring, &several).contains("several keys"), "{}", refused(&ring, &several));
    for named in [fingerprint, id] {
        let position = message.windows(named.len()).rposition(|bytes| bytes == named).unwrap();
        // A kind for experiments.
        message[position] = 100;
    }
    assert!(refused(&ring, &message).contains("does not say which key"), "{}", refused(&ring, &message));
}

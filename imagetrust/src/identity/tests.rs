//! Names that agree and names that do not.

#![allow(clippy::unwrap_used)]

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn agrees(identity: &Identity, asked: &str, signed: &str) -> bool {
    identity.check(&asked.parse().unwrap(), signed).is_ok()
}

#[test]
fn the_default_wants_the_name_or_for_digests_the_repository() {
    let rule = Identity::RepoDigestOrExact;
    assert!(agrees(&rule, "r.example/a:v1", "r.example/a:v1"));
    assert!(agrees(&rule, "busybox", "docker.io/library/busybox:latest"));
    assert!(agrees(&rule, "busybox", "busybox:latest"));
    assert!(!agrees(&rule, "r.example/a:v1", "r.example/a:v2"));
    assert!(!agrees(&rule, "r.example/a:v1", "r.example/b:v1"));
    let error = rule.check(&"r.example/a:latest".parse().unwrap(), "r.example/a").unwrap_err();
    assert!(error.contains("matchRepository"), "{error}");
    assert!(agrees(&rule, &format!("r.example/a@{DIGEST}"), "r.example/a:v2"));
    assert!(agrees(&rule, &format!("r.example/a:v1@{DIGEST}"), "r.example/a:v2"));
    assert!(agrees(&rule, &format!("r.example/a@{DIGEST}"), "r.example/a"));
    assert!(!agrees(&rule, &format!("r.example/a@{DIGEST}"), "r.example/b:v2"));
    assert!(!agrees(&rule, "r.example/a:v1", ""));
    assert!(!agrees(&rule, "r.example/a:v1", &"a".repeat(64)));
    assert!(!agrees(&rule, "r.example/a:v1", &format!("r.example/a:v1@{DIGEST}")));
}

#[test]
fn the_case_of_a_host_makes_no_difference() {
    for (asked, signed) in [("R.Example/a:v1", "r.example/a:v1"), ("r.example/a:v1", "R.EXAMPLE/a:v1")] {
        for rule in [Identity::Exact, Identity::RepoDigestOrExact, Identity::Repository] {
            assert!(agrees(&rule, asked, signed), "{asked} {signed} {rule:?}");
        }
    }
    assert!(!agrees(&Identity::Exact, "r.example/a:V1", "r.example/a:v1"));
    let raw = |prefix: &str, signed: &str| RawIdentity {
        kind: "remapIdentity".to_owned(),
        docker_reference: None,
        docker_repository: None,
        prefix: Some(prefix.to_owned()),
        signed_prefix: Some(signed.to_owned()),
    };
    let remap = Identity::from_raw(raw("Mirror.Example", "Vendor.Example")).unwrap();
    assert!(agrees(&remap, "mirror.EXAMPLE/a:v1", "vendor.example/a:v1"));
    assert!(!agrees(&remap, "mirror.example/a:v1", "mirror.example/a:v1"));
}

#[test]
fn exact_and_repository() {
    assert!(agrees(&Identity::Exact, "r.example/a:v1", "r.example/a:v1"));
    assert!(!agrees(&Identity::Exact, &format!("r.example/a@{DIGEST}"), "r.example/a:v1"));
    assert!(agrees(&Identity::Exact, &format!("r.example/a@{DIGEST}"), &format!("r.example/a@{DIGEST}")));
    assert!(!agrees(&Identity::Exact, "r.example/a:latest", "r.example/a"));
    assert!(agrees(&Identity::Repository, "r.example/a:v1", "r.example/a"));
    assert!(agrees(&Identity::Repository, "r.example:5000/a:v1", "r.example:5000/a:v7"));
    assert!(!agrees(&Identity::Repository, "r.example:5000/a:v1", "r.example/a:v1"));
}

#[test]
fn fixed_names_do_not_depend_on_what_was_asked() {
    let parse = |json: &str| Identity::from_raw(serde_json::from_str(json).unwrap());
    let reference = parse(r#"{"type":"exactReference","dockerReference":"busybox:1"}"#).unwrap();
    assert!(agrees(&reference, "r.example/x:v9", "docker.io/library/busybox:1"));
    assert!(!agrees(&reference, "busybox:1", "busybox:2"));
    let repository = parse(r#"{"type":"exactRepository","dockerRepository":"busybox"}"#).unwrap();
    assert!(agrees(&repository, "r.example/x:v9", "docker.io/library/busybox:5"));
    assert!(!agrees(&repository, "r.example/x:v9", "r.example/x:v9"));
    assert!(parse(r#"{"type":"exactReference","dockerReference":"busybox"}"#).is_err());
    assert!(parse(r#"{"type":"exactReference"}"#).is_err());
    assert!(parse(r#"{"type":"matchExact","prefix":"a"}"#).is_err());
    assert!(parse(r#"{"type":"whatever"}"#).is_err());
}

#[test]
fn a_remapped_name_keeps_what_follows_its_start() {
    let remap = |prefix: &str, signed: &str| Identity::Remap { prefix: prefix.into(), signed_prefix: signed.into() };
    let host = remap("mirror.example:5000", "vendor.example");
    assert!(agrees(&host, "mirror.example:5000/ns/a:v1", "vendor.example/ns/a:v1"));
    assert!(!agrees(&host, "mirror.example:5000/ns/a:v1", "mirror.example:5000/ns/a:v1"));
    assert!(!agrees(&host, "mirror.example:5000/ns/a:v1", "vendor.example/ns/a:v2"));
    // Another host is not touched.
    assert!(agrees(&host, "other.example/ns/a:v1", "other.example/ns/a:v1"));
    let part = remap("r.example/ns", "vendor.example/x");
    assert!(agrees(&part, "r.example/ns/a:v1", "vendor.example/x/a:v1"));
    assert!(agrees(&part, "r.example/nsx/a:v1", "r.example/nsx/a:v1"), "a start ends at a slash");
    for bad in ["", "/a", "a/", "a/b:v1", "a b", "a@b"] {
        assert!(is_prefix(bad).is_err(), "{bad:?}");
    }
}

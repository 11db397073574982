//! The language: what is taken, what is refused, which scope applies.

#![allow(clippy::unwrap_used)]

use super::*;

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(Path::new("/etc/containers/policy.json"), text.as_bytes())
}

fn place(policy: &Policy, image: &str) -> String {
    policy.rule(&image.parse().unwrap()).place
}

#[test]
fn the_most_specific_scope_applies() {
    let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
    let scopes = [
        "",
        "r.example:5000",
        "r.example:5000/ns",
        "r.example:5000/ns/a",
        "r.example:5000/ns/a:v1",
        "*.example",
        "*.b.example",
    ];
    let scopes: Vec<String> = scopes.iter().map(|scope| format!("{scope:?}:{accept}")).collect();
    let text = format!(
        r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{}}},"dir":{{"/x":{accept}}}}}}}"#,
        scopes.join(",")
    );
    let policy = parse(&text).unwrap();
    for (image, expected) in [
        ("r.example:5000/ns/a:v1", r#"scope "r.example:5000/ns/a:v1""#),
        ("r.example:5000/ns/a:v2", r#"scope "r.example:5000/ns/a""#),
        ("r.example:5000/ns/b", r#"scope "r.example:5000/ns""#),
        ("r.example:5000/nsb", r#"scope "r.example:5000""#),
        ("r.example/a", r#"scope "*.example""#),
        ("a.b.example/a", r#"scope "*.b.example""#),
        ("R.Example:5000/ns/a:v1", r#"scope "r.example:5000/ns/a:v1""#),
        ("A.B.EXAMPLE/a", r#"scope "*.b.example""#),
        ("busybox", "the default for registries"),
    ] {
        assert_eq!(place(&policy, image), expected, "{image}");
    }
    let only_default =
        parse(r#"{"default":[{"type":"reject"}],"transports":{"dir":{"":[{"type":"insecureAcceptAnything"}]}}}"#)
            .unwrap();
    assert_eq!(place(&only_default, "busybox"), "the default");
    assert_eq!(only_default.rule(&"busybox".parse().unwrap()).requirements, [Requirement::Reject]);
}

#[test]
fn the_case_of_a_host_in_a_scope_makes_no_difference() {
    let reject = r#"[{"type":"reject"}]"#;
    let with = |scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|scope| format!("{scope:?}:{reject}")).collect();
        let scopes = scopes.join(",");
        parse(&format!(r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{{scopes}}}}}}}"#))
    };
    let policy = with(&["R.Example/app", "*.Wide.Example", "S.Example"]).unwrap();
    for image in ["r.example/app", "R.EXAMPLE/app:v1", "x.wide.example/a", "s.example/b"] {
        assert_eq!(policy.rule(&image.parse().unwrap()).requirements, [Requirement::Reject], "{image}");
    }
    let error = with(&["r.example/app", "R.example/app"]).unwrap_err().to_string();
    assert!(error.contains("comes twice"), "{error}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let with = |requirement: &str| {
        format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"r.example":[{requirement}]}}}}}}"#)
    };
    let gpg = |more: &str| with(&format!(r#"{{"type":"signedBy","keyType":"GPGKeys"{more}}}"#));
    let cosign = |more: &str| with(&format!(r#"{{"type":"sigstoreSigned"{more}}}"#));
    for (text, expected) in [
        ("{".to_owned(), "line 1 column"),
        ("{}".to_owned(), "default"),
        (r#"{"default":[]}"#.to_owned(), "default is empty"),
        (r#"{"default":[{"type":"reject"}],"more":1}"#.to_owned(), "unknown field `more`"),
        (
            r#"{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}"#.to_owned(),
            "duplicate field",
        ),
        (r#"{"default":[{"type":"reject"}],"transports":{"docker":{},"docker":{}}}"#.to_owned(), "comes twice"),
        (with(r#"{"type":"reject","type":"insecureAcceptAnything"}"#), "duplicate field"),
        (with(r#"{"type":"reject"}],"r.example":[{"type":"insecureAcceptAnything"}"#), "comes twice"),
        (with(""), r#"transports.docker."r.example" is empty"#),
        (with(r#"{"type":"rejekt"}"#), r#"transports.docker."r.example"[0]: the type "rejekt""#),
        (with("{}"), "the type is missing"),
        (with(r#"{"type":"reject","keyPath":"/k"}"#), "no other fields"),
        (with(r#"{"type":"signedBy","keyPath":"/k"}"#), "keyType is missing"),
        (with(r#"{"type":"signedBy","keyType":"x","keyPath":"/k"}"#), "keyType \"x\""),
        (gpg(""), "no key is given"),
        (gpg(r#","keyPath":"/k","keyData":"aaaa""#), "only one of"),
        (gpg(r#","keyPaths":[]"#), "empty list"),
        (gpg(r#","keyPath":"k""#), "not absolute"),
        (gpg(r#","keyData":"!""#), "base64"),
        (gpg(r#","keyPath":"/k","rekorPublicKeyPath":"/r""#), "signedBy takes"),
        (gpg(r#","keyPath":"/k","signedIdentity":{"type":"x"}"#), "unknown type"),
        (gpg(r#","keyPath":"/k","signedIdentity":{"type":"matchExact","more":1}"#), "unknown field `more`"),
        (gpg(r#","keypath":"/k""#), "unknown field `keypath`"),
        (cosign(""), "exactly one of"),
        (cosign(r#","keyPath":"/k","fulcio":{}"#), "exactly one of"),
        (cosign(r#","keyPath":"/k","keyPaths":["/l"]"#), "only one of"),
        (cosign(r#","keyPath":"/k","rekorPublicKeyPath":"/r","rekorPublicKeyData":"aaaa""#), "only one of rekor"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("/etc/containers/policy.json"), "{text}: {error}");
    }
}

#[test]
fn what_is_not_verified_refuses_only_where_it_is_required() {
    let fulcio = r#"{"type":"sigstoreSigned","fulcio":{"caPath":"/f"},"rekorPublicKeyPath":"/r"}"#;
    let x509 = r#"{"type":"signedBy","keyType":"X509Certificates","keyPath":"/k"}"#;
    let text = format!(
        r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{"r.example":[{fulcio},{x509}]}}}}}}"#
    );
    let policy = parse(&text).unwrap();
    let rule = policy.rule(&"r.example/a".parse().unwrap());
    assert!(rule.requirements.iter().all(|one| matches!(one, Requirement::Unsupported(_))), "{rule:?}");
    assert_eq!(policy.rule(&"busybox".parse().unwrap()).requirements, [Requirement::Accept]);
}

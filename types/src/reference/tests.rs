//! Normal forms, refusals, and properties of image references.

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    text.parse::<ImageReference>().map(|r| r.to_string()).unwrap_or_else(|e| format!("error: {e}"))
}

#[test]
fn short_names_become_full() {
    let hex = "0123456789abcdef".repeat(4);
    for (short, full) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest"),
        ("Registry/app", "Registry/app:latest"),
    ] {
        assert_eq!(canonical(short), full);
    }
    let digest = format!("sha256:{hex}");
    assert_eq!(canonical(&format!("busybox@{digest}")), format!("docker.io/library/busybox@{digest}"));
    assert_eq!(canonical(&format!("busybox:1@{digest}")), format!("docker.io/library/busybox:1@{digest}"));
    let both: ImageReference = format!("busybox:1@{digest}").parse().unwrap();
    assert_eq!(both.canonical(), format!("docker.io/library/busybox@{digest}"));
}

#[test]
fn malformed_references_are_refused() {
    let hex = "a".repeat(64);
    let long = "a".repeat(300);
    let tag = format!("a:{}", "t".repeat(129));
    for bad in [
        "",
        ":",
        "@",
        "/",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a@",
        "A",
        "user/App",
        "a:-tag",
        "a:.tag",
        "a b",
        "a\n",
        "a\0",
        "..",
        "../a",
        "a/../b",
        "a_-b",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "host.:5000/a",
        "host:/a",
        "host:port/a",
        "host:99999/a",
        "[::1/a",
        "[zz]/a",
        "a@sha256:abc",
        "a@md5:abc",
        "https://host/a",
        &hex,
        &long,
        &tag,
        "a?b",
        "a%2fb",
        "é",
    ] {
        assert!(bad.parse::<ImageReference>().is_err(), "{bad:?} was taken as {}", canonical(bad));
    }
}

#[test]
fn a_short_name_is_as_long_as_it_is_spelled_out() {
    let name = "a".repeat(237);
    let kept = canonical(&name);
    assert_eq!(canonical(&kept), kept);
    let longer = format!("{name}a").parse::<ImageReference>();
    assert_eq!(longer.unwrap_err(), ReferenceError::NameTooLong { length: 256 });
}

#[test]
fn ten_megabytes_give_a_short_error() {
    for huge in ["a".repeat(10 << 20), format!("a:{}", "t".repeat(10 << 20)), format!("a@{}", "x".repeat(10 << 20))] {
        assert!(huge.parse::<ImageReference>().unwrap_err().to_string().len() < 300);
    }
}

proptest! {
    #[test]
    fn never_panics_and_is_stable(text in "\\PC{0,80}") {
        if let Ok(reference) = text.parse::<ImageReference>() {
            let again: ImageReference = reference.to_string().parse().unwrap();
            prop_assert_eq!(&again, &reference);
            prop_assert!(reference.tag().is_some() || reference.digest().is_some());
        }
    }

    #[test]
    fn well_formed_names_are_taken(
        host in "([a-z]{1,8}\\.[a-z]{2,4}(:[1-9][0-9]{0,3})?/)?",
        path in "[a-z0-9]{1,8}([_-][a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,2}",
        tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
    ) {
        let reference: ImageReference = format!("{host}{path}{tag}").parse().unwrap();
        prop_assert!(reference.repository().ends_with(&path) || host.is_empty());
        let again: ImageReference = reference.canonical().parse().unwrap();
        prop_assert_eq!(again, reference);
    }
}

use std::process::Command;

use super::*;
use crate::base;
use crate::image::{Compression, ImageBuilder, LayerBuilder};

fn skopeo(words: &[&str]) -> String {
    let output = Command::new("skopeo").args(words).output().expect("skopeo is installed");
    assert!(output.status.success(), "skopeo {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_reads_what_was_pushed() {
    let registry = Registry::builder().start().unwrap();
    for (format, tag) in [(Format::Oci, "oci"), (Format::Docker, "docker")] {
        let image = ImageBuilder::new(format).layer(&base::busybox_layer().unwrap()).build();
        let reference = registry.push(&image, "library/busybox", tag).unwrap();
        let seen = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{reference}")]);
        assert!(seen.contains(&image.manifest.digest), "{seen}");
        let dir = tempfile::tempdir().unwrap();
        let copy = format!("dir:{}", dir.path().display());
        skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{reference}"), &copy]);
    }
}

#[test]
fn an_index_is_served_for_this_platform() {
    let registry = Registry::builder().start().unwrap();
    let layer = LayerBuilder::new().file("marker", 0o644, b"x").finish(Compression::Zstd).unwrap();
    let ours = ImageBuilder::new(Format::Oci).layer(&layer).build();
    let other = ImageBuilder::new(Format::Oci).layer(&layer).platform("linux", "s390x").build();
    let reference = registry.push_index(Format::Oci, &[&other, &ours], "multi", "1").unwrap();
    let seen = skopeo(&["inspect", "--config", "--tls-verify=false", &format!("docker://{reference}")]);
    assert!(!seen.contains("s390x"), "{seen}");
}

#[test]
fn tls_and_accounts_are_asked_for() {
    let registry = Registry::builder().tls().account("ann", "secret").start().unwrap();
    let image = base::variant("tls", |image| image).unwrap();
    let reference = format!("docker://{}", registry.push(&image, "private", "1").unwrap());
    let certificates = tempfile::tempdir().unwrap();
    std::fs::copy(registry.ca().unwrap(), certificates.path().join("ca.crt")).unwrap();
    let certificates = certificates.path().display().to_string();
    skopeo(&["inspect", "--creds", "ann:secret", "--cert-dir", &certificates, &reference]);
    let refused = Command::new("skopeo").args(["inspect", "--cert-dir", &certificates, &reference]).output().unwrap();
    assert!(!refused.status.success());
}

#[test]
fn images_are_the_same_each_time() {
    let make = || base::variant("same", |image| image.set("User", serde_json::json!("1002"))).unwrap();
    assert_eq!(make().manifest.digest, make().manifest.digest);
}

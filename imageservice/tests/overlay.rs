//! Pulled layers as overlayfs shows them, against what unpacking one onto the other would give. Mounts, so root is needed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use podwright_testutil::Registry;
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, LayerBuilder};
use support::TestStore;

/// An overlay of an image's layers, on a tmpfs, for overlayfs does not take every file system on top.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(layers: &[PathBuf]) -> Self {
        let dir = tempfile::Builder::new().prefix("pwt-overlay-").tempdir().unwrap();
        let this = Self(dir);
        let at = this.0.path().display().to_string();
        let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
        sh(&format!(
            "mount -t tmpfs tmpfs {at} && mkdir {at}/upper {at}/work {at}/root && mount -t overlay overlay \
             -o lowerdir={},upperdir={at}/upper,workdir={at}/work {at}/root",
            lower.join(":")
        ));
        this
    }

    /// Every path with its mode and owner.
    fn tree(&self) -> Vec<String> {
        let mut all = Vec::new();
        walk(&self.0.path().join("root"), "", &mut all);
        all.sort();
        all
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.0.path().display();
        sh(&format!("umount {at}/root {at}"));
    }
}

fn sh(script: &str) {
    assert!(Command::new("sh").args(["-c", script]).status().unwrap().success(), "{script}");
}

fn walk(dir: &Path, name: &str, all: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let name = format!("{name}/{}", entry.file_name().display());
        all.push(format!("{name} {:o} {}", metadata.mode() & 0o7777, metadata.uid()));
        if metadata.is_dir() {
            walk(&entry.path(), &name, all);
        }
    }
}

fn image(layers: Vec<LayerBuilder>) -> Image {
    let builder = ImageBuilder::new(Format::Oci);
    layers.into_iter().fold(builder, |b, layer| b.layer(&layer.finish(Compression::Gzip).unwrap())).build()
}

fn base() -> LayerBuilder {
    LayerBuilder::new().dir("tmp", 0o1777).dir("home", 0o711).dir("home/app", 0o700).file("home/app/old", 0o600, b"")
}

/// What a container sees of the layers.
async fn shown(test: &TestStore, registry: &Registry, name: &str, layers: Vec<LayerBuilder>) -> Vec<String> {
    let reference = registry.push(&image(layers), name, "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    let before = Mounted::new(&test.store.resolve(&reference).unwrap().layers).tree();
    let reopened = test.reopened().await;
    assert_eq!(Mounted::new(&reopened.resolve(&reference).unwrap().layers).tree(), before);
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn root_directories_that_a_layer_implies_stay_as_they_are_below() {
    let (test, registry) = (TestStore::new().await, Registry::builder().start().unwrap());
    let upper = || {
        LayerBuilder::new().file("tmp/x", 0o600, b"").file("home/app/.wh..wh..opq", 0, b"").file("new/y", 0o600, b"")
    };
    // Alone there is nobody to say more.
    assert_eq!(
        shown(&test, &registry, "alone", vec![upper()]).await,
        ["/home 755 0", "/home/app 755 0", "/new 755 0", "/new/y 600 0", "/tmp 755 0", "/tmp/x 600 0"]
    );
    let top = || LayerBuilder::new().file("home/app/z", 0o600, b"");
    assert_eq!(
        shown(&test, &registry, "onto", vec![base(), upper(), top()]).await,
        [
            "/home 711 0",
            "/home/app 700 0",
            "/home/app/z 600 0",
            "/new 755 0",
            "/new/y 600 0",
            "/tmp 1777 0",
            "/tmp/x 600 0"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn root_whiteouts_and_opaque_directories_hide_what_is_below() {
    let (test, registry) = (TestStore::new().await, Registry::builder().start().unwrap());
    let opaque = || LayerBuilder::new().file("home/.wh..wh..opq", 0o600, b"").file("home/new", 0o600, b"");
    assert_eq!(
        shown(&test, &registry, "opaque", vec![base(), opaque()]).await,
        ["/home 711 0", "/home/new 600 0", "/tmp 1777 0"]
    );
    let again = || LayerBuilder::new().whiteout("home").file("home/app/new", 0o600, b"").whiteout("tmp");
    assert_eq!(
        shown(&test, &registry, "again", vec![base(), again()]).await,
        ["/home 755 0", "/home/app 755 0", "/home/app/new 600 0"]
    );
    let fresh = || LayerBuilder::new().file(".wh..wh..opq", 0o600, b"").file("fresh", 0o600, b"");
    let top = || LayerBuilder::new().file("top", 0o600, b"");
    assert_eq!(shown(&test, &registry, "fresh", vec![base(), fresh(), top()]).await, ["/fresh 600 0", "/top 600 0"]);
}

//! A disk that fills: the pull says so, and leaves what was there as it was. Mounts, so root is needed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;

use podwright_imageservice::{ErrorKind, ImageStore};
use podwright_testutil::Registry;
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, LayerBuilder};
use support::TestStore;

/// A tmpfs of a few MiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pwt-small-").tempdir().unwrap();
        run(&["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=400", "tmpfs", &dir.path().display().to_string()]);
        Self(dir)
    }

    /// Bytes and inodes in use.
    fn used(&self) -> (u64, u64) {
        let stat = rustix::fs::statvfs(self.0.path()).unwrap();
        (stat.f_blocks - stat.f_bfree, stat.f_files - stat.f_ffree)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(&["umount", &self.0.path().display().to_string()]);
    }
}

fn run(words: &[&str]) {
    assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
}

fn image(layers: Vec<LayerBuilder>, compression: Compression) -> Image {
    let builder = ImageBuilder::new(Format::Oci);
    layers.into_iter().fold(builder, |b, layer| b.layer(&layer.finish(compression).unwrap())).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_full_disk_fails_the_pull_and_nothing_else() {
    let (registry, test, disk) = (Registry::builder().start().unwrap(), TestStore::new().await, SmallDisk::new());
    let store = ImageStore::open(&disk.0.path().join("root"), test.config.clone()).await.unwrap();
    let small = image(vec![LayerBuilder::new().file("small", 0o644, b"1")], Compression::Gzip);
    let reference = registry.push(&small, "small", "v1").unwrap();
    store.pull(&reference, None, None).await.unwrap();
    let before = (disk.used(), store.fs_info());
    let zeros = vec![0; 20 << 20];
    let files = (0..500).fold(LayerBuilder::new(), |layer, index| layer.file(&format!("f{index}"), 0o644, b""));
    for (name, layer, compression) in [
        ("blob", LayerBuilder::new().file("zeros", 0o644, &zeros), Compression::None),
        ("tree", LayerBuilder::new().file("zeros", 0o644, &zeros), Compression::Gzip),
        ("inodes", files, Compression::Gzip),
    ] {
        let good = LayerBuilder::new().file("good", 0o644, name.as_bytes());
        let reference = registry.push(&image(vec![good, layer], compression), name, "v1").unwrap();
        let error = store.pull(&reference, None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{name}: {error}");
        assert_eq!((disk.used(), store.fs_info()), before, "{name}");
    }
    assert_eq!(store.list(None).len(), 1);
    store.remove(&reference).await.unwrap();
    store.pull(&reference, None, None).await.unwrap();
    drop(store);
}

/// A byte left here or there does not matter: what is written takes pages.
fn fill(disk: &SmallDisk) {
    let script = "cd $0; cat /dev/zero > filler; i=0; while : > f$i; do i=$((i+1)); done";
    let _ = Command::new("sh")
        .args(["-c", script, &disk.0.path().display().to_string()])
        .stderr(std::process::Stdio::null())
        .status();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_images_can_be_removed_from_a_full_disk() {
    let (registry, test, disk) = (Registry::builder().start().unwrap(), TestStore::new().await, SmallDisk::new());
    let store = ImageStore::open(&disk.0.path().join("root"), test.config.clone()).await.unwrap();
    for name in ["one", "two", "three"] {
        let layer = LayerBuilder::new().file(name, 0o644, name.as_bytes());
        let reference = registry.push(&image(vec![layer], Compression::Gzip), name, "v1").unwrap();
        store.pull(&reference, None, None).await.unwrap();
    }
    for name in ["one", "two", "three"] {
        // Nothing of what a removal gave back is left for the next one.
        fill(&disk);
        store.remove(&registry.reference(name, "v1")).await.unwrap();
    }
    assert!(store.list(None).is_empty());
    drop(store);
    let store = ImageStore::open(&disk.0.path().join("root"), test.config.clone()).await.unwrap();
    assert!(store.list(None).is_empty(), "what was removed stays so");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_layer_that_finds_no_room_leaves_its_image_listed_and_comes_back() {
    let (registry, test, disk) = (Registry::builder().start().unwrap(), TestStore::new().await, SmallDisk::new());
    let root = disk.0.path().join("root");
    let store = ImageStore::open(&root, test.config.clone()).await.unwrap();
    let layer = LayerBuilder::new().file("file", 0o644, &vec![b'x'; 2 << 20]);
    let reference = registry.push(&image(vec![layer], Compression::Gzip), "torn", "v1").unwrap();
    store.pull(&reference, None, None).await.unwrap();
    let listed = store.list(None);
    store.close().await.unwrap();
    drop(store);
    // As a power cut leaves it: the blob is whole, the layer is not.
    for entry in std::fs::read_dir(root.join("layers")).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    fill(&disk);
    let store = ImageStore::open(&root, test.config.clone()).await.unwrap();
    let ids = |list: &[podwright_imageservice::ImageInfo]| list.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&store.list(None)), ids(&listed));
    let error = store.resolve(&reference).unwrap_err();
    assert!(error.kind() == ErrorKind::NoSpace && error.to_string().contains("is not unpacked"), "{error}");
    for entry in std::fs::read_dir(disk.0.path()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        std::fs::remove_file(entry.path()).unwrap();
    }
    let back = async {
        while store.resolve(&reference).is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), back).await.unwrap();
    let tree = &store.resolve(&reference).unwrap().layers[0];
    assert_eq!(std::fs::metadata(tree.join("file")).unwrap().len(), 2 << 20);
    drop(store);
}

//! Damage on the disk: found, told, and mended from the archives or from the registry. Layers hold owners, so root is needed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use podwright_imageservice::{ImageStore, Remedy, Verification};
use podwright_testutil::Registry;
use podwright_testutil::image::{Blob, Compression, Format, Image, ImageBuilder, LayerBuilder};
use support::TestStore;

fn plain() -> Registry {
    Registry::builder().start().unwrap()
}

/// Two layers; the upper one implies a directory that the lower one describes.
fn image(format: Format, marker: &str) -> Image {
    let lower = LayerBuilder::new()
        .dir("etc", 0o1750)
        .file("etc/one", 0o644, b"1")
        .file("two", 0o4755, b"22")
        .symlink("link", "two");
    let upper = LayerBuilder::new().file("etc/marker", 0o600, marker.as_bytes()).whiteout("two");
    let layer = |layer: LayerBuilder| layer.finish(Compression::Gzip).unwrap();
    ImageBuilder::new(format).layer(&layer(lower)).layer(&layer(upper)).build()
}

fn place(test: &TestStore, blob: &Blob) -> PathBuf {
    test.root().join("images/blobs").join(blob.digest.replace(':', "/"))
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Time for what comes by itself.
const SOON: Duration = Duration::from_secs(120);

/// Waits until layers are synced, so that the store's files do not change by themselves.
async fn settle(test: &TestStore) {
    let is_unsynced = || {
        let layers = std::fs::read_dir(test.root().join("layers")).unwrap();
        layers.flatten().any(|layer| {
            std::fs::read_to_string(layer.path().join("layer.json")).is_ok_and(|text| text.contains("unsynced"))
        })
    };
    let settled = async {
        while is_unsynced() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, settled).await.unwrap();
}

fn remedies(found: &Verification) -> Vec<(&str, &Remedy)> {
    found.damages.iter().map(|damage| (damage.part.split(' ').next().unwrap(), &damage.remedy)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_every_damage_is_found_told_and_mended() {
    let registry = plain();
    for format in [Format::Oci, Format::Docker] {
        let test = TestStore::new().await;
        let image = image(format, &format!("{format:?}"));
        let reference = registry.push(&image, &format!("verify-{format:?}").to_lowercase(), "v1").unwrap();
        test.store.pull(&reference, None, None).await.unwrap();
        settle(&test).await;
        let (healthy, told) = (test.listing(), test.store.list(None));
        let whole = test.store.verify(true).await.unwrap();
        assert!(whole.damages.is_empty() && whole.layers == 2 && whole.images == 1 && whole.blobs >= 4, "{whole:?}");
        assert_eq!(test.listing(), healthy);

        let layers = test.store.resolve(&reference).unwrap().layers;
        type Change<'a> = Box<dyn Fn() + 'a>;
        let blob = |blob: &Blob| -> Change<'_> {
            let path = place(&test, blob);
            Box::new(move || flip(&path))
        };
        let cases: Vec<(&str, &Remedy, Change<'_>)> = vec![
            ("blob", &Remedy::Fetched, blob(&image.layers[0].blob)),
            ("blob", &Remedy::Fetched, blob(&image.config)),
            ("blob", &Remedy::Fetched, blob(&image.manifest)),
            ("blob", &Remedy::Fetched, Box::new(|| std::fs::remove_file(place(&test, &image.layers[1].blob)).unwrap())),
            ("layer", &Remedy::Unpacked, Box::new(|| std::fs::write(layers[0].join("etc/marker"), "").unwrap())),
            ("layer", &Remedy::Unpacked, Box::new(|| std::fs::remove_file(layers[0].join("two")).unwrap())),
            (
                "layer",
                &Remedy::Unpacked,
                Box::new(|| std::os::unix::fs::chown(layers[1].join("two"), Some(7), None).unwrap()),
            ),
            ("layer", &Remedy::Unpacked, Box::new(|| std::fs::remove_dir_all(layers[1].parent().unwrap()).unwrap())),
        ];
        for (at, (part, remedy, change)) in cases.into_iter().enumerate() {
            change();
            let damaged = test.listing();
            let seen = test.store.verify(false).await.unwrap();
            // Who has no blob can not compare the layer.
            assert!(
                remedies(&seen).iter().any(|(kind, _)| *kind == part) && !seen.is_whole(),
                "{format:?} {at}: {seen:?}"
            );
            assert!(seen.damages.iter().all(|damage| damage.images.contains(&reference)), "{format:?} {at}: {seen:?}");
            assert_eq!(test.listing(), damaged, "{format:?} {at}: a look changes nothing");
            let mended = test.store.verify(true).await.unwrap();
            assert_eq!(remedies(&mended), [(part, remedy)], "{format:?} {at}: {mended:?}");
            settle(&test).await;
            assert_eq!(test.listing(), healthy, "{format:?} {at}");
            assert_eq!(test.store.list(None), told, "{format:?} {at}");
            assert!(test.store.verify(false).await.unwrap().damages.is_empty(), "{format:?} {at}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_can_not_be_mended_is_told_and_stays() {
    let (registry, test) = (plain(), TestStore::new().await);
    let image = image(Format::Oci, "lonely");
    let reference = registry.push(&image, "lonely", "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    settle(&test).await;
    drop(registry);
    flip(&place(&test, &image.layers[0].blob));
    let (before, told) = (test.listing(), test.store.list(None));
    let found = test.store.verify(true).await.unwrap();
    let failed = |(_, remedy): &(&str, &Remedy)| matches!(remedy, Remedy::Failed(_));
    assert!(remedies(&found).len() == 2 && remedies(&found).iter().all(failed) && !found.is_whole(), "{found:?}");
    // Containers can start from it as before.
    assert_eq!((test.listing(), test.store.list(None)), (before, told));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_damaged_layer_stays_while_a_container_shows_it() {
    let (registry, test) = (plain(), TestStore::new().await);
    let reference = registry.push(&image(Format::Oci, "held"), "held", "v1").unwrap();
    let id = test.store.pull(&reference, None, None).await.unwrap().id.to_string();
    settle(&test).await;
    let healthy = test.listing();
    test.store.hold(&id, "container");
    let layer = test.store.resolve(&reference).unwrap().layers[0].clone();
    std::fs::write(layer.join("etc/marker"), "damaged").unwrap();
    let shown = std::fs::File::open(layer.join("etc")).unwrap();
    assert!(test.store.verify(true).await.unwrap().is_whole());
    assert_eq!(std::fs::read(layer.join("etc/marker")).unwrap(), b"held", "new containers get the good one");
    let old = format!("/proc/self/fd/{}/marker", std::os::fd::AsRawFd::as_raw_fd(&shown));
    let old = Path::new(&old);
    assert_eq!(std::fs::read(old).unwrap(), b"damaged", "the container has what it had");
    // A daemon that starts again takes its holds, and sweeps after that.
    let store = test.reopened().await;
    store.hold(&id, "container");
    store.sweep().await.unwrap();
    assert_eq!(std::fs::read(old).unwrap(), b"damaged");
    store.release("container");
    store.sweep().await.unwrap();
    assert!(std::fs::read(old).is_err());
    settle(&test).await;
    assert_eq!(test.listing(), healthy);
}

async fn until_listed(store: &ImageStore, reference: &str) {
    let listed = async {
        while store.status(reference).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, listed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_image_that_is_not_whole_at_the_start_is_fetched_by_itself() {
    let registry = plain();
    let test = TestStore::new().await;
    let image = image(Format::Oci, "start");
    let reference = registry.push(&image, "start", "v1").unwrap();
    let by_digest = test.store.pull(&reference, None, None).await.unwrap().reference;
    settle(&test).await;
    let (healthy, told) = (test.listing(), test.store.list(None));
    let markers: Vec<PathBuf> =
        test.store.resolve(&reference).unwrap().layers.iter().map(|layer| layer.with_file_name("layer.json")).collect();
    for damage in ["torn", "shorter", "gone"] {
        match damage {
            // The layer has to be made from a blob that is damaged.
            "torn" => {
                flip(&place(&test, &image.layers[1].blob));
                std::fs::write(&markers[0], "").unwrap();
            }
            "shorter" => std::fs::write(place(&test, &image.layers[0].blob), "x").unwrap(),
            _ => std::fs::remove_file(place(&test, &image.config)).unwrap(),
        }
        let store = test.reopened().await;
        // Until it is whole it is not listed.
        until_listed(&store, &by_digest).await;
        until_listed(&store, &reference).await;
        settle(&test).await;
        assert_eq!(store.list(None), told, "{damage}");
        assert!(store.verify(false).await.unwrap().damages.is_empty(), "{damage}");
        assert_eq!(test.listing(), healthy, "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_damaged_blob_of_another_image_does_not_spoil_a_pull() {
    let (registry, test) = (plain(), TestStore::new().await);
    let one = image(Format::Oci, "one");
    test.store.pull(&registry.push(&one, "shared", "one").unwrap(), None, None).await.unwrap();
    settle(&test).await;
    flip(&place(&test, &one.layers[0].blob));
    std::fs::remove_dir_all(test.store.resolve(one.id()).unwrap().layers[1].parent().unwrap()).unwrap();
    // The lower layer is that of both, has to be unpacked, and its blob is there and damaged.
    std::fs::remove_file(test.root().join("images/index.json")).unwrap();
    let store = test.reopened().await;
    let two = image(Format::Oci, "two");
    let reference = registry.push(&two, "shared", "two").unwrap();
    store.pull(&reference, None, None).await.unwrap();
    assert!(store.verify(false).await.unwrap().damages.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_layers_are_looked_at_after_an_end_without_warning_and_not_after_another() {
    let (registry, test) = (plain(), TestStore::new().await);
    let reference = registry.push(&image(Format::Oci, "cut"), "cut", "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    settle(&test).await;
    let marker = test.store.resolve(&reference).unwrap().layers[0].join("etc/marker");
    let mode = std::fs::metadata(&marker).unwrap().permissions();
    for (is_closed, is_mended) in [(false, true), (true, false)] {
        // A file system that lost what it had promised: no longer what it was, and the mark says that it is.
        std::fs::write(&marker, "").unwrap();
        let opened = test.root().join("store.boot");
        if is_closed {
            test.store.close().await.unwrap();
            assert!(!opened.exists());
        } else {
            std::fs::write(&opened, "another boot").unwrap();
        }
        let store = test.reopened().await;
        assert!(opened.exists());
        assert_eq!(std::fs::read(&marker).unwrap() == b"cut", is_mended, "closed: {is_closed}");
        assert!(store.status(&reference).is_some());
        settle(&test).await;
        std::fs::set_permissions(&marker, mode.clone()).unwrap();
    }
}

/// A link to itself: the kernel refuses to read it, as it does on an error of the disk. That says nothing of the image, and costs neither
/// the others nor its place in the index; and it can be pulled again over it.
#[tokio::test(flavor = "multi_thread")]
async fn root_what_can_not_be_read_is_left_out_and_nothing_is_removed() {
    let mut registry = plain();
    let test = TestStore::new().await;
    let (image, beside) = (image(Format::Oci, "unread"), image(Format::Oci, "beside"));
    let reference = registry.push(&image, "unread", "v1").unwrap();
    let beside = registry.push(&beside, "beside", "v1").unwrap();
    for reference in [&reference, &beside] {
        test.store.pull(reference, None, None).await.unwrap();
    }
    settle(&test).await;
    let (before, index) = (test.listing(), std::fs::read(test.root().join("images/index.json")).unwrap());
    let config = place(&test, &image.config);
    let aside = test.dir().join("aside");
    std::fs::rename(&config, &aside).unwrap();
    std::os::unix::fs::symlink(&config, &config).unwrap();
    registry.kill().unwrap();
    {
        let store = test.reopened().await;
        assert!(store.resolve(&beside).is_ok());
        assert!(store.status(&reference).is_none());
        assert_eq!(std::fs::read(test.root().join("images/index.json")).unwrap(), index);
    }
    std::fs::remove_file(&config).unwrap();
    std::fs::rename(&aside, &config).unwrap();
    assert_eq!(test.listing(), before);
    assert!(test.reopened().await.resolve(&reference).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_can_not_be_read_or_is_absent_is_pulled_again() {
    let (registry, test) = (plain(), TestStore::new().await);
    let image = image(Format::Oci, "unread");
    let reference = registry.push(&image, "unread", "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    settle(&test).await;
    let config = place(&test, &image.config);
    std::fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink(&config, &config).unwrap();
    comes_back(&test.reopened().await, &reference).await;
    assert!(std::fs::symlink_metadata(&config).unwrap().is_file());
    // What is absent is damage, and fetched again too.
    std::fs::remove_file(&config).unwrap();
    comes_back(&test.reopened().await, &reference).await;
}

async fn comes_back(store: &ImageStore, reference: &str) {
    let back = async {
        while store.resolve(reference).is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, back).await.unwrap();
}

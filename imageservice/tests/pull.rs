//! Pulls from Debian's docker-registry, and what the store says and does afterwards. Layers hold owners, so root is needed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::process::Command;
use std::sync::{Arc, Mutex};

use podwright_imageservice::{Auth, ErrorKind, ImageUser, LayerState, Progress};
use podwright_testutil::image::{Blob, Compression, Format, Image, ImageBuilder, LayerBuilder};
use podwright_testutil::{Registry, base};
use support::TestStore;

fn plain() -> Registry {
    Registry::builder().start().unwrap()
}

fn small(format: Format, compression: Compression, marker: &str) -> Image {
    let lower = LayerBuilder::new().dir("etc", 0o755).file("etc/one", 0o644, b"1").file("etc/two", 0o644, b"2");
    let upper = LayerBuilder::new().dir("etc", 0o755).whiteout("etc/one").file("marker", 0o4755, marker.as_bytes());
    ImageBuilder::new(format)
        .layer(&lower.finish(compression).unwrap())
        .layer(&upper.finish(compression).unwrap())
        .set("User", serde_json::json!("1000:1000"))
        .set("Labels", serde_json::json!({"a": "b"}))
        .build()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_each_format_and_compression_is_pulled_and_read_by_skopeo() {
    let registry = plain();
    for format in [Format::Oci, Format::Docker] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let test = TestStore::new().await;
            let image = small(format, compression, &format!("{format:?}{compression:?}"));
            let name = format!("small-{format:?}-{compression:?}").to_lowercase();
            let reference = registry.push(&image, &name, "v1").unwrap();
            let pulled = test.store.pull(&reference, None, None).await.unwrap();
            assert_eq!(pulled.id.as_str(), image.id());
            assert_eq!(pulled.reference, format!("{}/{name}@{}", registry.address(), image.manifest.digest));

            let resolved = test.store.resolve(&reference).unwrap();
            assert_eq!(resolved.config.user, "1000:1000");
            assert_eq!(resolved.config.labels, BTreeMap::from([("a".into(), "b".into())]));
            assert_eq!(resolved.layers.len(), 2);
            let marker = resolved.layers[0].join("marker");
            assert_eq!(std::fs::symlink_metadata(&marker).unwrap().mode() & 0o7777, 0o4755);
            let whiteout = std::fs::symlink_metadata(resolved.layers[0].join("etc/one")).unwrap();
            assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
            assert_eq!(std::fs::read(resolved.layers[1].join("etc/two")).unwrap(), b"2");

            let info = test.store.status(&reference).unwrap();
            assert_eq!(info.user, ImageUser::Uid(1000));
            assert_eq!(info.repo_tags, [reference.as_str()]);
            assert_eq!(info.repo_digests, [pulled.reference.as_str()]);
            // skopeo itself does not know zstd in Docker's manifests, wherever they are.
            let is_known = (format, compression) != (Format::Docker, Compression::Zstd);
            for name in [reference.as_str(), &pulled.reference].into_iter().filter(|_| is_known) {
                let place = format!("oci:{}:{name}", test.root().join("images").display());
                let output = Command::new("skopeo").args(["inspect", &place]).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert!(String::from_utf8_lossy(&output.stdout).contains(&image.layers[0].blob.digest));
            }
            assert_eq!(test.reopened().await.list(None), test.store.list(None));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_index_gives_the_image_of_this_platform() {
    let registry = plain();
    for format in [Format::Oci, Format::Docker] {
        let test = TestStore::new().await;
        let fitting = base::busybox().unwrap();
        let other = ImageBuilder::new(format).layer(&fitting.layers[0]).platform("linux", "s390x").build();
        let name = format!("multi-{format:?}").to_lowercase();
        let reference = registry.push_index(format, &[&other, &fitting], &name, "latest").unwrap();
        let pulled = test.store.pull(&reference, None, None).await.unwrap();
        assert_eq!(pulled.id.as_str(), fitting.id());
        assert_ne!(pulled.reference.split('@').nth(1), Some(fitting.manifest.digest.as_str()));
        let place = format!("oci:{}:{reference}", test.root().join("images").display());
        let output = Command::new("skopeo").args(["inspect", &place]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(test.reopened().await.list(None), test.store.list(None));

        let other_only = registry.push_index(format, &[&other], &name, "other").unwrap();
        let before = test.listing();
        let error = test.store.pull(&other_only, None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let single = registry.push(&other, &name, "single").unwrap();
        let error = test.store.pull(&single, None, None).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("s390x"), "{error}");
        assert_eq!(test.listing(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_names_ids_prefixes_and_moved_tags() {
    let registry = plain();
    let pins = ["registry.example/pause:1", "*/app:*"].map(|pin| pin.parse().unwrap());
    let test = TestStore::with(|config| config.pinned = pins.to_vec()).await;
    let (first, second) = (small(Format::Oci, Compression::Gzip, "1"), small(Format::Oci, Compression::Gzip, "2"));
    let reference = registry.push(&first, "app", "latest").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    let by_digest = format!("{}/app@{}", registry.address(), first.manifest.digest);
    test.store.pull(&by_digest, None, None).await.unwrap();
    let hex = first.id().strip_prefix("sha256:").unwrap();
    for name in [reference.as_str(), first.id(), hex, &hex[..12], &by_digest, &format!("{}/app", registry.address())] {
        assert_eq!(test.store.status(name).unwrap().id.as_str(), first.id(), "{name}");
        assert_eq!(test.store.list(Some(name)).len(), 1, "{name}");
    }
    for name in ["", "a", "nothing", "sha256:", &hex[..2], "!!", &"f".repeat(64)] {
        assert!(test.store.status(name).is_none(), "{name:?}");
    }
    registry.push(&second, "app", "latest").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    assert_eq!(test.store.status(&reference).unwrap().id.as_str(), second.id());
    let old = test.store.status(first.id()).unwrap();
    assert!(old.repo_tags.is_empty() && old.repo_digests == [by_digest]);
    assert_eq!(test.store.list(None).len(), 2);
    assert_eq!(test.reopened().await.list(None), test.store.list(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_removal_frees_all_that_nobody_uses() {
    let registry = plain();
    let test = TestStore::new().await;
    let empty = test.listing();
    let (first, second) = (small(Format::Oci, Compression::Gzip, "1"), small(Format::Oci, Compression::Gzip, "2"));
    let first_name = registry.push(&first, "app", "one").unwrap();
    let second_name = registry.push(&second, "app", "two").unwrap();
    let second_tag = registry.push(&second, "app", "again").unwrap();
    test.store.pull(&first_name, None, None).await.unwrap();
    let only_first = test.listing();
    test.store.pull(&second_name, None, None).await.unwrap();
    test.store.pull(&second_tag, None, None).await.unwrap();
    assert_eq!(test.store.status(second.id()).unwrap().repo_tags.len(), 2);
    test.store.remove(&second_name).await.unwrap();
    assert!(test.store.status(second.id()).is_none() && test.store.status(&second_tag).is_none());
    let without_index = |listing: &BTreeMap<String, (u32, u64)>| {
        listing
            .iter()
            .filter(|(name, _)| *name != "images/index.json")
            .map(|(k, v)| (k.clone(), *v))
            .collect::<Vec<_>>()
    };
    assert_eq!(without_index(&test.listing()), without_index(&only_first));
    let hex = first.id().strip_prefix("sha256:").unwrap();
    test.store.remove(hex).await.unwrap();
    test.store.remove("unknown:v1").await.unwrap();
    assert_eq!(without_index(&test.listing()), without_index(&empty));
    assert_eq!(test.store.fs_info().used_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_held_layers_outlive_their_image_and_a_restart() {
    let registry = plain();
    let test = TestStore::new().await;
    let image = small(Format::Oci, Compression::Gzip, "held");
    let reference = registry.push(&image, "held", "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    let layers = test.store.resolve(&reference).unwrap().layers;
    test.store.hold(image.id(), "container-1");
    test.store.hold(image.id(), "container-2");
    test.store.remove(&reference).await.unwrap();
    assert!(test.store.list(None).is_empty() && test.store.resolve(&reference).is_err());
    assert_eq!(test.store.resolve(image.id()).unwrap().layers, layers);
    assert!(layers.iter().all(|layer| layer.exists()));

    let store = test.reopened().await;
    store.hold(image.id(), "container-1");
    let index =
        || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(test.root().join("images/index.json")).unwrap());
    let before = index();
    store.sweep().await.unwrap();
    // A list that stays the same is not written, which would wait for the disk.
    assert_eq!(index(), before);
    assert!(store.list(None).is_empty() && layers.iter().all(|layer| layer.exists()));
    store.release("unknown");
    store.release("container-1");
    store.sweep().await.unwrap();
    assert!(layers.iter().all(|layer| !layer.exists()));
    assert_eq!(store.fs_info().used_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_removed_image_that_is_held_can_be_pulled_again() {
    let registry = plain();
    let test = TestStore::new().await;
    let image = small(Format::Oci, Compression::Gzip, "again");
    let reference = registry.push(&image, "again", "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    test.store.hold(image.id(), "container");
    test.store.remove(image.id()).await.unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    test.store.release("container");
    test.store.sweep().await.unwrap();
    assert_eq!(test.store.list(None).len(), 1);
    assert!(test.store.resolve(&reference).unwrap().layers.iter().all(|layer| layer.exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_sizes_are_those_of_the_disk() {
    let registry = plain();
    let test = TestStore::new().await;
    let reference = registry.push(&base::busybox().unwrap(), "busybox", "latest").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    let images = test.root().join("images/blobs");
    let output = Command::new("du").args(["-s", "-B1"]).arg(test.root().join("layers")).arg(&images).output().unwrap();
    let du: u64 = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap())
        .sum();
    let info = test.store.fs_info();
    assert!(info.used_bytes.abs_diff(du) < 40_000, "{} and du says {du}", info.used_bytes);
    assert_eq!(test.store.status(&reference).unwrap().size_bytes, info.used_bytes);
    assert!(info.path.is_dir() && info.inodes_used > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_progress_is_told() {
    let registry = plain();
    let test = TestStore::new().await;
    let reference = registry.push(&small(Format::Oci, Compression::Gzip, "p"), "progress", "v1").unwrap();
    let news: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let sink = Arc::clone(&news);
    let progress = Arc::new(move |piece| sink.lock().unwrap().push(piece));
    test.store.pull(&reference, None, Some(progress)).await.unwrap();
    let news = news.lock().unwrap();
    assert!(matches!(news.first(), Some(Progress::Resolved { layers: 2, .. })));
    let done = news.iter().filter(|n| matches!(n, Progress::Layer { state: LayerState::Done, .. })).count();
    assert_eq!(done, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_tls_and_basic_authentication() {
    let registry = Registry::builder().tls().account("user", "pass:word").start().unwrap();
    let test = TestStore::new().await;
    let before = test.listing();
    let reference = registry.push(&small(Format::Oci, Compression::Gzip, "tls"), "secret", "v1").unwrap();
    let host = registry.address().to_owned();
    let auth = Auth { username: "user".into(), password: "pass:word".into(), ..Auth::default() };
    // An unknown authority.
    test.write_hosts(&host, &format!("server = \"https://{host}\"\n"));
    let error = test.store.pull(&reference, Some(auth.clone()), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable);
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    let ca = registry.ca().unwrap().display();
    test.write_hosts(&host, &format!("server = \"https://{host}\"\nca = \"{ca}\"\n"));
    let error = test.store.pull(&reference, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let wrong = Auth { password: "wrong".into(), ..auth.clone() };
    let error = test.store.pull(&reference, Some(wrong), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!error.to_string().contains("wrong"));
    assert_eq!(test.listing(), before);
    test.store.pull(&reference, Some(auth.clone()), None).await.unwrap();
    test.store.remove(&reference).await.unwrap();
    test.write_hosts(&host, &format!("server = \"https://{host}\"\nskip_verify = true\n"));
    let encoded = Auth { auth: "dXNlcjpwYXNzOndvcmQ=".into(), ..Auth::default() };
    test.store.pull(&reference, Some(encoded), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_docker_credentials_and_mirrors() {
    let registry = Registry::builder().account("user", "pass").start().unwrap();
    let image = small(Format::Docker, Compression::Gzip, "mirror");
    registry.push(&image, "library/app", "v1").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let auths = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, registry.address());
    std::fs::write(file.path(), auths).unwrap();
    let test = TestStore::with(|config| config.docker_config = Some(file.path().to_owned())).await;
    // The first mirror is down, the second may not resolve tags, the third serves.
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hosts = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://{down}\"]\n[host.\"http://127.0.0.1:2\"]\ncapabilities = [\"push\"]\n\
         [host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        registry.address()
    );
    test.write_hosts("docker.io", &hosts);
    let pulled = test.store.pull("app:v1", None, None).await.unwrap();
    assert_eq!(pulled.reference, format!("docker.io/library/app@{}", image.manifest.digest));
    assert_eq!(test.store.status("app:v1").unwrap().repo_tags, ["docker.io/library/app:v1"]);
    let error = test.store.pull("app:none", None, None).await.unwrap_err();
    assert!(error.to_string().contains("mirrors failed before"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_missing_images_and_bad_names_are_told() {
    let registry = plain();
    let test = TestStore::new().await;
    let before = test.listing();
    let missing = format!("{}/missing:v1", registry.address());
    let error = test.store.pull(&missing, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(&missing) && error.to_string().contains(registry.address()), "{error}");
    for bad in ["", "UPPER/Case", "a b", "app@sha256:123", "\0", &"x".repeat(10 << 20), "../../etc", "http://x/y"] {
        let error = test.store.pull(bad, None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().len() < 600);
    }
    assert_eq!(test.listing(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_was_left_half_done_is_swept_and_torn_layers_are_unpacked_again() {
    let registry = plain();
    let test = TestStore::new().await;
    let image = small(Format::Oci, Compression::Gzip, "damage");
    let reference = registry.push(&image, "damage", "v1").unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    let layers: Vec<_> = test.store.resolve(&reference).unwrap().layers;
    let markers: Vec<_> = layers.iter().map(|layer| layer.with_file_name("layer.json")).collect();
    let is_synced = |marker: &std::path::PathBuf| !std::fs::read_to_string(marker).unwrap().contains("unsynced");
    while !markers.iter().all(is_synced) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let healthy = test.listing();
    // As after a power cut: one layer without its marker, one of an earlier boot that was never synced, and torn.
    std::fs::remove_file(&markers[0]).unwrap();
    let torn = std::fs::read_to_string(&markers[1]).unwrap().replacen('{', "{\"unsyncedSinceBoot\":\"earlier\",", 1);
    std::fs::write(&markers[1], torn).unwrap();
    std::fs::write(layers[1].join("etc/two"), "").unwrap();
    std::fs::write(test.root().join("ingest/left-over"), "x").unwrap();
    std::fs::create_dir_all(test.root().join("ingest/abc.unpack/fs")).unwrap();
    std::fs::create_dir_all(test.root().join("layers/0123/fs")).unwrap();
    std::fs::write(test.root().join("images/blobs/sha256/no-digest"), "x").unwrap();
    let store = test.reopened().await;
    assert_eq!(store.list(None), test.store.list(None));
    assert_eq!(std::fs::read(layers[1].join("etc/two")).unwrap(), b"2");
    while !markers.iter().all(is_synced) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(test.listing(), healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_size_that_is_wrong_is_found_for_parts_that_are_here_too() {
    let (registry, test) = (plain(), TestStore::new().await);
    let image = small(Format::Oci, Compression::Gzip, "sizes");
    test.store.pull(&registry.push(&image, "sizes", "v1").unwrap(), None, None).await.unwrap();
    let before = test.listing();
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    for part in ["/layers/0/size", "/config/size"] {
        let honest = manifest.pointer(part).unwrap().clone();
        *manifest.pointer_mut(part).unwrap() = serde_json::json!(honest.as_u64().unwrap() + 1);
        let mut lying = image.clone();
        lying.manifest = Blob::new(manifest.to_string().into_bytes());
        *manifest.pointer_mut(part).unwrap() = honest;
        let error = test.store.pull(&registry.push(&lying, "sizes", "v2").unwrap(), None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert_eq!(test.listing(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_layers_made_to_be_fetched_in_parts_are_pulled_whole() {
    let registry = plain();
    let from = registry.push(&small(Format::Oci, Compression::Gzip, "chunked"), "small", "v1").unwrap();
    let to = registry.reference("chunked", "v1");
    let output = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-compress-format", "zstd:chunked"])
        .args([format!("docker://{from}"), format!("docker://{to}")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let test = TestStore::new().await;
    test.store.pull(&to, None, None).await.unwrap();
    let layers = test.store.resolve(&to).unwrap().layers;
    test.store.pull(&from, None, None).await.unwrap();
    assert_eq!(test.store.resolve(&from).unwrap().layers, layers, "the same content in another form");
    let place = format!("docker://{to}");
    let raw = Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &place]).output().unwrap();
    let raw = String::from_utf8(raw.stdout).unwrap();
    assert!(raw.contains("zstd-chunked"), "skopeo made no chunks: {raw}");
}

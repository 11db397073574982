//! Encrypted images, made by skopeo with keys of openssl. Layers hold owners, so root is needed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use podwright_imageservice::ErrorKind;
use podwright_testutil::Registry;
use podwright_testutil::image::{Blob, Compression, Format, Image, ImageBuilder, LayerBuilder, sha256};
use serde_json::{Value, json};
use support::TestStore;

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A private key, with its public one beside it as `<name>.pub`.
fn key(directory: &Path, name: &str, words: &[&str]) -> PathBuf {
    std::fs::create_dir_all(directory).unwrap();
    let private = directory.join(name);
    let path = private.display().to_string();
    let kind = if words[0] == "ecparam" { "ec" } else { "pkey" };
    run("openssl", &[&[words[0], "-out", &path], &words[1..]].concat());
    let public = directory.parent().unwrap().join(format!("{name}.pub"));
    run("openssl", &[kind, "-in", &path, "-pubout", "-out", &public.display().to_string()]);
    public
}

const RSA: &[&str] = &["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
/// As PKCS#1, which older tools write.
const OLD_RSA: &[&str] = &["genrsa", "-traditional", "2048"];
const EC: &[&str] = &["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const EC_384: &[&str] = &["genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
/// As SEC 1.
const OLD_EC_521: &[&str] = &["ecparam", "-name", "secp521r1", "-genkey", "-noout"];
/// With the parameters before it.
const EC_AND_PARAMETERS: &[&str] = &["ecparam", "-name", "prime256v1", "-genkey"];

/// Two layers, the upper one of some size.
fn image(compression: Compression) -> Image {
    let mut state = 1_u32;
    let mut noise = || {
        for (left, shift) in [(true, 13), (false, 17), (true, 5)] {
            state ^= if left { state << shift } else { state >> shift };
        }
        state.to_be_bytes()[0]
    };
    let noise: Vec<u8> = (0..400_000).map(|_| noise()).collect();
    let lower = LayerBuilder::new().dir("etc", 0o755).file("etc/secret", 0o600, b"the secret");
    let upper = LayerBuilder::new().file("noise", 0o4755, &noise);
    ImageBuilder::new(Format::Oci)
        .layer(&lower.finish(compression).unwrap())
        .layer(&upper.finish(compression).unwrap())
        .build()
}

fn encrypt(registry: &Registry, from: &str, name: &str, words: &[&str]) -> String {
    let to = registry.reference(name, "v1");
    let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    run("skopeo", &[&copy, words, &[&format!("docker://{from}"), &format!("docker://{to}")]].concat());
    to
}

fn to(public: &Path) -> String {
    format!("jwe:{}", public.display())
}

async fn store() -> TestStore {
    TestStore::with(|config| {
        config.decryption_keys_dir = Some(config.hosts_dir.as_ref().unwrap().with_file_name("keys"))
    })
    .await
}

fn keys(test: &TestStore) -> PathBuf {
    test.dir().join("keys")
}

#[tokio::test(flavor = "multi_thread")]
async fn root_keys_of_each_kind_open_what_skopeo_encrypted() {
    let registry = Registry::builder().start().unwrap();
    for (kind, compression) in [
        (RSA, Compression::Gzip),
        (OLD_RSA, Compression::None),
        (EC, Compression::Zstd),
        (EC_384, Compression::Gzip),
        (OLD_EC_521, Compression::Gzip),
    ] {
        let test = store().await;
        let public = key(&keys(&test), "node.pem", kind);
        let plain = image(compression);
        let from = registry.push(&plain, "plain", "v1").unwrap();
        let reference = encrypt(&registry, &from, "sealed", &["--encryption-key", &to(&public)]);
        test.store.pull(&reference, None, None).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let resolved = test.store.resolve(&reference).unwrap();
        assert_eq!(std::fs::read(resolved.layers[1].join("etc/secret")).unwrap(), b"the secret");
        assert_eq!(std::fs::metadata(resolved.layers[0].join("noise")).unwrap().len(), 400_000);
        // What we keep is what was pulled: skopeo opens it with the same key, and has the plain image's blobs then.
        let opened = test.dir().join("opened").display().to_string();
        let place = format!("oci:{}:{reference}", test.root().join("images").display());
        let (given, private) = (keys(&test).join("node.pem"), test.dir().join("pkcs8.pem").display().to_string());
        // It does not read SEC 1.
        run("openssl", &["pkey", "-in", &given.display().to_string(), "-out", &private]);
        run("skopeo", &["copy", "--decryption-key", &private, &place, &format!("dir:{opened}")]);
        // What is not compressed it has compressed before.
        for layer in plain.layers.iter().filter(|_| !matches!(compression, Compression::None)) {
            let hash = layer.blob.digest.strip_prefix("sha256:").unwrap();
            assert!(Path::new(&opened).join(hash).exists(), "{kind:?}");
        }
        // The same layers as those of the plain image: one that was pulled before it fetches no layer again.
        test.store.pull(&from, None, None).await.unwrap();
        assert_eq!(test.store.resolve(&from).unwrap().layers, resolved.layers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_without_the_key_nothing_is_fetched_or_kept() {
    let registry = Registry::builder().start().unwrap();
    let test = store().await;
    let public = key(&test.dir().join("elsewhere/keys"), "right.pem", RSA);
    let from = registry.push(&image(Compression::Gzip), "plain", "v1").unwrap();
    let reference = encrypt(&registry, &from, "sealed", &["--encryption-key", &to(&public)]);
    let before = test.listing();
    let refused = async |part: &str| {
        let error = test.store.pull(&reference, None, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(test.listing(), before);
    };
    let directory = keys(&test).display().to_string();
    refused(&format!("{directory} (it has 0)")).await;
    key(&keys(&test), "wrong.pem", RSA);
    key(&keys(&test), "wrong-curve.pem", EC);
    std::fs::write(keys(&test).join("note.txt"), "no key").unwrap();
    std::fs::write(keys(&test).join("broken.pem"), "-----BEGIN PRIVATE KEY-----\n%%%\n-----END PRIVATE KEY-----\n")
        .unwrap();
    refused(&format!("{directory} (it has 2)")).await;
    // A key that comes later is seen, and once it is gone the image can not be pulled again, although its layers are here.
    let right = keys(&test).join("right.pem");
    std::os::unix::fs::symlink(test.dir().join("elsewhere/keys/right.pem"), &right).unwrap();
    test.store.pull(&reference, None, None).await.unwrap();
    std::fs::remove_file(&right).unwrap();
    let error = test.store.pull(&reference, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(test.store.resolve(&reference).is_ok(), "what is here stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_several_recipients_and_some_layers() {
    let registry = Registry::builder().start().unwrap();
    let test = store().await;
    let others: Vec<String> = [("a.pem", RSA), ("b.pem", EC)]
        .iter()
        .map(|(name, kind)| to(&key(&test.dir().join("others/keys"), name, kind)))
        .collect();
    let own = to(&key(&keys(&test), "own.pem", EC_AND_PARAMETERS));
    let from = registry.push(&image(Compression::Gzip), "plain", "v1").unwrap();
    let words = ["--encryption-key", &others[0], "--encryption-key", &own, "--encryption-key", &others[1]];
    let all = encrypt(&registry, &from, "all", &words);
    test.store.pull(&all, None, None).await.unwrap();
    test.store.remove(&all).await.unwrap();
    let one = encrypt(&registry, &from, "one", &["--encrypt-layer", "1", "--encryption-key", &own]);
    test.store.pull(&one, None, None).await.unwrap();
}

/// The manifest at a reference.
fn manifest(registry: &Registry, name: &str) -> Value {
    let place = format!("docker://{}", registry.reference(name, "v1"));
    let output = Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &place]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn blob(registry: &Registry, digest: &str) -> Vec<u8> {
    registry.storage().blob(digest).unwrap()
}

/// Serves an image whose upper layer has other bytes, with digests that fit: what an attacker can do who owns the registry.
fn serve_changed(registry: &Registry, name: &str, change: impl FnOnce(&mut Vec<u8>, &mut Value)) -> String {
    let mut manifest = manifest(registry, "sealed");
    let mut bytes = blob(registry, manifest["layers"][1]["digest"].as_str().unwrap());
    change(&mut bytes, &mut manifest["layers"][1]["annotations"]);
    let digest = sha256(&bytes);
    manifest["layers"][1]["digest"] = json!(digest);
    manifest["layers"][1]["size"] = json!(bytes.len());
    for part in [&manifest["config"], &manifest["layers"][0]] {
        let digest = part["digest"].as_str().unwrap();
        registry.storage().put_blob(name, digest, &blob(registry, digest)).unwrap();
    }
    registry.storage().put_blob(name, &digest, &bytes).unwrap();
    let text = manifest.to_string().into_bytes();
    registry.storage().put_manifest(name, Some("v1"), &Blob::new(text)).unwrap();
    registry.reference(name, "v1")
}

#[tokio::test(flavor = "multi_thread")]
async fn root_changed_content_is_not_kept() {
    let registry = Registry::builder().start().unwrap();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let test = store().await;
        let public = key(&keys(&test), "node.pem", EC);
        let from = registry.push(&image(compression), "plain", "v1").unwrap();
        let sealed = encrypt(&registry, &from, "sealed", &["--encryption-key", &to(&public)]);
        let before = test.listing();
        let refused = async |reference: String| {
            let error = test.store.pull(&reference, None, None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("HMAC"), "{error}");
            assert_eq!(test.listing(), before);
        };
        refused(serve_changed(&registry, "flipped", |bytes, _| bytes[70_000] ^= 1)).await;
        refused(serve_changed(&registry, "at-end", |bytes, _| *bytes.last_mut().unwrap() ^= 1)).await;
        refused(serve_changed(&registry, "truncated", |bytes, _| bytes.truncate(bytes.len() - 1))).await;
        refused(serve_changed(&registry, "longer", |bytes, _| bytes.push(0))).await;
        refused(serve_changed(&registry, "other-hmac", |_, annotations| {
            // Of another layer.
            let lower = manifest(&registry, "sealed")["layers"][0]["annotations"].clone();
            annotations["org.opencontainers.image.enc.pubopts"] = lower["org.opencontainers.image.enc.pubopts"].clone();
        }))
        .await;
        test.store.pull(&sealed, None, None).await.unwrap();
    }
}

/// A store with an encrypted image, and its layers.
async fn pulled(registry: &Registry) -> (TestStore, String, Vec<PathBuf>) {
    let test = store().await;
    let public = key(&keys(&test), "node.pem", RSA);
    let from = registry.push(&image(Compression::Gzip), "plain", "v1").unwrap();
    let reference = encrypt(registry, &from, "sealed", &["--encryption-key", &to(&public)]);
    test.store.pull(&reference, None, None).await.unwrap();
    let layers = test.store.resolve(&reference).unwrap().layers;
    (test, reference, layers)
}

/// Removes an unpacked layer, which the store may be marking as synced at that moment.
fn remove(layer: &Path) {
    let directory = layer.parent().unwrap();
    for _ in 0..500 {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_damaged_layers_are_made_anew_with_the_key() {
    let registry = Registry::builder().start().unwrap();
    let (test, reference, layers) = pulled(&registry).await;
    std::fs::write(layers[0].join("noise"), b"damaged").unwrap();
    let found = test.store.verify(true).await.unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert_eq!(std::fs::metadata(layers[0].join("noise")).unwrap().len(), 400_000);
    // One that is gone is unpacked again at the next start.
    remove(&layers[1]);
    let again = test.reopened().await;
    assert!(again.status(&reference).is_some());
    assert_eq!(std::fs::read(layers[1].join("etc/secret")).unwrap(), b"the secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_image_whose_key_is_gone_stays_listed_at_a_start() {
    let registry = Registry::builder().start().unwrap();
    let (test, reference, layers) = pulled(&registry).await;
    std::fs::remove_dir_all(keys(&test)).unwrap();
    remove(&layers[1]);
    let again = test.reopened().await;
    assert!(again.status(&reference).is_some() && !layers[1].exists());
}

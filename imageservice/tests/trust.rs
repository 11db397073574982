//! Signature policies on real registries, with signatures by gpg, openssl and skopeo. Layers hold owners, so root is needed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwright_imageservice::{Auth, ErrorKind, ImageError, Patience, Progress, ProgressFn, PulledImage, TrustConfig};
use podwright_testutil::Registry;
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, LayerBuilder, index};
use podwright_testutil::signing::{Gpg, KeyPair, cosign_manifest, cosign_payload, simple_payload};
use support::TestStore;
use support::server::{Answer, Server, answer, head};

/// A store with policies in a directory of its own.
struct Trusting {
    test: TestStore,
    registry: Registry,
}

impl Trusting {
    async fn new() -> Self {
        Self::with(Registry::builder().start().unwrap()).await
    }

    async fn with(registry: Registry) -> Self {
        Self::with_patience(registry, |_| {}).await
    }

    async fn with_patience(registry: Registry, change: impl FnOnce(&mut Patience)) -> Self {
        let test = TestStore::with(|config| {
            config.patience.response = Duration::from_millis(1500);
            change(&mut config.patience);
            // Beside the hosts, so that it ends with the store.
            let dir = config.hosts_dir.as_ref().unwrap().parent().unwrap().to_owned();
            config.trust = Some(TrustConfig {
                policy: Some(dir.join("policy.json")),
                policy_dir: Some(dir.join("policies")),
                registries_dir: dir.join("registries.d"),
            });
        })
        .await;
        let dir = test.dir();
        for name in ["policies", "registries.d", "lookaside"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let this = Self { test, registry };
        this.say_where(&format!("lookaside: file://{}", this.lookaside().display()), true);
        this
    }

    fn lookaside(&self) -> PathBuf {
        self.test.dir().join("lookaside")
    }

    fn say_where(&self, lookaside: &str, attachments: bool) {
        let text = format!("default-docker:\n  {lookaside}\n  use-sigstore-attachments: {attachments}\n");
        std::fs::write(self.test.dir().join("registries.d/default.yaml"), text).unwrap();
    }

    fn policy(&self, requirements: &str) {
        self.write("policy.json", requirements);
    }

    fn write(&self, name: &str, requirements: &str) {
        std::fs::write(self.test.dir().join(name), format!(r#"{{"default":[{requirements}]}}"#)).unwrap();
    }

    fn push(&self, marker: &str, name: &str) -> (Image, String) {
        let layer = LayerBuilder::new().file("marker", 0o644, marker.as_bytes()).finish(Compression::Gzip).unwrap();
        let image = ImageBuilder::new(Format::Oci).layer(&layer).build();
        let reference = self.registry.push(&image, name, "v1").unwrap();
        (image, reference)
    }

    /// Puts simple signatures beside the registry.
    fn beside(&self, name: &str, digest: &str, signatures: &[Vec<u8>]) {
        let dir = self.lookaside().join(format!("{name}@{}", digest.replace(':', "=")));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (number, signature) in signatures.iter().enumerate() {
            std::fs::write(dir.join(format!("signature-{}", number + 1)), signature).unwrap();
        }
    }

    /// Puts signatures into the registry as cosign does.
    fn attach(&self, name: &str, digest: &str, signatures: &[(Vec<u8>, String)]) {
        self.attach_with(name, digest, signatures, |payload| Some(payload.to_vec()));
    }

    /// The same with something else, or nothing, in place of payloads.
    fn attach_with(
        &self,
        name: &str,
        digest: &str,
        signatures: &[(Vec<u8>, String)],
        put: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) {
        let signatures: Vec<_> =
            signatures.iter().map(|(p, s)| (p.clone(), s.clone(), serde_json::json!({}))).collect();
        let (manifest, blobs) = cosign_manifest(&signatures);
        for blob in blobs {
            if let Some(bytes) = put(&blob.bytes) {
                self.registry.storage().put_blob(name, &blob.digest, &bytes).unwrap();
            }
        }
        let tag = format!("{}.sig", digest.replace(':', "-"));
        self.registry.storage().put_manifest(name, Some(&tag), &manifest).unwrap();
    }

    async fn pull(&self, reference: &str) -> Result<PulledImage, ImageError> {
        self.test.store.pull(reference, None, None).await
    }

    /// A pull that the policy refuses, and that leaves nothing.
    async fn refused(&self, reference: &str) -> String {
        let before = self.test.listing();
        let error = self.pull(reference).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Untrusted, "{error}");
        assert_eq!(self.test.listing(), before, "a refused pull leaves something");
        error.to_string()
    }
}

fn gpg_keys(path: &Path) -> String {
    format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":{path:?}}}"#)
}

fn cosign_key(path: &Path) -> String {
    format!(r#"{{"type":"sigstoreSigned","keyPath":{path:?},"signedIdentity":{{"type":"matchRepository"}}}}"#)
}

/// A home of gpg with one key, exported into the store's directory.
fn gpg(trusting: &Trusting, user: &str) -> (Gpg, PathBuf) {
    let gpg = Gpg::new().unwrap();
    gpg.generate(user, "ed25519", "never").unwrap();
    let path = trusting.test.dir().join(format!("{user}.gpg"));
    std::fs::write(&path, gpg.public_key(user).unwrap()).unwrap();
    (gpg, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_skopeo_signs_is_taken_and_nothing_else() {
    let trusting = Trusting::new().await;
    let (gpg, key) = gpg(&trusting, "one@example");
    let (_, other) = self::gpg(&trusting, "two@example");
    let (image, source) = trusting.push("signed", "source");
    let target = format!("{}/ns/signed:v1", trusting.registry.address());
    let registries = trusting.test.dir().join("skopeo.d");
    std::fs::create_dir(&registries).unwrap();
    let place = format!("default-docker:\n  lookaside-staging: file://{}\n", trusting.lookaside().display());
    std::fs::write(registries.join("default.yaml"), place).unwrap();
    let copy = |more: &[&str]| {
        let mut command = Command::new("skopeo");
        command.arg("--registries.d").arg(&registries).args(["--insecure-policy", "copy", "--src-tls-verify=false"]);
        command.args(["--dest-tls-verify=false"]).args(more).env("GNUPGHOME", gpg.home());
        command.args([format!("docker://{source}"), format!("docker://{target}")]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    copy(&[]);
    trusting.policy(&gpg_keys(&key));
    let error = trusting.refused(&target).await;
    assert!(error.contains("has none") && error.contains("lookaside") && error.contains("policy.json"), "{error}");
    copy(&["--sign-by", "one@example"]);
    trusting.pull(&target).await.unwrap();
    trusting.test.store.remove(&target).await.unwrap();
    trusting.policy(&gpg_keys(&other));
    assert!(trusting.refused(&target).await.contains("none of these keys"));

    // Debian's skopeo does not sign in cosign's format, so openssl does. Both, each by its own key; and by the digest too.
    let pair = KeyPair::generate("ec:P-256").unwrap();
    let cosign = cosign_key(&pair.public_key());
    trusting.policy(&format!("{},{cosign}", gpg_keys(&key)));
    assert!(trusting.refused(&target).await.contains("sigstoreSigned"));
    let payload = cosign_payload(&target.replace(":v1", ""), &image.manifest.digest);
    let signature = pair.sign(&payload).unwrap();
    trusting.attach("ns/signed", &image.manifest.digest, &[(payload, signature)]);
    let pulled = trusting.pull(&target).await.unwrap();
    trusting.pull(&pulled.reference).await.unwrap();
    let another = KeyPair::generate("ec:P-256").unwrap();
    trusting.policy(&cosign_key(&another.public_key()));
    let error = trusting.pull(&target).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Untrusted && error.to_string().contains("not by this key"), "{error}");
    // Tags of signatures do not count unless a file says so.
    trusting.policy(&cosign);
    trusting.say_where(&format!("lookaside: file://{}", trusting.lookaside().display()), false);
    trusting.test.store.remove(&target).await.unwrap();
    assert!(trusting.refused(&target).await.contains("use-sigstore-attachments"));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_signatures_of_others_are_refused_whatever_they_look_like() {
    let trusting = Trusting::new().await;
    let (gpg, key) = gpg(&trusting, "one@example");
    let (image, reference) = trusting.push("one", "app");
    let digest = &image.manifest.digest;
    let sign = |payload: &[u8]| gpg.sign("one@example", payload).unwrap();
    let good = sign(&simple_payload(&reference, digest));
    trusting.policy(&gpg_keys(&key));
    let huge = vec![b'x'; 2 << 20];
    let cut = good[..good.len() / 2].to_vec();
    let other_name = sign(&simple_payload(&reference.replace("app:v1", "other:v1"), digest));
    let other_image = sign(&simple_payload(&reference, &format!("sha256:{}", "0".repeat(64))));
    for (signatures, expected) in [
        (vec![cut], "broken"),
        (vec![other_name], "other:v1"),
        (vec![other_image], "not for this one"),
        (vec![sign(b"{}")], "can not be read"),
        (vec![Vec::new()], "no OpenPGP message"),
        (vec![huge, good.clone()], "more than"),
        (vec![b"x".to_vec(); 1000], "more than 128 signatures"),
    ] {
        trusting.beside("app", digest, &signatures);
        let error = trusting.refused(&reference).await;
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // A signature of one image, moved to another of the same repository.
    let (second, second_reference) = trusting.push("two", "app");
    trusting.beside("app", &second.manifest.digest, std::slice::from_ref(&good));
    assert!(trusting.refused(&second_reference).await.contains("not for this one"));
    // Bad ones do not spoil a good one.
    let (_, reference) = trusting.push("one", "app");
    trusting.beside("app", digest, &[b"x".to_vec(), good.clone()]);
    trusting.pull(&reference).await.unwrap();

    let pair = KeyPair::generate("ec:P-256").unwrap();
    trusting.policy(&cosign_key(&pair.public_key()));
    trusting.test.store.remove(&reference).await.unwrap();
    let payload = cosign_payload(&reference, digest);
    let signature = pair.sign(&payload).unwrap();
    for (signatures, expected) in [
        (vec![(payload.clone(), "!".to_owned())], "base64"),
        (
            vec![(
                cosign_payload("another.example/app", digest),
                pair.sign(&cosign_payload("another.example/app", digest)).unwrap(),
            )],
            "another.example/app",
        ),
        (vec![(cosign_payload(&reference, digest), pair.sign(b"another").unwrap())], "not by this key"),
        (vec![(payload.clone(), signature.clone()); 200], "more than 128 signatures"),
        (vec![(vec![b'x'; 2 << 20], signature.clone())], "bytes"),
    ] {
        trusting.attach("app", digest, &signatures);
        let error = trusting.refused(&reference).await;
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // Nor do payloads that are no such: too large, another text than the digest says, not there. One good signature decides.
    let others = [b"changed".to_vec(), b"too short".to_vec(), b"gone".to_vec(), vec![b'x'; 2 << 20]];
    let bad: Vec<_> = others.iter().map(|other| (other.clone(), signature.clone())).collect();
    let spoilt = |payload: &[u8]| match payload {
        b"changed" => Some(b"CHANGED".to_vec()),
        b"too short" => Some(Vec::new()),
        b"gone" => None,
        whole => Some(whole.to_vec()),
    };
    trusting.attach_with("app", digest, &bad, spoilt);
    let error = trusting.refused(&reference).await;
    assert!(error.contains("has none") && error.contains("4 could not be read"), "{error}");
    trusting.attach_with("app", digest, &[bad, vec![(payload, signature)]].concat(), spoilt);
    trusting.pull(&reference).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_manifest_that_is_unpacked_has_to_be_signed() {
    let trusting = Trusting::new().await;
    let pair = KeyPair::generate("ec:P-256").unwrap();
    trusting.policy(&cosign_key(&pair.public_key()));
    let (fitting, _) = trusting.push("fitting", "multi");
    let other = ImageBuilder::new(Format::Oci).layer(&fitting.layers[0]).platform("linux", "s390x").build();
    let reference = trusting.registry.push_index(Format::Oci, &[&other, &fitting], "multi", "all").unwrap();
    let (_, list) = index(Format::Oci, &[&other, &fitting]);
    let sign = |digest: &str| {
        let payload = cosign_payload(&reference, digest);
        let signature = pair.sign(&payload).unwrap();
        (payload, signature)
    };
    trusting.attach("multi", &list.digest, &[sign(&list.digest)]);
    let error = trusting.refused(&reference).await;
    assert!(error.contains("--recursive"), "{error}");
    // The index's signature does not serve under the manifest's name either.
    trusting.attach("multi", &fitting.manifest.digest, &[sign(&list.digest)]);
    assert!(trusting.refused(&reference).await.contains("not for this one"));
    trusting.attach("multi", &fitting.manifest.digest, &[sign(&fitting.manifest.digest)]);
    trusting.pull(&reference).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_lookaside_server_is_asked_and_not_waited_for_without_end() {
    let trusting = Trusting::new().await;
    let (gpg, key) = gpg(&trusting, "one@example");
    trusting.policy(&gpg_keys(&key));
    let (image, reference) = trusting.push("one", "ns/app");
    let digest = image.manifest.digest.clone();
    let good = gpg.sign("one@example", &simple_payload(&reference, &digest)).unwrap();
    let expected = format!("/base/ns/app@{}/signature-", digest.replace(':', "="));
    let server = Server::start(move |asked| match asked.path.strip_prefix(&expected) {
        Some("1") => answer("200 OK", &[], &good),
        Some("2") => answer("404 Not Found", &[], b""),
        _ => answer("500 Internal Server Error", &[], b""),
    });
    trusting.say_where(&format!("lookaside: http://{}/base/", server.address), false);
    trusting.pull(&reference).await.unwrap();
    trusting.test.store.remove(&reference).await.unwrap();
    for (script, expected) in [
        (Box::new(|| Answer::Hang(Vec::new())) as Box<dyn Fn() -> Answer + Send + Sync>, "no answer within"),
        (Box::new(|| answer("500 Internal Server Error", &[], b"")), "500"),
        (Box::new(|| Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx".to_vec())), "broke off"),
    ] {
        let server = Server::start(move |_| script());
        trusting.say_where(&format!("lookaside: http://{}", server.address), false);
        let before = trusting.test.listing();
        let error = trusting.pull(&reference).await.unwrap_err();
        assert!(error.kind() == ErrorKind::RegistryUnavailable && error.to_string().contains(expected), "{error}");
        assert_eq!(trusting.test.listing(), before);
    }
    trusting.say_where("lookaside: ftp://server", false);
    assert!(trusting.refused(&reference).await.contains("ftp://server"));
    trusting.say_where("lookaside: [", false);
    assert!(trusting.refused(&reference).await.contains("default.yaml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_broken_policy_refuses_what_it_is_for() {
    let trusting = Trusting::new().await;
    let (_, reference) = trusting.push("one", "app");
    let pull = async |tenant: &str| trusting.test.store.pull_for(tenant, &reference, None, None).await;
    let refused = async |tenant: &str, expected: &str| {
        let error = pull(tenant).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Untrusted && error.to_string().contains(expected), "{expected}: {error}");
    };
    refused("", "policy.json can not be read").await;
    trusting.write("policy.json", r#"{"type":"insecureAcceptAnything"}"#);
    trusting.write("policies/wrong.json", r#"{"type":"nonsense"}"#);
    trusting.write("policies/strict.json", r#"{"type":"reject"}"#);
    symlink("/no/such/file", trusting.test.dir().join("policies/dangling.json")).unwrap();
    refused("wrong", "nonsense").await;
    refused("strict", "rejects").await;
    refused("dangling", "dangling.json").await;
    for tenant in ["../policy", "a/b", ".", "..", ".hidden", "a b", "a\u{e9}"] {
        assert_eq!(pull(tenant).await.unwrap_err().kind(), ErrorKind::Invalid, "{tenant:?}");
    }
    assert!(trusting.test.listing().keys().all(|name| !name.contains("blobs/sha256/")), "something was written");
    pull("").await.unwrap();
    pull("another").await.unwrap();
    // Mended without a restart.
    trusting.write("policies/strict.json", r#"{"type":"insecureAcceptAnything"}"#);
    pull("strict").await.unwrap();
    // The directory may not be mounted yet.
    std::fs::remove_dir_all(trusting.test.dir().join("policies")).unwrap();
    refused("another", "refused until the directory is there").await;
    pull("").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_an_image_pulled_for_one_tenant_is_not_there_for_another() {
    let trusting = Trusting::new().await;
    let (gpg, key) = gpg(&trusting, "one@example");
    trusting.policy(r#"{"type":"insecureAcceptAnything"}"#);
    trusting.write("policies/strict.json", &gpg_keys(&key));
    let (image, reference) = trusting.push("one", "app");
    let (id, digest) = (image.id().to_owned(), image.manifest.digest.clone());
    trusting.pull(&reference).await.unwrap();
    let store = &trusting.test.store;
    let refused = async |asked: &str, expected: &str| {
        let error = store.allow(&id, asked, "strict").await.unwrap_err();
        assert!(error.kind() == ErrorKind::Untrusted && error.to_string().contains(expected), "{error}");
    };
    store.allow(&id, &reference, "").await.unwrap();
    for asked in [reference.as_str(), id.as_str(), ""] {
        refused(asked, "has none").await;
    }
    let good = gpg.sign("one@example", &simple_payload(&reference, &digest)).unwrap();
    trusting.beside("app", &digest, &[good]);
    for asked in [reference.as_str(), id.as_str(), ""] {
        store.allow(&id, asked, "strict").await.unwrap();
    }
    // A name that it has not says nothing: its own is asked about.
    store.allow(&id, &reference.replace("app", "other"), "strict").await.unwrap();
    // What decided is kept: neither the lookaside nor the registry is needed any more, also after a restart.
    std::fs::remove_dir_all(trusting.lookaside()).unwrap();
    store.allow(&id, &reference, "strict").await.unwrap();
    let again = trusting.test.reopened().await;
    again.allow(&id, &reference, "strict").await.unwrap();
    // Another key in the same file.
    let (_, other) = self::gpg(&trusting, "two@example");
    let first = std::fs::read(&key).unwrap();
    std::fs::copy(&other, &key).unwrap();
    for store in [store, &again] {
        assert_eq!(store.allow(&id, &reference, "strict").await.unwrap_err().kind(), ErrorKind::Untrusted);
    }
    std::fs::write(&key, first).unwrap();
    again.allow(&id, &reference, "strict").await.unwrap();
    // A kept signature is judged like any other.
    let kept: Vec<_> = std::fs::read_dir(trusting.test.root().join("signatures")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    std::fs::write(kept[0].path(), "{").unwrap();
    trusting.test.reopened().await.allow(&id, &reference, "strict").await.unwrap_err();
    store.remove(&reference).await.unwrap();
    assert!(!kept[0].path().exists(), "signatures of an image that is gone");
    assert_eq!(store.allow(&id, &reference, "strict").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// What the user wrote comes from the outside, and so does a part of an id that can be read as a name of the default registry.
#[tokio::test(flavor = "multi_thread")]
async fn root_a_name_that_the_image_has_not_decides_nothing() {
    let trusting = Trusting::new().await;
    let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
    trusting.policy(r#"{"type":"insecureAcceptAnything"}"#);
    let write_strict = |scopes: &str| {
        let text = format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{{scopes}}}}}}}"#);
        std::fs::write(trusting.test.dir().join("policies/strict.json"), text).unwrap();
    };
    write_strict(&format!(r#""docker.io":{accept}"#));
    let (first, reference) = trusting.push("one", "app");
    let id = first.id().to_owned();
    trusting.pull(&reference).await.unwrap();
    let store = &trusting.test.store;
    let hex = id.strip_prefix("sha256:").unwrap();
    let invented = ["docker.io/library/other:v1", "other", "app:v1"].map(str::to_owned);
    let of_id = [id.clone(), id[..19].to_owned(), hex[..12].to_owned(), hex.to_owned(), String::new()];
    for asked in of_id.iter().chain(&invented) {
        assert_eq!(
            store.status(asked).map(|found| found.id.to_string()),
            of_id[..4].contains(asked).then(|| id.clone())
        );
        let error = store.allow(&id, asked, "strict").await.unwrap_err();
        assert!(error.kind() == ErrorKind::Untrusted && error.to_string().contains("rejects"), "{asked:?}: {error}");
    }
    // The tag moved on; who asked for it before still gets the older image by that name, and by no tag of another repository.
    trusting.push("two", "app");
    trusting.pull(&reference).await.unwrap();
    write_strict(&format!(r#""{reference}":{accept}"#));
    store.allow(&id, &reference, "strict").await.unwrap();
    store.allow(&id, &reference.replace("app", "other"), "strict").await.unwrap_err();
    store.allow(&id, "", "strict").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_signatures_for_another_tenant_are_there_without_credentials() {
    let registry = Registry::builder().account("user", "secret").start().unwrap();
    let trusting = Trusting::with(registry).await;
    let pairs: Vec<KeyPair> = (0..3).map(|_| KeyPair::generate("ec:P-256").unwrap()).collect();
    trusting.policy(r#"{"type":"reject"}"#);
    for (tenant, pair) in ["one", "two", "three"].iter().zip(&pairs) {
        trusting.write(&format!("policies/{tenant}.json"), &cosign_key(&pair.public_key()));
    }
    let (image, reference) = trusting.push("private", "app");
    let digest = &image.manifest.digest;
    let payload = cosign_payload(&reference, digest);
    let signed: Vec<_> = pairs[..2].iter().map(|pair| (payload.clone(), pair.sign(&payload).unwrap())).collect();
    trusting.attach("app", digest, &signed);
    let auth = Auth { username: "user".into(), password: "secret".into(), ..Auth::default() };
    let store = &trusting.test.store;
    store.pull_for("one", &reference, Some(auth.clone()), None).await.unwrap();
    store.allow(image.id(), &reference, "two").await.unwrap();
    let error = store.allow(image.id(), &reference, "three").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Untrusted && error.to_string().contains("imagePullPolicy: Always"), "{error}");
    trusting.attach("app", digest, &[(payload.clone(), pairs[2].sign(&payload).unwrap())]);
    store.pull_for("three", &reference, Some(auth), None).await.unwrap();
    // What is kept for one is not lost to another.
    let again = trusting.test.reopened().await;
    for tenant in ["one", "two", "three"] {
        again.allow(image.id(), &reference, tenant).await.unwrap();
    }
}

/// They are kept early, and the image is listed when its layers are there.
#[tokio::test(flavor = "multi_thread")]
async fn root_signatures_of_a_pull_under_way_stay_when_another_image_is_removed() {
    let trusting = Trusting::new().await;
    let (gpg, key) = gpg(&trusting, "one@example");
    trusting.policy(r#"{"type":"insecureAcceptAnything"}"#);
    let (_, other) = trusting.push("other", "other");
    trusting.pull(&other).await.unwrap();
    trusting.policy(&gpg_keys(&key));
    let (image, reference) = trusting.push("one", "app");
    let digest = &image.manifest.digest;
    let good = gpg.sign("one@example", &simple_payload(&reference, digest)).unwrap();
    trusting.beside("app", digest, &[good]);
    let (reached, is_checked) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let gates = Mutex::new(Some((reached, may_go_on)));
    // Told between the check and the fetching of layers.
    let progress: ProgressFn = Arc::new(move |news| {
        let gates = if matches!(news, Progress::Resolved { .. }) { gates.lock().unwrap().take() } else { None };
        if let Some((reached, may_go_on)) = gates {
            reached.send(()).unwrap();
            tokio::task::block_in_place(|| may_go_on.recv().unwrap());
        }
    });
    let (store, asked) = (trusting.test.store.clone(), reference.clone());
    let pull = tokio::spawn(async move { store.pull(&asked, None, Some(progress)).await });
    is_checked.await.unwrap();
    trusting.test.store.remove(&other).await.unwrap();
    go_on.send(()).unwrap();
    pull.await.unwrap().unwrap();
    std::fs::remove_dir_all(trusting.lookaside()).unwrap();
    trusting.test.reopened().await.allow(image.id(), &reference, "").await.unwrap();
}

/// A container that is to be removed waits for the answer.
#[tokio::test(flavor = "multi_thread")]
async fn root_many_names_take_no_longer_than_one() {
    let trusting = Trusting::with_patience(Registry::builder().start().unwrap(), |patience| {
        patience.response = Duration::from_secs(2);
        patience.signatures = Duration::from_secs(6);
    })
    .await;
    let (_, key) = gpg(&trusting, "one@example");
    let accept = r#"{"type":"insecureAcceptAnything"}"#;
    trusting.policy(accept);
    let (image, _) = trusting.push("one", "app");
    for tag in ["v1", "v2", "v3"] {
        let reference = trusting.registry.push(&image, "app", tag).unwrap();
        trusting.pull(&reference).await.unwrap();
    }
    trusting.policy(&gpg_keys(&key));
    let refused = async || trusting.test.store.allow(image.id(), "", "").await.unwrap_err();
    let ask = |server: &Server| trusting.say_where(&format!("lookaside: http://{}", server.address), false);
    // None there: once from the repository, whatever the number of its tags.
    let server = Server::start(|_| answer("404 Not Found", &[], b""));
    ask(&server);
    assert_eq!(refused().await.kind(), ErrorKind::Untrusted);
    assert_eq!(server.asked().len(), 1);
    // Silence ends it for the other repositories of this registry.
    trusting.policy(accept);
    let other = trusting.registry.push(&image, "other", "v1").unwrap();
    trusting.pull(&other).await.unwrap();
    trusting.policy(&gpg_keys(&key));
    let server = Server::start(|_| Answer::Hang(Vec::new()));
    ask(&server);
    assert_eq!(refused().await.kind(), ErrorKind::RegistryUnavailable);
    assert_eq!(server.asked().len(), 1);
    // With another registry there would be time for two.
    trusting.policy(accept);
    let address = trusting.registry.address();
    trusting.test.write_hosts("vendor.invalid", &format!("server = \"http://{address}\"\n"));
    trusting.pull("vendor.invalid/app:v1").await.unwrap();
    trusting.policy(&gpg_keys(&key));
    let server = Server::start(|_| Answer::Trickle(head("200 OK", &[], 1 << 20)));
    ask(&server);
    let error = refused().await;
    assert!(error.kind() == ErrorKind::RegistryUnavailable && error.to_string().contains("within 6s"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_mirror_serves_signatures_for_the_name_that_was_asked_for() {
    let trusting = Trusting::new().await;
    let pair = KeyPair::generate("ed25519").unwrap();
    trusting.policy(&cosign_key(&pair.public_key()));
    let mirror = trusting.registry.address().to_owned();
    trusting.test.write_hosts("vendor.invalid", &format!("server = \"http://{mirror}\"\n[host.\"http://{mirror}\"]\n"));
    let (image, at_mirror) = trusting.push("one", "app");
    let digest = &image.manifest.digest;
    let sign = |name: &str| {
        let payload = cosign_payload(name, digest);
        let signature = pair.sign(&payload).unwrap();
        (payload, signature)
    };
    trusting.attach("app", digest, &[sign(&at_mirror)]);
    assert!(trusting.refused("vendor.invalid/app:v1").await.contains(&mirror));
    trusting.attach("app", digest, &[sign("vendor.invalid/app")]);
    trusting.pull("vendor.invalid/app:v1").await.unwrap();
    assert!(trusting.pull(&at_mirror).await.unwrap_err().to_string().contains("vendor.invalid/app"));
}

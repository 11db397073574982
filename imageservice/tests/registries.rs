//! registries.conf, with Debian's docker-registry as registries and mirrors, and skopeo as the other reader of the same file.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Command;

use podwright_imageservice::{Auth, ErrorKind, ImageConfig};
use podwright_testutil::Registry;
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, LayerBuilder};
use support::TestStore;
use support::server::{Server, answer};

fn image(marker: &str) -> Image {
    let layer = LayerBuilder::new().file("marker", 0o644, marker.as_bytes()).finish(Compression::Gzip).unwrap();
    ImageBuilder::new(Format::Oci).layer(&layer).build()
}

fn write(test: &TestStore, text: &str) {
    std::fs::write(test.dir().join("registries.conf"), text).unwrap();
}

/// The digest of what a name is, by skopeo with the same file; or what it says.
fn skopeo(file: &Path, name: &str) -> Result<String, String> {
    let output = Command::new("skopeo")
        .args(["--registries-conf"])
        .arg(file)
        .args(["inspect", "--no-tags", "--format", "{{.Digest}}", &format!("docker://{name}")])
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_same_endpoints_are_taken_as_by_skopeo() {
    let (one, other) = (Registry::builder().start().unwrap(), Registry::builder().tls().start().unwrap());
    let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The same names mean other images in each, so that the digest tells who answered.
    let (in_one, in_other) = (image("one"), image("other"));
    for name in ["app", "deep/app", "deep/down/app"] {
        one.push(&in_one, name, "v1").unwrap();
        other.push(&in_other, name, "v1").unwrap();
    }
    let text = format!(
        r#"
[[registry]]
prefix = "r.example"
location = "{one}"
insecure = true
[[registry.mirror]]
location = "{down}"
[[registry.mirror]]
location = "{other}/deep"
insecure = true
pull-from-mirror = "digest-only"

[[registry]]
prefix = "r.example/team"
location = "{one}/deep"
insecure = true
[[registry.mirror]]
location = "{other}/deep/down"
insecure = true

[[registry]]
prefix = "*.wild.example"
location = "{one}/deep/down"
insecure = true

[[registry]]
prefix = "strict.example"
location = "{other}"

[[registry]]
prefix = "r.example/team/secret"
location = "{one}/deep"
insecure = true
blocked = false

[[registry]]
prefix = "no.example"
location = "{one}/blocked"
blocked = true
"#,
        one = one.address(),
        other = other.address()
    );
    let test = TestStore::new().await;
    write(&test, &text);
    let (first, second) = (in_one.manifest.digest.as_str(), in_other.manifest.digest.as_str());
    for (name, expected) in [
        ("r.example/app:v1".to_owned(), Some(first)),
        // A mirror for digests alone; the registry itself does not have this one.
        (format!("r.example/app@{second}"), Some(second)),
        ("r.example/team/app:v1".to_owned(), Some(second)),
        // Not at the mirror, but at the registry.
        (format!("r.example/team/app@{first}"), Some(first)),
        ("a.b.wild.example/app:v1".to_owned(), Some(first)),
        // An unknown authority is only taken where that is said.
        ("strict.example/app:v1".to_owned(), None),
        ("no.example/app:v1".to_owned(), None),
    ] {
        let other = skopeo(&test.dir().join("registries.conf"), &name);
        assert_eq!(other.as_deref().ok(), expected, "skopeo, {name}: {other:?}");
        let pulled = test.store.pull(&name, None, None).await;
        let digest = pulled.as_ref().ok().and_then(|pulled| pulled.reference.split_once('@')).map(|(_, digest)| digest);
        assert_eq!(digest, expected, "{name}: {pulled:?}");
        if expected.is_some() {
            // It is listed under the name that was asked for.
            assert!(test.store.status(&name).is_some(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_blocked_registries_are_refused_and_the_file_is_read_again() {
    let registry = Registry::builder().start().unwrap();
    let reference = registry.push(&image("blocked"), "app", "v1").unwrap();
    let test = TestStore::new().await;
    let before = test.listing();
    let address = registry.address();
    // What a registry's own hosts.toml says changes nothing here.
    test.write_hosts(address, &format!("server = \"http://{address}\"\n"));
    write(&test, &format!("\n[[registry]]\nlocation = \"{address}\"\nblocked = true\n"));
    let error = test.store.pull(&reference, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let place = format!("{}:2", test.dir().join("registries.conf").display());
    assert!(error.to_string().contains(&format!("{address} is blocked by {place}")), "{error}");
    write(&test, "[[registry]\n");
    let error = test.store.pull(&reference, None, None).await.unwrap_err();
    assert!(error.to_string().contains("registries.conf:1"), "{error}");
    assert_eq!(test.listing(), before);
    write(&test, &format!("[[registry]]\nlocation = \"{address}\"\nblocked = false\n"));
    test.store.pull(&reference, None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_hosts_file_of_a_registry_goes_before_and_the_default_one_after() {
    let registries: Vec<Registry> = (0..3).map(|_| Registry::builder().start().unwrap()).collect();
    let images: Vec<Image> = (0..3).map(|number| image(&number.to_string())).collect();
    for (registry, image) in registries.iter().zip(&images) {
        registry.push(image, "app", "v1").unwrap();
    }
    let test = TestStore::new().await;
    let pulls = async |expected: &Image| {
        let pulled = test.store.pull("r.example/app:v1", None, None).await.unwrap();
        assert!(pulled.reference.ends_with(&expected.manifest.digest), "{pulled:?}");
    };
    let server = |registry: &Registry| format!("server = \"http://{}\"\n", registry.address());
    test.write_hosts("_default", &server(&registries[0]));
    pulls(&images[0]).await;
    let location = registries[1].address();
    write(&test, &format!("[[registry]]\nprefix = \"r.example\"\nlocation = \"{location}\"\ninsecure = true\n"));
    pulls(&images[1]).await;
    test.write_hosts("r.example", &server(&registries[2]));
    pulls(&images[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_certificates_beside_hosts_files_count_for_mirrors() {
    let registry = Registry::builder().tls().start().unwrap();
    registry.push(&image("certificates"), "proxy/app", "v1").unwrap();
    let address = registry.address();
    let test = TestStore::new().await;
    write(&test, &format!("[[registry]]\nprefix = \"r.example\"\nlocation = \"{address}/proxy\"\n"));
    let error = test.store.pull("r.example/app:v1", None, None).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    let directory = test.dir().join("certs.d").join(address);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(registry.ca().unwrap(), directory.join("ca.crt")).unwrap();
    test.store.pull("r.example/app:v1", None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_name_no_server_are_not_for_mirrors() {
    let challenge = [("WWW-Authenticate", "Basic realm=\"x\"")];
    let server = Server::start(move |_| answer("401 Unauthorized", &challenge, b""));
    let test = TestStore::with(|config: &mut ImageConfig| config.patience.attempts = 1).await;
    write(
        &test,
        &format!(
            "[[registry]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            server.address
        ),
    );
    let shown = || server.asked().iter().filter(|asked| asked.header("authorization").is_some()).count();
    let auth = |address: &str| Auth { username: "u".into(), server_address: address.into(), ..Auth::default() };
    test.store.pull("127.0.0.1:1/app", Some(auth("")), None).await.unwrap_err();
    assert!(server.count("/v2/app/manifests/latest") > 0 && shown() == 0, "{:?}", server.asked());
    assert!(server.asked().iter().all(|asked| !asked.path.contains("ns=")), "podman sends none");
    test.store.pull("127.0.0.1:1/app", Some(auth(&server.address)), None).await.unwrap_err();
    assert!(shown() > 0, "they were given for this server");
}

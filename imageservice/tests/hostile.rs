//! Registries and layers that misbehave: each is an error that says what happened, and the store is as it was before.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use podwright_imageservice::{Auth, ErrorKind, ImageError};
use podwright_testutil::image::{Blob, Compression, Format, Image, ImageBuilder, Layer, LayerBuilder, sha256};
use podwright_testutil::{Registry, base};
use support::TestStore;
use support::server::{Answer, Asked, Server, answer, head};

const MANIFEST: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

fn image(content: &[u8]) -> Image {
    let layer = LayerBuilder::new().file("file", 0o644, content).finish(Compression::Gzip).unwrap();
    ImageBuilder::new(Format::Oci).layer(&layer).build()
}

/// Serves an image honestly.
fn honest(image: &Image, asked: &Asked) -> Answer {
    let path = asked.path.split('?').next().unwrap();
    if path.contains("/manifests/") {
        return answer("200 OK", &[MANIFEST], &image.manifest.bytes);
    }
    let blob = image.blobs().find(|blob| path.ends_with(&blob.digest));
    let Some(blob) = blob else { return answer("404 Not Found", &[], b"") };
    let start = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start {
        Some(start) => {
            let start: usize = start;
            let range = format!("bytes {start}-{}/{}", blob.bytes.len() - 1, blob.bytes.len());
            answer("206 Partial Content", &[("Content-Range", &range)], &blob.bytes[start..])
        }
        None => answer("200 OK", &[], &blob.bytes),
    }
}

fn is_layer(image: &Image, asked: &Asked) -> bool {
    asked.path.contains(&image.layers[0].blob.digest)
}

/// Pulls what must fail, and compares the store before and after.
async fn refused(test: &TestStore, reference: &str, auth: Option<Auth>) -> ImageError {
    let before = test.listing();
    let error = test.store.pull(reference, auth, None).await.unwrap_err();
    assert_eq!(test.listing(), before, "left over after: {error}");
    assert!(test.store.list(None).is_empty());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_refusal_are_told_apart() {
    let test = TestStore::new().await;
    for (status, headers, kind) in [
        ("401 Unauthorized", vec![("WWW-Authenticate", "Basic realm=\"r\"")], ErrorKind::Unauthorized),
        ("401 Unauthorized", vec![], ErrorKind::Unauthorized),
        ("403 Forbidden", vec![], ErrorKind::Unauthorized),
        ("404 Not Found", vec![], ErrorKind::NotFound),
        ("429 Too Many Requests", vec![("Retry-After", "3600")], ErrorKind::TooManyRequests),
        ("429 Too Many Requests", vec![], ErrorKind::TooManyRequests),
        ("500 Internal Server Error", vec![], ErrorKind::RegistryUnavailable),
        ("503 Service Unavailable", vec![], ErrorKind::RegistryUnavailable),
        ("418 I'm a teapot", vec![], ErrorKind::RegistryUnavailable),
        ("302 Found", vec![("Location", "/v2/x/manifests/v1")], ErrorKind::RegistryUnavailable),
        ("302 Found", vec![], ErrorKind::RegistryUnavailable),
        ("302 Found", vec![("Location", "file:///etc/passwd")], ErrorKind::RegistryUnavailable),
    ] {
        let server = Server::start(move |_| answer(status, &headers, b"no"));
        let error = refused(&test, &format!("{}/x:v1", server.address), None).await;
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert!(error.to_string().contains(&server.address), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_noise_end_in_time() {
    let test = TestStore::impatient().await;
    let start = Instant::now();
    let silent = Server::start(|_| Answer::Hang(Vec::new()));
    assert_eq!(refused(&test, &format!("{}/x:v1", silent.address), None).await.kind(), ErrorKind::RegistryUnavailable);
    let stalling = Server::start(|_| Answer::Hang(head("200 OK", &[MANIFEST], 1000)));
    assert_eq!(
        refused(&test, &format!("{}/x:v1", stalling.address), None).await.kind(),
        ErrorKind::RegistryUnavailable
    );
    let noisy = Server::start(|_| Answer::Bytes(b"\x16\x03\x01 not http \r\n\r\n".to_vec()));
    assert_eq!(refused(&test, &format!("{}/x:v1", noisy.address), None).await.kind(), ErrorKind::RegistryUnavailable);
    let error = refused(&test, "127.0.0.1:1/x:v1", None).await;
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_manifests_are_refused() {
    let test = TestStore::new().await;
    let huge = vec![b' '; (4 << 20) + 1];
    let bomb = "[".repeat(1 << 20);
    let endless = br#"{"schemaVersion":2,"manifests":[]}"#;
    for (body, kind) in [
        (huge.as_slice(), ErrorKind::LimitExceeded),
        (bomb.as_bytes(), ErrorKind::Corrupt),
        (b"", ErrorKind::Corrupt),
        (b"null", ErrorKind::Corrupt),
        (br#"{"schemaVersion":1,"fsLayers":[]}"#, ErrorKind::Invalid),
        (endless, ErrorKind::NotFound),
    ] {
        let body = body.to_vec();
        let server = Server::start(move |_| answer("200 OK", &[], &body));
        let error = refused(&test, &format!("{}/x:v1", server.address), None).await;
        assert_eq!(error.kind(), kind, "{error}");
    }
    // A manifest by digest must be that manifest.
    let honest_image = image(b"x");
    let served = honest_image.clone();
    let server = Server::start(move |asked| honest(&served, asked));
    let error = refused(&test, &format!("{}/x@{}", server.address, sha256(b"other")), None).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_about_blobs_are_found() {
    type Lie = fn(&Blob) -> Answer;
    let lies: [(Lie, ErrorKind); 6] = [
        (|blob| answer("200 OK", &[], &vec![7; blob.bytes.len()]), ErrorKind::Corrupt),
        (|blob| answer("200 OK", &[], &blob.bytes[..blob.bytes.len() / 2]), ErrorKind::Corrupt),
        (|blob| answer("200 OK", &[], &[&blob.bytes[..], b"more"].concat()), ErrorKind::Corrupt),
        (
            |blob| Answer::Bytes([head("200 OK", &[], blob.bytes.len()), blob.bytes[..20].to_vec()].concat()),
            ErrorKind::RegistryUnavailable,
        ),
        (|blob| Answer::Hang(head("200 OK", &[], blob.bytes.len())), ErrorKind::RegistryUnavailable),
        (|_| answer("404 Not Found", &[], b""), ErrorKind::NotFound),
    ];
    for (position, (lie, kind)) in lies.into_iter().enumerate() {
        for about_config in [false, true] {
            let test = TestStore::impatient().await;
            let image = image(&[1; 50_000]);
            let served = image.clone();
            let server = Server::start(move |asked| {
                let blob = if about_config { &served.config } else { &served.layers[0].blob };
                if asked.path.contains(&blob.digest) { lie(blob) } else { honest(&served, asked) }
            });
            let error = refused(&test, &format!("{}/x:v1", server.address), None).await;
            assert_eq!(error.kind(), kind, "lie {position}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_cut_download_is_resumed_where_it_broke() {
    let test = TestStore::new().await;
    let noise: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    for knows_ranges in [true, false] {
        let image = image(&noise);
        let served = image.clone();
        let cuts = AtomicUsize::new(0);
        let server = Server::start(move |asked| {
            let blob = &served.layers[0].blob;
            if is_layer(&served, asked) && cuts.fetch_add(1, Ordering::SeqCst) < 2 {
                let start =
                    asked.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
                let start = start.filter(|_| knows_ranges).unwrap_or(0_usize);
                let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
                let mut bytes = head(status, &[], blob.bytes.len() - start);
                bytes.extend_from_slice(&blob.bytes[start..start + blob.bytes.len() / 3]);
                return Answer::Reset(bytes);
            }
            if knows_ranges || !is_layer(&served, asked) {
                honest(&served, asked)
            } else {
                answer("200 OK", &[], &blob.bytes)
            }
        });
        let reference = format!("{}/x:v1", server.address);
        test.store.pull(&reference, None, None).await.unwrap();
        let asked: Vec<Asked> = server.asked().into_iter().filter(|asked| is_layer(&image, asked)).collect();
        assert!(asked.len() >= 2 && asked[0].header("range").is_none(), "{asked:?}");
        assert!(asked[1..].iter().all(|asked| asked.header("range").is_some()), "{asked:?}");
        let tree = &test.store.resolve(&reference).unwrap().layers[0];
        assert_eq!(std::fs::read(tree.join("file")).unwrap(), noise);
        test.store.remove(&reference).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_retries_help_over_a_bad_moment() {
    let test = TestStore::new().await;
    let image = image(b"retry");
    let count = AtomicUsize::new(0);
    let served = image.clone();
    let server = Server::start(move |asked| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer("503 Service Unavailable", &[], b""),
        2 => answer("429 Too Many Requests", &[("Retry-After", "1")], b""),
        4 => Answer::Reset(Vec::new()),
        _ => honest(&served, asked),
    });
    let start = Instant::now();
    test.store.pull(&format!("{}/x:v1", server.address), None, None).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was not honoured");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_credentials_stay_where_they_belong() {
    let test = TestStore::new().await;
    let image = image(b"redirect");
    let served = image.clone();
    let storage = Server::start(move |asked| answer("200 OK", &[], &find(&served, asked)));
    let storage_address = storage.address.clone();
    let served = image.clone();
    let server = Server::start(move |asked| {
        if asked.header("authorization").is_none() {
            return answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"r\"")], b"");
        }
        if asked.path.contains("/blobs/") {
            let digest = asked.path.rsplit('/').next().unwrap();
            return answer(
                "307 Temporary Redirect",
                &[("Location", &format!("http://{storage_address}/data/{digest}"))],
                b"",
            );
        }
        honest(&served, asked)
    });
    test.write_hosts(&server.address, &format!("server = \"http://{0}\"\n[header]\nx-own = \"1\"\n", server.address));
    let auth = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
    test.store.pull(&format!("{}/x:v1", server.address), Some(auth), None).await.unwrap();
    assert!(storage.asked().len() == 2);
    for asked in storage.asked() {
        assert!(asked.header("authorization").is_none() && asked.header("x-own").is_none(), "{asked:?}");
    }
    assert!(server.asked().iter().all(|asked| asked.header("x-own") == Some("1")));
}

fn find(image: &Image, asked: &Asked) -> Vec<u8> {
    image.blobs().find(|blob| asked.path.ends_with(&blob.digest)).unwrap().bytes.to_vec()
}

/// The token server is a mock: it gives a token for the right password or refresh token.
#[tokio::test(flavor = "multi_thread")]
async fn root_tokens_are_fetched_once_and_checked() {
    let image = image(b"token");
    let tokens = Server::start(|asked| {
        let by_password = asked.header("authorization") == Some("Basic dTpw");
        let by_refresh = String::from_utf8_lossy(&asked.body).contains("refresh_token=r%3D1");
        let wants = asked.path.contains("scope=repository%3Ax%3Apull") || by_refresh;
        if (by_password || by_refresh) && wants {
            answer("200 OK", &[], br#"{"token":"good","expires_in":300}"#)
        } else {
            answer("401 Unauthorized", &[], b"")
        }
    });
    let (served, realm) = (image.clone(), format!("http://{}/token", tokens.address));
    let server = Server::start(move |asked| {
        if asked.header("authorization") == Some("Bearer good") {
            return honest(&served, asked);
        }
        let demand = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:x:pull\"");
        answer("401 Unauthorized", &[("WWW-Authenticate", &demand)], b"")
    });
    let reference = format!("{}/x:v1", server.address);
    let forms = [
        (Auth { username: "u".into(), password: "p".into(), ..Auth::default() }, 1),
        (Auth { identity_token: "r=1".into(), ..Auth::default() }, 1),
        (Auth { registry_token: "good".into(), ..Auth::default() }, 0),
    ];
    for (auth, fetches) in forms {
        let test = TestStore::new().await;
        let before = tokens.asked().len();
        test.store.pull(&reference, Some(auth.clone()), None).await.unwrap();
        test.store.remove(&reference).await.unwrap();
        test.store.pull(&reference, Some(auth), None).await.unwrap();
        assert_eq!(tokens.asked().len() - before, fetches);
    }
    let test = TestStore::new().await;
    assert_eq!(refused(&test, &reference, None).await.kind(), ErrorKind::Unauthorized);
    let wrong = Auth { username: "u".into(), password: "wrong".into(), ..Auth::default() };
    assert_eq!(refused(&test, &reference, Some(wrong)).await.kind(), ErrorKind::Unauthorized);
    let wrong = Auth { registry_token: "bad".into(), ..Auth::default() };
    assert_eq!(refused(&test, &reference, Some(wrong)).await.kind(), ErrorKind::Unauthorized);
}

fn gzip_of(layer: LayerBuilder) -> Layer {
    layer.finish(Compression::Gzip).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn root_hostile_layers_are_refused() {
    let registry = Registry::builder().start().unwrap();
    let stream = LayerBuilder::new().file("file", 0o644, &[1; 5000]).stream().unwrap();
    let mut truncated = Layer::from_stream(&stream, Compression::Gzip).unwrap();
    truncated.blob = Blob::new(truncated.blob.bytes[..truncated.blob.bytes.len() - 10].to_vec());
    let mut wrong_diff = Layer::from_stream(&stream, Compression::Gzip).unwrap();
    wrong_diff.diff_id = sha256(b"another");
    let mut devices = LayerBuilder::new();
    for minor in 0..2000 {
        devices = devices.char_device(&format!("d{minor}"), 1, minor);
    }
    let mut deep = LayerBuilder::new();
    for level in 0..30 {
        let path = format!("l{level}/{}", "d/".repeat(40));
        deep = deep.dir(&path, 0o755).symlink(&format!("l{}", level + 1), &path);
    }
    let new = LayerBuilder::new;
    let layers: Vec<(&str, Layer, ErrorKind)> = vec![
        ("truncated gzip", truncated, ErrorKind::Corrupt),
        ("wrong diff id", wrong_diff, ErrorKind::Corrupt),
        ("no archive", Layer::from_stream(&[9; 4096], Compression::Gzip).unwrap(), ErrorKind::Corrupt),
        ("archive cut off", Layer::from_stream(&stream[..1500], Compression::Zstd).unwrap(), ErrorKind::Corrupt),
        ("gzip bomb", Layer::from_stream(&vec![0; 64 << 20], Compression::Gzip).unwrap(), ErrorKind::LimitExceeded),
        ("device bomb", gzip_of(devices), ErrorKind::LimitExceeded),
        ("dot dot", gzip_of(new().file("../escape", 0o644, b"x")), ErrorKind::Corrupt),
        ("inner dot dot", gzip_of(new().file("a/../../escape", 0o644, b"x")), ErrorKind::Corrupt),
        ("hard link out", gzip_of(new().hard_link("passwd", "../../../../../../etc/passwd")), ErrorKind::Corrupt),
        ("hard link to the host", gzip_of(new().hard_link("passwd", "/etc/passwd")), ErrorKind::Corrupt),
        (
            "hard link over a link",
            gzip_of(new().symlink("l", "/etc").hard_link("passwd", "l/passwd")),
            ErrorKind::Corrupt,
        ),
        ("a file as directory", gzip_of(new().file("a", 0o644, b"").file("a/b", 0o644, b"")), ErrorKind::Corrupt),
        ("a file as root", gzip_of(new().file(".", 0o644, b"")), ErrorKind::Corrupt),
        ("link loop", gzip_of(new().symlink("a", "b").symlink("b", "a").file("a/c", 0o644, b"")), ErrorKind::Corrupt),
        ("bad whiteout", gzip_of(new().file("a/.wh.", 0o644, b"")), ErrorKind::Corrupt),
        ("too deep", gzip_of(deep), ErrorKind::Corrupt),
    ];
    let test = TestStore::with(|config| config.limits.layer_unpacked_bytes = 32 << 20).await;
    for (name, layer, kind) in layers {
        let image = ImageBuilder::new(Format::Oci).layer(&base::busybox_layer().unwrap()).layer(&layer).build();
        let reference = registry.push(&image, "hostile", &name.replace(' ', "-")).unwrap();
        let error = refused(&test, &reference, None).await;
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    assert!(!test.dir().join("escape").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_one_fetch_serves_all_pulls_and_survives_a_cancelled_one() {
    let test = TestStore::new().await;
    let noise: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let image = image(&noise);
    // The first answer for the layer waits in its middle until it is told to go on.
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let (served, door) = (image.clone(), Arc::clone(&gate));
    let server = Server::start(move |asked| {
        if is_layer(&served, asked) && asked.header("range").is_none() {
            let (open, wake) = &*door;
            let mut is_open = open.lock().unwrap();
            while !*is_open {
                is_open = wake.wait(is_open).unwrap();
            }
        }
        honest(&served, asked)
    });
    let reference = format!("{}/x:v1", server.address);
    let store = test.store.clone();
    let pulls: Vec<_> = (0..5)
        .map(|_| {
            let (store, reference) = (store.clone(), reference.clone());
            tokio::spawn(async move { store.pull(&reference, None, None).await })
        })
        .collect();
    while server.count(&image.layers[0].blob.digest) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Whichever of them is fetching: four are left.
    pulls[0].abort();
    let (open, wake) = &*gate;
    *open.lock().unwrap() = true;
    wake.notify_all();
    let mut done = 0;
    for pull in pulls {
        done += usize::from(matches!(pull.await, Ok(Ok(_))));
    }
    assert!(done >= 4);
    assert!(server.count(&image.layers[0].blob.digest) <= 2);
    let before = test.listing();
    assert!(before.keys().all(|path| !path.starts_with("ingest/") && !path.starts_with("trash/")), "{before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_cancelled_pull_leaves_nothing() {
    let test = TestStore::new().await;
    let before = test.listing();
    let image = image(&[5; 100_000]);
    let served = image.clone();
    let server = Server::start(move |asked| {
        if is_layer(&served, asked) {
            let half = served.layers[0].blob.bytes.len() / 2;
            let mut bytes = head("200 OK", &[], served.layers[0].blob.bytes.len());
            bytes.extend_from_slice(&served.layers[0].blob.bytes[..half]);
            return Answer::Hang(bytes);
        }
        honest(&served, asked)
    });
    let (store, reference) = (test.store.clone(), format!("{}/x:v1", server.address));
    let pull = tokio::spawn(async move { store.pull(&reference, None, None).await });
    while server.count(&image.layers[0].blob.digest) == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    pull.abort();
    let end = Instant::now() + Duration::from_secs(60);
    while test.listing() != before {
        assert!(Instant::now() < end, "left over: {:?}", test.listing());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_pulls_and_removals_of_one_image_do_not_disturb_each_other() {
    let registry = Registry::builder().start().unwrap();
    let test = TestStore::new().await;
    let (first, second) = (base::variant("1", |b| b).unwrap(), base::variant("2", |b| b).unwrap());
    let names = [registry.push(&first, "race", "1").unwrap(), registry.push(&second, "race", "2").unwrap()];
    let mut tasks = Vec::new();
    for round in 0..24 {
        let (store, name) = (test.store.clone(), names[round % 2].clone());
        tasks.push(tokio::spawn(async move {
            if round % 3 == 2 { store.remove(&name).await } else { store.pull(&name, None, None).await.map(|_| ()) }
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for info in test.store.list(None) {
        for layer in test.store.resolve(info.id.as_str()).unwrap().layers {
            assert!(layer.exists());
        }
    }
    assert_eq!(test.reopened().await.list(None), test.store.list(None));
    for name in names {
        test.store.remove(&name).await.unwrap();
    }
    assert_eq!(test.store.fs_info().used_bytes, 0);
}

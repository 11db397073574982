//! Downloads that were given up: continued by the next pull, and gone after a while.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use podwright_imageservice::{ErrorKind, Limits};
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, LayerBuilder};
use support::TestStore;
use support::server::{Answer, Asked, Server, answer, head};

const MANIFEST: (&str, &str) = ("Content-Type", "application/vnd.oci.image.manifest.v1+json");

fn image(seed: u32) -> Image {
    let noise: Vec<u8> = (0..100_000_u32).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let layer = LayerBuilder::new().file("file", 0o644, &noise).finish(Compression::Gzip).unwrap();
    ImageBuilder::new(Format::Oci).layer(&layer).build()
}

fn half(image: &Image) -> usize {
    image.layers[0].blob.bytes.len() / 2
}

/// Serves an image; the layer breaks off in its middle for those who ask for all of it.
fn halting(image: Image, halt: fn(Vec<u8>) -> Answer) -> Server {
    Server::start(move |asked: &Asked| {
        if asked.path.contains("/manifests/") {
            return answer("200 OK", &[MANIFEST], &image.manifest.bytes);
        }
        let blob = image.blobs().find(|blob| asked.path.ends_with(&blob.digest)).unwrap();
        let start =
            asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match start {
            Some(start) => {
                let start: usize = start;
                let range = format!("bytes {start}-{}/{}", blob.bytes.len() - 1, blob.bytes.len());
                answer("206 Partial Content", &[("Content-Range", &range)], &blob.bytes[start..])
            }
            None if blob.digest == image.layers[0].blob.digest => {
                halt([head("200 OK", &[], blob.bytes.len()), blob.bytes[..half(&image)].to_vec()].concat())
            }
            None => answer("200 OK", &[], &blob.bytes),
        }
    })
}

fn kept(test: &TestStore) -> Vec<u64> {
    let listing = test.listing();
    listing.iter().filter(|(path, _)| path.starts_with("ingest/")).map(|(_, (_, size))| *size).collect()
}

async fn until(test: &TestStore, wanted: impl Fn(&[u64]) -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !wanted(&kept(test)) {
        assert!(Instant::now() < end, "kept: {:?}", test.listing());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Begins a pull and gives it up in the middle of the layer.
async fn give_up(test: &TestStore, server: &Server, image: &Image) {
    let (store, reference) = (test.store.clone(), format!("{}/x:v1", server.address));
    let pull = tokio::spawn(async move { store.pull(&reference, None, None).await });
    let (half, before) = (half(image) as u64, kept(test).len());
    until(test, |sizes| sizes.contains(&half)).await;
    pull.abort();
    // The unpacking is undone, the download stays.
    until(test, |sizes| sizes.len() <= before + 1).await;
}

async fn keeping(change: impl Fn(&mut Limits)) -> TestStore {
    TestStore::with(|config| {
        config.limits.partial_age = Duration::from_secs(600);
        change(&mut config.limits);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_next_pull_continues_a_cancelled_one() {
    let (test, image) = (keeping(|_| {}).await, image(1));
    let server = halting(image.clone(), Answer::Hang);
    give_up(&test, &server, &image).await;
    test.store.pull(&format!("{}/x:v1", server.address), None, None).await.unwrap();
    let range = format!("bytes={}-", half(&image));
    assert!(server.asked().iter().any(|asked| asked.header("range") == Some(&range)), "{:?}", server.asked());
    assert!(kept(&test).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_the_next_pull_continues_one_that_broke() {
    let test = TestStore::with(|config| {
        config.limits.partial_age = Duration::from_secs(600);
        config.patience.attempts = 1;
    })
    .await;
    let image = image(2);
    let server = halting(image.clone(), Answer::Reset);
    let reference = format!("{}/x:v1", server.address);
    assert_eq!(test.store.pull(&reference, None, None).await.unwrap_err().kind(), ErrorKind::RegistryUnavailable);
    assert_eq!(kept(&test).len(), 1);
    test.store.pull(&reference, None, None).await.unwrap();
    assert!(kept(&test).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_what_nobody_continues_goes_by_age_by_size_and_when_space_is_wanted() {
    let (first, second) = (image(3), image(4));
    let servers = [halting(first.clone(), Answer::Hang), halting(second.clone(), Answer::Hang)];
    let test = keeping(|limits| limits.partial_age = Duration::from_millis(50)).await;
    give_up(&test, &servers[0], &first).await;
    until(&test, <[u64]>::is_empty).await;

    let test = keeping(|limits| limits.partial_bytes = half(&first) as u64 + 1000).await;
    give_up(&test, &servers[0], &first).await;
    give_up(&test, &servers[1], &second).await;
    until(&test, |sizes| sizes == [half(&second) as u64]).await;

    let whole = image(5);
    let served = whole.clone();
    let honest = Server::start(move |asked| {
        if asked.path.contains("/manifests/") {
            return answer("200 OK", &[MANIFEST], &served.manifest.bytes);
        }
        answer("200 OK", &[], &served.blobs().find(|blob| asked.path.ends_with(&blob.digest)).unwrap().bytes)
    });
    let reference = format!("{}/x:v1", honest.address);
    test.store.pull(&reference, None, None).await.unwrap();
    assert_eq!(kept(&test).len(), 1);
    test.store.remove(&reference).await.unwrap();
    assert!(kept(&test).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_wrong_beginning_is_found_and_not_kept() {
    let (test, image) = (keeping(|_| {}).await, image(6));
    let lies = Arc::new(AtomicUsize::new(0));
    let (served, told) = (image.clone(), Arc::clone(&lies));
    let server = Server::start(move |asked| {
        if asked.path.contains("/manifests/") {
            return answer("200 OK", &[MANIFEST], &served.manifest.bytes);
        }
        let blob = served.blobs().find(|blob| asked.path.ends_with(&blob.digest)).unwrap();
        if blob.digest == served.layers[0].blob.digest && told.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::Hang([head("200 OK", &[], blob.bytes.len()), vec![7; half(&served)]].concat());
        }
        answer("200 OK", &[], &blob.bytes)
    });
    give_up(&test, &server, &image).await;
    let reference = format!("{}/x:v1", server.address);
    assert_eq!(test.store.pull(&reference, None, None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(kept(&test).is_empty());
    test.store.pull(&reference, None, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn root_a_registry_that_trickles_is_given_up() {
    let test = TestStore::with(|config| {
        config.patience.attempts = 1;
        config.patience.progress = Duration::from_millis(300);
        config.patience.least_bytes = 10_000_000;
    })
    .await;
    let image = image(7);
    let server = halting(image.clone(), Answer::Trickle);
    let error = test.store.pull(&format!("{}/x:v1", server.address), None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable);
    assert!(error.to_string().contains("bytes came in"), "{error}");
    let manifest = Server::start(|_| Answer::Trickle(head("200 OK", &[MANIFEST], 1_000_000)));
    let error = test.store.pull(&format!("{}/x:v1", manifest.address), None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RegistryUnavailable);
    assert!(error.to_string().contains("was not complete"), "{error}");
}

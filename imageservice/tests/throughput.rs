//! How fast a pull of 200 MB in six layers is. Prints; asserts nothing. `cargo test --release -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use std::time::Instant;

use podwright_testutil::Registry;
use podwright_testutil::image::{Compression, Format, ImageBuilder, LayerBuilder};
use support::TestStore;

/// Half noise, half text, so that gzip halves it as it does programs.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 64);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"a line of a file\n");
    }
    bytes.truncate(length);
    bytes
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn root_pull_of_six_layers() {
    let registry = Registry::builder().start().unwrap();
    let mut image = ImageBuilder::new(Format::Oci);
    for layer in 0..6_u64 {
        let mut builder = LayerBuilder::new();
        for file in 0..1300_u64 {
            builder = builder.file(&format!("l{layer}/f{file}"), 0o644, &content(layer * 10_000 + file, 70_000));
        }
        image = image.layer(&builder.finish(Compression::Gzip).unwrap());
    }
    let image = image.build();
    let compressed: usize = image.layers.iter().map(|layer| layer.blob.bytes.len()).sum();
    let reference = registry.push(&image, "big", "v1").unwrap();
    drop(image);
    for _ in 0..3 {
        let test = TestStore::new().await;
        let (start, cpu) = (Instant::now(), cpu_seconds());
        test.store.pull(&reference, None, None).await.unwrap();
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let start = Instant::now();
        test.store.remove(&reference).await.unwrap();
        let removal = start.elapsed().as_secs_f64();
        println!("pull of {} MB: {wall:.2} s, CPU {cpu:.2} s; removal {removal:.2} s", compressed / 1_000_000);
    }
}

/// Files of 24 KiB in zstd, which leaves the processor to what the file system does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn root_pull_of_six_layers_of_small_files() {
    let registry = Registry::builder().start().unwrap();
    let mut image = ImageBuilder::new(Format::Oci);
    for layer in 0..6_u64 {
        let mut builder = LayerBuilder::new();
        for file in 0..1400_u64 {
            builder = builder.file(&format!("data/l{layer}/f{file}"), 0o644, &content(layer * 10_000 + file, 24 << 10));
        }
        image = image.layer(&builder.finish(Compression::Zstd).unwrap());
    }
    let reference = registry.push(&image.build(), "small", "v1").unwrap();
    let test = TestStore::new().await;
    for _ in 0..4 {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        test.store.pull(&reference, None, None).await.unwrap();
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        test.store.remove(&reference).await.unwrap();
        println!("pull: {wall:.2} s, CPU {cpu:.2} s");
    }
}

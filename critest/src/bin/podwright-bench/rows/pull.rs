//! Pulls of large images from a registry on the same machine.

use std::time::Instant;

use anyhow::Result;
use podwright_testutil::image::{Compression, Format, Image, ImageBuilder, LayerBuilder};

use super::Bench;
use crate::machine;
use crate::report::Better;

/// Name, layers, MiB in all, compression.
const IMAGES: [(&str, usize, usize, Compression); 4] = [
    ("six layers of gzip, 200 MiB", 6, 200, Compression::Gzip),
    ("one layer of gzip, 500 MiB", 1, 500, Compression::Gzip),
    ("six layers of zstd, 200 MiB", 6, 200, Compression::Zstd),
    ("one layer of zstd, 500 MiB", 1, 500, Compression::Zstd),
];
/// Pulls of each.
const ROUNDS: usize = 3;
/// Size of each file in a layer.
const FILE_BYTES: usize = 24 << 10;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    for (name, layers, mebibytes, compression) in IMAGES {
        let (wall, cpu) = (format!("pull, {name}"), format!("CPU of the pull, {name}"));
        if !bench.wants(&[&wall, &cpu]) {
            continue;
        }
        let image = make(layers, mebibytes << 20, compression)?;
        let mut references = Vec::new();
        for contender in &bench.contenders {
            references.push(contender.push(&image, &format!("big-{layers}-{compression:?}").to_lowercase())?);
        }
        drop(image);
        let (mut times, mut costs) = (bench.empty(), bench.empty());
        for _ in 0..ROUNDS {
            for (index, (contender, reference)) in bench.contenders.iter_mut().zip(&references).enumerate() {
                let (before, start) = (machine::cpu(), Instant::now());
                contender.cri.pull(reference).await?;
                let took = start.elapsed().as_secs_f64();
                let used = machine::cpu().saturating_sub(before).as_secs_f64();
                contender.cri.remove_image(reference).await?;
                for (row, value) in [(&mut times, took), (&mut costs, used)] {
                    if let Some((_, samples)) = row.get_mut(index) {
                        samples.push_value(value);
                    }
                }
            }
        }
        bench.add(&wall, "s", Better::Less, Some(2.5), times);
        bench.add(&cpu, "s", Better::Less, Some(1.5), costs);
    }
    Ok(())
}

fn make(layers: usize, bytes: usize, compression: Compression) -> Result<Image> {
    let mut builder = ImageBuilder::new(Format::Oci);
    for number in 0..layers {
        let content = half_random(bytes / layers, u64::try_from(number)? + 1);
        let mut layer = LayerBuilder::new();
        for (part, chunk) in content.chunks(FILE_BYTES).enumerate() {
            layer = layer.file(&format!("data/{number}/{part}"), 0o644, chunk);
        }
        builder = builder.layer(&layer.finish(compression)?);
    }
    Ok(builder.build())
}

/// Bytes that shrink to about half, as programs do: random ones, each followed by a zero.
fn half_random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
    }
    bytes.truncate(length);
    bytes
}

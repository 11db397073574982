//! Pulls of large images from a registry on the same machine.

use std::time::Instant;

use anyhow::{Result, bail};
use podwright_testutil::image::{Compression, Format, ImageBuilder, Layer, LayerBuilder};

use super::Bench;
use crate::contender::Contender;
use crate::lane::Part;
use crate::machine;
use crate::report::{Better, Row};

/// A large image.
pub(super) struct Kind {
    name: &'static str,
    layers: usize,
    mebibytes: usize,
    pub(super) compression: Compression,
}

pub(super) const IMAGES: [Kind; 4] = [
    Kind { name: "six layers of gzip, 200 MiB", layers: 6, mebibytes: 200, compression: Compression::Gzip },
    Kind { name: "one layer of gzip, 500 MiB", layers: 1, mebibytes: 500, compression: Compression::Gzip },
    Kind { name: "six layers of zstd, 200 MiB", layers: 6, mebibytes: 200, compression: Compression::Zstd },
    Kind { name: "one layer of zstd, 500 MiB", layers: 1, mebibytes: 500, compression: Compression::Zstd },
];
/// Pulls of each.
const ROUNDS: usize = 3;
/// Size of each file in a layer.
const FILE_BYTES: usize = 24 << 10;

pub(super) async fn measure(bench: &mut Bench) {
    for kind in &IMAGES {
        let (wall, cpu) = (kind.wall(), kind.cpu());
        if !bench.wants(&[&wall, &cpu]) {
            continue;
        }
        let mut part = bench.part(&wall);
        let (mut times, mut costs) = (bench.lanes(), bench.lanes());
        let references = pushed(bench, &mut part, kind).await;
        for _ in 0..ROUNDS {
            for (index, (contender, reference)) in bench.contenders.iter_mut().zip(&references).enumerate() {
                let Some(reference) = reference else { continue };
                if let Some((took, used)) = part.step(index, pull(contender, reference)).await {
                    times.push_value(index, took);
                    costs.push_value(index, used);
                }
            }
        }
        part.tidy(&mut bench.contenders).await;
        bench.add(Row::new(wall, "s", Better::Less, times.after(&part)).times(2.5));
        bench.add(Row::new(cpu, "s", Better::Less, costs.after(&part)).times(1.5));
    }
}

/// Makes the image and puts it into each contender's registry.
async fn pushed(bench: &Bench, part: &mut Part, kind: &Kind) -> Vec<Option<String>> {
    let image = kind.layers().map(|layers| {
        layers.iter().fold(ImageBuilder::new(Format::Oci), |builder, layer| builder.layer(layer)).build()
    });
    let mut references = Vec::new();
    for (index, contender) in bench.contenders.iter().enumerate() {
        let name = format!("big-{}-{:?}", kind.layers, kind.compression).to_lowercase();
        let push = async {
            match &image {
                Ok(image) => contender.push(image, &name),
                Err(error) => bail!("making the image: {error:#}"),
            }
        };
        references.push(part.step(index, push).await);
    }
    references
}

/// Seconds of time and of processor time of a pull; the image is gone afterwards.
async fn pull(contender: &mut Contender, reference: &str) -> Result<(f64, f64)> {
    let (before, start) = (machine::cpu(), Instant::now());
    contender.cri.pull(reference).await?;
    let took = start.elapsed().as_secs_f64();
    let used = machine::cpu().saturating_sub(before).as_secs_f64();
    contender.cri.remove_image(reference).await?;
    Ok((took, used))
}

impl Kind {
    /// The row of its time.
    pub(super) fn wall(&self) -> String {
        format!("pull, {}", self.name)
    }

    /// The row of its processor time.
    pub(super) fn cpu(&self) -> String {
        format!("CPU of the pull, {}", self.name)
    }

    /// Its layers, of many small files.
    pub(super) fn layers(&self) -> Result<Vec<Layer>> {
        let one = |number: usize| {
            let content = half_random((self.mebibytes << 20) / self.layers, u64::try_from(number)? + 1);
            let mut layer = LayerBuilder::new();
            for (part, chunk) in content.chunks(FILE_BYTES).enumerate() {
                layer = layer.file(&format!("data/{number}/{part}"), 0o644, chunk);
            }
            layer.finish(self.compression)
        };
        (0..self.layers).map(one).collect()
    }
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

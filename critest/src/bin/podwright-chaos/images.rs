//! Images that are pulled, looked at, run and removed, again and again. Two pullers have images of their own over layers that both share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::{ImageSpec, ImageStatusRequest, RemoveImageRequest};
use podwright_testutil::image::{Compression, Format, ImageBuilder, Layer, LayerBuilder};
use podwright_testutil::{Registry, base};

use crate::load::Field;
use crate::schedule::Random;

/// Images of each puller.
const IMAGES: usize = 2;
/// Files in a layer, and bytes in each: enough to be in the middle of it.
const FILES: usize = 12;
const FILE_BYTES: usize = 96 << 10;

/// An image that is pulled.
pub(crate) struct Picture {
    reference: String,
    /// What `md5sum` says about its files, as one line.
    sum: String,
}

/// All images, by puller.
pub(crate) struct Gallery {
    pictures: Vec<Vec<Picture>>,
}

impl Gallery {
    /// Makes the images and pushes them.
    pub(crate) fn hang(registry: &Registry, pullers: usize, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let shared = layer("shared", &mut random)?;
        let mut pictures = Vec::with_capacity(pullers);
        for puller in 0..pullers {
            let mut own = Vec::with_capacity(IMAGES);
            for number in 0..IMAGES {
                let layer = layer("own", &mut random)?;
                // A layer of its own, so that not even busybox's is there before.
                let mark = LayerBuilder::new().file("mark", 0o644, format!("{puller} {number}").as_bytes());
                let mark = mark.finish(Compression::Zstd)?;
                let image = ImageBuilder::new(if number == 0 { Format::Oci } else { Format::Docker });
                let image = image.layer(&base::busybox_layer()?).layer(&shared.0).layer(&layer.0);
                // Docker's types know no zstd.
                let image = if number == 0 { image.layer(&mark) } else { image };
                let reference = registry.push(&image.build(), &format!("picture-{puller}-{number}"), "1")?;
                own.push(Picture { reference, sum: (shared.1 + layer.1).to_string() });
            }
            pictures.push(own);
        }
        Ok(Self { pictures })
    }
}

/// A layer of random files below `/data/<name>`, and the sum of their bytes.
fn layer(name: &str, random: &mut Random) -> Result<(Layer, u64)> {
    let mut layer = LayerBuilder::new().dir("data", 0o755).dir(&format!("data/{name}"), 0o755);
    let mut sum = 0;
    for number in 0..FILES {
        // Digits: compressible by half, and summed up in the container by a shell's means.
        let bytes: Vec<u8> =
            (0..FILE_BYTES).map(|_| b'0' + u8::try_from(random.below(10)).unwrap_or_default()).collect();
        sum += bytes.iter().filter(|byte| **byte == b'7').count() as u64;
        layer = layer.file(&format!("data/{name}/{number}"), 0o644, &bytes);
    }
    Ok((layer.finish(Compression::Gzip)?, sum))
}

/// Pulls and removes until the end is wanted.
pub(crate) async fn live(field: Field, ending: Arc<AtomicBool>, name: String, slot: u64, mut random: Random) {
    let gallery = field.gallery.clone();
    let Some(pictures) = usize::try_from(slot).ok().and_then(|slot| gallery.pictures.get(slot)) else { return };
    let mut number = 0;
    while !ending.load(Ordering::SeqCst) {
        for picture in pictures {
            number += 1;
            let name = format!("{name}-{number}");
            if let Err(error) = one_life(&field, picture, &name, &mut random).await {
                field.tally.fault(&format!("{name}, {}: {error:#}", picture.reference));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn one_life(field: &Field, picture: &Picture, name: &str, random: &mut Random) -> Result<()> {
    let reference = picture.reference.as_str();
    field.twice("PullImage", async |mut cri| cri.pull(reference).await).await?;
    let size = size(field, reference).await?.context("it is not there after its pull")?;
    ensure!(size > 0, "its size is 0");
    field.tally.check();
    if random.once_in(3) {
        run_it(field, picture, name, random.once_in(2)).await?;
    }
    remove(field, reference).await?;
    ensure!(size_is_none(field, reference).await?, "it is there after its removal");
    field.tally.check();
    Ok(())
}

/// Reads all its files in a container; some images are removed while they are used.
async fn run_it(field: &Field, picture: &Picture, name: &str, remove_first: bool) -> Result<()> {
    let pod = field.run_pod(field.pod_config(name)).await?;
    let script = "cat /data/*/* | tr -dc 7 | wc -c";
    let id = field.run(&pod, "main", &picture.reference, script).await?;
    if remove_first {
        remove(field, &picture.reference).await?;
    }
    let status = field.wait(&id).await?;
    ensure!(status.exit_code == 0, "reading its files ended with {} ({})", status.exit_code, status.message);
    let log = podwright_critest::read_log(&field.log(&pod, "main"))?;
    let said: String = log.iter().map(|line| String::from_utf8_lossy(&line.text).trim().to_owned()).collect();
    ensure!(said == picture.sum, "its files are damaged: {said} sevens and not {}", picture.sum);
    field.tally.check();
    field.remove_pod(&pod.id).await?;
    std::fs::remove_dir_all(&pod.config.log_directory).context("removing its logs, as kubelet does")
}

fn spec(reference: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: reference.into(), ..Default::default() })
}

async fn size(field: &Field, reference: &str) -> Result<Option<u64>> {
    let status = async |mut cri: podwright_critest::Cri| {
        let request = ImageStatusRequest { image: spec(reference), verbose: false };
        Ok(cri.images.image_status(request).await.context("ImageStatus")?.into_inner().image)
    };
    Ok(field.caller.call("ImageStatus", status).await?.map(|image| image.size))
}

async fn size_is_none(field: &Field, reference: &str) -> Result<bool> {
    Ok(size(field, reference).await?.is_none())
}

/// Removes an image.
pub(crate) async fn remove(field: &Field, reference: &str) -> Result<()> {
    let call = async |mut cri: podwright_critest::Cri| {
        let request = RemoveImageRequest { image: spec(reference) };
        cri.images.remove_image(request).await.context("RemoveImage").map(drop)
    };
    field.twice("RemoveImage", call).await
}

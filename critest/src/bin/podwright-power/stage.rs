//! The node: a registry, a daemon whose root directory is on a disk, and what is done there while the disk is recorded and looked at
//! after each cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use podwright_cri_api::v1::ListImagesRequest;
use podwright_critest::{Cri, shell};
use podwright_testutil::image::{Compression, LayerBuilder};
use podwright_testutil::{Daemon, Registry, TestHost, base};

/// Time in which a damaged image comes again.
const HEALED_WITHIN: Duration = Duration::from_secs(120);

/// What names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(crate) struct Stage {
    daemon: Daemon,
    registry: Registry,
    images: Vec<String>,
}

/// What was seen after a cut.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Images that were listed.
    pub(crate) images: usize,
    /// Pods that were known, and could be removed.
    pub(crate) pods: usize,
    /// Layers that were made anew from their blobs.
    pub(crate) unpacked: usize,
    /// Images that were not whole, and came from the registry again.
    pub(crate) fetched: usize,
}

impl Stage {
    /// A node with the root directory on `device`.
    pub(crate) fn new(device: &str) -> Result<Self> {
        let host = TestHost::new()?;
        let (root, boot) = (host.dir().join("root"), host.dir().join("boot_id"));
        fs::create_dir_all(&root)?;
        fs::write(&boot, boot_id(0))?;
        host.run(&["mount", "--bind", &boot.display().to_string(), BOOT_ID])?;
        host.run(&["mount", "-t", "ext4", device, &root.display().to_string()])?;
        let registry = Registry::start_in(&host)?;
        let daemon = Daemon::builder().start_in(host)?;
        daemon.trust(&registry)?;
        let images = (0..4).map(|number| push(&registry, number)).collect::<Result<_>>()?;
        Ok(Self { daemon, registry, images })
    }

    /// What a node does: pulls, pods, removals. At its end the daemon has stopped and the disk is not mounted.
    pub(crate) async fn work(&mut self) -> Result<()> {
        let mut cri = Cri::connect(&self.daemon).await?;
        for (at, image) in self.images.clone().iter().enumerate() {
            cri.pull(image).await?;
            let pod = cri.run_pod_named(&format!("pod-{at}")).await?;
            let id = cri.run(&pod, &shell("main", image, "echo began; sleep 1000")).await?;
            ensure!(cri.sh(&id, "cat /marker").await? == at.to_string(), "the image's file");
            if at % 2 == 1 {
                cri.remove_pod(&pod.id).await?;
                cri.remove_image(image).await?;
                cri.pull(image).await?;
            }
        }
        // One that was removed while it is used, and one by another name.
        let first = self.images.first().context("no image")?.clone();
        cri.remove_image(&first).await?;
        cri.pull(&first).await?;
        for pod in cri.pods().await? {
            cri.remove_pod(&pod.id).await?;
        }
        self.stop()
    }

    fn root(&self) -> PathBuf {
        self.daemon.path("root")
    }

    fn stop(&mut self) -> Result<()> {
        self.daemon.stop()?;
        self.daemon.host().run(&["umount", &self.root().display().to_string()]).map(drop)
    }

    /// Starts the daemon on a disk, as after a power cut: in another boot, and with nothing in the state directory.
    pub(crate) async fn look(&mut self, disk: &Path, number: usize) -> Result<Seen> {
        fs::write(self.daemon.path("boot_id"), boot_id(number + 1))?;
        let state = self.daemon.path("state");
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        let (disk, root) = (disk.display().to_string(), self.root().display().to_string());
        self.daemon.host().run(&["mount", "-t", "ext4", "-o", "loop", &disk, &root]).context("the file system")?;
        let before = self.daemon.log().len();
        let outcome = async {
            self.daemon.start_again().context("the daemon does not open what was cut")?;
            self.judge(before).await
        };
        let outcome = outcome.await;
        if outcome.is_err() {
            let _ = self.daemon.kill();
            let _ = self.daemon.host().run(&["umount", "-l", &root]);
            return outcome;
        }
        self.stop()?;
        outcome
    }

    async fn judge(&mut self, log_before: usize) -> Result<Seen> {
        let mut cri = Cri::connect(&self.daemon).await?;
        let pods = cri.pods().await?;
        let listed = cri.images.list_images(ListImagesRequest::default()).await?.into_inner().images;
        let verified = self.daemon.podwright(&["images", "verify", "--no-repair"])?;
        let text = String::from_utf8_lossy(&verified.stdout).into_owned();
        ensure!(verified.status.success() && text.contains("damaged 0"), "a listed image is not whole: {text}");
        // What is listed runs.
        let runs = cri.run_pod_named("after").await?;
        for image in &listed {
            let id = cri.run(&runs, &shell(&image.id[7..19], &image.id, "sleep 1000")).await?;
            cri.sh(&id, "cat /marker").await?;
        }
        for pod in cri.pods().await? {
            cri.remove_pod(&pod.id).await.with_context(|| format!("pod {}", pod.id))?;
        }
        // What is not can be had again.
        for image in &self.images {
            cri.pull(image).await.with_context(|| format!("pulling {image} after the cut"))?;
        }
        let verified = self.daemon.podwright(&["images", "verify", "--no-repair"])?;
        ensure!(verified.status.success(), "after pulls: {}", String::from_utf8_lossy(&verified.stdout));
        let log = self.daemon.log();
        let since = log.get(log_before..).unwrap_or_default();
        let count = |words: &str| since.matches(words).count();
        Ok(Seen {
            images: listed.len(),
            pods: pods.len(),
            unpacked: count("is unpacked again"),
            fetched: count("an image that was not whole was pulled again"),
        })
    }

    /// Damages a disk as a power cut may that loses what was promised: the daemon finds it at its start and fetches it again by itself.
    pub(crate) async fn heal(&mut self, disk: &Path) -> Result<()> {
        let (disk, root) = (disk.display().to_string(), self.root().display().to_string());
        self.daemon.host().run(&["mount", "-t", "ext4", "-o", "loop", &disk, &root])?;
        // Every blob is empty, and so is a file of each layer; their names are there.
        let script = "for f in $1/images/blobs/sha256/*; do [ $(stat -c %s $f) -lt 2000 ] || : > $f; done; \
                      for l in $1/layers/*; do rm -f $l/layer.json; done; echo earlier > $1/store.boot";
        self.daemon.host().run(&["sh", "-c", script, "sh", &root])?;
        self.daemon.start_again()?;
        let mut cri = Cri::connect(&self.daemon).await?;
        for image in &self.images {
            let end = Instant::now() + HEALED_WITHIN;
            while cri.image(image).await?.is_none() {
                ensure!(Instant::now() < end, "{image} was not fetched again within {HEALED_WITHIN:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let verified = self.daemon.podwright(&["images", "verify", "--no-repair"])?;
        let text = String::from_utf8_lossy(&verified.stdout).into_owned();
        ensure!(verified.status.success() && text.contains("damaged 0"), "not healed: {text}");
        self.stop()
    }

    /// The end of the daemon's log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.daemon.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    /// Where the registry is.
    pub(crate) fn registry(&self) -> &str {
        self.registry.address()
    }
}

fn boot_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}\n")
}

/// Layers of some size, so that a cut may fall into them.
fn push(registry: &Registry, number: usize) -> Result<String> {
    let mut layer = LayerBuilder::new().file("marker", 0o644, number.to_string().as_bytes()).dir("data", 0o755);
    for at in 0..40_usize {
        let content: Vec<u8> = (0..20_000_usize).map(|byte| (byte * 31 + at * 7 + number) as u8).collect();
        layer = layer.file(&format!("data/{at}"), 0o644, &content);
    }
    let layer = layer.finish(Compression::Gzip)?;
    let image = base::variant(&format!("power-{number}"), |image| image.layer(&layer))?;
    registry.push(&image, &format!("power/{number}"), "1")
}

//! Floors: the bare work of the kernel, or of the machine, that no runtime can do without. The rows say how far we are from them.

use std::io::Read;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use flate2::read::GzDecoder;
use podwright_cri_api::v1::VersionRequest;
use podwright_testutil::image::{Compression, Layer};
use sha2::{Digest, Sha256};

use super::bundle::{self, Place};
use super::pull::{IMAGES, Kind};
use super::{Bench, OURS, exec, start};
use crate::lane::Part;
use crate::machine;
use crate::report::Floor;
use crate::sample::Samples;

const FLOORS: &str = "floors";
/// Runs of a bare program, empty calls.
const RUNS: u32 = 100;
const ROUNDS: usize = 3;
const PIECE_BYTES: usize = 256 << 10;

pub(super) async fn measure(bench: &mut Bench) {
    if !bench.wants(&[FLOORS]) {
        return;
    }
    let mut part = bench.part("floors of the kernel");
    let call = part.step(OURS, empty_call(bench)).await.unwrap_or_default();
    // Each about itself: one that can not be measured leaves the others.
    let mut part = Part::of(["programs"]);
    if let Some(programs) = part.step(0, async { Programs::measure() }).await {
        programs.add(bench, call);
    }
    for kind in &IMAGES {
        let mut part = Part::of([kind.wall().as_str()]);
        if let Some((wall, cpu)) = part.step(0, inflate_and_hash(kind)).await {
            let what = "its layers inflated and both digests computed in memory, on all processors";
            bench.report.add_floor(Floor { of: kind.wall(), what: what.into(), samples: wall });
            let what = "the same";
            bench.report.add_floor(Floor { of: kind.cpu(), what: what.into(), samples: cpu });
        }
    }
}

/// Milliseconds of a call of the CRI that does nothing.
async fn empty_call(bench: &Bench) -> Result<f64> {
    let mut cri = bench.contenders.get(OURS).context("nobody is measured")?.cri.clone();
    let mut samples = Samples::default();
    for _ in 0..RUNS {
        let start = Instant::now();
        cri.runtime.version(VersionRequest::default()).await.context("Version")?;
        samples.push(start.elapsed());
    }
    Ok(samples.at(50))
}

/// Times of bare programs in milliseconds.
struct Programs {
    bare: Samples,
    bare_on_host_network: Samples,
    unshare: Samples,
    spawn: Samples,
}

impl Programs {
    fn measure() -> Result<Self> {
        let place = Place::new()?;
        let (program, root) = (place.program(), place.rootfs());
        let time = |words: &[&str]| -> Result<Samples> {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let mut samples = Samples::default();
            place.time(0, RUNS, &words)?.into_iter().for_each(|milliseconds| samples.push_value(milliseconds));
            Ok(samples)
        };
        Ok(Self {
            bare: time(&[&program, "bare", &root])?,
            bare_on_host_network: time(&[&program, "bare", "--host-network", &root])?,
            unshare: time(&["unshare", "-fpmniu", "/bin/busybox", "true"])?,
            spawn: time(&["/bin/busybox", "true"])?,
        })
    }

    fn add(self, bench: &mut Bench, call: f64) {
        let bare = "a bare clone into new namespaces with the mounts and an exec of true";
        let three = |samples: &Samples| samples.shifted(3.0 * call);
        let floors = [
            (start::START, format!("three empty calls and {bare}"), three(&self.bare)),
            (start::OWN, format!("three empty calls and {bare}"), three(&self.bare)),
            (start::HOST, "the same without a network namespace".to_owned(), three(&self.bare_on_host_network)),
            (exec::ALONE, "an empty call and a static true, spawned".to_owned(), self.spawn.shifted(call)),
            (bundle::ROW, bare.to_owned(), self.bare.clone()),
            (bundle::ROW, "unshare -fpmniu true".to_owned(), self.unshare.clone()),
        ];
        for (of, what, samples) in floors {
            bench.report.add_floor(Floor { of: of.to_owned(), what, samples });
        }
    }
}

/// Seconds of time and of processor time for a pull's bare work.
async fn inflate_and_hash(kind: &Kind) -> Result<(Samples, Samples)> {
    let layers = kind.layers()?;
    tokio::task::spawn_blocking(move || {
        let processors = thread::available_parallelism()?.get();
        let (mut wall, mut cpu) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            let before = machine::own_cpu();
            wall.push_value(work(&layers, processors)?.as_secs_f64());
            cpu.push_value(machine::own_cpu().saturating_sub(before).as_secs_f64());
        }
        Ok((wall, cpu))
    })
    .await
    .context("inflating")?
}

/// Inflates and hashes all layers with some threads. What is hashed as it is, and what is inflated, are jobs of their own.
fn work(layers: &[Layer], threads: usize) -> Result<Duration> {
    let jobs: Vec<(&Layer, bool)> = layers.iter().flat_map(|layer| [(layer, true), (layer, false)]).collect();
    let jobs = Mutex::new(jobs);
    let start = Instant::now();
    let take = || jobs.lock().ok().and_then(|mut jobs| jobs.pop());
    let worker = || -> Result<()> {
        while let Some((layer, inflated)) = take() {
            digest(layer, inflated)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?)
    })?;
    Ok(start.elapsed())
}

fn digest(layer: &Layer, inflated: bool) -> Result<()> {
    let bytes = layer.blob.bytes.as_slice();
    let mut source: Box<dyn Read + '_> = match (inflated, layer.compression) {
        (true, Compression::Gzip) => Box::new(GzDecoder::new(bytes)),
        (true, Compression::Zstd) => Box::new(zstd::Decoder::new(bytes).context("opening a layer")?),
        (true, Compression::None) | (false, _) => Box::new(bytes),
    };
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        let length = source.read(&mut piece).context("inflating a layer")?;
        if length == 0 {
            return Ok(());
        }
        hasher.update(piece.get(..length).unwrap_or_default());
    }
}

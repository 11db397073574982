//! `cargo xtask power-loss`: a daemon works on a disk whose writes are recorded; then the disk is made as it was at every flush and at
//! random points between, and after each such cut the daemon has to open it, list only whole images, and go on. Started by xtask.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // It is a program for a terminal.

mod cuts;
mod disk;
mod log;
mod stage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cuts::{Cut, Kind, Random, Replay};
use disk::Disk;
use log::Log;
use stage::{Seen, Stage};

#[derive(Parser)]
struct Arguments {
    /// Where qemu-utils is unpacked.
    #[arg(long)]
    emulator: PathBuf,
    /// Most cuts; 0: every flush, and as many points between.
    #[arg(long, default_value_t = 0)]
    points: usize,
    /// Chooses the points between, and what of the last writes reached the disk there.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints each cut.
    #[arg(long)]
    verbose: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let work = tempfile::Builder::new().prefix("pwt-power-").tempdir()?;
    let dir = work.path();
    let disk = Disk::record(&arguments.emulator, dir)?;
    let mut stage = Stage::new(&disk.device)?;
    println!("recording, registry {}", stage.registry());
    stage.work().await.with_context(|| stage.last_words())?;
    disk.end()?;
    let log = Log::open(&dir.join("log.raw"))?;
    let flushes = log.entries.iter().filter(|entry| entry.is_flush()).count();
    println!("recorded {} writes with {flushes} flushes", log.entries.len());
    let cuts = cuts::choose(&log, arguments.points, &mut Random(arguments.seed));
    let outcome = cut_all(&mut stage, &log, &cuts, dir, arguments.verbose).await?;
    let whole = dir.join("disk.raw");
    stage.heal(&whole).await.with_context(|| stage.last_words())?;
    println!("a disk that lost what it had promised was healed");
    Ok(outcome)
}

async fn cut_all(stage: &mut Stage, log: &Log, cuts: &[Cut], dir: &Path, verbose: bool) -> Result<ExitCode> {
    let mut replay = Replay::new(log, &dir.join("empty.raw"), &dir.join("base.raw"))?;
    let (mut sum, mut failed) = (Seen::default(), 0);
    for (number, cut) in cuts.iter().enumerate() {
        let at = dir.join("cut.raw");
        replay.make(cut, &at)?;
        match stage.look(&at, number).await {
            Ok(seen) => {
                if verbose {
                    println!("cut {number}: {:?} after {} writes: {seen:?}", cut.kind, cut.flushed + cut.reached.len());
                }
                sum.images += seen.images;
                sum.pods += seen.pods;
                sum.unpacked += seen.unpacked;
                sum.fetched += seen.fetched;
            }
            Err(error) => {
                failed += 1;
                println!(
                    "cut {number} FAILED: {:?}, flushed {}, reached {:?}: {error:#}",
                    cut.kind, cut.flushed, cut.reached
                );
                println!("{}", stage.last_words());
            }
        }
    }
    let of = |kind: Kind| cuts.iter().filter(|cut| cut.kind == kind).count();
    println!(
        "cut points {}, at a flush {}, between {}, torn {}, images listed {}, pods {}, layers unpacked again {}, images fetched again {}, failed {failed}",
        cuts.len(),
        of(Kind::Flush),
        of(Kind::Between),
        of(Kind::Torn),
        sum.images,
        sum.pods,
        sum.unpacked,
        sum.fetched,
    );
    Ok(if failed == 0 && !cuts.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `cargo xtask soak`: thousands of pods, each made, used and removed, with a look at the daemon now and then. It fails if
//! the daemon's memory or descriptors grow, or if anything is left on the host. Started by xtask, which builds the programs.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // It is a program for a terminal.

mod life;
mod own;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use podwright_critest::{World, WorldBuilder};
use podwright_testutil::Daemon;

use own::Own;

/// Pods of one kind of load: one after the other, then as many several at once.
const STRETCH: u32 = 50;

#[derive(Parser)]
struct Arguments {
    /// Pods, made and removed.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..))]
    pods: u32,
    /// Pods between two looks at the daemon. The first look is what the last one is compared with.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(soak(&arguments))
}

async fn soak(arguments: &Arguments) -> Result<ExitCode> {
    let mut world = WorldBuilder::daemon(Daemon::builder().log_level("warn")).start().await?;
    let clock = Instant::now();
    let (mut first, mut last, mut done) = (None, None, 0);
    while done < arguments.pods {
        let end = arguments.pods.min(done + arguments.every);
        while done < end {
            let stretch = STRETCH.min(end - done);
            let at_once = if (done / STRETCH).is_multiple_of(2) { 1 } else { life::AT_ONCE };
            life::live(&world, done, stretch, at_once).await?;
            done += stretch;
        }
        let own = Own::at_rest(&world.daemon, first).await?;
        println!("after {done} pods, {:.0} s: {own}", clock.elapsed().as_secs_f64());
        first = first.or(Some(own));
        last = Some(own);
    }
    let growth = first.zip(last).and_then(|(first, last)| last.growth_since(first));
    let left = left_over(&mut world).await?;
    // Elsewhere, as the daemon waits for its clients to go, and they do that on this thread.
    let stopped = tokio::task::spawn_blocking(move || world.daemon.stop()).await.context("waiting for the daemon")?;
    stopped.context("the end of the daemon")?;
    if let Some(growth) = &growth {
        println!("{growth}");
    }
    left.iter().for_each(|line| println!("left over: {line}"));
    println!("pods {done}, seconds {:.0}, left over {}", clock.elapsed().as_secs_f64(), left.len());
    Ok(if growth.is_none() && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn left_over(world: &mut World) -> Result<Vec<String>> {
    let mut lines: Vec<String> = world.pods().await?.iter().map(|pod| format!("pod {} is listed", pod.id)).collect();
    lines.extend(world.left_over().await?);
    Ok(lines)
}

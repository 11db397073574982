//! `cargo xtask bench`: what an operator sees of a runtime's speed and cost, ours beside its peers, in one run on one machine.
//! Started by xtask, which builds the release programs.
//!
//! A *contender* is a running runtime with an image, a registry and a directory of its own; a *row* is one thing measured of each,
//! interleaved. Judges nothing but prints each row's ratio to the best peer beside its target. Without peers it prints our numbers.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // It is a program for a terminal.

mod contender;
mod lane;
mod machine;
mod page;
mod plot;
mod plugin;
mod report;
mod rows;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use contender::{Contender, Kind};
use report::Report;
use rows::Bench;

#[derive(Debug, Parser)]
struct Arguments {
    /// Runtimes to compare with: containerd-runc, containerd-crun.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Kind>,
    /// A runtime that already runs on this host: its name and the endpoint of its CRI. Repeatable.
    #[arg(long = "peer", value_name = "NAME=unix:///SOCKET", value_parser = given)]
    given: Vec<(String, String)>,
    /// Pods one after the other, and idle pods for the measurement of memory.
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// Idle pods in the end, for lists, usage, memory and the start of the daemon. They are measured at 50, 100 and 500 on the way.
    /// Peers get as many.
    #[arg(long, default_value_t = 500)]
    many: usize,
    /// Idle pods for the rows of density, which are ours alone; 0 leaves them out.
    #[arg(long, default_value_t = 1500)]
    density: usize,
    /// Only rows whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Writes the rows as a list of {row, unit, ours, peers, ratio, target, met}.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the distributions as a picture.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Rewrites the table in this document.
    #[arg(long)]
    page: Option<PathBuf>,
}

fn given(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, endpoint)) if !name.is_empty() && endpoint.starts_with("unix://") => {
            Ok((name.into(), endpoint.into()))
        }
        _ => Err("write NAME=unix:///path/of/the.sock".into()),
    }
}

fn main() -> ExitCode {
    // Contenders' plugins are this program under other names: see plugin.rs.
    if let Some(code) = plugin::run_as_plugin() {
        return code;
    }
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting tokio")
        .and_then(|runtime| runtime.block_on(measure(&Arguments::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let mut contenders = vec![Contender::ours().await?];
    for kind in &arguments.peers {
        contenders.push(Contender::peer(*kind).await.with_context(|| format!("starting {}", kind.name()))?);
    }
    for (name, endpoint) in &arguments.given {
        contenders.push(Contender::given(name, endpoint).await.with_context(|| format!("connecting to {name}"))?);
    }
    let conditions = machine::conditions(&contenders)?;
    println!("{conditions}\n");
    let mut bench = Bench {
        contenders,
        report: Report::default(),
        pods: arguments.pods.max(1),
        many: arguments.many.max(1),
        density: arguments.density,
        wanted: arguments.rows.clone(),
        started: Instant::now(),
    };
    bench.run().await;
    let report = bench.report;
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json()?).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.plot {
        std::fs::write(path, plot::svg(&report)).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.page {
        page::rewrite(path, &conditions, &report)?;
    }
    let failures = report.failures();
    ensure!(failures.is_empty(), "podwright failed in {} rows:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

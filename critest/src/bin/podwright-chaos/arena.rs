//! One daemon under load, struck again and again. In each round some pods live through all strikes; at its end everything goes, and
//! the host is compared with what it was.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use podwright_critest::{World, WorldBuilder};
use podwright_testutil::Daemon;
use tokio::sync::watch;

use crate::call::{Caller, Disturbances, Life};
use crate::images::{self, Gallery};
use crate::load::{Field, Load};
use crate::schedule::Schedule;
use crate::steady::{self, Steady};
use crate::strike::Striker;
use crate::tally::Tally;

/// Strikes between two comparisons of the host. Few, so that what was left can be told from what was struck.
const STRIKES_PER_ROUND: usize = 10;
/// Pullers that images are made for.
const PULLERS: usize = 2;

/// Who connects the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The daemon itself.
    Embedded,
    /// The bridge plugin and its chain.
    Bridge,
}

impl Network {
    fn daemon(self) -> podwright_testutil::DaemonBuilder {
        match self {
            Self::Embedded => Daemon::builder(),
            Self::Bridge => Daemon::builder().bridge_chain("1.1.0"),
        }
    }
}

/// Strikes until `end`.
pub(crate) async fn run(network: Network, mut schedule: Schedule, seed: u64, end: Instant, tally: Tally) -> Result<()> {
    let mut world = WorldBuilder::daemon(network.daemon()).start().await?;
    let gallery = Arc::new(Gallery::hang(&world.registry, PULLERS, seed)?);
    let (life, heard) = watch::channel(Life { generation: 0, cri: Some(world.calls()) });
    let disturbances = Arc::new(Disturbances::default());
    let field = Field {
        caller: Caller { life: heard, disturbances: disturbances.clone() },
        tally: tally.clone(),
        image: world.image.clone(),
        logs: world.daemon.path("logs"),
        cgroup_parent: world.daemon.host().cgroup_parent(),
        gallery,
    };
    let mut round = 0;
    while Instant::now() < end && schedule.peek().is_some() {
        round += 1;
        let faults_before = field.tally.faults();
        let mut striker = Striker::new(&mut world, &life, &disturbances, &field);
        let struck = one_round(&mut striker, &mut schedule, round, seed, end).await;
        let compared = match struck {
            Ok(struck) => compare(&mut world, &field, &struck).await,
            Err(error) => Err(error),
        };
        if compared.is_err() || field.tally.faults() > faults_before {
            keep_log(&world.daemon, round);
        }
        compared.with_context(|| format!("{network:?}, round {round}"))?;
    }
    empty_store(world, &field).await
}

async fn one_round(
    striker: &mut Striker<'_>,
    schedule: &mut Schedule,
    round: u64,
    seed: u64,
    end: Instant,
) -> Result<Vec<String>> {
    let field = striker.field.clone();
    let mut struck = Vec::new();
    if let Some(first) = schedule.take_first() {
        field.tally.say(&format!("{first:?}"));
        struck.push(format!("{first:?}"));
        striker.arm(&first).await?;
    }
    let steadies = striker.while_it_lives(steady::start(&field, round)).await?.context("making the pods that stay")?;
    striker.disarm().await?;
    let load = Load::start(&field, round, seed);
    let mut last = None;
    let mut tried = 0;
    while struck.len() < STRIKES_PER_ROUND
        && (Instant::now() < end || struck.is_empty())
        && tried < 2 * STRIKES_PER_ROUND
    {
        tried += 1;
        let Some(strike) = schedule.take() else { break };
        if strike.is_at_the_first_pod() {
            schedule.put_off(strike);
            continue;
        }
        if strike.is_at_the_last_pod() {
            match &last {
                None => last = Some(strike),
                Some(_) => schedule.put_off(strike),
            }
            continue;
        }
        field.tally.say(&format!("{strike:?}"));
        striker.strike(&strike, schedule.peek()).await.with_context(|| format!("{strike:?}"))?;
        struck.push(format!("{strike:?}"));
        let checks = async {
            for steady in &steadies {
                look_at(steady, &field, &struck).await;
            }
        };
        striker.while_it_lives(checks).await?;
    }
    striker.disarm().await?;
    load.end().await?;
    if let Some(last) = &last {
        field.tally.say(&format!("{last:?}"));
        struck.push(format!("{last:?}"));
        striker.arm(last).await?;
    }
    striker.while_it_lives(end_all(steadies, &field)).await?;
    if last.is_some() {
        striker.await_last().await?;
    }
    Ok(struck)
}

async fn end_all(steadies: Vec<Steady>, field: &Field) {
    for steady in steadies {
        let name = steady.name().to_owned();
        if let Err(error) = steady.end(field).await {
            field.tally.fault(&format!("{name}: {error:#}"));
        }
    }
}

async fn look_at(steady: &Steady, field: &Field, struck: &[String]) {
    if let Err(error) = steady.check(field).await {
        let last = struck.last().map_or("", String::as_str);
        field.tally.fault(&format!("{} after {last}: {error:#}", steady.name()));
    }
}

/// Nothing of the round may be left, pods that nobody asked for included.
async fn compare(world: &mut World, field: &Field, struck: &[String]) -> Result<()> {
    let mut lines: Vec<String> =
        field.caller.call("ListPodSandbox", async |mut cri| cri.pods().await).await?.iter().map(of_pod).collect();
    world.reconnect().await?;
    for pod in world.pods().await? {
        if let Err(error) = world.remove_pod(&pod.id).await {
            field.tally.fault(&format!("a pod that was left can not be removed: {error:#}"));
        }
    }
    lines.extend(world.left_over().await?);
    field.tally.left_over(&lines, struck);
    if !lines.is_empty() {
        // The next rounds are judged by what they leave themselves.
        world.count().await?;
    }
    Ok(())
}

fn of_pod(pod: &podwright_cri_api::v1::PodSandbox) -> String {
    format!("+1 pod {:?}", pod.metadata)
}

/// With the last image the store holds no blob and no layer.
async fn empty_store(mut world: World, field: &Field) -> Result<()> {
    images::remove(field, &field.image).await?;
    let root = world.daemon.path("root");
    let mut lines = Vec::new();
    for dir in ["images/blobs/sha256", "layers", "ingest", "trash"].map(|name| root.join(name)) {
        let entries = std::fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))?;
        lines.extend(entries.flatten().map(|entry| format!("+1 file {}", entry.path().display())));
    }
    field.tally.left_over(&lines, &["the removal of the last image".to_owned()]);
    // Elsewhere, as the daemon waits for its clients to go, and they do that on this thread.
    let stopped = tokio::task::spawn_blocking(move || world.daemon.stop()).await.context("waiting for the daemon")?;
    stopped.context("the end of the daemon")
}

/// Puts the daemon's log, which goes with its host, where people can read it.
fn keep_log(daemon: &Daemon, round: u64) {
    let path = std::env::temp_dir().join(format!("podwright-chaos-{}-{round}.log", daemon.host().id()));
    match std::fs::write(&path, daemon.log()) {
        Ok(()) => println!("the daemon's log: {}", path.display()),
        Err(error) => println!("the daemon's log can not be kept at {}: {error}", path.display()),
    }
}

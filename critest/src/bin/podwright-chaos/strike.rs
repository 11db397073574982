//! Killing: the daemon at a point or at any moment, a shim, a plugin, the registry. Owns the daemon's starts, and tells the callers
//! of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use podwright_critest::{Cri, World};
use podwright_testutil::cni_bin_dir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::call::{Disturbances, Life};
use crate::load::Field;
use crate::schedule::Strike;
use crate::shims::Victim;

/// Longest wait until the load comes to an armed point.
const REACHED_WITHIN: Duration = Duration::from_secs(12);
/// How often it is looked whether the daemon is dead.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Longest wait for a plugin to run.
const PLUGIN_WITHIN: Duration = Duration::from_secs(10);
/// How long the registry is away.
const REGISTRY_AWAY: Duration = Duration::from_millis(200);
/// Starts in a row in which a daemon may kill itself.
const MOST_STARTS: usize = 5;

/// Strikes in one arena.
pub(crate) struct Striker<'a> {
    world: &'a mut World,
    life: &'a watch::Sender<Life>,
    disturbances: &'a Disturbances,
    pub(crate) field: Field,
    /// The point that the running daemon is armed with.
    armed: Option<String>,
    /// The point of the next strike, if the daemon came to it early.
    early: Option<String>,
    victims: u64,
}

impl<'a> Striker<'a> {
    pub(crate) fn new(
        world: &'a mut World,
        life: &'a watch::Sender<Life>,
        disturbances: &'a Disturbances,
        field: &Field,
    ) -> Self {
        Self { world, life, disturbances, field: field.clone(), armed: None, early: None, victims: 0 }
    }

    /// Strikes. Afterwards a daemon serves, armed for `next` if that is a point and the daemon had to be started anyway.
    pub(crate) async fn strike(&mut self, strike: &Strike, next: Option<&Strike>) -> Result<()> {
        match strike {
            Strike::Point { name, passes } => self.point(name, *passes, next).await,
            Strike::Moment { after_ms } => {
                sleep(Duration::from_millis(*after_ms)).await;
                self.kill_daemon(&strike.step())?;
                self.start(next).await
            }
            Strike::Shim { daemon_away } => self.shim(*daemon_away, &strike.step(), next).await,
            Strike::Plugin { command } => self.plugin(command, &strike.step()).await,
            Strike::Registry { after_ms } => self.registry(*after_ms, &strike.step()).await,
        }
    }

    /// Puts a daemon without fail point in place of an armed one.
    pub(crate) async fn disarm(&mut self) -> Result<()> {
        if self.armed.is_some() {
            self.kill_daemon("daemon at any moment")?;
            self.start(None).await?;
        }
        Ok(())
    }

    /// Puts an armed daemon in place of the one that serves.
    pub(crate) async fn arm(&mut self, strike: &Strike) -> Result<()> {
        self.kill_daemon("daemon at any moment")?;
        self.start(Some(strike)).await
    }

    /// Waits for what an armed daemon comes to without being asked.
    pub(crate) async fn await_last(&mut self) -> Result<()> {
        self.early = None;
        if let Some(point) = self.armed.clone() {
            self.wait_for_death(&point).await?;
            self.start(None).await?;
        }
        Ok(())
    }

    async fn point(&mut self, name: &str, passes: u32, next: Option<&Strike>) -> Result<()> {
        if self.early.take().is_some_and(|point| point == name) {
            return Ok(());
        }
        if self.armed.as_deref() != Some(name) {
            self.arm(&Strike::Point { name: name.to_owned(), passes }).await?;
        }
        // A daemon that came to it before it was ready was counted then.
        if self.early.take().is_none() {
            self.wait_for_death(name).await?;
            self.start(next).await?;
        }
        Ok(())
    }

    /// Does something that needs a daemon; one that comes to its point meanwhile is followed by another.
    pub(crate) async fn while_it_lives<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep(LOOK_AGAIN) => {
                    if self.world.daemon.was_killed()? {
                        let point = self.armed.clone().context("somebody else killed the daemon")?;
                        self.mourn();
                        self.field.tally.struck(&point);
                        self.early = Some(point);
                        self.start(None).await?;
                    }
                }
            }
        }
    }

    async fn wait_for_death(&mut self, point: &str) -> Result<()> {
        let end = Instant::now() + REACHED_WITHIN;
        while !self.world.daemon.was_killed()? {
            if Instant::now() > end {
                self.field.tally.missed(point);
                return self.kill_daemon("daemon at any moment");
            }
            sleep(LOOK_AGAIN).await;
        }
        self.mourn();
        self.field.tally.struck(point);
        Ok(())
    }

    fn kill_daemon(&mut self, step: &str) -> Result<()> {
        // It may have come to its point just now.
        if let Some(point) = self.armed.clone()
            && self.world.daemon.was_killed()?
        {
            self.field.tally.struck(&point);
        } else {
            self.world.daemon.kill()?;
            self.field.tally.struck(step);
        }
        self.mourn();
        Ok(())
    }

    fn mourn(&mut self) {
        self.armed = None;
        self.life.send_modify(|life| life.cri = None);
    }

    async fn start(&mut self, next: Option<&Strike>) -> Result<()> {
        self.armed = None;
        match next {
            Some(Strike::Point { name, passes }) => {
                if self.world.daemon.start_armed(name, *passes)? {
                    self.armed = Some(name.clone());
                } else {
                    self.field.tally.say(&format!("reached before it was ready: {name}"));
                    self.field.tally.struck(name);
                    self.early = Some(name.clone());
                    self.start_unarmed()?;
                }
            }
            Some(_) | None => self.start_unarmed()?,
        }
        self.announce().await
    }

    fn start_unarmed(&mut self) -> Result<()> {
        self.world.daemon.start_again()
    }

    async fn announce(&mut self) -> Result<()> {
        for _ in 0..MOST_STARTS {
            if let Ok(cri) = Cri::connect(&self.world.daemon).await {
                self.life.send_modify(|life| {
                    life.generation += 1;
                    life.cri = Some(cri);
                });
                return Ok(());
            }
            // Its point was reached between readiness and our call.
            if self.world.daemon.was_killed()? {
                if let Some(point) = self.armed.take() {
                    self.field.tally.struck(&point);
                    self.early = Some(point);
                }
                self.start_unarmed()?;
            }
        }
        anyhow::bail!("the daemon can not be reached after {MOST_STARTS} tries")
    }

    async fn shim(&mut self, daemon_away: bool, step: &str, next: Option<&Strike>) -> Result<()> {
        self.victims += 1;
        let name = format!("victim-{}-{}", self.life.borrow().generation, self.victims);
        let victim = Victim::prepare(&self.field, &name).await.context("making a pod for its shim to be killed")?;
        if daemon_away {
            self.kill_daemon("daemon at any moment")?;
        }
        ensure!(self.world.daemon.host().kill(victim.shim)?, "the shim was gone already");
        self.field.tally.struck(step);
        if daemon_away {
            self.start(next).await?;
        }
        let field = self.field.clone();
        if let Err(error) = self.while_it_lives(victim.check(&field)).await? {
            self.field.tally.fault(&format!("{name}, whose shim was killed: {error:#}"));
        }
        Ok(())
    }

    /// Kills a plugin, or one that it runs itself, in the middle.
    async fn plugin(&mut self, command: &str, step: &str) -> Result<()> {
        let end = Instant::now() + PLUGIN_WITHIN;
        let daemon = self.world.daemon.pid().context("no daemon runs")?;
        let dir = cni_bin_dir()?;
        while Instant::now() < end {
            if let Some(pid) = running_plugin(daemon, &dir, command) {
                self.disturbances.plugins.fetch_add(1, Ordering::SeqCst);
                if self.world.daemon.host().kill(pid)? {
                    self.field.tally.struck(step);
                    return Ok(());
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.field.tally.missed(step);
        Ok(())
    }

    async fn registry(&mut self, after_ms: u64, step: &str) -> Result<()> {
        sleep(Duration::from_millis(after_ms)).await;
        self.disturbances.registry.fetch_add(1, Ordering::SeqCst);
        self.world.registry.kill()?;
        self.field.tally.struck(step);
        sleep(REGISTRY_AWAY).await;
        let World { daemon, registry, .. } = &mut *self.world;
        registry.start_again(daemon.host())?;
        self.disturbances.registry.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A child of the daemon that executes a file of `dir` for `command`.
fn running_plugin(daemon: u32, dir: &std::path::Path, command: &str) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{daemon}/task")).ok()?;
    let children = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let wanted = format!("CNI_COMMAND={command}");
    children.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).find(
        |pid| {
            let is_plugin = std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(dir));
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            is_plugin && environment.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
        },
    )
}

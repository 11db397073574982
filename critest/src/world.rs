//! A daemon with a registry and an image in a host of its own. The calls that tests make in it are [`Cri`]'s.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use podwright_testutil::{Census, Daemon, DaemonBuilder, Registry, TestHost, base};

use crate::config::{Pod, host_port, shell};
use crate::cri::Cri;

/// Time for what ends by itself, and for second tries of what failed, between which a minute may pass.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Pause between two counts.
const SETTLING: Duration = Duration::from_millis(100);

/// A port of the host that the first pod has, so that tables for host ports exist before things are counted.
const WARM_UP_PORT: i32 = 39_999;

/// Host, daemon, registry and a pulled busybox.
pub struct World {
    cri: Cri,
    /// The daemon.
    pub daemon: Daemon,
    /// The registry, in the daemon's host.
    pub registry: Registry,
    /// Reference of busybox; pulled.
    pub image: String,
    before: Census,
}

/// How a world is to be.
#[derive(Debug, Clone, Default)]
pub struct WorldBuilder {
    daemon: DaemonBuilder,
}

impl WorldBuilder {
    /// With this daemon.
    #[must_use]
    pub fn daemon(daemon: DaemonBuilder) -> Self {
        Self { daemon }
    }

    /// Starts everything, pulls busybox and counts what the host holds then. With plugins, a first pod was made and removed before: the
    /// bridge and the tables of rules stay by their design.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(self) -> Result<World> {
        let host = TestHost::new()?;
        let registry = Registry::start_in(&host)?;
        let image = registry.push(&base::busybox()?, "busybox", "1")?;
        let daemon = self.daemon.start_in(host)?;
        daemon.trust(&registry)?;
        let mut world = World { cri: Cri::connect(&daemon).await?, before: daemon.census()?, daemon, registry, image };
        let image = world.image.clone();
        world.pull(&image).await?;
        if world.daemon.has_plugins() {
            world.warm_up().await.context("making and removing a first pod")?;
        }
        world.count().await?;
        Ok(world)
    }
}

impl World {
    /// Connects again, after the daemon was started again.
    ///
    /// # Errors
    /// The socket can not be reached.
    pub async fn reconnect(&mut self) -> Result<()> {
        self.cri = Cri::connect(&self.daemon).await?;
        Ok(())
    }

    /// Counts anew what [`Self::nothing_left`] compares with; for tests that pull images. Waits until two counts are equal.
    ///
    /// # Errors
    /// Something can not be read, or does not come to rest.
    pub async fn count(&mut self) -> Result<()> {
        let end = Instant::now() + SETTLED_WITHIN;
        loop {
            self.before = self.daemon.census()?;
            tokio::time::sleep(SETTLING).await;
            let difference = self.before.same_as(&self.daemon.census()?);
            if difference.is_ok() || Instant::now() > end {
                return difference.context("the host does not come to rest");
            }
        }
    }

    /// Makes and starts a container of busybox with a shell script.
    ///
    /// # Errors
    /// A call failed.
    pub async fn run_shell(&mut self, pod: &Pod, name: &str, script: &str) -> Result<String> {
        let config = shell(name, &self.image, script);
        self.cri.run(pod, &config).await
    }

    /// Clients of one's own, for calls side by side.
    #[must_use]
    pub fn calls(&self) -> Cri {
        self.cri.clone()
    }

    /// Removes all pods and compares the host with what it was.
    ///
    /// # Errors
    /// A pod can not be removed, or something is left.
    pub async fn nothing_left(&mut self) -> Result<()> {
        for pod in self.pods().await? {
            self.remove_pod(&pod.id).await?;
        }
        self.comes_back_to(&self.before).await
    }

    /// Waits until the host is as it was. The kernel takes links away some time after their namespace, and what failed
    /// to be undone is tried again.
    ///
    /// # Errors
    /// It is not, for too long.
    pub async fn comes_back_to(&self, before: &Census) -> Result<()> {
        let end = Instant::now() + SETTLED_WITHIN;
        loop {
            let difference = before.same_as(&self.daemon.census()?);
            if difference.is_ok() || Instant::now() > end {
                return difference;
            }
            tokio::time::sleep(SETTLING).await;
        }
    }

    /// What is left over of pods that are gone, and what is missing, after the host had time to come to rest.
    ///
    /// # Errors
    /// Something can not be read.
    pub async fn left_over(&self) -> Result<Vec<String>> {
        let end = Instant::now() + SETTLED_WITHIN;
        loop {
            let changes = self.before.changes(&self.daemon.census()?);
            if changes.is_empty() || Instant::now() > end {
                return Ok(changes);
            }
            tokio::time::sleep(SETTLING).await;
        }
    }

    async fn warm_up(&mut self) -> Result<()> {
        let mut config = self.pod("warm-up");
        config.port_mappings.push(host_port(WARM_UP_PORT, 80));
        let pod = self.run_pod(config).await?;
        self.remove_pod(&pod.id).await
    }
}

impl Deref for World {
    type Target = Cri;

    fn deref(&self) -> &Cri {
        &self.cri
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Cri {
        &mut self.cri
    }
}

/// Runs a test in a world on the embedded network; see [`with_world_of`].
pub fn with_world(test: impl AsyncFnOnce(&mut World) -> Result<()>) {
    with_world_of(WorldBuilder::default(), test);
}

/// Runs a test in a world, removes the pods it left, and checks that nothing else is left.
///
/// # Panics
/// The test failed: this is for tests. The daemon's log is shown then.
pub fn with_world_of(builder: WorldBuilder, test: impl AsyncFnOnce(&mut World) -> Result<()>) {
    let outcome = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = outcome.context("making a tokio runtime").and_then(|runtime| {
        runtime.block_on(async {
            let mut world = builder.start().await?;
            let outcome = async {
                test(&mut world).await?;
                world.nothing_left().await.context("after the test")
            };
            // Here and not outside: the world is dropped while this panics, and shows the daemon's log.
            must(outcome.await);
            Ok(())
        })
    });
    must(outcome);
}

/// Ends a test that failed, with the whole chain of causes.
///
/// # Panics
/// The outcome is an error.
#[allow(clippy::panic)] // A test fails by it.
pub fn must<T>(outcome: Result<T>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

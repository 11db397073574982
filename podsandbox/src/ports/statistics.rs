//! Reading what containers and sandboxes use.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use podwright_types::SandboxId;

use super::NetworkKind;
use crate::model::{CgroupUsage, ContainerDetails, LayerUsage, NetworkUsage};
use crate::util::lock;

/// How much longer than a count took the next one is put off: a layer of a million files may cost a twentieth of a CPU, and one
/// that is counted within 50 ms is never older than a second.
const PUT_OFF_FACTOR: u32 = 20;

/// Everything that is to be read for one answer.
#[derive(Debug, Default)]
pub struct ReadRequest {
    /// Containers.
    pub containers: Vec<ContainerSubject>,
    /// Sandboxes.
    pub sandboxes: Vec<SandboxSubject>,
    /// Reads the details of containers too.
    pub details: bool,
}

/// A container to be read.
#[derive(Debug)]
pub struct ContainerSubject {
    /// Its control group, as [`super::Cgroups::container_path`] names it; `None` if nothing of it runs.
    pub cgroup: Option<String>,
    /// What it wrote.
    pub layer: Arc<LayerCount>,
}

/// A sandbox to be read.
#[derive(Debug)]
pub struct SandboxSubject {
    /// Id.
    pub id: SandboxId,
    /// The control group to read, as [`super::Cgroups::pod_parent`] names it.
    pub cgroup: Option<String>,
    /// Its network, and where its namespace is pinned.
    pub network: Option<(NetworkKind, PathBuf)>,
}

/// What was read, in the order of the request.
#[derive(Debug, Default)]
pub struct ReadReply {
    /// Containers.
    pub containers: Vec<ContainerReading>,
    /// Sandboxes.
    pub sandboxes: Vec<SandboxReading>,
}

/// What was read of a container.
#[derive(Debug, Default)]
pub struct ContainerReading {
    /// What it uses.
    pub usage: Option<CgroupUsage>,
    /// Details, if they were asked for.
    pub details: Option<Box<ContainerDetails>>,
}

/// What was read of a sandbox.
#[derive(Debug, Default)]
pub struct SandboxReading {
    /// What its control group uses.
    pub usage: Option<CgroupUsage>,
    /// Its traffic.
    pub network: Option<NetworkUsage>,
}

/// Reads what is used on this host.
#[async_trait]
pub trait Statistics: Send + Sync {
    /// Reads. What is gone or can not be read is absent; this never fails and never waits for a disk that does not answer.
    async fn read(&self, request: ReadRequest) -> ReadReply;
}

/// The last count of a writable layer, and whether one is under way: a directory on a disk that hangs is asked only once.
#[derive(Debug)]
pub struct LayerCount {
    directory: PathBuf,
    state: Mutex<CountState>,
}

#[derive(Debug, Default)]
struct CountState {
    last: Option<LayerUsage>,
    counting: bool,
    /// When the next count may begin.
    due: Option<Instant>,
}

impl LayerCount {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, state: Mutex::default() }
    }

    /// The directory to count.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// The last count.
    #[must_use]
    pub fn last(&self) -> Option<LayerUsage> {
        lock(&self.state).last
    }

    /// Whether a count is to begin now; then it counts as begun, until [`Self::finish`].
    #[must_use]
    pub fn begin(&self) -> bool {
        let mut state = lock(&self.state);
        let due = !state.counting && state.due.is_none_or(|due| due <= Instant::now());
        state.counting |= due;
        due
    }

    /// The end of a count and how long it took; without `usage` it failed.
    pub fn finish(&self, usage: Option<LayerUsage>, took: Duration) {
        let mut state = lock(&self.state);
        state.counting = false;
        state.due = Instant::now().checked_add(took * PUT_OFF_FACTOR);
        state.last = usage.or(state.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_counted_once_at_a_time_and_keeps_its_last_count() {
        let count = LayerCount::new("/l".into());
        assert!(count.begin());
        assert!(!count.begin(), "one is under way");
        let usage = LayerUsage { at_nanos: 1, bytes: 2, inodes: 3 };
        count.finish(Some(usage), Duration::ZERO);
        assert!(count.begin());
        count.finish(None, Duration::from_secs(3600));
        assert_eq!(count.last(), Some(usage), "a count that failed changes nothing");
        assert!(!count.begin(), "a dear one is put off");
    }
}

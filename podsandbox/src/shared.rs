//! What all sandboxes and containers of one engine share: configuration, ports, the maps of what exists, and the keys under
//! which callers repeat their requests. Maps are locked for look-ups only, never over I/O.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use podwright_types::{ContainerId, SandboxId};

use crate::config::{EngineConfig, Ports};
use crate::container::Container;
use crate::error::EngineError;
use crate::events::Events;
use crate::explain::Past;
use crate::failpoints::FailPoints;
use crate::model::{ContainerConfig, SandboxConfig};
use crate::sandbox::Sandbox;
use crate::util::lock;
use crate::volumes::Volumes;

/// Under what a repeated request for a sandbox is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SandboxKey {
    name: String,
    namespace: String,
    uid: String,
    attempt: u32,
}

impl From<&SandboxConfig> for SandboxKey {
    fn from(config: &SandboxConfig) -> Self {
        Self {
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            uid: config.uid.clone(),
            attempt: config.attempt,
        }
    }
}

/// Under what a repeated request for a container is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ContainerKey {
    sandbox: SandboxId,
    name: String,
    attempt: u32,
}

impl ContainerKey {
    pub(crate) fn new(sandbox: &SandboxId, config: &ContainerConfig) -> Self {
        Self { sandbox: sandbox.clone(), name: config.name.clone(), attempt: config.attempt }
    }
}

/// Objects by id, and the holders of keys.
pub(crate) struct Registry<I, K, T> {
    state: Mutex<RegistryState<I, K, T>>,
}

struct RegistryState<I, K, T> {
    by_id: BTreeMap<I, Arc<T>>,
    by_key: HashMap<K, I>,
}

impl<I: Ord + Clone, K: std::hash::Hash + Eq, T> Registry<I, K, T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(RegistryState { by_id: BTreeMap::new(), by_key: HashMap::new() }) }
    }

    pub(crate) fn get(&self, id: &I) -> Option<Arc<T>> {
        lock(&self.state).by_id.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        lock(&self.state).by_id.values().cloned().collect()
    }

    /// The holder of the key, or `make` put under it.
    pub(crate) fn find_or_insert(&self, key: K, make: impl FnOnce() -> (I, Arc<T>)) -> Claim<T> {
        let mut state = lock(&self.state);
        let holder = state.by_key.get(&key).and_then(|id| state.by_id.get(id)).cloned();
        if let Some(holder) = holder {
            return Claim::Held(holder);
        }
        let (id, object) = make();
        state.by_key.insert(key, id.clone());
        state.by_id.insert(id, object.clone());
        Claim::New(object)
    }

    /// Puts an object that was found on disk. With a key that is taken, only its id leads to it.
    pub(crate) fn insert(&self, id: I, key: Option<K>, object: Arc<T>) {
        let mut state = lock(&self.state);
        if let Some(key) = key {
            state.by_key.entry(key).or_insert_with(|| id.clone());
        }
        state.by_id.insert(id, object);
    }

    /// Lets another object have the key.
    pub(crate) fn free_key(&self, key: &K, id: &I) {
        let mut state = lock(&self.state);
        if state.by_key.get(key) == Some(id) {
            state.by_key.remove(key);
        }
    }

    /// Forgets an object; says whether it was known.
    pub(crate) fn remove(&self, key: &K, id: &I) -> bool {
        self.free_key(key, id);
        lock(&self.state).by_id.remove(id).is_some()
    }
}

/// Answer to a claim of a key.
pub(crate) enum Claim<T> {
    /// It was free.
    New(Arc<T>),
    /// Someone has it.
    Held(Arc<T>),
}

/// Shared by all objects of an engine.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) ports: Ports,
    pub(crate) events: Events,
    pub(crate) past: Past,
    pub(crate) failpoints: FailPoints,
    pub(crate) boot_id: String,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) sandboxes: Registry<SandboxId, SandboxKey, Sandbox>,
    pub(crate) containers: Registry<ContainerId, ContainerKey, Container>,
}

impl Shared {
    pub(crate) fn sandbox_dir(&self, id: &SandboxId) -> PathBuf {
        self.config.root.join("sandboxes").join(id.as_str())
    }

    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.config.root.join("containers").join(id.as_str())
    }

    pub(crate) fn shm_dir(&self, id: &SandboxId) -> PathBuf {
        self.config.state.join("shm").join(id.as_str())
    }

    /// Where other runtimes keep what they know of a pod, unless their configuration says where.
    pub(crate) fn handler_dir(&self, id: &SandboxId) -> PathBuf {
        self.config.state.join("handlers").join(id.as_str())
    }

    pub(crate) fn pin_path(&self, id: &SandboxId) -> PathBuf {
        self.config.netns_dir.join(format!("podwright-{id}"))
    }
}

/// Runs file system work where it may block, and names it when it fails.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    let path = path.to_owned();
    let task = tokio::task::spawn_blocking(move || work(&path).map_err(|e| EngineError::io(doing, &path, &e)));
    task.await.unwrap_or_else(|e| Err(EngineError::Internal(format!("{doing}: the task ended early: {e}"))))
}

/// Runs an operation in a task of its own, so that a caller who goes away changes nothing.
pub(crate) async fn detached<T: Send + 'static>(
    operation: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, EngineError> {
    let span = tracing::Span::current();
    let task = tokio::spawn(tracing::Instrument::instrument(operation, span));
    task.await.unwrap_or_else(|e| Err(EngineError::Internal(format!("the operation's task ended early: {e}; repeat"))))
}

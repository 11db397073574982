//! In-memory ports: a small world that behaves like a node and can be asked what is left in it. For the tests of this crate
//! and, with the feature `fakes`, of front ends.
//!
//! The first argument of a command says what it does: `true` and `false` end at once, `missing` and `forbidden` can not be
//! executed, `sleep` runs until a signal, `stubborn` until SIGKILL, `immortal` for ever. In an exec, `echo` prints its
//! arguments, `flood` prints as many bytes as its argument says, `daemon` ends and leaves its stdout open, `hang` never begins,
//! `cat` gives back what it is sent.

mod shim;
mod statistics;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use podwright_types::{ContainerId, SandboxId};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::config::Ports;
use crate::model::{Handler, HandlerKind, NetworkStatus};
use crate::ports::{
    Cgroups, Handlers, Image, ImageConfig, Images, LaunchShim, Network, NetworkKind, NetworkRequest, NoCheckpoints,
    NoExtensions, PortError, Shim, ShimEvent, Shims,
};
use crate::util::lock;

use shim::{FakeShim, ShimWorld};

/// Events that a fake shim may be ahead of its listener.
const EVENTS: usize = 64;

/// A node without a kernel. Clones are the same node.
#[derive(Clone, Default)]
pub struct World {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    shims: BTreeMap<SandboxId, ShimWorld>,
    addresses: BTreeMap<SandboxId, NetworkStatus>,
    cgroups: BTreeSet<String>,
    holds: BTreeMap<String, BTreeSet<String>>,
    images: HashMap<String, Image>,
    cni: bool,
    failing: BTreeSet<String>,
    calls: Vec<String>,
    pids: i32,
    reads: u64,
}

/// There is one of the name `other`.
struct FakeHandlers;

#[async_trait]
impl Handlers for FakeHandlers {
    async fn find(&self, name: &str) -> Result<Handler, PortError> {
        match name {
            "other" => Ok(Handler {
                name: name.to_owned(),
                kind: HandlerKind::Oci,
                path: "/usr/bin/other".into(),
                root: None,
                options: Vec::new(),
                deadline_seconds: 10,
            }),
            _ => Err(PortError::Invalid(format!("runtime handler {name:?}: there is none of this name"))),
        }
    }
}

impl World {
    /// A world with the image `busybox` and an embedded network.
    #[must_use]
    pub fn new() -> Self {
        let world = Self::default();
        world.add_image("busybox", ImageConfig { cmd: vec!["sleep".into()], ..ImageConfig::default() });
        world
    }

    /// The ports that lead into it.
    #[must_use]
    pub fn ports(&self) -> Ports {
        let world = Arc::new(self.clone());
        Ports {
            network: world.clone(),
            images: world.clone(),
            shims: world.clone(),
            cgroups: world.clone(),
            statistics: world,
            extensions: Arc::new(NoExtensions),
            checkpoints: Arc::new(NoCheckpoints),
            handlers: Arc::new(FakeHandlers),
        }
    }

    /// Adds an image.
    pub fn add_image(&self, reference: &str, config: ImageConfig) {
        let digits: String = reference.bytes().map(|b| format!("{b:02x}")).collect();
        let id = format!("sha256:{digits:0<64}");
        let image =
            Image { id: id.clone(), reference: reference.into(), config, layers: vec![PathBuf::from("/layer")] };
        let mut state = lock(&self.state);
        state.images.insert(reference.into(), image.clone());
        state.images.insert(id, image);
    }

    /// The images that somebody holds.
    #[must_use]
    pub fn held_images(&self) -> BTreeSet<String> {
        lock(&self.state).holds.values().flatten().cloned().collect()
    }

    /// Gives new pods a network of plugins.
    pub fn use_cni(&self) {
        lock(&self.state).cni = true;
    }

    /// Lets a port's method fail from now on: `network.setup`, `shim.start_container` and so on. With `shim.dies`, a shim dies of a
    /// `delete_container`.
    pub fn fail(&self, method: &str) {
        lock(&self.state).failing.insert(method.into());
    }

    /// Lets all methods work again.
    pub fn heal(&self) {
        lock(&self.state).failing.clear();
    }

    /// What was called that changes something, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        lock(&self.state).calls.clone()
    }

    /// Ends a shim as `kill -9` does; its containers live on in their cgroups.
    pub fn kill_shim(&self, sandbox: &SandboxId) {
        let shim = lock(&self.state).shims.remove(sandbox);
        if let Some(shim) = shim {
            shim.tell(&ShimEvent::ShimGone);
        }
    }

    /// Loses the connections to a shim, which lives on.
    pub fn lose_connections(&self, sandbox: &SandboxId) {
        if let Some(shim) = lock(&self.state).shims.get(sandbox) {
            shim.tell(&ShimEvent::ShimGone);
        }
    }

    /// Ends all shims without a word, and forgets what a kernel forgets at a restart.
    pub fn reboot(&self) {
        let mut state = lock(&self.state);
        state.shims.clear();
        state.cgroups.clear();
    }

    /// Forgets the holds of images, which are in the daemon's memory.
    pub fn crash(&self) {
        lock(&self.state).holds.clear();
    }

    /// Ends a container's program by itself.
    pub fn exit(&self, container: &ContainerId, code: i32) {
        for shim in lock(&self.state).shims.values_mut() {
            shim.end(container, code);
        }
    }

    /// Ends the pause process of a pod.
    pub fn kill_pause(&self, sandbox: &SandboxId) {
        if let Some(shim) = lock(&self.state).shims.get(sandbox) {
            shim.tell(&ShimEvent::PauseExited);
        }
    }

    /// A shim that no record knows.
    pub fn add_shim(&self, sandbox: &SandboxId) {
        lock(&self.state).shims.insert(sandbox.clone(), ShimWorld::new(1));
    }

    /// Everything that is there and would not be on a fresh node.
    #[must_use]
    pub fn left_over(&self) -> Vec<String> {
        let state = lock(&self.state);
        let shims = state.shims.keys().map(|id| format!("shim {id}"));
        let addresses = state.addresses.keys().map(|id| format!("address of {id}"));
        let cgroups = state.cgroups.iter().map(|path| format!("cgroup {path}"));
        let holds = state.holds.keys().map(|id| format!("image held by {id}"));
        shims.chain(addresses).chain(cgroups).chain(holds).collect()
    }

    fn call(&self, method: &str, object: &str) -> Result<(), PortError> {
        let mut state = lock(&self.state);
        state.calls.push(format!("{method} {object}"));
        if state.failing.contains(method) {
            return Err(PortError::Failed(format!("{method} of {object}: it was told to fail")));
        }
        Ok(())
    }
}

#[async_trait]
impl Network for World {
    fn kind_for_new_pods(&self) -> NetworkKind {
        if lock(&self.state).cni { NetworkKind::Cni } else { NetworkKind::Embedded }
    }

    fn ready(&self) -> Result<(), String> {
        if lock(&self.state).failing.contains("network.ready") { Err("it was told to fail".into()) } else { Ok(()) }
    }

    async fn make_namespace(&self) -> Result<OwnedFd, PortError> {
        self.call("network.make_namespace", "a pod")?;
        let opened = std::fs::File::open("/proc/self/ns/net");
        opened.map(OwnedFd::from).map_err(|cause| PortError::Failed(format!("open a namespace: {cause}")))
    }

    async fn setup(&self, request: &NetworkRequest) -> Result<NetworkStatus, PortError> {
        self.call("network.setup", request.sandbox.as_str())?;
        if request.netns.fd.is_none() {
            return Err(PortError::Failed("no network namespace was given".into()));
        }
        let mut state = lock(&self.state);
        let next = u8::try_from(state.addresses.len() % 250).unwrap_or_default() + 2;
        let fresh = NetworkStatus { addresses: vec![std::net::Ipv4Addr::new(10, 0, 0, next).into()] };
        Ok(state.addresses.entry(request.sandbox.clone()).or_insert(fresh).clone())
    }

    async fn connect(&self, _: Option<OwnedFd>, port: u16) -> Result<TcpStream, PortError> {
        let refused = |cause| PortError::Unavailable(format!("nobody listens: {cause}"));
        TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).await.map_err(refused)
    }

    async fn teardown(&self, request: &NetworkRequest) -> Result<(), PortError> {
        self.call("network.teardown", request.sandbox.as_str())?;
        let mut state = lock(&self.state);
        if request.kind == NetworkKind::Embedded && state.shims.contains_key(&request.sandbox) {
            return Err(PortError::Failed("the network namespace is still there".into()));
        }
        state.addresses.remove(&request.sandbox);
        Ok(())
    }
}

#[async_trait]
impl Images for World {
    async fn resolve(&self, reference: &str) -> Result<Image, PortError> {
        self.call("images.resolve", reference)?;
        let text = || format!("image {reference}: it is not here; pull it first");
        lock(&self.state).images.get(reference).cloned().ok_or_else(|| PortError::NotFound(text()))
    }

    async fn directory(&self, image_id: &str, path: &Path) -> Result<Vec<PathBuf>, PortError> {
        self.call("images.directory", image_id)?;
        let image = lock(&self.state).images.get(image_id).cloned();
        let image = image.ok_or_else(|| PortError::NotFound(format!("image {image_id}: it is not here")))?;
        if path.starts_with("missing") {
            return Err(PortError::Invalid(format!("{}: the image has nothing there", path.display())));
        }
        Ok(image.layers.iter().map(|layer| layer.join(path)).collect())
    }

    fn hold(&self, image_id: &str, holder: &str) {
        lock(&self.state).holds.entry(holder.into()).or_default().insert(image_id.into());
    }

    fn release(&self, holder: &str) {
        lock(&self.state).holds.remove(holder);
    }
}

#[async_trait]
impl Cgroups for World {
    fn pod_parent(&self, parent: &str, sandbox: &SandboxId) -> Result<String, PortError> {
        let path = if parent.is_empty() { format!("/podwright/{sandbox}") } else { parent.to_owned() };
        if !path.starts_with('/') {
            return Err(PortError::Invalid(format!("cgroup parent {parent:?}: it does not begin with a slash")));
        }
        Ok(path)
    }

    fn container_path(&self, pod_parent: &str, container: &ContainerId) -> String {
        format!("{pod_parent}/{container}")
    }

    fn shim_path(&self, pod_parent: &str, sandbox: &SandboxId) -> String {
        format!("{pod_parent}/podwright-shim-{sandbox}")
    }

    async fn kill_and_remove(&self, path: &str) -> Result<(), PortError> {
        self.call("cgroups.kill_and_remove", path)?;
        lock(&self.state).cgroups.remove(path);
        Ok(())
    }

    async fn remove_pod_parent(&self, pod_parent: &str) -> Result<(), PortError> {
        self.call("cgroups.remove_pod_parent", pod_parent)?;
        let mut state = lock(&self.state);
        // What callers bring stays.
        if !pod_parent.starts_with("/podwright/") {
            return Ok(());
        }
        let below = format!("{pod_parent}/");
        if state.cgroups.iter().any(|path| path.starts_with(&below)) {
            return Err(PortError::Failed(format!("cgroup {pod_parent}: it is not empty")));
        }
        state.cgroups.remove(pod_parent);
        Ok(())
    }

    async fn limit_pod_parent(&self, pod_parent: &str, resources: &str) -> Result<(), PortError> {
        self.call("cgroups.limit_pod_parent", &format!("{pod_parent} {resources}"))
    }

    async fn place(&self, _: &str, _: i32) -> Result<(), PortError> {
        Ok(())
    }
}

type Connection = (Arc<dyn Shim>, mpsc::Receiver<ShimEvent>);

#[async_trait]
impl Shims for World {
    async fn launch(&self, request: &LaunchShim) -> Result<Connection, PortError> {
        self.call("shims.launch", request.sandbox.as_str())?;
        {
            let mut state = lock(&self.state);
            state.pids += 1;
            let pid = state.pids;
            let own = request.cgroup_path.rsplit_once('/').filter(|(pod, _)| pod.starts_with("/podwright/"));
            state.cgroups.extend(own.map(|(pod, _)| pod.to_owned()));
            state.cgroups.insert(request.cgroup_path.clone());
            state.shims.entry(request.sandbox.clone()).or_insert_with(|| ShimWorld::new(pid));
        }
        self.connection(&request.sandbox).ok_or_else(|| PortError::Unavailable("the shim is gone".into()))
    }

    async fn connect(&self, sandbox: &SandboxId) -> Result<Option<Connection>, PortError> {
        if lock(&self.state).failing.contains("shims.connect") {
            return Err(PortError::Unavailable(format!("shim of {sandbox}: it was told not to answer")));
        }
        Ok(self.connection(sandbox))
    }

    async fn remove_remains(&self, sandbox: &SandboxId) -> Result<(), PortError> {
        self.call("shims.remove_remains", sandbox.as_str())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, PortError> {
        Ok(lock(&self.state).shims.keys().cloned().collect())
    }
}

impl World {
    fn connection(&self, sandbox: &SandboxId) -> Option<Connection> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        lock(&self.state).shims.get_mut(sandbox)?.listen(sender);
        Some((Arc::new(FakeShim { world: self.clone(), sandbox: sandbox.clone() }), receiver))
    }

    fn with_shim<T>(&self, sandbox: &SandboxId, work: impl FnOnce(&mut ShimWorld) -> T) -> Result<T, PortError> {
        let text = || format!("shim of {sandbox}: it is gone");
        lock(&self.state).shims.get_mut(sandbox).map(work).ok_or_else(|| PortError::Unavailable(text()))
    }
}

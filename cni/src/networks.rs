//! The front: picks between plugins and the embedded network, and remembers that a cluster configured us.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use podwright_types::SandboxId;
use serde::{Deserialize, Serialize};

use crate::config::{NetworkMode, NetworksConfig, Prefix};
use crate::embedded::Embedded;
use crate::error::CniError;
use crate::files;
use crate::host::Host;
use crate::plugins::Plugins;
use crate::request::{NetworkKind, PodNetwork, PodRequest};
use crate::strays::Stray;
use crate::traffic::{self, LinkTraffic, TrafficRequest};

/// A CNI network as loaded, for verbose status.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedNetwork {
    /// Name.
    pub name: String,
    /// File that it came from.
    pub path: PathBuf,
    /// Version of the specification in use.
    pub cni_version: String,
    /// Types of its plugins, in order.
    pub plugins: Vec<String>,
    /// The configuration itself.
    pub config: serde_json::Value,
}

/// The state of all pod networks, for verbose status.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworksInfo {
    /// Mode as configured.
    pub mode: NetworkMode,
    /// What new pods get.
    pub kind: NetworkKind,
    /// The CNI network that new pods get or would get.
    pub network: Option<LoadedNetwork>,
    /// Why it is not ready, if so.
    pub problem: Option<String>,
    /// Pools of the embedded network, once chosen.
    pub pools: Vec<Prefix>,
    /// Pods on the embedded network.
    pub embedded_pods: usize,
}

/// What a cluster told us; kept, as kubelet does not repeat it when only the daemon restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cluster {
    configured: bool,
    pod_cidrs: Vec<Prefix>,
}

/// The networks of this host. Clones share everything.
#[derive(Debug, Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: NetworksConfig,
    cluster: Mutex<Cluster>,
    embedded: Embedded,
    plugins: Plugins,
}

impl Networks {
    /// Opens the networks; nothing of the host is changed before the first pod. Wants a tokio runtime around it.
    ///
    /// # Errors
    /// Bad settings, unreadable records, or no netlink.
    pub fn new(config: NetworksConfig) -> Result<Self, CniError> {
        let cluster: Cluster = files::read(&cluster_path(&config.state_dir))?.unwrap_or_default();
        let host = Host::start()?;
        let embedded = Embedded::open(&config, host.clone(), cluster.pod_cidrs.clone())?;
        let plugins = Plugins::open(&config, host, cluster.pod_cidrs.clone())?;
        Ok(Self { shared: Arc::new(Shared { config, cluster: Mutex::new(cluster), embedded, plugins }) })
    }

    /// The kind that a pod made now gets.
    #[must_use]
    pub fn kind_for_new_pods(&self) -> NetworkKind {
        match self.shared.config.mode {
            NetworkMode::Embedded => NetworkKind::Embedded,
            NetworkMode::Cni => NetworkKind::Cni,
            NetworkMode::Auto if self.cluster().configured => NetworkKind::Cni,
            NetworkMode::Auto => NetworkKind::Embedded,
        }
    }

    /// Whether pods can be connected now.
    ///
    /// # Errors
    /// The reason in words, for the NetworkReady condition.
    pub fn ready(&self) -> Result<(), String> {
        match self.kind_for_new_pods() {
            NetworkKind::Embedded => Ok(()),
            NetworkKind::Cni => self.shared.plugins.ready(),
        }
    }

    /// Connects a pod. Repeated for the same sandbox it returns the recorded result.
    ///
    /// # Errors
    /// The pod is not connected, and what was done was undone or is recorded for [`Networks::teardown`].
    pub async fn setup(&self, request: &PodRequest) -> Result<PodNetwork, CniError> {
        match request.kind {
            NetworkKind::Embedded => self.shared.embedded.setup(request).await,
            NetworkKind::Cni => self.shared.plugins.setup(request).await,
        }
    }

    /// Disconnects a pod. Nothing recorded is success; after an error it is to be repeated.
    ///
    /// # Errors
    /// Something is left over; it stays recorded.
    pub async fn teardown(&self, request: &PodRequest) -> Result<(), CniError> {
        match request.kind {
            NetworkKind::Embedded => self.shared.embedded.teardown(&request.sandbox).await,
            NetworkKind::Cni => self.shared.plugins.teardown(&request.sandbox).await,
        }
    }

    /// CNI CHECK of a connected pod; embedded pods are looked at by name of their link.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn check(&self, request: &PodRequest) -> Result<(), CniError> {
        match request.kind {
            NetworkKind::Embedded => self.shared.embedded.check(&request.sandbox).await,
            NetworkKind::Cni => self.shared.plugins.check(&request.sandbox).await,
        }
    }

    /// Takes note of a client's UpdateRuntimeConfig: in mode auto new pods use plugins from now on, and the embedded network
    /// takes its addresses from `pod_cidrs`. Without any this is no news, as in containerd: kubelet speaks when its node has got
    /// a range. Returns at once for what is known already.
    ///
    /// # Errors
    /// A range that can not be read, or the note can not be kept.
    pub async fn set_pod_cidrs(&self, pod_cidrs: &[String]) -> Result<(), CniError> {
        let parse = |text: &String| {
            text.trim().parse::<Prefix>().map_err(|_| CniError::Config {
                key: "pod_cidr",
                value: text.clone(),
                expected: "it must be a range like 10.244.1.0/24; correct the node's pod CIDR",
            })
        };
        let pod_cidrs =
            pod_cidrs.iter().filter(|text| !text.trim().is_empty()).map(parse).collect::<Result<Vec<_>, _>>()?;
        let cluster = Cluster { configured: true, pod_cidrs };
        if cluster.pod_cidrs.is_empty() || *self.cluster() == cluster {
            return Ok(());
        }
        files::write(&cluster_path(&self.shared.config.state_dir), &cluster, true)?;
        self.shared.embedded.prefer_pools(cluster.pod_cidrs.clone());
        self.shared.plugins.set_pod_cidrs(cluster.pod_cidrs.clone());
        *self.cluster() = cluster;
        Ok(())
    }

    /// Frees what belongs to none of the `known` sandboxes: leases, links, rules, and (CNI DEL, CNI GC) what plugins made. DELs that
    /// fail are repeated in the background. To be called once at start, before the first pod.
    ///
    /// # Errors
    /// The host's network can not be read or changed.
    pub async fn recover(&self, known: &HashSet<SandboxId>) -> Result<(), CniError> {
        self.shared.plugins.recover(known);
        self.shared.plugins.first_status().await;
        self.shared.embedded.recover(known).await
    }

    /// What is on the host in our name: leases, all of them but those of pods that are leaving, and links and rules that belong to no lease.
    /// What plugins made is theirs to tell.
    ///
    /// # Errors
    /// The host's network can not be read.
    pub async fn strays(&self) -> Result<Vec<Stray>, CniError> {
        self.shared.embedded.strays().await
    }

    /// Removes what [`strays`](Self::strays) told and nobody knows, unless it belongs to a pod by now.
    ///
    /// # Errors
    /// The host's network can not be changed.
    pub async fn remove_stray(&self, stray: &Stray) -> Result<(), CniError> {
        self.shared.embedded.remove_stray(stray).await
    }

    /// What went over the links of pods, loopback excepted, in order; `None` for one without any.
    pub async fn traffic(&self, requests: &[TrafficRequest]) -> Vec<Option<Vec<LinkTraffic>>> {
        let entered = requests.iter().filter(|request| request.kind == NetworkKind::Cni);
        let mut entered = traffic::of_namespaces(entered.map(|r| r.netns_path.clone()).collect()).await.into_iter();
        let mut on_host = HashMap::new();
        if requests.iter().any(|request| request.kind == NetworkKind::Embedded) {
            on_host = traffic::of_host().unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read the traffic of the host's links");
                HashMap::new()
            });
        }
        let of_pod = |request: &TrafficRequest| match request.kind {
            NetworkKind::Cni => entered.next().filter(|links| !links.is_empty()),
            NetworkKind::Embedded => {
                let link = self.shared.embedded.link(&request.sandbox)?;
                on_host.get(&link).map(|link| vec![traffic::turned_round(link)])
            }
        };
        requests.iter().map(of_pod).collect()
    }

    /// What the network of a sandbox waits for now, where there is more to say than that.
    #[must_use]
    pub fn waits_for(&self, sandbox: &SandboxId) -> Option<String> {
        self.shared.plugins.waits_for(sandbox)
    }

    /// Sandboxes that hold something of a network.
    #[must_use]
    pub fn holders(&self) -> BTreeSet<SandboxId> {
        self.shared.embedded.holders().into_iter().chain(self.shared.plugins.holders()).collect()
    }

    /// The state of everything, for verbose status.
    #[must_use]
    pub fn info(&self) -> NetworksInfo {
        NetworksInfo {
            mode: self.shared.config.mode,
            kind: self.kind_for_new_pods(),
            network: self.shared.plugins.loaded(),
            problem: self.ready().err(),
            pools: self.shared.embedded.pools(),
            embedded_pods: self.shared.embedded.holders().len(),
        }
    }

    fn cluster(&self) -> std::sync::MutexGuard<'_, Cluster> {
        self.shared.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cluster_path(state_dir: &Path) -> PathBuf {
    state_dir.join("cluster.json")
}

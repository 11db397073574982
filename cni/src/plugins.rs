//! Networks by CNI plugins.
//!
//! ```text
//!            record (synced)        ADD by each, recorded  DEL by all
//! (nothing) ────────────────> ADD? ────────────> added ──────────────> (nothing)
//!                               └── failed: DEL; kept until it succeeds
//! ```
//!
//! A pod keeps the configuration it was added with: DEL works when the file is changed or gone, and when the network namespace is.

mod attachment;
mod capabilities;
mod confdir;
mod conflist;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod orphans;
mod outcome;
mod quantity;
mod queries;
mod remains;
mod run;
mod version;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use podwright_types::SandboxId;
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::config::{NetworksConfig, Prefix};
use crate::error::CniError;
use crate::failpoints::{self, fail_point};
use crate::files;
use crate::host::{Host, kernel};
use crate::netlink;
use crate::networks::LoadedNetwork;
use crate::request::{PodNetwork, PodRequest};
use attachment::{Attachment, POD_LINK, Runner, Running};
use confdir::ConfDirs;
use conflist::Conflist;
use queries::Spoken;
use version::Version;

/// How long an answer to STATUS is good.
const STATUS_AGE: Duration = Duration::from_secs(5);
/// Pause before a DEL in the background is repeated: doubled each time from the first to the last.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Networks by plugins.
#[derive(Debug)]
pub(crate) struct Plugins {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    dirs: ConfDirs,
    runner: Runner,
    host: Host,
    pod_cidrs: Mutex<Vec<Prefix>>,
    spoken: Spoken,
    status: Mutex<Status>,
    /// One operation at a time for each sandbox.
    busy: Mutex<HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>>,
    /// Read while an attachment is recorded, written by GC: no plugin runs ADD that GC does not know of. Never held over a
    /// pod's plugins, so that one that hangs holds up nobody else.
    recording: RwLock<()>,
}

/// The last answer to STATUS.
#[derive(Debug, Default)]
struct Status {
    network: Option<Arc<Conflist>>,
    outcome: Option<Result<(), String>>,
    asked: Option<Instant>,
    asking: bool,
}

impl Plugins {
    /// Runs nothing yet.
    pub(crate) fn open(config: &NetworksConfig, host: Host, pod_cidrs: Vec<Prefix>) -> Result<Self, CniError> {
        let dir = config.state_dir.join("cni");
        files::make_dir(&dir)?;
        files::remove_temporaries(&dir)?;
        let runner = Runner {
            bin_dirs: config.bin_dirs.clone(),
            operation: config.timeouts.operation,
            query: config.timeouts.query,
            running: Running::default(),
        };
        let inner = Inner {
            dir,
            dirs: ConfDirs::new(config.conf_dirs.clone()),
            runner,
            host,
            pod_cidrs: Mutex::new(pod_cidrs),
            spoken: Spoken::default(),
            status: Mutex::default(),
            busy: Mutex::default(),
            recording: RwLock::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether pods can be added: there is a configuration, its plugins are there, and (from 1.1) say so themselves.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let network = self.inner.dirs.current()?;
        for plugin in &network.plugins {
            let name = Conflist::type_of(plugin);
            if run::find(&self.inner.runner.bin_dirs, name).is_none() {
                return Err(format!(
                    "plugin {name} of CNI network {}: {}",
                    network.name,
                    run::missing(&self.inner.runner.bin_dirs)
                ));
            }
        }
        if network.version() < Version::WITH_STATUS { Ok(()) } else { self.status(network) }
    }

    /// The last answer to STATUS; asks anew in the background when it is old.
    fn status(&self, network: Arc<Conflist>) -> Result<(), String> {
        let mut status = self.inner.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.network.as_ref() != Some(&network) {
            *status = Status { network: Some(Arc::clone(&network)), ..Status::default() };
        }
        let old = status.asked.is_none_or(|asked| asked.elapsed() > STATUS_AGE);
        if old
            && !status.asking
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            status.asking = true;
            runtime.spawn(ask_status(Arc::downgrade(&self.inner), Arc::clone(&network)));
        }
        status
            .outcome
            .clone()
            .unwrap_or_else(|| Err(format!("CNI network {} was not asked for its STATUS yet", network.name)))
    }

    /// Waits for an answer to STATUS, so that the first pod after a start does not find none; bounded as every query is.
    pub(crate) async fn first_status(&self) {
        let Ok(network) = self.inner.dirs.current() else { return };
        if network.version() < Version::WITH_STATUS {
            return;
        }
        {
            let mut status = self.inner.status.lock().unwrap_or_else(PoisonError::into_inner);
            *status = Status { network: Some(Arc::clone(&network)), asking: true, ..Status::default() };
        }
        ask_status(Arc::downgrade(&self.inner), network).await;
    }

    /// The network of new pods.
    pub(crate) fn loaded(&self) -> Option<LoadedNetwork> {
        self.inner.dirs.current().ok().map(|network| network.loaded())
    }

    /// Tells plugins with the `ipRanges` capability.
    pub(crate) fn set_pod_cidrs(&self, pod_cidrs: Vec<Prefix>) {
        *self.inner.pod_cidrs.lock().unwrap_or_else(PoisonError::into_inner) = pod_cidrs;
    }

    /// ADD. What a failed one left is removed by DEL, at once or later.
    pub(crate) async fn setup(&self, request: &PodRequest) -> Result<PodNetwork, CniError> {
        let inner = &self.inner;
        let sandbox = &request.sandbox;
        let busy = inner.busy(sandbox);
        let _turn = busy.lock().await;
        let path = inner.path(sandbox);
        if let Some(mut recorded) = files::read::<Attachment>(&path)? {
            if let (true, Some(result), None) = (recorded.complete, &recorded.result, &recorded.deleting) {
                return pod_network(&recorded, result);
            }
            inner.take_back(&mut recorded).await?;
        }
        let mut attachment = inner.plan(request).await?;
        inner.loopback_up(request).await?;
        {
            let _recording = inner.recording.read().await;
            files::write(&path, &attachment, true)?;
        }
        fail_point(failpoints::ADD_RECORDED);
        let added = attachment.add(&inner.runner, &path).await;
        fail_point(failpoints::ADD_UNRECORDED);
        let network = match (added, &attachment.result) {
            (Ok(()), Some(result)) => pod_network(&attachment, result),
            (Ok(()), None) => Err(no_result(&attachment)),
            (Err(error), _) => Err(error),
        };
        let outcome = network.and_then(|network| files::write(&path, &attachment, false).map(|()| network));
        if outcome.is_err() {
            attachment.complete = false;
            inner.undo(&mut attachment).await;
        }
        fail_point(failpoints::ADD_DONE);
        outcome
    }

    /// DEL. To be repeated after an error.
    pub(crate) async fn teardown(&self, sandbox: &SandboxId) -> Result<(), CniError> {
        self.inner.delete(sandbox).await
    }

    /// CHECK.
    pub(crate) async fn check(&self, sandbox: &SandboxId) -> Result<(), CniError> {
        let attachment: Option<Attachment> = files::read(&self.inner.path(sandbox))?;
        let attachment = attachment.filter(|attachment| attachment.complete);
        let absent = || CniError::Request { sandbox: sandbox.clone(), reason: "it is not connected".to_owned() };
        attachment.ok_or_else(absent)?.check(&self.inner.runner).await
    }

    /// DEL, in the background until it succeeds, for sandboxes that are not known, then GC.
    pub(crate) fn recover(&self, known: &HashSet<SandboxId>) {
        let strangers: Vec<SandboxId> = self.holders().into_iter().filter(|sandbox| !known.contains(sandbox)).collect();
        tokio::spawn(recover(Arc::downgrade(&self.inner), strangers));
    }

    /// The plugin that runs for a sandbox, in words.
    pub(crate) fn waits_for(&self, sandbox: &SandboxId) -> Option<String> {
        self.inner.runner.running.of(sandbox)
    }

    /// Sandboxes with an attachment.
    pub(crate) fn holders(&self) -> BTreeSet<SandboxId> {
        self.inner.holders()
    }
}

impl Inner {
    fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.dir.join(format!("{sandbox}.json"))
    }

    fn holders(&self) -> BTreeSet<SandboxId> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect()
    }

    fn busy(&self, sandbox: &SandboxId) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for those that only the map holds.
        busy.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(busy.entry(sandbox.clone()).or_default())
    }

    /// What ADD will do.
    async fn plan(&self, request: &PodRequest) -> Result<Attachment, CniError> {
        let refuse = |reason| CniError::Request { sandbox: request.sandbox.clone(), reason };
        let network = self.dirs.current().map_err(|reason| CniError::NoNetwork { reason })?;
        // A path by process and descriptor would mean another namespace after a restart.
        let netns = request
            .netns_path
            .clone()
            .ok_or_else(|| refuse("its network namespace is not pinned at a path".to_owned()))?;
        let pod_cidrs = self.pod_cidrs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Attachment {
            sandbox: request.sandbox.clone(),
            version: self.spoken.choose(&network, &self.runner).await,
            arguments: capabilities::arguments(request).map_err(refuse)?,
            offered: capabilities::offered(request, &pod_cidrs).map_err(refuse)?,
            network: (*network).clone(),
            netns,
            result: None,
            complete: false,
            deleting: None,
        })
    }

    /// What the loopback plugin does, without the plugin.
    async fn loopback_up(&self, request: &PodRequest) -> Result<(), CniError> {
        let netns = match (&request.netns, &request.netns_path) {
            (Some(fd), _) => Arc::clone(fd),
            (None, Some(path)) => {
                Arc::new(std::fs::File::open(path).map_err(files::error("opening the network namespace", path))?.into())
            }
            (None, None) => return Ok(()),
        };
        let sandbox = request.sandbox.to_string();
        let job = move |net: &mut crate::host::HostNet| {
            let up = net.socket_in(netns.as_fd()).and_then(|socket| socket.one(netlink::link_up("lo")));
            up.map(drop).map_err(|error| kernel("setting up lo in the network namespace of", sandbox, error))
        };
        self.host.run(job).await
    }

    async fn delete(&self, sandbox: &SandboxId) -> Result<(), CniError> {
        let busy = self.busy(sandbox);
        let _turn = busy.lock().await;
        let path = self.path(sandbox);
        let Some(mut attachment) = files::read::<Attachment>(&path)? else { return Ok(()) };
        fail_point(failpoints::DEL_BEGUN);
        self.take_back(&mut attachment).await?;
        fail_point(failpoints::DEL_UNRECORDED);
        files::remove(&path)?;
        fail_point(failpoints::DEL_DONE);
        Ok(())
    }

    /// DEL of what is recorded. An ADD that failed or never ended may have left a plugin that still runs, and so may a DEL before this.
    async fn take_back(&self, attachment: &mut Attachment) -> Result<(), CniError> {
        if !attachment.complete || attachment.deleting.is_some() {
            let sandbox = attachment.sandbox.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || orphans::end(&sandbox)).await {
                tracing::warn!(sandbox = %attachment.sandbox, %error, "plugins of an earlier daemon were not looked for");
            }
        }
        self.keep_remains(attachment).await;
        attachment.delete(&self.runner).await
    }

    /// See `remains`. Nothing here keeps DEL from being tried: it is a remedy for plugins, and the disk may be full.
    async fn keep_remains(&self, attachment: &mut Attachment) {
        if !attachment::is_namespace(&attachment.netns) {
            return;
        }
        let (netns, recorded) = (attachment.netns.clone(), attachment.deleting.clone());
        let kept = self.host.run(move |net| remains::keep(net, &netns, recorded.as_deref())).await;
        let kept = kept.and_then(|addresses| match attachment.deleting {
            Some(_) => Ok(()),
            None => {
                attachment.deleting = Some(addresses);
                files::write(&self.path(&attachment.sandbox), attachment, false)
            }
        });
        if let Err(error) = kept {
            tracing::warn!(sandbox = %attachment.sandbox, %error, "if CNI DEL fails now, the next one may find less than it needs");
        }
    }

    /// DEL after a failed ADD; what fails is kept and repeated with the pod's teardown, or after a restart.
    async fn undo(&self, attachment: &mut Attachment) {
        let path = self.path(&attachment.sandbox);
        let undone = match self.take_back(attachment).await {
            Ok(()) => files::remove(&path),
            Err(error) => files::write(&path, attachment, true).and(Err(error)),
        };
        if let Err(error) = undone {
            tracing::warn!(sandbox = %attachment.sandbox, error = %error, "CNI DEL after a failed ADD failed too; it will be repeated");
        }
    }

    async fn collect(&self) {
        let Ok(network) = self.dirs.current() else { return };
        if network.disable_gc {
            return;
        }
        let version = self.spoken.choose(&network, &self.runner).await;
        if version.parse::<Version>().is_ok_and(|version| version >= Version::WITH_STATUS) {
            let _alone = self.recording.write().await;
            let valid: Vec<String> = self.holders().iter().map(ToString::to_string).collect();
            if let Err(error) = queries::collect(&network, &version, &valid, &self.runner).await {
                tracing::warn!(network = %network.name, error = %error, "CNI GC failed");
            }
        }
    }
}

fn pod_network(attachment: &Attachment, result: &serde_json::Value) -> Result<PodNetwork, CniError> {
    let problem = |problem| CniError::Run {
        command: "ADD",
        plugin: last_plugin(attachment),
        network: attachment.network.name.clone(),
        problem,
    };
    Ok(PodNetwork { addresses: outcome::addresses(result, POD_LINK).map_err(problem)? })
}

fn no_result(attachment: &Attachment) -> CniError {
    let problem = "it printed no result".to_owned();
    CniError::Run { command: "ADD", plugin: last_plugin(attachment), network: attachment.network.name.clone(), problem }
}

fn last_plugin(attachment: &Attachment) -> String {
    attachment.network.plugins.last().map(|plugin| Conflist::type_of(plugin).to_owned()).unwrap_or_default()
}

async fn ask_status(inner: Weak<Inner>, network: Arc<Conflist>) {
    let Some(inner) = inner.upgrade() else { return };
    let version = inner.spoken.choose(&network, &inner.runner).await;
    let outcome = if version.parse::<Version>().is_ok_and(|version| version >= Version::WITH_STATUS) {
        queries::status(&network, &version, &inner.runner).await.map_err(|error| error.to_string())
    } else {
        Ok(())
    };
    let mut status = inner.status.lock().unwrap_or_else(PoisonError::into_inner);
    if status.network.as_ref() == Some(&network) {
        status.outcome = Some(outcome);
        status.asked = Some(Instant::now());
        status.asking = false;
    }
}

async fn recover(inner: Weak<Inner>, mut strangers: Vec<SandboxId>) {
    let (mut pause, longest) = RETRY_PAUSES;
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let mut failed = Vec::new();
        for sandbox in strangers {
            if let Err(error) = inner.delete(&sandbox).await {
                tracing::warn!(%sandbox, error = %error, "CNI DEL of a pod that is gone failed; it will be repeated");
                failed.push(sandbox);
            }
        }
        inner.collect().await;
        if failed.is_empty() {
            return;
        }
        strangers = failed;
        drop(inner);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests;

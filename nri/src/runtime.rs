//! All plugins: joining and leaving, and what they are asked, in the order of their indices.
//!
//! Joining takes a turn of its own, in which nobody makes or changes anything: what is there is told (Synchronize), and what comes after
//! is told by its events. So no container is lost between the two. A plugin that does not answer then is let go of in time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use podwright_ttrpc::CallError;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::task::JoinHandle;

use crate::api::{
    Container, ContainerEviction, ContainerRequest, ContainerUpdate, CreateContainerResponse, Event,
    LinuxContainerUpdate, LinuxResources, PluginInstance, PodRequest, PodSandbox, StopContainerResponse,
    UpdateContainerRequest, UpdateContainerResponse, UpdatePodSandboxRequest, ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
};
use crate::collect::Collected;
use crate::plugin::Plugin;

/// Plugins at a time.
pub(crate) const MAX_PLUGINS: usize = 64;

/// What is told of a pod after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodMoment {
    /// It was made.
    Run,
    /// Its limits were changed.
    Updated,
    /// Its containers ended.
    Stopped,
    /// It is gone.
    Removed,
}

/// How plugins are had.
#[derive(Debug, Clone)]
pub struct NriConfig {
    /// Where plugins dial in; empty: they can not.
    pub socket: std::path::PathBuf,
    /// Directory of plugins that are launched.
    pub plugin_dir: std::path::PathBuf,
    /// Directory of their configurations.
    pub config_dir: std::path::PathBuf,
    /// What plugins are told of the runtime.
    pub runtime_version: String,
    /// For a plugin to register, to be configured and to be synchronised, each.
    pub registration_limit: Duration,
    /// For a plugin to answer a request.
    pub request_limit: Duration,
}

/// Who has the pods and containers.
#[async_trait]
pub trait Host: Send + Sync {
    /// All that are there.
    async fn state(&self) -> (Vec<PodSandbox>, Vec<Container>);

    /// Changes limits; returns updates that could not be done.
    async fn update(&self, updates: Vec<ContainerUpdate>) -> Vec<ContainerUpdate>;

    /// Stops containers.
    async fn evict(&self, evictions: Vec<ContainerEviction>);
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NriError {
    /// A plugin refused, or failed.
    #[error("NRI plugin {plugin}, {request}: {reason}")]
    Plugin {
        /// Its name.
        plugin: String,
        /// What it was asked.
        request: &'static str,
        /// What it said, or what went wrong.
        reason: String,
    },
    /// Two plugins want the same.
    #[error("{0}")]
    Conflict(String),
    /// The socket can not be made.
    #[error("{0}")]
    Listen(String),
}

/// While it is held, no plugin joins.
pub type Turn = OwnedRwLockReadGuard<()>;

/// The plugins of a node.
pub struct Nri {
    pub(crate) config: NriConfig,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) turns: Arc<RwLock<()>>,
    /// By name, so by index.
    pub(crate) plugins: Mutex<Vec<Arc<Plugin>>>,
    /// Those that wait for their turn to join, or have it.
    pub(crate) joining: AtomicUsize,
    /// Takes those that dial in; it takes the socket away at its end.
    pub(crate) listening: Mutex<Option<JoinHandle<()>>>,
    /// Plugins are asked one thing at a time, as they are used to.
    asking: tokio::sync::Mutex<()>,
    /// Sockets that were taken and have not registered yet, and those that have.
    pub(crate) places: Arc<tokio::sync::Semaphore>,
    /// Set when the runtime ends.
    pub(crate) ending: tokio::sync::watch::Sender<bool>,
}

impl Nri {
    /// Without plugins yet.
    #[must_use]
    pub fn new(config: NriConfig, host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new(Self {
            config,
            host,
            turns: Arc::default(),
            plugins: Mutex::default(),
            joining: AtomicUsize::new(0),
            listening: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            places: Arc::new(tokio::sync::Semaphore::new(MAX_PLUGINS)),
            ending: tokio::sync::watch::Sender::new(false),
        })
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Turn {
        self.turns.clone().read_owned().await
    }

    /// Whether there is any plugin, or one that joins: it was told what is there, or is about to be, and what changes then waits for a
    /// turn to be told to it.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        // In this order: who joins is counted until it is in the list.
        self.joining.load(Ordering::SeqCst) > 0 || !self.all().is_empty()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Plugin>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One that hung up is not asked, also while its leaving is not seen to yet.
    fn those_that_want(&self, event: Event) -> Vec<Arc<Plugin>> {
        self.all().into_iter().filter(|plugin| plugin.wants(event) && !plugin.connection.has_ended()).collect()
    }

    /// Tells of a pod. The first error ends the telling of its making; of all else everybody is told.
    ///
    /// # Errors
    /// The first plugin that refused or failed.
    pub async fn pod(&self, moment: PodMoment, pod: PodSandbox) -> Result<(), NriError> {
        let (request, event) = match moment {
            PodMoment::Run => ("RunPodSandbox", Event::RunPodSandbox),
            PodMoment::Updated => ("PostUpdatePodSandbox", Event::PostUpdatePodSandbox),
            PodMoment::Stopped => ("StopPodSandbox", Event::StopPodSandbox),
            PodMoment::Removed => ("RemovePodSandbox", Event::RemovePodSandbox),
        };
        let message = PodRequest { pod: Some(pod.clone()) };
        let mut first = Ok(());
        let _asking = self.asking.lock().await;
        for plugin in self.those_that_want(event) {
            let told = plugin.tell((request, event), &message, (&pod, None), self.config.request_limit).await;
            first = first.and(told.map_err(|error| of(&plugin, request, &error)));
            if first.is_err() && moment == PodMoment::Run {
                break;
            }
        }
        first
    }

    /// Asks whether limits of a pod may be changed.
    ///
    /// # Errors
    /// The first plugin that refused or failed.
    pub async fn update_pod(
        &self,
        pod: PodSandbox,
        overhead: LinuxResources,
        limits: LinuxResources,
    ) -> Result<(), NriError> {
        let request = "UpdatePodSandbox";
        let message = UpdatePodSandboxRequest {
            pod: Some(pod),
            overhead_linux_resources: Some(overhead),
            linux_resources: Some(limits),
        };
        let _asking = self.asking.lock().await;
        for plugin in self.those_that_want(Event::UpdatePodSandbox) {
            let asked = plugin.ask::<_, crate::api::Empty>(request, &message, self.config.request_limit).await;
            asked.map_err(|error| of(&plugin, request, &error))?;
        }
        Ok(())
    }

    /// Tells of a container: what was done, is done next (start), or has ended (stop).
    ///
    /// # Errors
    /// The first plugin that refused or failed.
    pub async fn container(&self, event: Event, pod: PodSandbox, container: Container) -> Result<(), NriError> {
        let request = match event {
            Event::PostCreateContainer => "PostCreateContainer",
            Event::StartContainer => "StartContainer",
            Event::PostStartContainer => "PostStartContainer",
            Event::PostUpdateContainer => "PostUpdateContainer",
            Event::StopContainer => return self.stopped(pod, container).await,
            Event::RemoveContainer => "RemoveContainer",
            _ => return Ok(()),
        };
        let message = ContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
        let mut first = Ok(());
        let _asking = self.asking.lock().await;
        for plugin in self.those_that_want(event) {
            let told =
                plugin.tell((request, event), &message, (&pod, Some(&container)), self.config.request_limit).await;
            first = first.and(told.map_err(|error| of(&plugin, request, &error)));
            if first.is_err() && event == Event::StartContainer {
                break;
            }
        }
        first
    }

    async fn stopped(&self, pod: PodSandbox, container: Container) -> Result<(), NriError> {
        let request = "StopContainer";
        let message = ContainerRequest { pod: Some(pod), container: Some(container) };
        let (mut first, mut all) = (Ok(()), Collected::default());
        let asking = self.asking.lock().await;
        for plugin in self.those_that_want(Event::StopContainer) {
            match plugin.ask::<_, StopContainerResponse>(request, &message, self.config.request_limit).await {
                Ok(answer) => {
                    for update in answer.into_iter().flat_map(|answer| answer.update) {
                        first =
                            first.and(all.update(&plugin.name, update).map_err(|e| NriError::Conflict(e.to_string())));
                    }
                }
                Err(error) => first = first.and(Err(of(&plugin, request, &error))),
            }
        }
        drop(asking);
        self.carry_out(all).await;
        first
    }

    /// Asks what is to be changed in a container that is being made; changes of others are done.
    ///
    /// # Errors
    /// A plugin that refused or failed, a conflict of two, or a validator that rejects.
    pub async fn create(&self, pod: PodSandbox, mut container: Container) -> Result<Collected, NriError> {
        let request = "CreateContainer";
        let mut all = Collected::default();
        let asking = self.asking.lock().await;
        for plugin in self.those_that_want(Event::CreateContainer) {
            let message = ContainerRequest { pod: Some(pod.clone()), container: Some(container.clone()) };
            let asked = plugin.ask::<_, CreateContainerResponse>(request, &message, self.config.request_limit).await;
            let Some(answer) = asked.map_err(|error| of(&plugin, request, &error))? else { continue };
            // It is changed by an adjustment; there is nothing to update yet.
            if answer.update.iter().any(|update| update.container_id == container.id) {
                let reason =
                    format!("it asked for an update of {} while that is made; adjust it instead", container.id);
                return Err(NriError::Plugin { plugin: plugin.name.clone(), request, reason });
            }
            all.take(&plugin.name, &mut container, answer.adjust, answer.update, answer.evict)
                .map_err(|conflict| NriError::Conflict(conflict.to_string()))?;
        }
        self.validate(pod, container, &all).await?;
        drop(asking);
        let (updates, evictions) = (std::mem::take(&mut all.updates), std::mem::take(&mut all.evictions));
        self.carry_out(Collected { updates, evictions, ..Collected::default() }).await;
        Ok(all)
    }

    async fn validate(&self, pod: PodSandbox, container: Container, all: &Collected) -> Result<(), NriError> {
        let request = "ValidateContainerAdjustment";
        let validators = self.those_that_want(Event::ValidateContainerAdjustment);
        if validators.is_empty() {
            return Ok(());
        }
        let instance = |plugin: &Arc<Plugin>| {
            let (index, name) = plugin.name.split_once('-').unwrap_or_default();
            PluginInstance { name: name.to_owned(), index: index.to_owned() }
        };
        let message = ValidateContainerAdjustmentRequest {
            pod: Some(pod),
            container: Some(container),
            adjust: Some(all.adjust.clone()),
            update: all.updates.clone(),
            owners: Some(all.owners.clone()),
            plugins: self.all().iter().map(instance).collect(),
        };
        for plugin in validators {
            match plugin
                .ask::<_, ValidateContainerAdjustmentResponse>(request, &message, self.config.request_limit)
                .await
            {
                Ok(Some(answer)) if answer.reject => {
                    return Err(NriError::Plugin {
                        plugin: plugin.name.clone(),
                        request,
                        reason: format!("it rejects what was asked for: {}", answer.reason),
                    });
                }
                Ok(_) => {}
                Err(error) => return Err(of(&plugin, request, &error)),
            }
        }
        Ok(())
    }

    /// Asks what is to be changed in limits that are about to be written; changes of others are done.
    ///
    /// # Errors
    /// A plugin that refused or failed, or a conflict of two.
    pub async fn update(
        &self,
        pod: PodSandbox,
        container: Container,
        asked: LinuxResources,
    ) -> Result<LinuxResources, NriError> {
        let request = "UpdateContainer";
        let (id, mut all) = (container.id.clone(), Collected::default());
        let mut message =
            UpdateContainerRequest { pod: Some(pod), container: Some(container), linux_resources: Some(asked.clone()) };
        let asking = self.asking.lock().await;
        for plugin in self.those_that_want(Event::UpdateContainer) {
            let told = plugin.ask::<_, UpdateContainerResponse>(request, &message, self.config.request_limit).await;
            let Some(answer) = told.map_err(|error| of(&plugin, request, &error))? else { continue };
            for update in answer.update {
                all.update(&plugin.name, update).map_err(|conflict| NriError::Conflict(conflict.to_string()))?;
            }
            all.evictions.extend(answer.evict);
            // The next one sees what comes of it.
            message.linux_resources = Some(over(&asked, &id, &all)?);
        }
        drop(asking);
        let merged = over(&asked, &id, &all)?;
        all.updates.retain(|update| update.container_id != id);
        self.carry_out(all).await;
        Ok(merged)
    }

    async fn carry_out(&self, all: Collected) {
        if !all.updates.is_empty() {
            for failed in self.host.update(all.updates).await {
                tracing::warn!(container = failed.container_id, "limits that an NRI plugin asked for can not be set");
            }
        }
        if !all.evictions.is_empty() {
            self.host.evict(all.evictions).await;
        }
    }
}

fn of(plugin: &Plugin, request: &'static str, error: &CallError) -> NriError {
    NriError::Plugin { plugin: plugin.name.clone(), request, reason: error.to_string() }
}

/// What was asked for, and over it what plugins want of that container.
fn over(asked: &LinuxResources, id: &str, all: &Collected) -> Result<LinuxResources, NriError> {
    let linux = Some(LinuxContainerUpdate { resources: Some(asked.clone()) });
    let asked = ContainerUpdate { container_id: id.to_owned(), linux, ignore_failure: false };
    let mut result = Collected::default();
    for update in std::iter::once(&asked).chain(all.updates.iter().filter(|update| update.container_id == id)) {
        // Nobody owns what the caller asked for.
        result.owners = crate::api::OwningPlugins::default();
        result.update("", update.clone()).map_err(|conflict| NriError::Conflict(conflict.to_string()))?;
    }
    let merged = result.updates.pop().and_then(|update| update.linux).and_then(|linux| linux.resources);
    Ok(merged.unwrap_or_default())
}

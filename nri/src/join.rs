//! How plugins join and leave: those of the directory are launched, others dial in; each registers, is configured and is told all that is
//! there, in a turn of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use podwright_ttrpc::{CallError, Connection, Wire};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use prost::Message as _;

use crate::api::{
    ConfigureRequest, ConfigureResponse, Container, ContainerUpdate, Empty, PodSandbox, SynchronizeRequest,
    SynchronizeResponse,
};
use crate::launch::{self, Launched};
use crate::listen;
use crate::plugin::{PLUGIN_SERVICE, Plugin, checked_name};
use crate::runtime::{MAX_PLUGINS, Nri, NriError};
use crate::serve::Server;

/// Two connections over one socket: on the first the plugin serves, on the second the runtime.
pub(crate) const WIRE: Wire = Wire::Shared { calls: 1, serves: 2 };
/// Version of the protocol.
const PROTOCOL_VERSION: &str = "0.12.0";
/// Pods and containers in one message of a synchronisation: as many as fit, as not every plugin takes several.
const SYNC_MAX_BYTES: usize = 3 << 20;
/// Before a listener that failed is asked again.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

impl Nri {
    /// Launches the plugins of the directory, waits until they have joined, and listens for others.
    ///
    /// # Errors
    /// The socket can not be made; what was launched stays. A plugin that does not come up is told in the log.
    pub async fn start(self: &Arc<Self>) -> Result<(), NriError> {
        let mut joining = JoinSet::new();
        for found in launch::find(&self.config.plugin_dir, &self.config.config_dir) {
            let name = found.name.clone();
            match launch::start(found) {
                Ok((socket, launched)) => drop(joining.spawn(self.clone().join(socket, Some(launched)))),
                Err(reason) => tracing::warn!(plugin = name, reason, "an NRI plugin can not be launched"),
            }
        }
        joining.join_all().await;
        if self.config.socket.as_os_str().is_empty() {
            return Ok(());
        }
        let (listener, made) = listen::bind(&self.config.socket).await.map_err(NriError::Listen)?;
        let listening = tokio::spawn(self.clone().listen(listener, made));
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
        Ok(())
    }

    /// Lets go of all plugins; those that were launched end.
    pub async fn stop(&self) {
        self.ending.send_replace(true);
        let plugins = std::mem::take(&mut *self.plugins.lock().unwrap_or_else(PoisonError::into_inner));
        let told: JoinSet<()> =
            plugins.into_iter().map(|plugin| tell_the_end(plugin, self.config.request_limit)).collect();
        told.join_all().await;
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listening) = listening {
            // It ends by the order above, and takes the socket away; an error would be its panic.
            let _ = listening.await;
        }
        // Each has its place until its process is gone.
        let all = u32::try_from(MAX_PLUGINS).unwrap_or(u32::MAX);
        let _ = timeout(launch::END_WITHIN * 2, self.places.acquire_many(all)).await;
    }

    async fn listen(self: Arc<Self>, listener: UnixListener, made: listen::Made) {
        let mut ending = self.ending.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ending.wait_for(|ending| *ending) => break,
            };
            match accepted {
                Ok((socket, _)) => drop(tokio::spawn(self.clone().join(socket, None))),
                Err(error) => {
                    tracing::warn!(%error, "an NRI plugin can not be taken");
                    // Cut short by the end.
                    let _ = timeout(ACCEPT_PAUSE, ending.wait_for(|ending| *ending)).await;
                }
            }
        }
        made.remove();
    }

    /// Takes a socket to its plugin's end. Returns when it has joined, or failed to.
    async fn join(self: Arc<Self>, socket: UnixStream, launched: Option<Launched>) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::warn!("there are {MAX_PLUGINS} NRI plugins already; another was refused");
            return;
        };
        let (tell, registered) = oneshot::channel();
        let connection = Connection::open(socket, WIRE, Some(Arc::new(Server::new(tell, self.host.clone()))));
        let named = launched.as_ref().map(|launched| (launched.name.clone(), launched.config.clone()));
        // The place is free again when the plugin is gone, and with it what was launched.
        tokio::spawn({
            let connection = connection.clone();
            async move {
                match launched {
                    Some(launched) => launched.see_to_its_end(&connection).await,
                    None => drop(connection.closed().await),
                }
                drop(place);
            }
        });
        let label = named.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
        let admitted = tokio::select! {
            // Its end tells more than what comes of it.
            biased;
            why = connection.closed() => Err(why),
            admitted = self.register_and_admit(named, registered, &connection) => admitted,
        };
        match admitted {
            Ok((plugin, updates)) => {
                tracing::info!(plugin = plugin.name, "an NRI plugin has joined");
                // Before all else: whatever becomes of it, it is not kept when its connection has ended.
                tokio::spawn(self.clone().see_leave(plugin.clone()));
                self.set_limits(&plugin.name, updates).await;
            }
            Err(reason) => {
                tracing::warn!(plugin = label, reason, "an NRI plugin was refused");
                connection.close(&reason);
            }
        }
    }

    async fn see_leave(self: Arc<Self>, plugin: Arc<Plugin>) {
        let why = plugin.connection.closed().await;
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.retain(|other| !Arc::ptr_eq(other, &plugin));
        drop(plugins);
        tracing::warn!(plugin = plugin.name, why, "an NRI plugin has left");
    }

    /// The limits that it wants of what it was told is there.
    async fn set_limits(&self, plugin: &str, updates: Vec<ContainerUpdate>) {
        for failed in self.host.update(updates).await {
            tracing::warn!(
                container = failed.container_id,
                plugin,
                "limits that an NRI plugin asked for can not be set"
            );
        }
    }

    async fn register_and_admit(
        &self,
        named: Option<(String, String)>,
        registered: oneshot::Receiver<crate::api::RegisterPluginRequest>,
        connection: &Arc<Connection>,
    ) -> Result<(Arc<Plugin>, Vec<ContainerUpdate>), String> {
        let registered = match timeout(self.config.registration_limit, registered).await {
            Ok(Ok(registered)) => registered,
            Ok(Err(_)) | Err(_) => return Err("it did not register in time".into()),
        };
        let (name, config) = match named {
            // What it says of itself does not count.
            Some(named) => named,
            None => {
                let name = checked_name(&registered.plugin_idx, &registered.plugin_name)?;
                let config = launch::configuration(&self.config.config_dir, &name);
                (name, config)
            }
        };
        let admitted = self.admit(&name, &config, connection).await;
        admitted.map_err(|reason| format!("{name}: {reason}"))
    }

    /// Configures and synchronises it, and has it join, which is the last that is done: nothing is waited for after it.
    async fn admit(
        &self,
        name: &str,
        config: &str,
        connection: &Arc<Connection>,
    ) -> Result<(Arc<Plugin>, Vec<ContainerUpdate>), String> {
        let (registration_limit, millis) =
            (self.config.registration_limit, |limit: Duration| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        let request = ConfigureRequest {
            config: config.to_owned(),
            runtime_name: "podwright".into(),
            runtime_version: self.config.runtime_version.clone(),
            registration_timeout: millis(registration_limit),
            request_timeout: millis(self.config.request_limit),
            nri_version: PROTOCOL_VERSION.into(),
        };
        let failed = |what: &'static str| move |error: CallError| format!("{what}: {error}");
        let configured: ConfigureResponse = connection
            .call((PLUGIN_SERVICE, "Configure"), &request, registration_limit)
            .await
            .map_err(failed("Configure"))?;
        let plugin = Arc::new(Plugin::new(name.to_owned(), connection.clone(), &configured)?);
        // From here on changes are told in turns after this one, also if nobody else is there.
        let _joining = Joining::begin(&self.joining);
        let alone = timeout(registration_limit, self.turns.clone().write_owned()).await;
        let alone =
            alone.map_err(|_| "pods and containers were being made all the time; let it try again".to_owned())?;
        let updates = self.synchronize(connection).await.map_err(failed("Synchronize"))?;
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.ending.borrow() {
            return Err("the runtime ends".into());
        }
        plugins.push(plugin.clone());
        plugins.sort_by(|one, other| one.name.cmp(&other.name));
        drop((plugins, alone));
        Ok((plugin, updates))
    }

    async fn synchronize(&self, connection: &Connection) -> Result<Vec<ContainerUpdate>, CallError> {
        let (pods, containers) = self.host.state().await;
        let mut requests = in_parts(pods, containers).into_iter().peekable();
        while let Some(request) = requests.next() {
            let more = requests.peek().is_some();
            let request = SynchronizeRequest { more, ..request };
            let limit = self.config.registration_limit;
            let answer: SynchronizeResponse = connection.call((PLUGIN_SERVICE, "Synchronize"), &request, limit).await?;
            if !more {
                return Ok(answer.update);
            }
            if !answer.more {
                return Err(CallError::Garbage("it does not take a synchronisation in parts".into()));
            }
        }
        Ok(Vec::new())
    }
}

/// One that joins, until it is there or was refused.
struct Joining<'a>(&'a AtomicUsize);

impl<'a> Joining<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tells a plugin that the runtime ends, and closes its connection.
async fn tell_the_end(plugin: Arc<Plugin>, limit: Duration) {
    // One that does not have the call sees its connection end.
    let _ = plugin.connection.call::<Empty, Empty>((PLUGIN_SERVICE, "Shutdown"), &Empty {}, limit).await;
    plugin.connection.close("the runtime ends");
}

/// One message at least.
fn in_parts(pods: Vec<PodSandbox>, containers: Vec<Container>) -> Vec<SynchronizeRequest> {
    let (mut parts, mut bytes) = (vec![SynchronizeRequest::default()], 0);
    let mut place = |length: usize, put: &mut dyn FnMut(&mut SynchronizeRequest)| {
        if bytes > 0 && bytes + length > SYNC_MAX_BYTES {
            parts.push(SynchronizeRequest::default());
            bytes = 0;
        }
        bytes += length;
        if let Some(part) = parts.last_mut() {
            put(part);
        }
    };
    for pod in pods {
        place(pod.encoded_len(), &mut |part| part.pods.push(pod.clone()));
    }
    for container in containers {
        place(container.encoded_len(), &mut |part| part.containers.push(container.clone()));
    }
    parts
}

#[cfg(test)]
mod tests;

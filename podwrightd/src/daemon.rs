//! The daemon's life: its place on the host, its parts and how they are put together, recovery, service, end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use podwright_cni::Networks;
use podwright_cri::Cri;
use podwright_cri::streaming::{Server as StreamingServer, Streaming};
use podwright_imageservice::ImageStore;
use podwright_podsandbox::{Engine, EngineConfig, Ports};
use podwright_shim_api::launcher::Launcher;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::extensions::OwnParts;
use crate::handlers::RuntimeHandlers;
use crate::host::{Node, apparmor, features, selinux};
use crate::ports::{CgroupDriver, CriuCheckpoints, HostStatistics, PodNetworks, ShimLauncher, StoredImages};
use crate::{admin, listener, serve, settings};

/// Where the shim is installed if it is not beside the daemon.
const INSTALLED_SHIM: &str = "/usr/libexec/podwright/podwright-shim";
/// For what is not on the disk yet when the daemon ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// Its name.
const SHIM: &str = "podwright-shim";

/// Runs the daemon to its end.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    listener::make_directory(&config.root)?;
    listener::make_directory(&config.state)?;
    let _lock = listener::lock_root(&config.root)?;
    let open_files = raise_open_files();

    let shim = shim_binary(&config)?;
    // It takes as long as all that is read below; Status waits for it.
    let user_namespaces = {
        let (shim, root) = (shim.clone(), config.root.clone());
        tokio::spawn(async move { features::user_namespaces(&shim, &root).await })
    };
    let driver = CgroupDriver::open(config.cgroup.driver)?;
    let images = open_images(&config).await?;
    if config.security.selinux {
        selinux::label_layers(&config.root);
    }
    let networks = Networks::new(settings::networks(&config)).context("cannot open the pod networks")?;
    let launcher = Launcher::new(&shim, &config.state).context("cannot prepare the shim")?.with_open_files(open_files);
    let mark = podwright_podsandbox::owner_mark(&config.root).context("cannot look at the root directory")?;
    let statistics = HostStatistics::new(driver.hierarchy(), networks.clone(), config.root.join("containers"));
    let own_parts = Arc::new(OwnParts::new(&config));
    let handlers = RuntimeHandlers::new(config.runtimes.dirs.clone());
    let ports = Ports {
        network: Arc::new(PodNetworks(networks.clone())),
        images: Arc::new(StoredImages(images.clone())),
        shims: Arc::new(ShimLauncher::new(launcher, driver.clone(), mark.clone())),
        cgroups: driver.cgroups(),
        statistics: Arc::new(statistics),
        extensions: own_parts.clone(),
        checkpoints: Arc::new(CriuCheckpoints::new(&config)),
        handlers: Arc::new(handlers.clone()),
    };
    let apparmor_profile = apparmor::load_default().await.map(str::to_owned);
    let engine = Engine::new(EngineConfig { apparmor_profile, ..settings::engine(&config) }, ports);
    recover(&engine, &networks, &images).await?;
    own_parts.start(&engine).await;

    let user_namespaces = user_namespaces.await.context("the shim was not asked for user namespaces")?;
    let node = Arc::new(Node::new(&config, driver.kind(), networks.clone(), handlers.clone(), user_namespaces));
    let (streaming, streams) = bind_streaming(&config).await?;
    let listener = listener::bind(config.listen.path())?;
    let (socket, root) = (config.listen.path().display(), config.root.display());
    tracing::info!(%socket, %root, streaming = %streaming.address(), "serving the CRI");
    let stop_streams = CancellationToken::new();
    let streams = tokio::spawn(streams.serve(engine.clone(), stop_streams.clone()));
    let operators = admin::serve(
        admin::Operator::new(&config, engine.clone(), images.clone(), networks, handlers, mark, &driver),
        &config,
    );
    let drain = Duration::from_secs(config.drain_seconds.get().into());
    let served = serve::serve(Cri::new(engine, images.clone(), node, streaming), listener, drain).await;
    own_parts.stop().await;
    stop_streams.cancel();
    let _ = streams.await;
    let _ = std::fs::remove_file(config.listen.path());
    admin::end(operators, &config);
    driver.close();
    close_images(&images).await;
    tracing::info!("stopped");
    served
}

/// Brings memory, records and host in line, before anybody can ask.
async fn recover(engine: &Engine, networks: &Networks, images: &ImageStore) -> anyhow::Result<()> {
    let report = engine.recover().await.context("cannot recover the pods")?;
    for note in &report.notes {
        tracing::warn!("recovery: {note}");
    }
    let holders = engine.network_holders().into_iter().collect();
    networks.recover(&holders).await.context("cannot recover the pod networks")?;
    // After recovery every container holds its image again.
    images.sweep().await.context("cannot sweep the image store")?;
    let (sandboxes, containers, running) = (report.sandboxes, report.containers, report.running);
    tracing::info!(sandboxes, containers, running, "recovered");
    Ok(())
}

async fn bind_streaming(config: &Config) -> anyhow::Result<(Streaming, StreamingServer)> {
    let address = config.streaming.address.get();
    let bound = Streaming::bind(address).await;
    bound.with_context(|| format!("cannot listen for streaming at {address}; choose another [streaming] address"))
}

async fn open_images(config: &Config) -> anyhow::Result<ImageStore> {
    let images = settings::images(config);
    ImageStore::open(&config.root, images).await.context("cannot open the image store")
}

/// So that the next boot need not look at every layer. A disk that hangs must not keep the daemon from ending.
async fn close_images(images: &ImageStore) {
    match tokio::time::timeout(CLOSE_LIMIT, images.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the image store is not closed; after a restart of the node its layers are looked at")
        }
        Err(_) => {
            tracing::warn!("the disk of images does not answer; after a restart of the node its layers are looked at")
        }
    }
}

/// Pods cost descriptors: connections to shims, namespaces. A limit that cannot be raised shows when it is reached. Returns the soft
/// limit that was, for containers; `None` is without limit.
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    limit.current
}

fn shim_binary(config: &Config) -> anyhow::Result<PathBuf> {
    if !config.shim.as_os_str().is_empty() {
        anyhow::ensure!(config.shim.is_file(), "there is no shim at {}; correct --shim", config.shim.display());
        return Ok(config.shim.clone());
    }
    let own = std::env::current_exe().context("cannot find out where podwrightd itself is")?;
    let beside = own.parent().unwrap_or(Path::new("/")).join(SHIM);
    let mut candidates = [beside.clone(), INSTALLED_SHIM.into()].into_iter();
    candidates
        .find(|path| path.is_file())
        .with_context(|| format!("there is no shim at {} or {INSTALLED_SHIM}; name it with --shim", beside.display()))
}

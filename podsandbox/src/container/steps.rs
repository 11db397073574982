//! The table of a container: from its record to its process, and back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use tokio::time::sleep;

use super::Container;
use super::stop::SIGKILL;
use crate::error::EngineError;
use crate::ladder::{Climb, Intent, Outcome, Step};
use crate::model::{ContainerConfig, ContainerState, Mount, MountSource, Seccomp};
use crate::ports::{CgroupPlacement, Image, PortError, Shim, StartContainer, StartFailure};
use crate::record;
use crate::shared::blocking;
use crate::spec;

/// Longest wait for a shim to be done with a process that was killed.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(10);
/// Pause before it is asked again.
const FORGET_PAUSE: Duration = Duration::from_millis(10);

/// The OCI specification in the container's directory.
pub(crate) const SPECIFICATION_FILE: &str = "config.json";
/// What is done, if it fails.
const WRITE_SPECIFICATION: &str = "write the specification";
/// A system call filter that an adjustment gave it.
const FILTER_FILE: &str = "seccomp.json";

/// The topmost step of a container that was made.
pub(super) const MADE: &str = "specification";
/// The topmost step of a container that was started.
pub(super) const PROCESS: &str = "process";

pub(super) const TABLE: &[Step<Container>] = &[
    Step {
        name: "record",
        run: |_| Box::pin(async { Ok(()) }),
        undo: |c| Box::pin(async move { c.delete_record().await }),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: "image",
        run: |c| Box::pin(hold_image(c)),
        undo: |c| {
            Box::pin(async move {
                c.shared().ports.images.release(c.id.as_str());
                Ok(())
            })
        },
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: "layer",
        run: |c| Box::pin(make_layer(c)),
        undo: |c| Box::pin(delete_layer(c)),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: MADE,
        run: |c| Box::pin(write_specification(c)),
        undo: |_| Box::pin(async { Ok(()) }),
        intent: |_| Intent::Own,
        gate: true,
    },
    Step {
        name: PROCESS,
        run: |c| Box::pin(start_process(c)),
        undo: |c| Box::pin(end_process(c)),
        intent: |_| Intent::Recorded,
        gate: true,
    },
];

async fn hold_image(container: Arc<Container>) -> Outcome {
    let wanted = container.wanted_image().await?;
    // What an archive calls its image is not what the user wrote.
    let written = container.config.restore_from.as_ref().map_or(&*container.config.user_specified_image, |_| "");
    let image = hold(&container, &wanted, written).await.map_err(|error| of_archive(&container, &wanted, error))?;
    let mut volume_images = Vec::new();
    for (mount, (volume, _)) in image_volumes(&container.config) {
        let held = hold(&container, volume, "").await.map_err(|error| error.of_image_volume(&mount.destination))?;
        volume_images.push(held.id);
    }
    let stop_signal = spec::stop_signal(container.config.stop_signal, &image.config.stop_signal)?;
    let mut live = container.live();
    live.durable.stop_signal = stop_signal;
    live.durable.image_id = image.id;
    live.durable.image_ref = image.reference;
    live.durable.layers = image.layers;
    live.durable.volume_images = volume_images;
    Ok(())
}

/// An archive is no reason to fetch anything.
fn of_archive(container: &Container, wanted: &str, error: EngineError) -> EngineError {
    match &container.config.restore_from {
        Some(archive) => error.within(format!("the image {wanted:?} that {} was made from", archive.display())),
        None => error,
    }
}

/// Finds an image and keeps it, if the pod may use it. One that was removed between the two is looked for in vain.
async fn hold(container: &Container, reference: &str, written: &str) -> Result<Image, EngineError> {
    let images = &container.shared().ports.images;
    let found = images.resolve(reference).await?;
    images.hold(&found.id, container.id.as_str());
    let asked = if written.is_empty() { reference } else { written };
    images.allow(&found.id, asked, &container.sandbox.config.namespace).await?;
    Ok(images.resolve(&found.id).await?)
}

/// Mounts of images, with image and directory.
fn image_volumes(config: &ContainerConfig) -> impl Iterator<Item = (&Mount, (&str, &Path))> {
    config.mounts.iter().filter_map(|mount| mount.image().map(|image| (mount, image)))
}

/// `rw` with the directories of overlayfs. The mode of `upper` becomes that of the container's `/`.
async fn make_layer(container: Arc<Container>) -> Outcome {
    if container.config.restore_from.is_some() {
        // What a try before this one unpacked.
        delete_layer(container.clone()).await?;
    }
    blocking("make the writable layer at", &container.dir().join("rw"), |rw| {
        use std::os::unix::fs::PermissionsExt;
        record::private_dir(rw)?;
        for name in ["upper", "work"] {
            let dir = rw.join(name);
            record::private_dir(&dir)?;
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    })
    .await?;
    container.open_archive().await
}

async fn delete_layer(container: Arc<Container>) -> Outcome {
    container.delete_images().await?;
    blocking("delete the writable layer at", &container.dir().join("rw"), record::delete_tree).await
}

async fn write_specification(container: Arc<Container>) -> Outcome {
    make_missing_sources(&container).await?;
    let (spec, written) = generate(&container).await?;
    let extensions = &container.shared().ports.extensions;
    container.told.begin(extensions.turn().await);
    container.live().spec = match written {
        // Nobody began to listen before the turn.
        Some(json) if !extensions.listens() => json,
        Some(_) | None => {
            let json = adjust(&container, spec).await?;
            let bytes = json.clone();
            let path = container.dir().join(SPECIFICATION_FILE);
            blocking(WRITE_SPECIFICATION, &path, move |path| write_file(path, &bytes)).await?;
            json
        }
    };
    Ok(())
}

fn write_file(path: &Path, json: &str) -> std::io::Result<()> {
    record::replace(path, json.as_bytes(), 0o600, false)
}

/// Has the operator's own parts look at the specification, and takes over what they changed in it.
async fn adjust(container: &Arc<Container>, spec: Spec) -> Result<Arc<str>, EngineError> {
    let extensions = &container.shared().ports.extensions;
    let asked = spec::adjusted::limits(&spec, &container.config.resources);
    let mut spec = extensions.adjust(&container.sandbox.snapshot(), &container.snapshot(), spec).await?;
    let plan = spec::namespace_plan(&container.sandbox.config, &container.config);
    let own_namespaces = spec::adjusted::namespaces(&spec, plan.clone())? != plan;
    let cgroup = spec::adjusted::cgroup_path(&spec, &container.planned_cgroup_path()?);
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    if let Some(filter) = &filter {
        let json = serde_json::to_vec(filter).map_err(|e| EngineError::Internal(format!("write a filter: {e}")))?;
        blocking("write the system call filter", &container.dir().join(FILTER_FILE), move |path| {
            record::replace(path, &json, 0o600, false)
        })
        .await?;
        // The shim reads it there, for what is executed later too.
        if let Some(mut linux) = spec.linux().clone() {
            linux.set_seccomp(None);
            spec.set_linux(Some(linux));
        }
    }
    let mut live = container.live();
    let adjusted = spec::adjusted::limits(&spec, &container.config.resources);
    if adjusted != asked {
        live.durable.resources = Arc::new(adjusted);
    }
    live.durable.cgroup = cgroup;
    live.durable.own_filter = filter.is_some();
    live.durable.own_namespaces = own_namespaces;
    drop(live);
    Ok(spec::to_json(&spec)?.into())
}

/// Makes the specification, and writes it in the same breath if nobody may change it: nearly always.
async fn generate(container: &Arc<Container>) -> Result<(Spec, Option<Arc<str>>), EngineError> {
    let input = input(container).await?;
    let (extensions, config) = (container.shared().ports.extensions.clone(), container.config.clone());
    let path = container.dir().join(SPECIFICATION_FILE);
    // Devices are looked at on the host.
    let task = tokio::task::spawn_blocking(move || {
        let spec = spec::generate(&input)?;
        if extensions.listens() || extensions.adjusts(&config) {
            return Ok((spec, None));
        }
        let json: Arc<str> = spec::to_json(&spec)?.into();
        write_file(&path, &json).map_err(|e| EngineError::io(WRITE_SPECIFICATION, &path, &e))?;
        Ok((spec, Some(json)))
    });
    task.await.unwrap_or_else(|e| Err(EngineError::Internal(format!("the task ended early: {e}"))))
}

async fn input(container: &Arc<Container>) -> Result<spec::Input, EngineError> {
    let image = container.shared().ports.images.resolve(&container.live_image_id()).await?;
    let image_volumes = find_image_volumes(container).await?;
    let sandbox = &container.sandbox;
    Ok(spec::Input {
        config: container.config.clone(),
        sandbox: sandbox.id.clone(),
        sandbox_config: sandbox.config.clone(),
        image: image.config,
        image_volumes,
        sandbox_dir: sandbox.shared.sandbox_dir(&sandbox.id),
        shm_dir: sandbox.shared.shm_dir(&sandbox.id),
        cgroup_path: container.cgroup_path()?,
        hostname: sandbox.hostname(),
        apparmor_profile: sandbox.shared.config.apparmor_profile.clone(),
        selinux: sandbox.shared.config.selinux,
    })
}

/// For each mount of an image the directories that show it, the topmost first.
async fn find_image_volumes(container: &Arc<Container>) -> Result<Vec<Vec<PathBuf>>, EngineError> {
    let ids = container.live().durable.volume_images.clone();
    let images = &container.shared().ports.images;
    let mut found = Vec::with_capacity(ids.len());
    for ((mount, (_, sub_path)), id) in image_volumes(&container.config).zip(ids) {
        let directories = images.directory(&id, sub_path).await;
        found.push(directories.map_err(|e| EngineError::from(e).of_image_volume(&mount.destination))?);
    }
    Ok(found)
}

/// A volume whose path on the host is missing gets an empty directory there, as other runtimes do it.
async fn make_missing_sources(container: &Arc<Container>) -> Outcome {
    for mount in &container.config.mounts {
        if let MountSource::Host(source) = &mount.source {
            container.shared().volumes.make_missing(source).await?;
        }
    }
    Ok(())
}

async fn start_process(container: Arc<Container>) -> Outcome {
    let shim = container.sandbox.ready_shim("start it")?;
    let _limits = container.limits.lock().await;
    let request = request(&container)?;
    container.begin_start()?;
    match shim.start_container(&request).await {
        Ok(started) => {
            container.started(&started);
            Ok(())
        }
        Err(error) => {
            container.live().start_failure = match &error {
                PortError::Start(failure, _) => *failure,
                PortError::NotFound(_)
                | PortError::Invalid(_)
                | PortError::Unavailable(_)
                | PortError::TimedOut(_)
                | PortError::Exhausted(_)
                | PortError::ReadOnly(_)
                | PortError::Untrusted(_)
                | PortError::Failed(_) => StartFailure::Setup,
            };
            Err(error.into())
        }
    }
}

fn request(container: &Container) -> Result<StartContainer, EngineError> {
    let cgroups = &container.shared().ports.cgroups;
    let cgroup = CgroupPlacement { path: container.cgroup_path()?, deferred: cgroups.deferred() };
    let (spec, layers, own_namespaces) = {
        let live = container.live();
        (live.spec.clone(), live.durable.layers.clone(), live.durable.own_namespaces)
    };
    let security = &container.config.security;
    let plan = spec::namespace_plan(&container.sandbox.config, &container.config);
    let namespaces = if own_namespaces { spec::planned_namespaces(&spec, plan)? } else { plan };
    Ok(StartContainer {
        container: container.id.clone(),
        spec,
        layers,
        writable: Some(container.dir().join("rw")),
        log_path: container.log_path(),
        stdin: container.config.stdin,
        stdin_once: container.config.stdin_once,
        cgroup,
        namespaces,
        seccomp: container.seccomp(),
        groups_policy: security.groups_policy,
        bundle: container.dir(),
        restore: container.restore_plan(),
        handler: container.sandbox.handler_plan(),
    })
}

/// Kills what runs, waits for its end, and lets the shim forget it.
async fn end_process(container: Arc<Container>) -> Outcome {
    if !matches!(container.live().durable.state, ContainerState::Created) {
        container.stop(Duration::ZERO).await?;
    }
    let shim = container.sandbox.live().shim.clone();
    if let Some(shim) = shim {
        forget_process(&container, &*shim).await?;
    }
    container.kill_cgroup().await
}

/// Lets the shim forget the process. It can not while the process still ends, or while it undoes a start that failed: that takes
/// moments.
async fn forget_process(container: &Container, shim: &dyn Shim) -> Outcome {
    let deadline = Instant::now() + FORGOTTEN_WITHIN;
    loop {
        match kill_and_delete(container, shim).await {
            Ok(()) | Err(PortError::NotFound(_)) => return Ok(()),
            Err(_) if shim_is_gone(container).await => return Ok(()),
            Err(PortError::Unavailable(_)) if Instant::now() < deadline => sleep(FORGET_PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn kill_and_delete(container: &Container, shim: &dyn Shim) -> Result<(), PortError> {
    if container.live().durable.state == ContainerState::Created {
        // A start that was not answered may have succeeded.
        match shim.signal_container(&container.id, SIGKILL, true).await {
            Ok(()) | Err(PortError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    shim.delete_container(&container.id).await
}

/// A pod that is stopped meanwhile ends its shim in the middle of our call; with the shim all that it knew is gone.
async fn shim_is_gone(container: &Container) -> bool {
    matches!(container.shared().ports.shims.connect(&container.sandbox.id).await, Ok(None))
}

impl Container {
    /// The system call filter in force.
    pub(crate) fn seccomp(&self) -> Seccomp {
        if self.live().durable.own_filter {
            return Seccomp::Localhost(self.dir().join(FILTER_FILE));
        }
        spec::seccomp(&self.config.security)
    }

    fn live_image_id(&self) -> String {
        self.live().durable.image_id.clone()
    }

    /// Kills whatever is in its cgroup, and removes that.
    pub(crate) async fn kill_cgroup(&self) -> Outcome {
        let path = self.cgroup_path()?;
        self.shared()
            .ports
            .cgroups
            .kill_and_remove(&path)
            .await
            .map_err(|e| EngineError::from(e).within(self.describe()))
    }
}

//! [`Checkpoints`] by CRIU and the archives of the image service.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use podwright_criu::{Dump, MAX_MOUNTS, external_mount, external_network, parse_mounts};
use podwright_imageservice::checkpoint::{self, Contents};
use podwright_imageservice::{ErrorKind, ImageError, Limits};
use podwright_podsandbox::model::{ContainerSnapshot, ContainerState};
use podwright_podsandbox::ports::{Checkpoint, Checkpoints, PortError};
use serde_json::json;

use super::whole_text;
use crate::config::Config;
use crate::settings;

/// CRIU on this host.
pub(crate) struct CriuCheckpoints {
    program: PathBuf,
    restore: bool,
    limits: Limits,
}

impl CriuCheckpoints {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            program: config.checkpoint.criu.clone(),
            restore: config.checkpoint.restore,
            limits: settings::images(config).limits,
        }
    }

    fn is_there(&self) -> Result<(), String> {
        match self.program.is_file() {
            true => Ok(()),
            false => Err(format!(
                "CRIU is not to be had at {}; install it (Debian: apt-get install criu), or name it as [checkpoint] criu",
                self.program.display()
            )),
        }
    }
}

#[async_trait]
impl Checkpoints for CriuCheckpoints {
    fn may_write(&self) -> Result<(), String> {
        self.is_there()
    }

    async fn write(&self, checkpoint: Checkpoint) -> Result<(), PortError> {
        let (program, limits) = (self.program.clone(), self.limits.clone());
        blocking(move || write(&program, &limits, &checkpoint)).await
    }

    fn may_restore(&self) -> Result<(), String> {
        if !self.restore {
            let text = "making containers from checkpoint archives is not ready; name an image";
            return Err(text.to_owned());
        }
        self.is_there()
    }

    async fn open(&self, archive: &Path, images: &Path, upper: &Path) -> Result<(), PortError> {
        let (archive, images, upper) = (archive.to_owned(), images.to_owned(), upper.to_owned());
        let limits = self.limits.clone();
        blocking(move || {
            let scratch = images.parent().unwrap_or(Path::new("/"));
            checkpoint::open(&archive, &images, &upper, scratch, &limits).map(drop).map_err(|error| failed(&error))
        })
        .await
    }

    async fn image_of(&self, archive: &Path) -> Result<String, PortError> {
        let (archive, limits) = (archive.to_owned(), self.limits.clone());
        blocking(move || checkpoint::image_of(&archive, &limits).map_err(|error| failed(&error))).await
    }

    fn program(&self) -> PathBuf {
        self.program.clone()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    let task = tokio::task::spawn_blocking(work).await;
    task.unwrap_or_else(|error| Err(PortError::Failed(format!("the task ended early: {error}"))))
}

fn failed(error: &ImageError) -> PortError {
    of_kind(error.kind(), whole_text(error))
}

fn of_kind(kind: ErrorKind, text: String) -> PortError {
    match kind {
        ErrorKind::NotFound => PortError::NotFound(text),
        ErrorKind::Invalid | ErrorKind::Corrupt => PortError::Invalid(text),
        ErrorKind::LimitExceeded | ErrorKind::NoSpace => PortError::Exhausted(text),
        ErrorKind::Unauthorized
        | ErrorKind::RegistryUnavailable
        | ErrorKind::TooManyRequests
        | ErrorKind::Untrusted
        | ErrorKind::Cancelled
        | ErrorKind::Io => PortError::Failed(text),
    }
}

fn write(program: &Path, limits: &Limits, checkpoint: &Checkpoint) -> Result<(), PortError> {
    let until = Instant::now() + checkpoint.within;
    let external = outside(checkpoint.pid).map_err(PortError::Failed)?;
    let images = checkpoint.scratch.join("images");
    fs::create_dir(&images).map_err(|error| PortError::Failed(format!("make {}: {error}", images.display())))?;
    let descriptors = descriptors(checkpoint.pid)?;
    fs::write(images.join("descriptors.json"), descriptors)
        .map_err(|error| PortError::Failed(format!("write in {}: {error}", images.display())))?;
    let changes = checkpoint.scratch.join("changes.tar");
    let dump = Dump { program, pid: checkpoint.pid, images: &images, external, within: checkpoint.within };
    let mut trouble = None;
    let dumped = podwright_criu::dump(&dump, &mut || {
        // While it stands still, so that files and processes fit together.
        checkpoint::changes(&checkpoint.upper, &changes, limits, until).map_err(|error| {
            trouble = Some(error.kind());
            whole_text(&error)
        })
    });
    // Its text is that of `trouble`, and tells what CRIU could not undo after that.
    dumped.map_err(|error| match (&error, trouble) {
        (podwright_criu::Error::TimedOut(..), _) | (_, Some(ErrorKind::Cancelled)) => {
            PortError::TimedOut(whole_text(&error))
        }
        (_, Some(kind)) => of_kind(kind, whole_text(&error)),
        (_, None) => PortError::Failed(whole_text(&error)),
    })?;
    let documents = documents(&checkpoint.container);
    let by = checkpoint.container.id.as_str();
    let contents = Contents { images: &images, changes: &changes, documents: &documents, by };
    checkpoint::write(&contents, &checkpoint.archive).map_err(|error| failed(&error))
}

/// What of a container is made outside of the images of its processes: every mount but its root and those of its procfs, and the
/// pod's network.
fn outside(pid: i32) -> Result<Vec<String>, String> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let inode = |of: &Path, kind: &str| {
        let path = of.join("ns").join(kind);
        fs::metadata(&path).map(|about| about.st_ino()).map_err(|error| format!("look at {}: {error}", path.display()))
    };
    let own = Path::new("/proc/self");
    let differs = |kind: &str| Ok::<_, String>(inode(&proc, kind)? != inode(own, kind)?);
    if differs("user")? {
        return Err("its pod has a user namespace, which can not be written to an archive".to_owned());
    }
    if !is_first_process(&proc)? {
        return Err(
            "it shares the process ids of its pod or of the host, which can not be written to an archive".to_owned()
        );
    }
    let table = proc.join("mountinfo");
    let text = fs::read(&table).map_err(|error| format!("read {}: {error}", table.display()))?;
    let mounts = parse_mounts(&text)?;
    let procfs = mounts.iter().find(|mount| mount.at == "/proc" && mount.kind == "proc").map(|mount| &mount.device);
    let mut external = Vec::with_capacity(mounts.len().min(MAX_MOUNTS));
    for mount in mounts.iter().filter(|mount| mount.at != "/" && Some(&mount.device) != procfs) {
        if mount.at.contains([']', '\n']) {
            return Err(format!("CRIU can not be told of a mount at {:?}", mount.at));
        }
        external.push(external_mount(&mount.at, &mount.at));
    }
    if differs("net")? {
        external.push(external_network(inode(&proc, "net")?));
    }
    Ok(external)
}

/// Where its standard streams lead, in the form in which other runtimes keep it: for whoever gives it others.
fn descriptors(pid: i32) -> Result<Vec<u8>, PortError> {
    let of = |fd: u32| {
        let path = format!("/proc/{pid}/fd/{fd}");
        let target = fs::read_link(&path).map(|target| target.to_string_lossy().into_owned());
        // A program may close any of them.
        target.unwrap_or_default()
    };
    serde_json::to_vec(&[of(0), of(1), of(2)]).map_err(|error| PortError::Failed(error.to_string()))
}

/// Whether it is process 1 of its pid namespace.
fn is_first_process(proc: &Path) -> Result<bool, String> {
    let path = proc.join("status");
    let status = fs::read_to_string(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    Ok(ids.split_whitespace().count() > 1 && ids.split_whitespace().next_back() == Some("1"))
}

/// What other tools read of an archive, in their own words.
fn documents(container: &ContainerSnapshot) -> Vec<(&'static str, Vec<u8>)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_nanos()).unwrap_or_default();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let user_specified = &container.config.user_specified_image;
    let image = if user_specified.is_empty() { &container.config.image } else { user_specified };
    let config = json!({
        "id": container.id.as_str(),
        "name": container.config.name,
        "rootfsImage": container.image_id,
        "rootfsImageRef": container.image_ref,
        "rootfsImageName": image,
        "runtime": "podwright",
        "createdTime": stamp(container.created_at_nanos),
        "checkpointedTime": stamp(now),
    });
    let (pid, started) = match container.state {
        ContainerState::Running { pid, started_at_nanos } => (pid, started_at_nanos),
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Unknown => (0, 0),
    };
    let status = json!({"CreatedAt": container.created_at_nanos, "StartedAt": started, "FinishedAt": 0, "ExitCode": 0, "Pid": pid});
    vec![
        ("config.dump", config.to_string().into_bytes()),
        ("spec.dump", spec(container).into_bytes()),
        ("status", status.to_string().into_bytes()),
    ]
}

/// The specification with the names under which tools look for the container's.
fn spec(container: &ContainerSnapshot) -> String {
    let Ok(mut spec) = serde_json::from_str::<serde_json::Value>(&container.runtime_spec) else {
        return container.runtime_spec.to_string();
    };
    if let Some(spec) = spec.as_object_mut() {
        let annotations = spec.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert("io.kubernetes.cri.container-name".to_owned(), json!(container.config.name));
            annotations.insert("io.kubernetes.cri.sandbox-id".to_owned(), json!(container.sandbox.as_str()));
        }
    }
    spec.to_string()
}

fn stamp(nanos: i64) -> String {
    let stamp = podwright_types::stamp(nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    String::from_utf8_lossy(&stamp).into_owned()
}

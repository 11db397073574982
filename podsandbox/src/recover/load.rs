//! Reading the records at start. What is no record of ours is put aside under `quarantine/`, for people to look at; a directory
//! without a record is the rest of an object that was just being made or deleted, and goes. Over records of a later release the
//! daemon does not start: it could neither run nor remove what they speak of.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podwright_types::SandboxId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::container::{Container, ContainerRecord, SPECIFICATION_FILE};
use crate::error::EngineError;
use crate::ladder::{Goal, Progress};
use crate::ports::NetworkKind;
use crate::record::{self, RecordError, Unknown};
use crate::sandbox::{Sandbox, SandboxRecord};
use crate::shared::{Shared, blocking};

/// Fills the maps from the disk. The notes say what was wrong.
pub(super) async fn load(shared: &Arc<Shared>) -> Result<Vec<String>, EngineError> {
    let state = shared.config.state.clone();
    let read = blocking("read the records in", &shared.config.root, move |root| read_all(root, &state)).await?;
    let mut notes = read.notes;
    let torn = read.torn_sandboxes.into_iter().map(|id| (rebuilt(shared, id), Unknown::default()));
    for (sandbox, unknown) in read.sandboxes.into_iter().chain(torn) {
        let sandbox = Arc::new(Sandbox::from_record(shared.clone(), sandbox, unknown));
        sandbox.found_before();
        let key = (sandbox.live().goal() != Goal::Removed).then(|| sandbox.key());
        shared.sandboxes.insert(sandbox.id.clone(), key, sandbox);
    }
    for (container, unknown, spec) in read.containers {
        match shared.sandboxes.get(&container.sandbox) {
            Some(sandbox) => put(shared, &sandbox, (container, unknown), spec),
            None => notes.push(delete_orphan(shared, &container).await),
        }
    }
    Ok(notes)
}

/// What can be known of a sandbox whose record is unreadable: that all of it may be there, and has to go.
fn rebuilt(shared: &Shared, id: SandboxId) -> SandboxRecord {
    let pinned = shared.pin_path(&id).exists();
    let mut record = SandboxRecord::new(id, shared.boot_id.clone(), Arc::default());
    record.durable.progress = Progress::all_begun::<Sandbox>(Goal::Removed);
    record.durable.network_kind = Some(if pinned { NetworkKind::Cni } else { NetworkKind::Embedded });
    record
}

fn put(shared: &Shared, sandbox: &Arc<Sandbox>, (record, unknown): (ContainerRecord, Unknown), spec: String) {
    let container = Arc::new(Container::from_record(sandbox.clone(), record, unknown, spec.into()));
    container.found_before();
    let key = (container.live().goal() != Goal::Removed).then(|| container.key());
    sandbox.live().containers.insert(container.id.clone(), container.clone());
    shared.containers.insert(container.id.clone(), key, container);
}

/// Without its sandbox a container can neither run nor be asked for.
async fn delete_orphan(shared: &Arc<Shared>, record: &ContainerRecord) -> String {
    let dir = shared.container_dir(&record.id);
    shared.ports.images.release(record.id.as_str());
    match blocking("delete the directory", &dir, record::delete_dir).await {
        Ok(()) => format!("container {}: its sandbox {} is not known; it was removed", record.id, record.sandbox),
        Err(error) => format!("container {}: its sandbox {} is not known; {error}", record.id, record.sandbox),
    }
}

#[derive(Default)]
struct Read {
    sandboxes: Vec<(SandboxRecord, Unknown)>,
    containers: Vec<(ContainerRecord, Unknown, String)>,
    torn_sandboxes: Vec<SandboxId>,
    notes: Vec<String>,
}

fn read_all(root: &Path, state: &Path) -> io::Result<Read> {
    let (sandboxes, containers) = (root.join("sandboxes"), root.join("containers"));
    // Containers of any user get at their files by mounts, for which the modes above do not count.
    for dir in [root, state] {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    for dir in [&sandboxes, &containers, &root.join("quarantine"), &state.join("shm"), &state.join("handlers")] {
        record::private_dir(dir)?;
    }
    let mut read = Read::default();
    for dir in directories(&sandboxes)? {
        let named = |r: &SandboxRecord| dir.ends_with(r.id.as_str());
        match read_one(root, &dir, named, &mut read.notes)? {
            Found::Record(record, unknown) => read.sandboxes.push((record, unknown)),
            Found::Torn => read.torn_sandboxes.extend(id_of(&dir)),
            Found::Nothing => {}
        }
    }
    for dir in directories(&containers)? {
        let named = |r: &ContainerRecord| dir.ends_with(r.id.as_str());
        if let Found::Record(record, unknown) = read_one(root, &dir, named, &mut read.notes)? {
            let spec = fs::read_to_string(dir.join(SPECIFICATION_FILE)).unwrap_or_default();
            read.containers.push((record, unknown, spec));
        }
    }
    Ok(read)
}

fn directories(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

fn id_of(dir: &Path) -> Option<SandboxId> {
    dir.file_name()?.to_str()?.parse().ok()
}

/// What a directory turned out to hold.
enum Found<T> {
    Record(T, Unknown),
    /// Put aside.
    Torn,
    /// Deleted.
    Nothing,
}

fn read_one<T: DeserializeOwned + Serialize>(
    root: &Path,
    dir: &Path,
    named: impl Fn(&T) -> bool,
    notes: &mut Vec<String>,
) -> io::Result<Found<T>> {
    let path = dir.join(record::FILE);
    let why = match record::read(&path) {
        Ok(bytes) => match record::decode_with::<T>(&bytes) {
            Ok((record, unknown)) if named(&record) => return Ok(Found::Record(record, unknown)),
            Err(later @ RecordError::Later(_)) => {
                return Err(io::Error::other(format!("record {}: {later}", path.display())));
            }
            Ok(_) => "it names another object than its directory".to_owned(),
            Err(error) => chain(&error),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Err(e) = record::delete_tree(dir) {
                notes.push(format!("delete {}, which has no record: {e}", dir.display()));
            }
            return Ok(Found::Nothing);
        }
        // It says nothing of the record, whose pod may run.
        Err(e) if e.raw_os_error().and_then(podwright_sys::exhaustion_remedy).is_some() => {
            return Err(io::Error::other(format!("record {}: {e}", path.display())));
        }
        Err(e) => e.to_string(),
    };
    notes.push(quarantine(root, dir, &why));
    Ok(Found::Torn)
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn quarantine(root: &Path, dir: &Path, why: &str) -> String {
    let kind = dir.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = root.join("quarantine").join(format!("{kind}-{name}-{}", crate::util::now_nanos()));
    match fs::rename(dir, &aside) {
        Ok(()) => format!("record of {}: {why}; it was put aside as {}", dir.display(), aside.display()),
        Err(e) => format!("record of {}: {why}; it could not be put aside: {e}", dir.display()),
    }
}

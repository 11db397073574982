//! Removing what belongs to no record. Only what is certainly this daemon's: what lies below its own directories, its own shims, and in
//! places that daemons share (pinned namespaces, cgroups of pods) what has its mark, or no mark while no other daemon is near.

mod descendants;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use podwright_admin_api::v1::Leftover;
use podwright_cgroups::Hierarchy;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::neighbours::{Neighbours, is_of};
use super::{CGROUP, Found};

const PROCESS: &str = "process";
/// What goes first: who uses a thing goes before it.
const ORDER: [&str; 6] = [PROCESS, "mount", "netns", "cgroup", "socket", "directory"];
/// For killed processes to be gone.
const END_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Removes all that is found, if it is unknown still, and tells what became of each. What a pod has whose processes do not end is left.
pub(super) fn all(mut found: Vec<Found>, state: &Path, known: &HashSet<String>) -> Vec<Leftover> {
    found.sort_by_key(|found| ORDER.iter().position(|kind| *kind == found.kind));
    found.retain(|found| !known.contains(&found.id));
    let neighbours = Neighbours::look(state);
    let mut living = HashSet::new();
    let remove = |found: Found| {
        let id = found.id.clone();
        let told = one(found, state, &neighbours, &living);
        if told.kind == PROCESS && !told.removed {
            living.insert(id);
        }
        told
    };
    found.into_iter().map(remove).collect()
}

fn one(found: Found, state: &Path, neighbours: &Neighbours, living: &HashSet<String>) -> Leftover {
    let outcome = match found.kind {
        kind if kind != PROCESS && living.contains(&found.id) => Err("its process was not ended".to_owned()),
        PROCESS => end_shim(&found.path, state),
        "mount" => unmount(&found.path, UnmountFlags::DETACH).map_err(|errno| io::Error::from(errno).to_string()),
        "netns" => ours_alone(&found, neighbours.in_our_namespace.as_deref()).and_then(|()| unpin(&found.path)),
        "cgroup" => ours_alone(&found, neighbours.anywhere.as_deref()).and_then(|()| remove_cgroup(&found.path)),
        "socket" | "directory" => remove(&found.path),
        kind => Err(format!("nothing removes a {kind}")),
    };
    // What went with something else is gone all the same.
    let is_there = found.path.symlink_metadata().is_ok() && found.kind != "mount";
    let failure = outcome.err().filter(|_| is_there || found.kind == "mount").unwrap_or_default();
    tracing::warn!(kind = found.kind, name = found.name, failure, "a leftover is removed");
    Leftover { removed: failure.is_empty(), failure, ..found.told() }
}

/// What has no mark is removed only if there is no neighbour now either.
fn ours_alone(found: &Found, neighbour: Option<&str>) -> Result<(), String> {
    match neighbour {
        Some(why) if !found.is_ours => Err(why.to_owned()),
        Some(_) | None => Ok(()),
    }
}

/// Kills a shim, and what it runs before it: that would live on without it. The descriptor is opened before it is seen whose it is, so
/// that no other process can take its number.
fn end_shim(process: &Path, state: &Path) -> Result<(), String> {
    let number = process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let Some(pid) = number.and_then(Pid::from_raw) else { return Err("it has no number".to_owned()) };
    let text = |errno: rustix::io::Errno| io::Error::from(errno).to_string();
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(text)?;
    if !is_of(process, state) {
        return Err("it belongs to another daemon".to_owned());
    }
    descendants::end(pid)?;
    pidfd_send_signal(&handle, Signal::KILL).map_err(text)?;
    let end = Instant::now() + END_LIMIT;
    // One that has ended and is not reaped yet has no binary any more.
    while fs::read_link(process.join("exe")).is_ok() {
        if Instant::now() > end {
            return Err(format!("it does not end within {} s", END_LIMIT.as_secs()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn unpin(path: &Path) -> Result<(), String> {
    match unmount(path, UnmountFlags::DETACH) {
        // No namespace is mounted there any more.
        Ok(()) | Err(rustix::io::Errno::INVAL) => remove(path),
        Err(errno) => Err(io::Error::from(errno).to_string()),
    }
}

/// In every hierarchy at once.
fn remove_cgroup(path: &Path) -> Result<(), String> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("it has no name")?;
    let hierarchy = Hierarchy::detect().map_err(|error| error.to_string())?;
    let cgroup = hierarchy.cgroup(&format!("{CGROUP}/{name}")).map_err(|error| error.to_string())?;
    cgroup.kill_all().and_then(|()| cgroup.remove_within(END_LIMIT)).map_err(|error| error.to_string())
}

/// Removes a file or a tree without following a link. What is mounted in it is detached first.
fn remove(path: &Path) -> Result<(), String> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    for point in points.filter(|point| point.starts_with(path)) {
        let failed = |errno| format!("unmount {}: {}", point.display(), io::Error::from(errno));
        unmount(point, UnmountFlags::DETACH).map_err(failed)?;
    }
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

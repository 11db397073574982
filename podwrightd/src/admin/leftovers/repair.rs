//! Removing what belongs to no record. Only what is certainly this daemon's: what lies below its own directories, and what its own shims
//! hold. In places that daemons share (pinned namespaces, cgroups of pods) nothing is removed while a shim of another daemon lives.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use podwright_admin_api::v1::Leftover;
use podwright_cgroups::Hierarchy;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{CGROUP, Found, SHIM, processes};

/// What goes first: who uses a thing goes before it.
const ORDER: [&str; 6] = ["process", "mount", "netns", "cgroup", "socket", "directory"];
/// For killed processes to be gone.
const END_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Removes all that is found, if it is unknown still, and tells what became of each.
pub(super) fn all(mut found: Vec<Found>, state: &Path, known: &HashSet<String>) -> Vec<Leftover> {
    found.sort_by_key(|found| ORDER.iter().position(|kind| *kind == found.kind));
    found.retain(|found| !known.contains(&found.id));
    let foreign = Foreign::look(state);
    found.into_iter().map(|found| one(found, state, &foreign)).collect()
}

fn one(found: Found, state: &Path, foreign: &Foreign) -> Leftover {
    let outcome = match found.kind {
        "process" => end_shim(&found.path, state),
        "mount" => unmount(&found.path, UnmountFlags::DETACH).map_err(|errno| io::Error::from(errno).to_string()),
        "netns" => ours_alone(&foreign.in_our_namespace).and_then(|()| unpin(&found.path)),
        "cgroup" => ours_alone(&foreign.anywhere).and_then(|()| remove_cgroup(&found.path)),
        "socket" | "directory" => remove(&found.path),
        kind => Err(format!("nothing removes a {kind}")),
    };
    // What went with something else is gone all the same.
    let is_there = found.path.symlink_metadata().is_ok() && found.kind != "mount";
    let failure = outcome.err().filter(|_| is_there || found.kind == "mount").unwrap_or_default();
    tracing::warn!(kind = found.kind, name = found.name, failure, "a leftover is removed");
    Leftover { removed: failure.is_empty(), failure, ..found.told() }
}

/// Whether shims run that another daemon started: where our mounts are seen, and on this kernel.
struct Foreign {
    in_our_namespace: io::Result<bool>,
    anywhere: io::Result<bool>,
}

impl Foreign {
    fn look(state: &Path) -> Self {
        let look = |counts: &dyn Fn(&Path) -> bool| {
            let all = processes(SHIM)?;
            Ok(all.iter().any(|process| counts(process) && !is_of(process, state) && process.exists()))
        };
        let namespace = |process: &Path| fs::read_link(process.join("ns/mnt"));
        let own = namespace(Path::new("/proc/self"));
        let is_here = |process: &Path| namespace(process).is_ok_and(|of| own.as_ref().is_ok_and(|own| *own == of));
        Self { in_our_namespace: look(&is_here), anywhere: look(&|_| true) }
    }
}

/// A shim has the directory of its socket open. Its clones have it no more, but for a moment: then they are taken for another's.
fn is_of(process: &Path, state: &Path) -> bool {
    let Ok(own) = fs::canonicalize(state.join("shims")) else { return false };
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    descriptors.map(|entry| entry.path()).any(|entry| fs::read_link(entry).is_ok_and(|of| of == own))
}

fn ours_alone(foreign: &io::Result<bool>) -> Result<(), String> {
    match foreign {
        Ok(false) => Ok(()),
        Ok(true) => Err("a shim of another daemon runs here, and it may be that one's".to_owned()),
        Err(error) => Err(format!("/proc can not be read: {error}")),
    }
}

/// Kills a shim. The descriptor is opened before it is seen whose it is, so that no other process can take its number.
fn end_shim(process: &Path, state: &Path) -> Result<(), String> {
    let number = process.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let Some(pid) = number.and_then(Pid::from_raw) else { return Err("it has no number".to_owned()) };
    let text = |errno: rustix::io::Errno| io::Error::from(errno).to_string();
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(text)?;
    if !is_of(process, state) {
        return Err("it belongs to another daemon".to_owned());
    }
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

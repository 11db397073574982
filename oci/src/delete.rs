//! `delete`: every step is taken whatever the one before said, and all may be repeated.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use podwright_cgroups::Cgroup;
use podwright_runtime::{HookContext, StoppedHooks};
use rustix::process::Signal;

use crate::log::Log;
use crate::status::{Status, status};
use crate::store::{Place, Record, Store};
use crate::{container, process};

/// Seconds in which killed processes have to end.
const END_SECONDS: i64 = 10;

/// Removes a container: one that is stopped or was not started yet, any with `force`.
pub(crate) fn delete(store: &Store, id: &str, force: bool, log: &Log) -> Result<()> {
    let place = store.place(id)?;
    let Some(record) = place.record()? else {
        // What a call left that was killed at once.
        return if force { place.remove() } else { store.find(id).map(drop) };
    };
    let status = status(&place, &record)?;
    match status {
        Status::Stopped => {}
        Status::Created => end(&record)?,
        Status::Creating | Status::Running | Status::Paused if force => end(&record)?,
        Status::Creating | Status::Running | Status::Paused => {
            bail!("cannot delete container {id:?} that is not stopped: {status}; stop it, or use --force")
        }
    }
    remove(&place, &container::cgroup(&record)?, &record, log)
        .with_context(|| format!("cannot delete container {id:?}"))
}

/// Kills the first process and, by way of the cgroup, whatever does not end with it.
fn end(record: &Record) -> Result<()> {
    let cgroup = container::cgroup(record)?;
    let pidfd = record.process.and_then(process::open);
    if let Some(pidfd) = &pidfd {
        let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    }
    // Thaws it too, or nothing would end.
    cgroup.kill_all()?;
    match pidfd {
        Some(pidfd) if !process::await_end(&pidfd, END_SECONDS)? => {
            bail!("its first process was killed and did not end within {END_SECONDS} seconds; it may wait for a disk")
        }
        _ => Ok(()),
    }
}

/// Takes away what is left of one whose first process has ended.
pub(crate) fn remove(place: &Place, cgroup: &Cgroup, record: &Record, log: &Log) -> Result<()> {
    let killed = if record.own_processes { Ok(()) } else { cgroup.kill_all() };
    let removed = cgroup.remove_within(Duration::from_secs(END_SECONDS.unsigned_abs()));
    killed?;
    removed.with_context(|| format!("removing the cgroup {}", cgroup.path()))?;
    let hooks = place
        .config()
        .ok()
        .and_then(|spec| StoppedHooks::of(&spec, HookContext { container: &place.id, bundle: &record.bundle }));
    let forgotten = place.remove();
    // A hook that fails takes nothing back: the container is gone.
    hooks.iter().flat_map(StoppedHooks::run).for_each(|text| log.warning(&text));
    forgotten
}

//! What several calls need of a container that is there.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use podwright_cgroups::{Cgroup, Hierarchy};

use crate::process;
use crate::store::{Place, Record};

/// Its cgroup.
pub(crate) fn cgroup(record: &Record) -> Result<Cgroup> {
    Hierarchy::detect()?.cgroup(&record.cgroup).with_context(|| format!("naming the cgroup {:?}", record.cgroup))
}

/// Its first process. Callers know the words for one that has ended.
pub(crate) fn init(place: &Place, record: &Record) -> Result<OwnedFd> {
    match record.process.and_then(process::open) {
        Some(pidfd) => Ok(pidfd),
        None => bail!("container not running: the first process of {:?} has ended", place.id),
    }
}

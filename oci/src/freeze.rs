//! `pause` and `resume`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::container;
use crate::status::{Status, status};
use crate::store::Store;

/// How long freezing may take; a process that waits for a disk can not be frozen.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// Freezes a container; returns when it is frozen.
pub(crate) fn pause(store: &Store, id: &str) -> Result<()> {
    let (place, record) = store.find(id)?;
    match status(&place, &record)? {
        Status::Running | Status::Created => {}
        other @ (Status::Creating | Status::Paused | Status::Stopped) => {
            bail!("cannot pause container {id:?}: it is {other}")
        }
    }
    let cgroup = container::cgroup(&record)?;
    let until = Instant::now() + FREEZE_WITHIN;
    cgroup.set_frozen(true).with_context(|| format!("cannot pause container {id:?}"))?;
    while !cgroup.is_frozen()? {
        if Instant::now() > until {
            let _ = cgroup.set_frozen(false);
            bail!(
                "cannot pause container {id:?}: not all its processes froze within {FREEZE_WITHIN:?}; one may wait for a disk"
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Thaws it.
pub(crate) fn resume(store: &Store, id: &str) -> Result<()> {
    let (place, record) = store.find(id)?;
    let cgroup = container::cgroup(&record)?;
    if status(&place, &record)? == Status::Stopped || !cgroup.is_frozen().unwrap_or(false) {
        bail!("cannot resume container {id:?}: it is not paused");
    }
    cgroup.set_frozen(false).with_context(|| format!("cannot resume container {id:?}"))
}

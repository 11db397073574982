//! `state`, and the status that other calls go by.

use std::fmt;

use anyhow::Result;
use serde_json::{Value, json};

use crate::store::{Place, Record, Store};
use crate::{container, gate, process};

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// As it is now.
pub(crate) fn status(place: &Place, record: &Record) -> Result<Status> {
    let Some(identity) = record.process else { return Ok(Status::Creating) };
    if !process::lives(identity) {
        return Ok(Status::Stopped);
    }
    if gate::is_there(place) {
        return Ok(Status::Created);
    }
    let frozen = container::cgroup(record)?.is_frozen().unwrap_or(false);
    Ok(if frozen { Status::Paused } else { Status::Running })
}

/// The state of the specification; `creating` has no pid, and `stopped` has 0, as callers are used to.
pub(crate) fn state(place: &Place, record: &Record) -> Result<Value> {
    let status = status(place, record)?;
    let pid = record.process.filter(|_| status != Status::Stopped).map_or(0, |identity| identity.pid);
    Ok(json!({
        "ociVersion": record.oci_version,
        "id": place.id,
        "status": status.to_string(),
        "pid": pid,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": "root",
        "annotations": record.annotations,
    }))
}

/// `state`.
pub(crate) fn print(store: &Store, id: &str) -> Result<()> {
    let (place, record) = store.find(id)?;
    println!("{}", serde_json::to_string_pretty(&state(&place, &record)?)?);
    Ok(())
}

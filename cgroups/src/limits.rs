//! What limits of both versions have in common: settings that nothing serves, and the check before memory is lowered.

use std::path::Path;

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use crate::{Error, files};

/// Settings that neither the CRI nor a kernel of today has use for; silence would be a lie.
pub(crate) fn unsupported_by_both(resources: &LinuxResources) -> Option<&'static str> {
    if resources.block_io().as_ref().is_some_and(|io| io.leaf_weight().is_some_and(|weight| weight != 0)) {
        return Some("a leaf weight of block I/O");
    }
    if resources.network().as_ref().is_some_and(|n| n.class_id().is_some() || n.priorities().is_some()) {
        return Some("a network class or priority");
    }
    resources.rdma().as_ref().filter(|rdma| !rdma.is_empty()).map(|_| "an RDMA limit")
}

/// With `checkBeforeUpdate` a limit below the usage is an error, where v2 would begin to kill.
pub(crate) fn check_memory_usage(usage_file: &Path, memory: &LinuxMemory) -> Result<(), Error> {
    let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0);
    let (Some(limit), Some(true)) = (limit, memory.check_before_update()) else { return Ok(()) };
    let usage = files::read_if_there(usage_file)?.and_then(|text| text.trim().parse::<u64>().ok());
    match usage.filter(|usage| *usage > limit) {
        Some(usage) => Err(Error::Invalid(format!(
            "the memory limit of {limit} bytes is below the {usage} bytes in use; free memory first or ask for more"
        ))),
        None => Ok(()),
    }
}

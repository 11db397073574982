//! Kernel settings of the host's network namespace that the embedded network needs. Must run on the network thread, whose
//! namespace `/proc/sys/net` shows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::CniError;
use crate::files;

/// Lets the host pass packets on. The settings are left in place: others may have come to rely on them.
pub(super) fn forward(ipv6: bool) -> Result<(), CniError> {
    set(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
    if ipv6 && !is(Path::new("/proc/sys/net/ipv6/conf/all/forwarding"), "1") {
        keep_router_advertisements();
        set(Path::new("/proc/sys/net/ipv6/conf/all/forwarding"), "1")?;
    }
    Ok(())
}

/// Whether the kernel has IPv6 at all, and not switched off.
pub(super) fn has_ipv6() -> bool {
    is(Path::new("/proc/sys/net/ipv6/conf/all/disable_ipv6"), "0")
        && is(Path::new("/proc/sys/net/ipv6/conf/default/disable_ipv6"), "0")
}

/// Lets packets from 127.0.0.0/8 go to the pod, for host ports on localhost; the table's `guard` keeps the pod from there.
pub(super) fn route_localnet(link: &str) -> Result<(), CniError> {
    set(&PathBuf::from(format!("/proc/sys/net/ipv4/conf/{link}/route_localnet")), "1")
}

/// A host that forwards stops to heed router advertisements, and would lose its own default route, unless told otherwise.
fn keep_router_advertisements() {
    let Ok(links) = fs::read_dir("/proc/sys/net/ipv6/conf") else { return };
    for link in links.flatten() {
        let path = link.path().join("accept_ra");
        if link.file_name() != "all"
            && is(&path, "1")
            && let Err(error) = fs::write(&path, "2")
        {
            tracing::warn!(path = %path.display(), %error, "router advertisements will be ignored on this link");
        }
    }
}

fn is(path: &Path, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

fn set(path: &Path, value: &str) -> Result<(), CniError> {
    if is(path, value) {
        return Ok(());
    }
    let advice = |error: io::Error| {
        io::Error::new(error.kind(), format!("{error}; set it to {value} by hand if this is read-only"))
    };
    fs::write(path, value).map_err(|error| files::error("setting", path)(advice(error)))
}

//! Versions of the specification of CDI: which are known, and which fields came with which.

use crate::document::{Document, Edits};

/// Those that are read, the oldest first.
const KNOWN: [&str; 10] = ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

fn rank(version: &str) -> Option<usize> {
    KNOWN.iter().position(|known| *known == version)
}

/// Whether the file's own version has all that the file uses: a reader of that version would leave the rest out without a word.
pub(crate) fn check(document: &Document) -> Result<(), String> {
    let version = document.cdi_version.trim_start_matches('v');
    let Some(own) = rank(version) else {
        let newest = KNOWN.last().copied().unwrap_or_default();
        return Err(format!("version {version:?} of CDI is not known; up to {newest} is read"));
    };
    let edits = || document.devices.iter().map(|device| &device.container_edits).chain([&document.container_edits]);
    let uses = |what: fn(&Edits) -> bool| edits().any(what);
    let annotated = !document.annotations.is_empty() || document.devices.iter().any(|d| !d.annotations.is_empty());
    let digit_first = document.devices.iter().any(|d| d.name.starts_with(|c: char| c.is_ascii_digit()));
    let class_has_dot = document.kind.split_once('/').is_some_and(|(_, class)| class.contains('.'));
    let needed = [
        (uses(|e| !e.net_devices.is_empty()), "1.1.0", "netDevices"),
        (uses(|e| e.intel_rdt.is_some()), "0.7.0", "intelRdt"),
        (uses(|e| !e.additional_gids.is_empty()), "0.7.0", "additionalGids"),
        (annotated, "0.6.0", "annotations"),
        (class_has_dot, "0.6.0", "a class with a dot"),
        (digit_first, "0.5.0", "a device whose name begins with a digit"),
        (uses(|e| e.device_nodes.iter().any(|n| n.host_path.is_some())), "0.5.0", "hostPath of a device node"),
        (uses(|e| e.mounts.iter().any(|m| m.kind.is_some())), "0.4.0", "type of a mount"),
    ];
    match needed.iter().find(|(used, since, _)| *used && rank(since) > Some(own)) {
        Some((_, since, what)) => {
            Err(format!("it uses {what}, which came with version {since}, and says that it is of {version}"))
        }
        None => Ok(()),
    }
}

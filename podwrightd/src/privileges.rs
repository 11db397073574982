//! What the daemon keeps of root's power. The rest it gives up before it does anything else.
//!
//! Only its own sets shrink. The bounding set stays, because the shim is executed as root and gets all of it: a privileged container is to
//! have what the node gives, and a container's other capabilities may be any. `no_new_privs` can not be set here: it is inherited for
//! ever, and set-uid programs in containers would not work.

use anyhow::Context as _;
use podwright_sys::CapabilitySet;

/// What is kept, and for what. One that the daemon was not given is not missed until it is used.
const NEEDED: &[(CapabilitySet, &str)] = &[
    (CapabilitySet::CHOWN, "owners of the files of layers, and of pods with a user namespace"),
    (CapabilitySet::DAC_OVERRIDE, "files of layers and writable layers, whatever their owner and mode"),
    (CapabilitySet::FOWNER, "modes, times and attributes of files that belong to others"),
    (CapabilitySet::FSETID, "set-group-id bits in layers"),
    (CapabilitySet::MKNOD, "devices in layers, whiteouts"),
    (CapabilitySet::SETFCAP, "file capabilities in layers"),
    (CapabilitySet::SYS_ADMIN, "mounts, entering network namespaces, trusted and security attributes"),
    (CapabilitySet::NET_ADMIN, "links, addresses, routes, nftables, sysctls of the network"),
    (
        CapabilitySet::NET_BIND_SERVICE,
        "a port below 1024 as the address of streaming, where the administrator wants that",
    ),
    (CapabilitySet::KILL, "processes of any user: those that a dead shim or plugin left"),
    (
        CapabilitySet::SYS_PTRACE,
        "namespaces, descriptors and environment of others' processes in /proc, for usage and check",
    ),
];

/// Gives up the rest. Before any thread is started: each has its own.
pub(crate) fn give_up() -> anyhow::Result<()> {
    let needed = NEEDED.iter().fold(CapabilitySet::empty(), |all, (one, _)| all | *one);
    let kept = podwright_sys::keep_capabilities(needed).context("cannot give capabilities up")?;
    for (capability, reason) in NEEDED.iter().filter(|(capability, _)| !kept.contains(*capability)) {
        let name = capability.iter_names().next().map_or("", |(name, _)| name);
        tracing::warn!(capability = name, reason, "a capability is missing; give it to podwrightd's service");
    }
    Ok(())
}

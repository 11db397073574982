//! Sysctls of a pod: only those that its own namespaces hold, and nothing that could name or write more than one file.

use crate::error::EngineError;
use crate::ladder::Outcome;
use crate::model::{NamespaceMode, SandboxConfig};

/// Longest value.
const VALUE_BYTES: usize = 1024;

/// Sysctls of the IPC namespace.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(super) fn check(config: &SandboxConfig) -> Outcome {
    config.sysctls.iter().try_for_each(|(name, value)| one(config, name, value))
}

fn one(config: &SandboxConfig, name: &str, value: &str) -> Outcome {
    let bad = |why: &str| Err(EngineError::Invalid(format!("sysctl {}: {why}", super::shown(name))));
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    // A slash stands for a dot in the name of a link (`eth0/1` is eth0.1). Between words it can be no way out of /proc/sys, where
    // empty parts could.
    if name.len() > super::NAME_BYTES || !name.split('.').all(|part| part.split('/').all(word)) {
        return bad("its name has other characters than letters, digits, '_', '-' and single dots");
    }
    if value.len() > VALUE_BYTES || value.chars().any(|c| c.is_control() && c != '\t') {
        return bad("its value is too long or has control characters");
    }
    if name.starts_with("net.") {
        return match config.namespaces.network {
            NamespaceMode::Node => bad("it would change the node, as the pod uses the node's network"),
            NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => Ok(()),
        };
    }
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return match config.namespaces.ipc {
            NamespaceMode::Node => bad("it would change the node, as the pod uses the node's IPC namespace"),
            NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target(_) => Ok(()),
        };
    }
    bad("it belongs to no namespace of the pod; set it on the node")
}

//! What this node can do for pods, found out by trying.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Longest wait for the shim's answer.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// The shim's flag for the question.
const CAN_MAP_IDS: &str = "--can-map-ids";

/// Whether pods can have user namespaces: the kernel makes them, and the file system of images and containers can show its files in
/// them. The shim tries, in a process of its own.
pub(crate) async fn user_namespaces(shim: &Path, root: &Path) -> bool {
    match ask(shim, root).await {
        Ok(()) => true,
        Err(reason) => {
            tracing::info!(reason, "pods with user namespaces (hostUsers: false) are not offered on this node");
            false
        }
    }
}

async fn ask(shim: &Path, root: &Path) -> Result<(), String> {
    let mut command = Command::new(shim);
    command.arg(CAN_MAP_IDS).arg(root).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    match timeout(PROBE_LIMIT, command.output()).await {
        Err(_) => Err(format!("{} did not answer {CAN_MAP_IDS}", shim.display())),
        Ok(Err(error)) => Err(format!("execute {}: {error}", shim.display())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

//! Plugins that are launched: executables `NN-name` of a directory. Each gets its socket as descriptor 0, and its configuration from
//! `NN-name.conf` or `name.conf` of another directory.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use podwright_ttrpc::Connection;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::plugin::checked_name;

/// For a launched plugin to end when its socket has ended, and after it was killed.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(2);
/// Where a plugin finds programs.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Largest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// An executable of the directory.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) config: String,
    path: PathBuf,
}

/// All of them, by index. What is not named so is told in the log.
pub(crate) fn find(directory: &Path, config_dir: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<Found> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
        .filter_map(|path| {
            let file = path.file_name()?.to_str()?;
            let named = file.split_once('-').ok_or_else(|| "it is not named NN-name".to_owned());
            match named.and_then(|(index, name)| checked_name(index, name)) {
                Ok(name) => Some(Found { config: configuration(config_dir, &name), name, path }),
                Err(reason) => {
                    tracing::warn!(file = %path.display(), reason, "a file among the NRI plugins is not launched");
                    None
                }
            }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// The configuration of a plugin; none is an empty one.
pub(crate) fn configuration(directory: &Path, name: &str) -> String {
    let bare = name.split_once('-').map_or(name, |(_, bare)| bare);
    let read = |name: &str| {
        let path = directory.join(format!("{name}.conf"));
        let meta = path.metadata().ok()?;
        (meta.is_file() && meta.len() <= MAX_CONFIG_BYTES).then(|| std::fs::read_to_string(path).ok()).flatten()
    };
    read(name).or_else(|| read(bare)).unwrap_or_default()
}

/// One that was executed.
pub(crate) struct Launched {
    pub(crate) name: String,
    pub(crate) config: String,
    child: Child,
}

/// Executes one, in a process group of its own and with nothing of the daemon's environment.
pub(crate) fn start(found: Found) -> Result<(UnixStream, Launched), String> {
    let (ours, theirs) = StdStream::pair().map_err(|error| error.to_string())?;
    ours.set_nonblocking(true).map_err(|error| error.to_string())?;
    let ours = UnixStream::from_std(ours).map_err(|error| error.to_string())?;
    let (index, name) = found.name.split_once('-').unwrap_or_default();
    let child = Command::new(&found.path)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("NRI_PLUGIN_SOCKET", "0")
        .env("NRI_PLUGIN_NAME", name)
        .env("NRI_PLUGIN_IDX", index)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{}: {error}", found.path.display()))?;
    Ok((ours, Launched { name: found.name, config: found.config, child }))
}

impl Launched {
    /// Waits until it is gone. One that goes on without its socket is killed.
    pub(crate) async fn see_to_its_end(mut self, connection: &Connection) {
        let group = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let ended = tokio::select! {
            ended = self.child.wait() => ended,
            _ = connection.closed() => match timeout(END_WITHIN, self.child.wait()).await {
                Ok(ended) => ended,
                Err(_) => {
                    // It is not reaped yet, so the number is its own.
                    let killed = group.map(|group| kill_process_group(group, Signal::KILL));
                    tracing::warn!(plugin = self.name, ?killed, "a launched NRI plugin did not end with its socket and is killed");
                    self.child.wait().await
                }
            },
        };
        connection.close("its process ended");
        tracing::info!(plugin = self.name, ?ended, "a launched NRI plugin has ended");
    }
}

//! Usage of the containers' writable layers: counted by walking them, at most once in a while.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long a count is good for. Kubelet asks every ten seconds, and layers can have a million files.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Size of the blocks in which `st_blocks` counts.
const BLOCK_BYTES: u64 = 512;

/// Bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    bytes: u64,
    inodes: u64,
}

/// The directory that holds all writable layers, and the last count.
pub(super) struct WritableUsage {
    directory: PathBuf,
    last: Mutex<Option<(Instant, Count)>>,
}

impl WritableUsage {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, last: Mutex::new(None) }
    }

    /// Path, bytes and inodes. Whoever comes during a count waits for it.
    pub(super) async fn read(self: Arc<Self>) -> std::io::Result<(PathBuf, u64, u64)> {
        let mut last = self.last.lock().await;
        let count = match *last {
            Some((at, count)) if at.elapsed() < GOOD_FOR => count,
            Some(_) | None => {
                let directory = self.directory.clone();
                let count = tokio::task::spawn_blocking(move || counted(&directory)).await?;
                *last = Some((Instant::now(), count));
                count
            }
        };
        Ok((self.directory.clone(), count.bytes, count.inodes))
    }
}

/// Counts all below a directory. What goes away meanwhile or can not be read does not count (kubelet does not start without an
/// answer); nothing is followed; hard links count once.
fn counted(directory: &Path) -> Count {
    let mut count = Count::default();
    let mut seen = HashSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()) {
                continue;
            }
            count.inodes += 1;
            count.bytes += metadata.blocks() * BLOCK_BYTES;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_files_once_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/a"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let count = counted(dir.path());
        assert_eq!(count.inodes, 3, "a directory, a file and a link");
        assert!(count.bytes >= 100_000 && count.bytes < 1_000_000, "{count:?}");
        assert_eq!(counted(&dir.path().join("absent")), Count::default());
    }
}

//! Sizes of writable layers, by walking through them. A walk may take long, or for ever on a disk that does not answer: few of
//! them may be under way, nobody waits for one beyond his patience, and the last count is told with its own time.

use std::collections::HashSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use podwright_podsandbox::model::{FilesystemSize, LayerUsage};
use podwright_podsandbox::ports::{LayerCount, ReadRequest};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, openat, openat2, statat, statvfs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::{details, now_nanos};

/// Walks that may be under way, those that hang included.
const WALKERS: usize = 4;
/// Walkers that are started for one answer.
const WALKERS_PER_ANSWER: usize = 2;
/// How long an answer waits for walks.
const PATIENCE: Duration = Duration::from_millis(250);
/// Size of the blocks in which `st_blocks` counts.
const BLOCK_BYTES: u64 = 512;
/// Room for the entries of a directory, read at once.
const ENTRIES_BYTES: usize = 16 << 10;

/// Counts layers.
pub(super) struct Layers {
    directory: PathBuf,
    walkers: Arc<Semaphore>,
    filesystem: Arc<Mutex<FilesystemSize>>,
}

impl Layers {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, walkers: Arc::new(Semaphore::new(WALKERS)), filesystem: Arc::default() }
    }

    /// Begins to count the layers that are due. Without a free walker the last counts have to do.
    pub(super) fn begin(&self, request: &Arc<ReadRequest>) -> Vec<JoinHandle<()>> {
        let next = Arc::new(AtomicUsize::new(0));
        let wanted = request.containers.len().min(WALKERS_PER_ANSWER);
        let permits = (0..wanted).filter_map(|_| self.walkers.clone().try_acquire_owned().ok());
        let walker = |permit| {
            let (request, next) = (request.clone(), next.clone());
            tokio::task::spawn_blocking(move || walk_all(&request, &next, permit))
        };
        permits.map(walker).collect()
    }

    /// The file system of all layers; that of the last time if it does not answer.
    pub(super) async fn filesystem(&self) -> FilesystemSize {
        if let Ok(permit) = self.walkers.clone().try_acquire_owned() {
            let (directory, last) = (self.directory.clone(), self.filesystem.clone());
            let task = tokio::task::spawn_blocking(move || {
                if let Ok(size) = filesystem(&directory) {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = size;
                }
                drop(permit);
            });
            finish(vec![task]).await;
        }
        self.filesystem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for walks, not for ever. Those that go on tell the next answer.
pub(super) async fn finish(walks: Vec<JoinHandle<()>>) {
    let all = async {
        for walk in walks {
            // One that ended early has counted nothing.
            drop(walk.await);
        }
    };
    drop(tokio::time::timeout(PATIENCE, all).await);
}

fn walk_all(request: &ReadRequest, next: &AtomicUsize, _permit: OwnedSemaphorePermit) {
    while let Some(container) = request.containers.get(next.fetch_add(1, Ordering::Relaxed)) {
        if container.layer.begin() {
            walk(&container.layer);
        }
    }
}

fn walk(layer: &LayerCount) {
    let began = Instant::now();
    let counted = counted(layer.directory());
    let usage = counted.map(|(bytes, inodes)| LayerUsage { at_nanos: now_nanos(), bytes, inodes });
    layer.finish(usage.ok(), began.elapsed());
}

/// Bytes and inodes of a directory with all below it; hard links count once. What goes away meanwhile does not count.
///
/// The container changes what is walked through, so nothing may lead out of it: every directory is opened from the top one,
/// beneath it and without links.
fn counted(directory: &Path) -> io::Result<(u64, u64)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = openat(CWD, directory, flags, Mode::empty())?;
    let own = rustix::fs::fstat(&top)?;
    let mut count = Count { bytes: blocks(own.st_blocks), inodes: 1, ..Count::default() };
    count.entries(&top, Path::new(""))?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    while let Some(path) = count.below.pop() {
        // One that was moved away has its count where it is now, or none.
        if let Ok(directory) = openat2(&top, &path, flags, Mode::empty(), beneath) {
            count.entries(&directory, &path)?;
        }
    }
    Ok((count.bytes, count.inodes))
}

#[derive(Default)]
struct Count {
    bytes: u64,
    inodes: u64,
    linked: HashSet<u64>,
    below: Vec<PathBuf>,
}

impl Count {
    /// Counts what is in a directory, and notes the directories in it.
    fn entries(&mut self, directory: &OwnedFd, path: &Path) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); ENTRIES_BYTES];
        let mut entries = RawDir::new(directory.as_fd(), &mut room);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            if is_directory {
                self.below.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            } else if stat.st_nlink > 1 && !self.linked.insert(stat.st_ino) {
                continue;
            }
            self.inodes += 1;
            self.bytes += blocks(stat.st_blocks);
        }
        Ok(())
    }
}

fn blocks(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0) * BLOCK_BYTES
}

fn filesystem(directory: &Path) -> io::Result<FilesystemSize> {
    let (size, stat) = (statvfs(directory)?, rustix::fs::stat(directory)?);
    Ok(FilesystemSize {
        device: details::device_name(rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev)),
        bytes: size.f_blocks.saturating_mul(size.f_frsize),
        inodes: size.f_files,
        free_inodes: size.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_once_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("big"), vec![1; 4 << 20]).unwrap();
        let top = dir.path();
        let empty = counted(top).unwrap();
        assert_eq!(empty.1, 1, "the directory itself");
        std::fs::create_dir_all(top.join("d/e")).unwrap();
        std::fs::write(top.join("d/e/a"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(top.join("d/e/a"), top.join("b")).unwrap();
        std::os::unix::fs::symlink(outside.path(), top.join("d/out")).unwrap();
        let (bytes, inodes) = counted(top).unwrap();
        assert_eq!(inodes, 5, "three directories, a file and a link");
        assert!((100_000..1 << 20).contains(&bytes), "{bytes}");
        assert!(counted(&top.join("gone")).is_err());
    }

    #[test]
    fn many_entries_are_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..2000 {
            std::fs::write(dir.path().join(format!("a-name-that-is-not-short-{number}")), "").unwrap();
        }
        assert_eq!(counted(dir.path()).unwrap().1, 2001);
    }

    #[test]
    fn a_filesystem_has_a_size() {
        let size = filesystem(Path::new("/")).unwrap();
        assert!(size.bytes > 0 && !size.device.is_empty(), "{size:?}");
    }
}

//! The daemon's place on the host: its directories, the lock that keeps a second daemon out, and the socket.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

/// Nobody else has business below: what containers and plugins need of it they get by mounts and descriptors.
const DIRECTORY_MODE: u32 = 0o700;
/// The owner and its group speak to the runtime; whoever can is root on the node.
const SOCKET_MODE: u32 = 0o660;

/// Longest wait for the lock. A daemon that was killed may have been starting a program: until that is executed it holds what the daemon
/// held, the lock included.
const LOCK_WITHIN: Duration = Duration::from_secs(2);
/// Pause before the lock is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why the daemon can not take its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// A directory or file could not be made.
    #[error("cannot {step} {path}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// Another daemon holds the lock.
    #[error(
        "another podwrightd works in {root}; stop it, or give this one directories of its own with --root and --state"
    )]
    Locked {
        /// The directory.
        root: PathBuf,
    },
    /// Somebody answers on the socket.
    #[error("another server answers on {path}; stop it, or give this one another socket with --listen")]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else than a socket is there.
    #[error("{path} exists and is no socket; move it away, or give another path with --listen")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
}

impl PlaceError {
    fn io(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { step, path, cause }
    }
}

/// Keeps other daemons out of a directory while it lives.
#[derive(Debug)]
pub(crate) struct RootLock {
    _file: File,
}

/// Makes a directory of the daemon, with its parents. An existing one is left as it is: it may be somebody else's, as `/run` is.
///
/// # Errors
/// It can not be made.
pub(crate) fn make_directory(path: &Path) -> Result<(), PlaceError> {
    let mut maker = DirBuilder::new();
    maker.recursive(true).mode(DIRECTORY_MODE).create(path).map_err(PlaceError::io("make the directory", path))
}

/// Takes the lock of a root directory, which exists.
///
/// # Errors
/// [`PlaceError::Locked`] if a daemon holds it.
pub(crate) fn lock_root(root: &Path) -> Result<RootLock, PlaceError> {
    let path = root.join("podwrightd.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(PlaceError::io("open", &path))?;
    let end = Instant::now() + LOCK_WITHIN;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(RootLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(PlaceError::Locked { root: root.to_owned() }),
            Err(errno) => return Err(PlaceError::io("lock", &path)(errno.into())),
        }
    }
}

/// Listens on a unix socket. A socket that nobody answers on is replaced; it never exists with a wider mode.
///
/// # Errors
/// Somebody answers on it, something else is in its place, or it can not be made.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, PlaceError> {
    refuse_occupied(path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        make_directory(parent)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(PlaceError::io("bind the socket", path))?;
    let finish = || {
        std::fs::set_permissions(&fresh, Permissions::from_mode(SOCKET_MODE))?;
        std::fs::rename(&fresh, path)
    };
    finish().map_err(|cause| {
        let _ = std::fs::remove_file(&fresh);
        PlaceError::Io { step: "put the socket at", path: path.to_owned(), cause }
    })?;
    Ok(listener)
}

fn refuse_occupied(path: &Path) -> Result<(), PlaceError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(PlaceError::io("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => Err(PlaceError::NotASocket { path: path.to_owned() }),
        Ok(_) if BlockingStream::connect(path).is_ok() => Err(PlaceError::SocketInUse { path: path.to_owned() }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time_works_in_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_root(dir.path()).unwrap();
        let refused = lock_root(dir.path()).unwrap_err();
        assert!(matches!(refused, PlaceError::Locked { .. }), "{refused}");
        drop(held);
        lock_root(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_that_is_given_back_in_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock_root(dir.path()).unwrap();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| lock_root(dir.path()));
            std::thread::sleep(LOCK_PAUSE * 3);
            drop(held);
            next.join().unwrap().unwrap();
        });
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/podwright.sock");
        let first = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, DIRECTORY_MODE);
        assert!(matches!(bind(&path), Err(PlaceError::SocketInUse { .. })));
        drop(first);
        let _second = bind(&path).unwrap();
        BlockingStream::connect(&path).unwrap();
        let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1, "only the socket is left");
    }

    #[test]
    fn a_directory_that_exists_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        make_directory(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_file_in_the_sockets_place_is_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "precious").unwrap();
        assert!(matches!(bind(file.path()), Err(PlaceError::NotASocket { .. })));
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "precious");
    }
}

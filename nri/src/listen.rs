//! The socket where plugins dial in. Whoever can dial it changes containers at will, so it is root's alone.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The file of a socket that was made here.
#[derive(Debug)]
pub(crate) struct Made {
    path: PathBuf,
    /// Its device and inode: another runtime may have put its own there since.
    inode: (u64, u64),
}

/// Makes the socket. One that somebody else serves is left alone, and so is what is no socket.
pub(crate) async fn bind(path: &Path) -> Result<(UnixListener, Made), String> {
    let failed = |error: io::Error| format!("the NRI socket {}: {error}", path.display());
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let text = "what is there is no socket; name another path";
            return Err(format!("the NRI socket {}: {text}", path.display()));
        }
        Ok(_) => {
            if is_served(path).await.map_err(failed)? {
                let text = "another runtime serves it; give this one another [nri] socket";
                return Err(format!("the NRI socket {}: {text}", path.display()));
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
            }
        }
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    let inode = inode(path).map_err(failed)?;
    Ok((listener, Made { path: path.to_owned(), inode }))
}

/// Only a refusal says that nobody does: whoever has no place for one more caller just now is busy.
async fn is_served(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Made {
    /// Takes it away, at the end.
    pub(crate) fn remove(self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // The next daemon replaces what is left.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_nobody_serves_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/nri.sock");
        let (listener, _made) = bind(&path).await.unwrap();
        assert!(bind(&path).await.unwrap_err().contains("another runtime serves it"));
        drop(listener);
        // It was left by one that was killed.
        let (_listener, made_again) = bind(&path).await.unwrap();
        made_again.remove();
        assert!(!path.exists());
        // Another one took the place meanwhile.
        let (_listener, made) = bind(&path).await.unwrap();
        let theirs = dir.path().join("theirs.sock");
        let _theirs = UnixListener::bind(&theirs).unwrap();
        std::fs::rename(&theirs, &path).unwrap();
        made.remove();
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "notes").unwrap();
        assert!(bind(&path).await.unwrap_err().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }

    #[tokio::test]
    async fn one_that_is_busy_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nri.sock");
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        // One waits, and there is no place for another.
        let _waits = UnixStream::connect(&path).await.unwrap();
        assert!(bind(&path).await.unwrap_err().contains("another runtime serves it"));
        assert!(path.exists());
    }
}

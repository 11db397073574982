//! The directory of shim sockets.
//!
//! A unix socket's path has at most 108 bytes, and state directories can be longer; so sockets are reached through
//! `/proc/self/fd/<directory>/<name>`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use podwright_types::SandboxId;
use rustix::fs::{AtFlags, Mode, OFlags, unlinkat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

/// Connections that wait to be accepted: those of a daemon and of tools.
const BACKLOG: i32 = 16;
/// What is shown of a shim's last words.
const LOG_BYTES: u64 = 4096;

/// `<state>/shims`, mode 0700.
#[derive(Debug)]
pub(super) struct Sockets {
    path: PathBuf,
    directory: OwnedFd,
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn address(directory: &OwnedFd, name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?)
}

/// Connects to a shim's socket, however long its path is.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if nobody listens there.
pub fn connect_socket(path: &Path) -> io::Result<OwnedFd> {
    let directory = open_directory(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let socket = new_socket()?;
    connect(&socket, &address(&directory, name)?)?;
    Ok(socket)
}

impl Sockets {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { path: path.to_owned(), directory: open_directory(path)? })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.path
    }

    pub(super) fn directory_fd(&self) -> io::Result<OwnedFd> {
        self.directory.try_clone()
    }

    pub(super) fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.path.join(format!("{sandbox}.sock"))
    }

    /// Listens anew; a socket that nobody listens on is replaced.
    pub(super) fn listen(&self, sandbox: &SandboxId) -> io::Result<OwnedFd> {
        self.remove(sandbox)?;
        let socket = new_socket()?;
        bind(&socket, &address(&self.directory, &format!("{sandbox}.sock"))?)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    }

    pub(super) fn connect(&self, sandbox: &SandboxId) -> io::Result<OwnedFd> {
        let socket = new_socket()?;
        connect(&socket, &address(&self.directory, &format!("{sandbox}.sock"))?)?;
        Ok(socket)
    }

    /// A file for a shim's last words, should it ever have any.
    pub(super) fn create_log(&self, sandbox: &SandboxId) -> io::Result<OwnedFd> {
        let file = File::options().append(true).create(true).mode(0o600).open(self.log(sandbox))?;
        Ok(file.into())
    }

    pub(super) fn read_log(&self, sandbox: &SandboxId) -> String {
        let mut text = Vec::new();
        let read = File::open(self.log(sandbox)).and_then(|file| file.take(LOG_BYTES).read_to_end(&mut text));
        match read {
            Ok(0) => "nothing".into(),
            Ok(_) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(error) => format!("nothing that could be read ({error})"),
        }
    }

    pub(super) fn remove(&self, sandbox: &SandboxId) -> io::Result<()> {
        for name in [format!("{sandbox}.sock"), format!("{sandbox}.log")] {
            match unlinkat(&self.directory, &name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn list(&self) -> io::Result<Vec<SandboxId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".sock")).and_then(|id| id.parse().ok());
            found.extend(id);
        }
        Ok(found)
    }

    fn log(&self, sandbox: &SandboxId) -> PathBuf {
        self.path.join(format!("{sandbox}.log"))
    }
}

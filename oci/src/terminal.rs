//! Where the master of a container's terminal goes: to the socket of --console-socket, or to the foreground.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What travels beside the descriptor.
const NAME: &[u8] = b"/dev/ptmx";

/// Who gets the terminal.
#[derive(Debug)]
pub(crate) enum Console {
    /// Whoever listens there.
    Socket(PathBuf),
    /// This program, which stays.
    Foreground(Option<OwnedFd>),
    /// Nobody.
    Nowhere,
}

impl Console {
    /// By the options of a call.
    pub(crate) fn of(socket: Option<&Path>, stays: bool) -> Self {
        match socket.filter(|socket| !socket.as_os_str().is_empty()) {
            Some(socket) => Self::Socket(socket.to_owned()),
            None if stays => Self::Foreground(None),
            None => Self::Nowhere,
        }
    }

    /// Whether options and process agree.
    pub(crate) fn check(&self, terminal: bool) -> Result<()> {
        match (self, terminal) {
            (Self::Nowhere, true) => {
                bail!("a process with a terminal needs --console-socket, for nobody stays to serve it")
            }
            (Self::Socket(_), false) => bail!("--console-socket is given, and the process asks for no terminal"),
            (Self::Socket(_) | Self::Foreground(_), _) | (Self::Nowhere, false) => Ok(()),
        }
    }

    /// Hands a master over.
    pub(crate) fn take(&mut self, master: OwnedFd) -> Result<()> {
        match self {
            Self::Socket(path) => send(path, &master),
            Self::Foreground(place) => {
                *place = Some(master);
                Ok(())
            }
            Self::Nowhere => Ok(()),
        }
    }
}

fn send(path: &Path, master: &OwnedFd) -> Result<()> {
    let socket =
        UnixStream::connect(path).with_context(|| format!("connecting to the console socket {}", path.display()))?;
    podwright_sys::send_packet(&socket, NAME, &[master.as_fd()])
        .with_context(|| format!("sending the terminal to {}", path.display()))
}

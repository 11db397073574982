//! The gate at which a created container waits for `start`: a socket in its place. While there is one, the container is `created`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use podwright_runtime::{Gate, LiveProcess, Starting};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::Pid;

use crate::process;
use crate::store::{Identity, Place};

const GATE: &str = "gate";

/// Makes it.
pub(crate) fn make(place: &Place) -> Result<Gate> {
    let (_directory, address) = address(place)?;
    let socket = socket()?;
    bind(&socket, &address).context("making the gate of the container")?;
    listen(&socket, 1).context("making the gate of the container")?;
    Ok(Gate(socket))
}

/// Whether its container waits.
pub(crate) fn is_there(place: &Place) -> bool {
    path(place).exists()
}

/// Lets the container go on.
pub(crate) fn open(place: &Place, identity: Identity) -> Result<Starting> {
    let Some(pidfd) = process::open(identity) else {
        bail!("cannot start container {:?}: its process has ended; delete it", place.id);
    };
    let (_directory, address) = address(place)?;
    let socket = socket()?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::CONNREFUSED) => {
            bail!("cannot start container {:?}: it was started already", place.id)
        }
        Err(errno) => return Err(errno).context("coming to the gate of the container"),
    }
    rustix::fs::fcntl_setfl(&socket, OFlags::NONBLOCK).context("preparing a socket")?;
    let pid = Pid::from_raw(identity.pid).context("the container's pid is 0")?;
    let starting = Starting::at_gate(LiveProcess { pid, pidfd }, socket)?;
    // From here on it can not be started again.
    match fs::remove_file(path(place)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("removing the gate of the container"),
        _ => Ok(starting),
    }
}

fn path(place: &Place) -> PathBuf {
    place.directory().join(GATE)
}

fn socket() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("making a socket")
}

/// By the descriptor of its directory: an address has 108 bytes, and the path may have more.
fn address(place: &Place) -> Result<(File, SocketAddrUnix)> {
    let directory =
        File::open(place.directory()).with_context(|| format!("opening {}", place.directory().display()))?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{GATE}", directory.as_raw_fd()))?;
    Ok((directory, address))
}

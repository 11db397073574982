//! The socket over which another runtime hands the master of a terminal over.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Failure, Step};

/// Its name in the directory where commands run. It is given as a relative path: addresses of sockets are short.
pub(super) const SOCKET: &str = "console";
/// How long a runtime that has ended its command may take to hand over what it has sent.
const HANDOVER_SECONDS: i64 = 5;

/// Listens below the current directory.
pub(super) fn listen() -> Result<UnixListener, Failure> {
    let listener = UnixListener::bind(Path::new(SOCKET)).step("listen for", || "the container's terminal")?;
    listener.set_nonblocking(true).step("prepare", || "the socket of the container's terminal")?;
    Ok(listener)
}

/// The master, which was sent before the runtime's command ended.
pub(super) fn take(listener: &UnixListener, runtime: &str) -> Result<OwnedFd, Failure> {
    let missing =
        |why: &str| Failure::because("get", "the container's terminal", format!("runtime handler {runtime:?} {why}"));
    await_readable(listener).step("wait for", || "the container's terminal")?;
    let (socket, _) = listener.accept().map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => missing("sent none"),
        _ => Failure::io("accept", "the container's terminal", &error),
    })?;
    await_readable(&socket).step("wait for", || "the container's terminal")?;
    socket.set_nonblocking(true).step("prepare", || "the socket of the container's terminal")?;
    let received =
        podwright_sys::receive_packet(&socket, &mut [0; 4096]).step("receive", || "the container's terminal")?;
    let master = received.fds.into_iter().next().ok_or_else(|| missing("sent no descriptor of it"))?;
    match rustix::termios::isatty(&master) {
        true => Ok(master),
        false => Err(missing("sent something that is no terminal")),
    }
}

fn await_readable(fd: impl AsFd) -> std::io::Result<()> {
    let limit = Timespec { tv_sec: HANDOVER_SECONDS, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit))?;
    Ok(())
}

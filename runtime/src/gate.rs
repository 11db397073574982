//! The gate: where a process that is ready for its program waits until somebody comes and lets it go on. Whoever set it up may be gone
//! by then, so all that follows is told to who came.

use std::os::fd::OwnedFd;

use rustix::net::{SocketFlags, accept_with};

use crate::error::{Failure, Step};
use crate::launch::Gate;
use crate::message::{self, Message};

/// Tells `socket` that the process is ready, waits, and goes on with `rest`, which has the connection of who came. Returns only
/// with a failure that `socket` is to hear of.
pub(crate) fn pass(
    gate: &Gate,
    socket: &OwnedFd,
    rest: impl FnOnce(&OwnedFd) -> Result<(), Failure>,
) -> Result<(), Failure> {
    message::send(socket, &Message::Ready, &[]).step("tell that it is ready,", || "the process")?;
    let visitor = loop {
        let visitor = accept_with(&gate.0, SocketFlags::CLOEXEC).step("wait at", || "the gate")?;
        // Whoever only looked goes away without a word.
        if matches!(podwright_sys::receive_packet(&visitor, &mut [0; 16]), Ok(received) if received.length > 0) {
            break visitor;
        }
    };
    if let Err(failure) = rest(&visitor) {
        message::send_failure(&visitor, failure);
    }
    podwright_sys::exit_now(1)
}

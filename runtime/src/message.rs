//! What a child tells its parent while it sets itself up, over a close-on-exec socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use podwright_sys::{Errno, next_packet_length, receive_packet, send_packet};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Longest message; the text of a failure is cut to fit.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest text of a failure.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// The user that runs a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, the primary one first.
    pub groups: Vec<u32>,
}

/// One message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// It waits to be put into its cgroup.
    Waiting,
    /// The master of its terminal is attached.
    Terminal,
    /// Its user was looked up.
    Resolved(User),
    /// It waits at its gate.
    Ready,
    /// Something that is worth a line in a log.
    Warning(String),
    /// It executes its program now; what follows is the end, or a failure.
    Executing,
    /// It gave up.
    Failed(Failure),
    /// Namespaces are attached.
    Namespaces,
    /// Another process goes on in its place; its pidfd is attached.
    Moved,
}

/// A message as it came, with its descriptors.
pub(crate) struct Incoming {
    pub(crate) message: Message,
    pub(crate) fds: Vec<OwnedFd>,
}

pub(crate) fn send(socket: impl AsFd, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    send_packet(socket, &bytes, fds)
}

/// Tells a failure; if nobody listens, nobody misses it.
pub(crate) fn send_failure(socket: impl AsFd, mut failure: Failure) {
    for text in [&mut failure.text, &mut failure.object] {
        let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    let _ = send(socket, &Message::Failed(failure), &[]);
}

/// The next message; `None` at the end.
pub(crate) fn receive(socket: impl AsFd) -> Result<Option<Incoming>, Errno> {
    // Most are short; a buffer for the longest would be made of fresh pages again and again.
    let mut buffer = vec![0; next_packet_length(&socket)?.clamp(1, MAX_MESSAGE_BYTES)];
    let received = receive_packet(socket, &mut buffer)?;
    let bytes = buffer.get(..received.length).unwrap_or_default();
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(bytes).map_err(|_| Errno::BADMSG)?;
    Ok(Some(Incoming { message, fds: received.fds }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::MAX_GROUPS;

    #[test]
    fn a_user_with_all_groups_fits() {
        let user = User { uid: u32::MAX - 1, gid: u32::MAX - 1, groups: vec![u32::MAX - 1; MAX_GROUPS] };
        let (ours, theirs) = podwright_sys::packet_pair().unwrap();
        send(&ours, &Message::Resolved(user.clone()), &[]).unwrap();
        assert!(matches!(receive(&theirs).unwrap().unwrap().message, Message::Resolved(heard) if heard == user));
    }
}

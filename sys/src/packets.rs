//! Messages with file descriptors over SOCK_SEQPACKET sockets; unix(7): <https://man7.org/linux/man-pages/man7/unix.7.html>.
//! What the messages mean is left to the caller.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

/// Most descriptors that one message carries.
const MAX_FDS: usize = 32;

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the buffer that were filled; 0 with no descriptors is the end of the connection.
    pub length: usize,
    /// Descriptors, all close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// A connected pair of SOCK_SEQPACKET sockets, close-on-exec.
///
/// # Errors
/// Those of socketpair(2).
pub fn packet_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message. Never raises SIGPIPE.
///
/// # Errors
/// `E2BIG` for more than 32 descriptors; else those of sendmsg(2).
pub fn send_packet(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && (fds.len() > MAX_FDS || !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(Errno::TOOBIG);
    }
    retry(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)).map(|_| ())
}

/// Receives one message.
///
/// # Errors
/// `EMSGSIZE` if it does not fit `buffer` or carries more than 32 descriptors (those are closed); else those of recvmsg(2).
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = retry(|| recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok(Received { length: message.bytes, fds })
}

/// Length of the message that comes next, without taking it; 0 at the end of the connection.
///
/// # Errors
/// Those of recv(2).
pub fn next_packet_length(socket: impl AsFd) -> Result<usize, Errno> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    retry(|| recv(&socket, &mut [0; 1], flags)).map(|(_, length)| length)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_arrive_and_the_end_is_seen() {
        let (left, right) = packet_pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send_packet(&left, b"hello", &[file.as_fd()]).unwrap();
        drop(left);
        assert_eq!(next_packet_length(&right), Ok(5));
        let mut buffer = [0; 16];
        let got = receive_packet(&right, &mut buffer).unwrap();
        assert_eq!((got.length, got.fds.len()), (5, 1));
        assert_eq!(next_packet_length(&right), Ok(0));
        let got = receive_packet(&right, &mut buffer).unwrap();
        assert_eq!((got.length, got.fds.len()), (0, 0));
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let (left, right) = packet_pair().unwrap();
        send_packet(&left, b"hello", &[]).unwrap();
        assert_eq!(receive_packet(&right, &mut [0; 4]).err(), Some(Errno::MSGSIZE));
    }
}

//! Packets with file descriptors over `SOCK_SEQPACKET` sockets.
//!
//! Owns sending, receiving, and the limits of one packet; leaves waiting for a socket to its callers.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv, recvmsg, sendmsg,
};

/// Longest packet.
pub const MAX_PACKET_BYTES: usize = 64 * 1024;
/// Most file descriptors in one packet.
pub const MAX_FDS: usize = 8;

/// Sends one packet; never blocks.
///
/// # Errors
/// That of the system (`WouldBlock` if the peer does not read), or `InvalidInput` for a packet beyond the limits.
pub fn send(socket: impl AsFd, packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if packet.is_empty() || packet.len() > MAX_PACKET_BYTES || fds.len() > MAX_FDS {
        let text = format!(
            "a packet of {} bytes with {} descriptors is not within 1 to {MAX_PACKET_BYTES} bytes and {MAX_FDS} descriptors",
            packet.len(),
            fds.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the descriptors do not fit into one packet"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(&socket, &[IoSlice::new(packet)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Length of the packet that comes next, without taking it; never blocks.
///
/// # Errors
/// That of the system (`WouldBlock` if there is none yet).
pub fn next_length(socket: impl AsFd) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let (_, length) = recv(socket, &mut [0; 1], flags)?;
    Ok(length)
}

/// Receives one packet into `buffer`, and the descriptors that came with it; never blocks. Length 0: the peer has hung up.
///
/// # Errors
/// That of the system (`WouldBlock` if there is none yet), or `InvalidData` for a packet that was cut off.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Ok(message) => break message,
            Err(rustix::io::Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    };
    let mut fds = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            fds.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was longer than the protocol allows"));
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn packets_keep_their_edges_and_descriptors() {
        let (a, b) = pair();
        let file = tempfile::tempfile().unwrap();
        send(&a, b"one", &[file.as_fd(), a.as_fd()]).unwrap();
        send(&a, &[7; MAX_PACKET_BYTES], &[]).unwrap();
        assert_eq!(next_length(&b).unwrap(), 3);
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        let (length, fds) = receive(&b, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"one"[..], 2));
        assert_eq!(receive(&b, &mut buffer).unwrap().0, MAX_PACKET_BYTES);
        assert_eq!(receive(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop((a, fds));
        assert_eq!(receive(&b, &mut buffer).unwrap().0, 0);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let (a, b) = pair();
        assert_eq!(send(&a, &vec![0; MAX_PACKET_BYTES + 1], &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send(&a, b"", &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send(&a, b"x", &[a.as_fd(); MAX_FDS + 1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        send(&a, b"longer than the buffer", &[]).unwrap();
        assert_eq!(receive(&b, &mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_peer_that_does_not_read_never_blocks_the_sender() {
        let (a, _b) = pair();
        let error = (0..100_000).find_map(|_| send(&a, &[0; 4096], &[]).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

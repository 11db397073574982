//! Input that the container does not take at once.

use std::io::Write as _;

use rustix::event::{EventfdFlags, eventfd};
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

/// What a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// An input, and the container's end of it.
fn input() -> (Input, OwnedFd) {
    let (container, to_container) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (Input::new(Some(to_container)), container)
}

/// A client that has sent this: its end that is read, and its own.
fn client(bytes: &[u8]) -> (OwnedFd, std::fs::File) {
    let (stdin, to_stdin) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let mut to_stdin = std::fs::File::from(to_stdin);
    to_stdin.write_all(bytes).unwrap();
    (stdin, to_stdin)
}

fn read_some(container: &OwnedFd) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(PIPE_BYTES);
    rustix::io::read(container, spare_capacity(&mut buffer)).unwrap();
    buffer
}

fn numbered(from: u32, bytes: usize) -> Vec<u8> {
    (from..).flat_map(u32::to_le_bytes).take(bytes).collect()
}

/// Reads all, as a container that reads again; pumps as poll would have it.
fn read_to_end(input: &mut Input, container: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let some = read_some(container);
        if some.is_empty() {
            return all;
        }
        all.extend_from_slice(&some);
        if input.blocked_on().is_some() {
            input.pump();
        }
    }
}

#[test]
fn what_a_client_sent_before_the_end_comes_before_it() {
    let (mut input, container) = input();
    let sent = numbered(0, PIPE_BYTES + 36_000);
    let (first, second) = sent.split_at(PIPE_BYTES);
    let (stdin, mut to_stdin) = client(first);
    assert!(input.take_from(&stdin));
    to_stdin.write_all(second).unwrap();
    assert!(input.take_from(&stdin) && !input.wants_more(), "the container's pipe is full");
    input.keep_rest_of(&stdin);
    input.close();
    assert!(!input.is_closed());
    assert!(read_to_end(&mut input, &container) == sent);
}

#[test]
fn what_a_client_sent_last_is_kept_for_a_container_that_does_not_read() {
    let (mut input, container) = input();
    let sent = numbered(0, PIPE_BYTES + 36_000);
    let (first, second) = sent.split_at(PIPE_BYTES);
    let (stdin, mut to_stdin) = client(first);
    assert!(input.take_from(&stdin));
    to_stdin.write_all(second).unwrap();
    assert!(input.take_from(&stdin));
    input.keep_last_of(&stdin);
    drop((stdin, to_stdin));
    input.close();
    assert!(read_to_end(&mut input, &container) == sent);
}

#[test]
fn what_the_kernel_does_not_move_is_read() {
    let (mut input, container) = input();
    // Has no splice.
    let counter = eventfd(5, EventfdFlags::NONBLOCK).unwrap();
    assert!(input.take_from(&counter), "it is no end");
    assert_eq!(read_some(&container), 5_u64.to_ne_bytes());
    let (stdin, _to_stdin) = client(b"after it");
    assert!(input.take_from(&stdin));
    assert_eq!(read_some(&container), b"after it");
}

#[test]
fn key_strokes_wait_for_a_container_that_looks_away() {
    let (mut input, container) = input();
    let (stdin, mut to_stdin) = client(&[]);
    for _ in 0..1000 {
        to_stdin.write_all(b"x").unwrap();
        assert!(input.wants_more() && input.take_from(&stdin));
    }
    assert_eq!(read_some(&container).len(), 1000, "at once");
}

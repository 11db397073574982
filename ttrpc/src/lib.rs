//! ttrpc: gRPC's calls without HTTP/2, as containerd's shims and the plugins of the Node Resource Interface speak it. Unary calls with a
//! bound and a deadline each, over a socket of their own or over one that two connections share. What is said is left to others.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod connection;
mod frame;
mod status;

pub use connection::{CallError, Connection, Serve, refusal};
pub use frame::Wire;
pub use status::{INTERNAL, INVALID_ARGUMENT, Status, UNIMPLEMENTED};

/// For the fuzz target: takes bytes as the other side may send them, and tells how many messages they held.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn fuzz_frames(bytes: &[u8]) -> usize {
    let of = |wire| {
        let mut reader = frame::Reader::new(wire);
        let taken = bytes.chunks(7).map_while(|part| reader.take(part).ok());
        taken.map(|messages| messages.len()).sum::<usize>()
    };
    of(Wire::Plain) + of(Wire::Shared { calls: 1, serves: 2 })
}

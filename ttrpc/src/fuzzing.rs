//! What must hold of bytes as the other side may send them.

use crate::Wire;
use crate::frame::{FrameError, Message, Reader};

const SHARED: Wire = Wire::Shared { calls: 1, serves: 2 };

/// It does not matter in which parts bytes come, and what was read is written as it was.
///
/// # Panics
/// It is not so.
pub fn frames(bytes: &[u8]) {
    for wire in [Wire::Plain, SHARED] {
        let (whole, bad) = read(wire, bytes.chunks(bytes.len().max(1)));
        let (parts, bad_in_parts) = read(wire, bytes.chunks(7));
        assert_eq!(bad, bad_in_parts, "an error depends on how the bytes come");
        // What comes in one part with an error is lost with it.
        assert!(bad.is_some() || whole == parts, "messages depend on how the bytes come");
        let again: Vec<u8> = parts.iter().flat_map(|message| message.encode(wire).unwrap_or_default()).collect();
        assert_eq!(read(wire, again.chunks(4096)), (parts, None), "a message changes when it is written again");
    }
}

fn read<'a>(wire: Wire, parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Message>, Option<FrameError>) {
    let (mut reader, mut all) = (Reader::new(wire), Vec::new());
    for part in parts {
        match reader.take(part) {
            Ok(messages) => all.extend(messages),
            Err(error) => return (all, Some(error)),
        }
    }
    (all, None)
}

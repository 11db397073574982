//! Bytes on the wire: ttrpc's messages, and the frames by which several connections may share one socket. No I/O.
//!
//! A ttrpc message is its length and stream (4 bytes each, big-endian), its type and flags (one byte each), and its body. A frame is the
//! number of the connection and its length (4 bytes each, big-endian) and bytes of that connection's stream.

use std::collections::BTreeMap;

/// Largest body of a message.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Of a frame.
const FRAME_HEADER: usize = 8;
/// Of a message.
const MESSAGE_HEADER: usize = 10;
/// The start of a message, in a frame of its own. The other side (Go's) reads it through a buffer of this size, and ends the connection
/// when a frame is larger; the rest it reads to its place, whatever its size.
const FIRST_FRAME_BYTES: usize = 4096;
/// Largest content of a frame.
const MAX_FRAME_BYTES: usize = MESSAGE_HEADER + MAX_MESSAGE_BYTES;

/// What goes over a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// One connection, on which we call.
    Plain,
    /// Two of them, in frames.
    Shared {
        /// Number of the connection on which we call.
        calls: u32,
        /// Number of the one on which we serve.
        serves: u32,
    },
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

/// Whose connection a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// We ask, they answer.
    Calls,
    /// They ask, we answer.
    Serves,
}

/// A message of ttrpc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) side: Side,
    pub(crate) stream: u32,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
}

/// Why bytes are none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of connection {0}, which there is not")]
    Connection(u32),
    #[error("a frame of {0} bytes; {MAX_FRAME_BYTES} are the most")]
    Frame(usize),
    #[error("a message of {0} bytes; {MAX_MESSAGE_BYTES} are the most")]
    Message(usize),
    #[error("a message of type {0}; requests are 1, responses 2")]
    Kind(u8),
}

impl Message {
    /// As it goes over the wire.
    pub(crate) fn encode(&self, wire: Wire) -> Result<Vec<u8>, FrameError> {
        let too_long = || FrameError::Message(self.body.len());
        if self.body.len() > MAX_MESSAGE_BYTES {
            return Err(too_long());
        }
        let length = u32::try_from(self.body.len()).map_err(|_| too_long())?;
        let mut message = Vec::with_capacity(MESSAGE_HEADER + self.body.len());
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&self.stream.to_be_bytes());
        message.push(match self.kind {
            Kind::Request => 1,
            Kind::Response => 2,
        });
        message.push(0);
        message.extend_from_slice(&self.body);
        let connection = match (wire, self.side) {
            (Wire::Plain, _) => return Ok(message),
            (Wire::Shared { calls, .. }, Side::Calls) => calls,
            (Wire::Shared { serves, .. }, Side::Serves) => serves,
        };
        let mut bytes = Vec::with_capacity(2 * FRAME_HEADER + message.len());
        let (first, rest) = message.split_at(message.len().min(FIRST_FRAME_BYTES));
        for part in [first, rest].into_iter().filter(|part| !part.is_empty()) {
            let length = u32::try_from(part.len()).map_err(|_| too_long())?;
            bytes.extend_from_slice(&connection.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }
}

/// Puts bytes together to messages.
#[derive(Debug)]
pub(crate) struct Reader {
    wire: Wire,
    /// What is no whole frame yet.
    pending: Vec<u8>,
    /// By connection, what is no whole message yet.
    streams: BTreeMap<Side, Vec<u8>>,
}

impl Reader {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, pending: Vec::new(), streams: BTreeMap::new() }
    }

    /// Takes what was read, and gives the messages that are whole now.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
        let mut messages = Vec::new();
        let (calls, serves) = match self.wire {
            Wire::Plain => {
                self.whole(Side::Calls, bytes, &mut messages)?;
                return Ok(messages);
            }
            Wire::Shared { calls, serves } => (calls, serves),
        };
        self.pending.extend_from_slice(bytes);
        let mut pending = std::mem::take(&mut self.pending);
        let mut at = 0;
        while let Some((side, length)) = frame(pending.get(at..).unwrap_or_default(), calls, serves)? {
            let content = at + FRAME_HEADER;
            self.whole(side, pending.get(content..content + length).unwrap_or_default(), &mut messages)?;
            at = content + length;
        }
        pending.drain(..at);
        self.pending = pending;
        Ok(messages)
    }

    /// Takes bytes of one connection.
    fn whole(&mut self, side: Side, bytes: &[u8], messages: &mut Vec<Message>) -> Result<(), FrameError> {
        let stream = self.streams.entry(side).or_default();
        stream.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((message, length)) = message(side, stream.get(at..).unwrap_or_default())? {
            messages.push(message);
            at += length;
        }
        stream.drain(..at);
        Ok(())
    }
}

/// The head of the next frame, if all of it is there.
fn frame(bytes: &[u8], calls: u32, serves: u32) -> Result<Option<(Side, usize)>, FrameError> {
    let (Some(connection), Some(length)) = (number(bytes, 0), number(bytes, 4)) else { return Ok(None) };
    let side = match connection {
        _ if connection == calls => Side::Calls,
        _ if connection == serves => Side::Serves,
        other => return Err(FrameError::Connection(other)),
    };
    let length = length as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::Frame(length));
    }
    Ok((bytes.len() >= FRAME_HEADER + length).then_some((side, length)))
}

/// The next message, if all of it is there, and how many bytes it takes.
fn message(side: Side, bytes: &[u8]) -> Result<Option<(Message, usize)>, FrameError> {
    let (Some(length), Some(stream), Some(kind)) = (number(bytes, 0), number(bytes, 4), bytes.get(8).copied()) else {
        return Ok(None);
    };
    let length = length as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(FrameError::Message(length));
    }
    let kind = match kind {
        1 => Kind::Request,
        2 => Kind::Response,
        other => return Err(FrameError::Kind(other)),
    };
    let whole = MESSAGE_HEADER + length;
    let Some(body) = bytes.get(MESSAGE_HEADER..whole) else { return Ok(None) };
    Ok(Some((Message { side, stream, kind, body: body.to_vec() }, whole)))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: Wire = Wire::Shared { calls: 1, serves: 2 };

    fn message(side: Side, body: &[u8]) -> Message {
        Message { side, stream: 7, kind: Kind::Request, body: body.to_vec() }
    }

    fn in_parts(wire: Wire, sent: &[Message]) {
        let bytes: Vec<u8> = sent.iter().flat_map(|message| message.encode(wire).unwrap()).collect();
        for size in [1, 3, 8, 4096, bytes.len()] {
            let mut reader = Reader::new(wire);
            let got: Vec<Message> = bytes.chunks(size).flat_map(|part| reader.take(part).unwrap()).collect();
            assert_eq!(got, sent, "in parts of {size}");
        }
    }

    #[test]
    fn messages_come_back_in_whatever_parts() {
        let all = [message(Side::Calls, b"one"), message(Side::Serves, b""), message(Side::Calls, &[9; 5000])];
        in_parts(SHARED, &all);
        let [one, _, three] = all;
        in_parts(Wire::Plain, &[one, three]);
    }

    #[test]
    fn a_message_may_lie_in_several_frames() {
        let whole = message(Side::Calls, b"hello").encode(Wire::Plain).unwrap();
        let (head, tail) = whole.split_at(4);
        let frame = |part: &[u8]| [&1_u32.to_be_bytes()[..], &(part.len() as u32).to_be_bytes(), part].concat();
        let mut reader = Reader::new(SHARED);
        assert_eq!(reader.take(&frame(head)).unwrap(), []);
        assert_eq!(reader.take(&frame(tail)).unwrap(), [message(Side::Calls, b"hello")]);
    }

    #[test]
    fn the_first_frame_of_a_long_message_is_short() {
        let bytes = message(Side::Calls, &[7; 10_000]).encode(SHARED).unwrap();
        assert_eq!(number(&bytes, 4), Some(4096));
        assert_eq!(number(&bytes, FRAME_HEADER + 4096 + 4), Some(10_000 + 10 - 4096));
    }

    #[test]
    fn rubbish_is_refused_before_it_is_kept() {
        let take = |bytes: &[u8]| Reader::new(SHARED).take(bytes).unwrap_err();
        assert_eq!(take(&[0, 0, 0, 9, 0, 0, 0, 1]), FrameError::Connection(9));
        assert_eq!(take(&[0, 0, 0, 1, 0xff, 0, 0, 0]), FrameError::Frame(0xff00_0000));
        let mut bytes = message(Side::Calls, b"x").encode(SHARED).unwrap();
        bytes[16] = 9;
        assert_eq!(take(&bytes), FrameError::Kind(9));
        bytes[8] = 0xff;
        assert!(matches!(take(&bytes), FrameError::Message(_)));
        let huge = message(Side::Calls, &vec![0; MAX_MESSAGE_BYTES + 1]);
        assert!(matches!(huge.encode(SHARED), Err(FrameError::Message(_))));
    }
}

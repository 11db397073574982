//! Frames of SPDY/3.1, from bytes and to bytes. Nothing here does I/O. The payload of DATA is handed on in the pieces that
//! arrive, whatever length its frame claims; all other frames are short.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::headers::{Headers, Inflater};

/// Longest control frame. Those of the stream protocols have some hundred bytes; SPDY asks for 8 KiB at least.
pub(in crate::streaming) const MAX_CONTROL_BYTES: usize = 16 << 10;
/// Length of the head of every frame.
const HEAD_BYTES: usize = 8;
/// The version field of SPDY/3 and 3.1.
const VERSION: u16 = 3;
const CONTROL_BIT: u32 = 0x8000_0000;
const ID_MASK: u32 = 0x7fff_ffff;
const FLAG_FIN: u8 = 1;
const INITIAL_WINDOW_SETTING: u32 = 7;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// The number of a stream; those of a client are odd.
pub(in crate::streaming) type StreamId = u32;

/// What makes a connection useless: after it nothing that follows can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::streaming) enum ProtocolError {
    /// Another protocol, or none.
    #[error("a frame of SPDY version {0}; only version 3 is spoken")]
    Version(u16),
    /// A control frame that is too long to be one of ours.
    #[error("a control frame of {0} bytes; at most {MAX_CONTROL_BYTES} are taken")]
    TooLong(usize),
    /// A control frame shorter than its kind.
    #[error("a frame of type {0} with {1} bytes, which is not its length")]
    Length(u16, usize),
    /// A stream number that can not be.
    #[error("a frame for the impossible stream {0}")]
    Stream(StreamId),
    /// A header block that can not be read.
    #[error("a header block of which {0}")]
    HeaderBlock(&'static str),
    /// A header block that inflates to more than is allowed.
    #[error("a header block of more than {} bytes", super::headers::MAX_BLOCK_BYTES)]
    HeaderBlockTooLong,
    /// More headers than any of our streams has.
    #[error("{0} headers in one block, which is too many")]
    TooManyHeaders(usize),
    /// A peer that makes answers necessary and reads none.
    #[error("more than {0} answers wait for a peer that reads none")]
    Unread(usize),
}

/// Why a stream is refused or given up; numbers of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::streaming) enum Reset {
    /// The peer broke the protocol of this stream.
    ProtocolError = 1,
    /// A frame for a stream that is not open.
    InvalidStream = 2,
    /// The stream is not wanted.
    Refused = 3,
}

/// A frame that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::streaming) enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its number.
        stream: StreamId,
        /// Nothing follows from the peer.
        fin: bool,
        /// Its headers.
        headers: Headers,
    },
    /// Answers a stream of ours; we open none.
    SynReply(StreamId),
    /// Gives a stream up.
    Reset(StreamId),
    /// Settings; the initial window in bytes, if it is among them.
    Settings(Option<u32>),
    /// Wants the same back.
    Ping(u32),
    /// The peer opens and takes no more streams.
    GoAway,
    /// More headers for a stream.
    Headers {
        /// Its number.
        stream: StreamId,
        /// Nothing follows from the peer.
        fin: bool,
    },
    /// So many bytes more may be sent; stream 0 is the whole connection.
    WindowUpdate {
        /// Its number.
        stream: StreamId,
        /// Bytes.
        delta: u32,
    },
    /// A piece of a stream's data.
    Data {
        /// Its number.
        stream: StreamId,
        /// The bytes.
        piece: Bytes,
        /// Nothing follows from the peer.
        fin: bool,
    },
    /// A control frame of another type, which is to be ignored.
    Unknown(u16),
}

/// DATA whose payload has not arrived in full.
#[derive(Debug, Clone, Copy)]
struct Pending {
    stream: StreamId,
    left: usize,
    fin: bool,
}

/// Makes frames of bytes. Holds the state of header compression.
#[derive(Debug, Default)]
pub(in crate::streaming) struct Decoder {
    inflater: Inflater,
    pending: Option<Pending>,
}

impl Decoder {
    /// Takes the next frame off the front of `input`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the connection can not go on.
    pub(in crate::streaming) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if let Some(pending) = self.pending {
            return Ok(self.piece(pending, input));
        }
        let Some((first, flags, length)) = head(input) else { return Ok(None) };
        if first & CONTROL_BIT == 0 {
            return self.data(first, flags, length, input);
        }
        let version = u16::try_from((first & ID_MASK) >> 16).unwrap_or_default();
        if version != VERSION {
            return Err(ProtocolError::Version(version));
        }
        if length > MAX_CONTROL_BYTES {
            return Err(ProtocolError::TooLong(length));
        }
        if input.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        input.advance(HEAD_BYTES);
        let payload = input.split_to(length);
        self.control(u16::try_from(first & 0xffff).unwrap_or_default(), flags, &payload).map(Some)
    }

    fn data(
        &mut self,
        stream: StreamId,
        flags: u8,
        length: usize,
        input: &mut BytesMut,
    ) -> Result<Option<Frame>, ProtocolError> {
        if stream == 0 {
            return Err(ProtocolError::Stream(stream));
        }
        input.advance(HEAD_BYTES);
        Ok(self.piece(Pending { stream, left: length, fin: flags & FLAG_FIN != 0 }, input))
    }

    fn piece(&mut self, mut pending: Pending, input: &mut BytesMut) -> Option<Frame> {
        let piece = input.split_to(pending.left.min(input.len())).freeze();
        pending.left -= piece.len();
        self.pending = (pending.left > 0).then_some(pending);
        if piece.is_empty() && pending.left > 0 {
            return None;
        }
        Some(Frame::Data { stream: pending.stream, piece, fin: pending.fin && pending.left == 0 })
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Frame, ProtocolError> {
        let wrong = ProtocolError::Length(kind, payload.len());
        let fin = flags & FLAG_FIN != 0;
        match kind {
            SYN_STREAM => {
                // Stream, associated stream, priority, slot; then the headers.
                let (fixed, block) = payload.split_first_chunk::<10>().ok_or(wrong)?;
                let stream = named(word(fixed))?;
                Ok(Frame::SynStream { stream, fin, headers: Headers::parse(&self.inflater.block(block)?)? })
            }
            SYN_REPLY | HEADERS => {
                let (fixed, block) = payload.split_first_chunk::<4>().ok_or(wrong)?;
                let stream = named(word(fixed))?;
                // Read although nobody wants them: the state of the compression must go on.
                Headers::parse(&self.inflater.block(block)?)?;
                Ok(if kind == HEADERS { Frame::Headers { stream, fin } } else { Frame::SynReply(stream) })
            }
            RST_STREAM => Ok(Frame::Reset(named(word(payload.first_chunk::<8>().ok_or(wrong)?))?)),
            SETTINGS => settings(payload).ok_or(wrong),
            PING => Ok(Frame::Ping(u32::from_be_bytes(*payload.first_chunk().ok_or(wrong)?))),
            GOAWAY => Ok(Frame::GoAway),
            WINDOW_UPDATE => {
                let fixed = payload.first_chunk::<8>().ok_or(wrong)?;
                let delta = fixed.last_chunk::<4>().map_or(0, |delta| u32::from_be_bytes(*delta) & ID_MASK);
                Ok(Frame::WindowUpdate { stream: word(fixed) & ID_MASK, delta })
            }
            other => Ok(Frame::Unknown(other)),
        }
    }
}

/// First word, flags and length of the next frame.
fn head(input: &[u8]) -> Option<(u32, u8, usize)> {
    let (first, rest) = input.split_first_chunk::<4>()?;
    let [flags, length @ ..] = rest.first_chunk::<4>()?;
    let length = length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
    Some((u32::from_be_bytes(*first), *flags, length))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}

fn named(stream: u32) -> Result<StreamId, ProtocolError> {
    match stream & ID_MASK {
        0 => Err(ProtocolError::Stream(0)),
        stream => Ok(stream),
    }
}

fn settings(payload: &[u8]) -> Option<Frame> {
    let (count, entries) = payload.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    let entries = entries.get(..count.checked_mul(8)?)?;
    let window = entries.chunks_exact(8).rfind(|entry| word(entry) & 0x00ff_ffff == INITIAL_WINDOW_SETTING);
    Some(Frame::Settings(window.and_then(|entry| entry.last_chunk()).map(|value| u32::from_be_bytes(*value) & ID_MASK)))
}

fn control_head(out: &mut BytesMut, kind: u16, flags: u8, length: u8) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u8(flags);
    out.put_slice(&[0, 0, length]);
}

/// Writes the head of DATA with `length` bytes (below 2^24) after it.
pub(in crate::streaming) fn put_data_head(out: &mut BytesMut, stream: StreamId, length: usize, fin: bool) {
    out.put_u32(stream & ID_MASK);
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.put_u32((u32::from(fin) << 24) | length);
}

/// Accepts a stream. It has no headers. The compressed form of "no headers" needs no compressor: one stored block and the empty
/// one that makes readers deliver it. The first on a connection begins the zlib stream, without a dictionary.
pub(in crate::streaming) fn put_syn_reply(out: &mut BytesMut, stream: StreamId, first: bool) {
    const ZLIB_HEAD: [u8; 2] = [0x78, 0x01];
    const NO_HEADERS: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    control_head(out, SYN_REPLY, 0, if first { 20 } else { 18 });
    out.put_u32(stream & ID_MASK);
    if first {
        out.put_slice(&ZLIB_HEAD);
    }
    out.put_slice(&NO_HEADERS);
}

/// Gives a stream up.
pub(in crate::streaming) fn put_reset(out: &mut BytesMut, stream: StreamId, why: Reset) {
    control_head(out, RST_STREAM, 0, 8);
    out.put_u32(stream & ID_MASK);
    out.put_u32(why as u32);
}

/// Asks for an answer, or gives it.
pub(in crate::streaming) fn put_ping(out: &mut BytesMut, id: u32) {
    control_head(out, PING, 0, 4);
    out.put_u32(id);
}

/// Says that the connection ends, and which stream was the last that was looked at.
pub(in crate::streaming) fn put_goaway(out: &mut BytesMut, last: StreamId, protocol_error: bool) {
    control_head(out, GOAWAY, 0, 8);
    out.put_u32(last & ID_MASK);
    out.put_u32(u32::from(protocol_error));
}

/// Lets the peer send `delta` bytes more.
pub(in crate::streaming) fn put_window_update(out: &mut BytesMut, stream: StreamId, delta: u32) {
    control_head(out, WINDOW_UPDATE, 0, 8);
    out.put_u32(stream & ID_MASK);
    out.put_u32(delta & ID_MASK);
}

#[cfg(test)]
mod tests;

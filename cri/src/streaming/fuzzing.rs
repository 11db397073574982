//! What must hold for any bytes of a streaming client.

use bytes::BytesMut;

use super::limits::MAX_RESIZE_BYTES;
use super::size;
use super::spdy::frame::{Decoder, Frame};
use super::version::Encoding;
use super::websocket::channel;

/// SPDY frames: the same however the bytes are cut, with no more data than arrived, and no memory kept beyond one control frame.
pub fn spdy(bytes: &[u8]) {
    let (cut, bytes) = bytes.split_first().map_or((1, bytes), |(first, rest)| (usize::from(*first).max(1), rest));
    let (mut decoder, mut whole) = (Decoder::default(), BytesMut::from(bytes));
    let mut frames = Vec::new();
    let outcome = loop {
        match decoder.decode(&mut whole) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let (mut decoder, mut arrived, mut in_parts) = (Decoder::default(), BytesMut::new(), Vec::new());
    let mut outcome_in_parts = Ok(());
    'parts: for part in bytes.chunks(cut) {
        arrived.extend_from_slice(part);
        loop {
            match decoder.decode(&mut arrived) {
                Ok(Some(frame)) => in_parts.push(frame),
                Ok(None) => break,
                Err(error) => {
                    outcome_in_parts = Err(error);
                    break 'parts;
                }
            }
        }
    }
    assert_eq!(outcome, outcome_in_parts, "how it ends depends on how it arrives");
    assert_eq!(joined(frames), joined(in_parts), "frames depend on how they arrive");
}

/// Pieces of one DATA frame, put together.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    for frame in frames {
        match (all.last_mut(), &frame) {
            (Some(Frame::Data { stream, piece, fin }), Frame::Data { stream: of, piece: more, fin: last })
                if stream == of && !*fin =>
            {
                let mut both = BytesMut::from(&piece[..]);
                both.extend_from_slice(more);
                (*piece, *fin) = (both.freeze(), *last);
            }
            _ => all.push(frame),
        }
    }
    all
}

/// Messages of WebSocket channels: what they say is never longer than they are, and says the same when it is written again.
pub fn channel(bytes: &[u8]) {
    for encoding in [Encoding::Binary, Encoding::Base64] {
        for closes in [false, true] {
            let Ok(event) = channel::parse(bytes, encoding, closes) else { continue };
            let channel::Event::Data(number, data) = &event else { continue };
            assert!(data.len() < bytes.len(), "more than was sent");
            let again = channel::message(*number, data, encoding).into_data();
            assert_eq!(channel::parse(&again, encoding, closes).as_ref(), Ok(&event), "it is not the same again");
        }
    }
}

/// Sizes of a terminal: each takes bytes away, and what can not end is refused.
pub fn size(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    loop {
        let before = input.len();
        match size::next(&mut input) {
            Ok(Some(_)) => assert!(input.len() < before, "a size of no bytes"),
            Ok(None) => break assert!(input.len() < MAX_RESIZE_BYTES, "a document without end is kept"),
            Err(size::BadSize) => break,
        }
    }
}

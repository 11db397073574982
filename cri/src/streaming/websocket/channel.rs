//! Messages of `channel.k8s.io`: the number of a channel, then its bytes. Nothing here does I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::Message;

pub(in crate::streaming) use crate::streaming::version::Encoding;

/// Input of the command.
pub(in crate::streaming) const STDIN: u8 = 0;
/// Its output.
pub(in crate::streaming) const STDOUT: u8 = 1;
/// Its error output.
pub(in crate::streaming) const STDERR: u8 = 2;
/// How the session ended.
pub(in crate::streaming) const ERROR: u8 = 3;
/// Sizes of the terminal.
pub(in crate::streaming) const RESIZE: u8 = 4;
/// Says that the channel named in the message ends; since v5.
const CLOSE: u8 = 255;
/// Channels are single digits in base64's text messages.
const FIRST_DIGIT: u8 = b'0';

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::streaming) enum Event {
    /// Bytes for a channel.
    Data(u8, Vec<u8>),
    /// No more for a channel.
    Close(u8),
    /// Nothing; some clients send that first.
    Empty,
}

/// What can not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::streaming) enum BadMessage {
    /// In base64, channels are the digits 0 to 9.
    #[error("a message for the channel {0:#04x}, which is no digit")]
    Channel(u8),
    /// Not base64.
    #[error("a message that is not base64")]
    Base64,
}

/// Reads a message. `closes`: the client speaks a version in which channels can end.
///
/// # Errors
/// What is wrong with it.
pub(in crate::streaming) fn parse(message: &[u8], encoding: Encoding, closes: bool) -> Result<Event, BadMessage> {
    let Some((channel, rest)) = message.split_first() else { return Ok(Event::Empty) };
    match encoding {
        Encoding::Binary if *channel == CLOSE && closes => {
            Ok(rest.first().map_or(Event::Empty, |one| Event::Close(*one)))
        }
        Encoding::Binary => Ok(Event::Data(*channel, rest.to_vec())),
        Encoding::Base64 => {
            let digit = channel.checked_sub(FIRST_DIGIT).filter(|digit| *digit <= 9);
            let digit = digit.ok_or(BadMessage::Channel(*channel))?;
            Ok(Event::Data(digit, STANDARD.decode(rest).map_err(|_| BadMessage::Base64)?))
        }
    }
}

/// Writes a message.
pub(in crate::streaming) fn message(channel: u8, bytes: &[u8], encoding: Encoding) -> Message {
    match encoding {
        Encoding::Binary => {
            let mut message = Vec::with_capacity(bytes.len() + 1);
            message.push(channel);
            message.extend_from_slice(bytes);
            Message::binary(message)
        }
        Encoding::Base64 => {
            let mut message = String::from(char::from(FIRST_DIGIT.saturating_add(channel)));
            STANDARD.encode_string(bytes, &mut message);
            Message::text(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn channels_can_end_since_v5() {
        assert_eq!(parse(&[255, 0], Encoding::Binary, true), Ok(Event::Close(STDIN)));
        assert_eq!(parse(&[255, 0], Encoding::Binary, false), Ok(Event::Data(255, vec![0])));
        assert_eq!(parse(&[255], Encoding::Binary, true), Ok(Event::Empty));
        assert_eq!(parse(&[], Encoding::Binary, true), Ok(Event::Empty));
    }

    #[test]
    fn base64_has_its_own_errors() {
        assert_eq!(parse(b"0aGk=", Encoding::Base64, false), Ok(Event::Data(STDIN, b"hi".to_vec())));
        assert_eq!(parse(b"\x00aGk=", Encoding::Base64, false), Err(BadMessage::Channel(0)));
        assert_eq!(parse(b"0a", Encoding::Base64, false), Err(BadMessage::Base64));
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            channel in 0_u8..5, bytes in proptest::collection::vec(any::<u8>(), 0..200), base64: bool,
        ) {
            let encoding = if base64 { Encoding::Base64 } else { Encoding::Binary };
            let written = message(channel, &bytes, encoding).into_data();
            prop_assert_eq!(parse(&written, encoding, true), Ok(Event::Data(channel, bytes)));
        }

        #[test]
        fn any_message_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), base64: bool, closes: bool) {
            let _ = parse(&bytes, if base64 { Encoding::Base64 } else { Encoding::Binary }, closes);
        }
    }
}

//! Sizes of a terminal, as clients send them: JSON documents, one after another.

use bytes::{Buf as _, BytesMut};
use podwright_podsandbox::session::TerminalSize;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::limits::MAX_RESIZE_BYTES;
use super::stream::Stream;

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// What can not be a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no document about a terminal's size")]
pub(super) struct BadSize;

/// Takes the next size off the front of `input`; `None` if more bytes are needed.
///
/// # Errors
/// If it is none.
pub(super) fn next(input: &mut BytesMut) -> Result<Option<TerminalSize>, BadSize> {
    let mut documents = serde_json::Deserializer::from_slice(input).into_iter::<Document>();
    let found = match documents.next() {
        None => Ok(None),
        Some(Ok(Document { width, height })) => Ok(Some(TerminalSize { columns: width, rows: height })),
        Some(Err(error)) if error.is_eof() && input.len() < MAX_RESIZE_BYTES => return Ok(None),
        Some(Err(_)) => Err(BadSize),
    };
    let read = documents.byte_offset().min(input.len());
    input.advance(read);
    found
}

/// The sizes of one session.
pub(super) struct Sizes {
    stream: Option<Stream>,
    input: BytesMut,
}

impl Sizes {
    pub(super) fn new(stream: Option<Stream>) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// The next size; never returns when there are no more. Cancel safe.
    pub(super) async fn next(&mut self) -> TerminalSize {
        while let Some(stream) = &mut self.stream {
            match next(&mut self.input) {
                Ok(Some(size)) => return size,
                Ok(None) => {}
                // What follows can not be told apart any more; the session goes on without.
                Err(BadSize) => break,
            }
            if stream.io.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                break;
            }
        }
        self.stream = None;
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_each_other() {
        let mut input = BytesMut::from("{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":30}\n{\"Wid");
        assert_eq!(next(&mut input), Ok(Some(TerminalSize { columns: 80, rows: 24 })));
        assert_eq!(next(&mut input), Ok(Some(TerminalSize { columns: 100, rows: 30 })));
        assert_eq!(next(&mut input), Ok(None));
        input.extend_from_slice(b"th\":1,\"Height\":2}");
        assert_eq!(next(&mut input), Ok(Some(TerminalSize { columns: 1, rows: 2 })));
        assert_eq!(next(&mut input), Ok(None));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in ["[]", "{\"Width\":70000,\"Height\":1}", "{\"Width\":-1,\"Height\":1}", "{}", "\0"] {
            assert_eq!(next(&mut BytesMut::from(bad)), Err(BadSize), "{bad}");
        }
        let endless = format!("{{\"a\":\"{}", "x".repeat(MAX_RESIZE_BYTES));
        assert_eq!(next(&mut BytesMut::from(endless.as_str())), Err(BadSize), "a document without end");
    }
}

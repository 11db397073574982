//! Header blocks: names and values, deflated with one state for the whole connection. Blocks are inflated into a room of fixed
//! size, so that a small frame can not become a large block.

use flate2::{Decompress, FlushDecompress, Status};

use super::dictionary::dictionary;
use super::frame::ProtocolError;

/// Longest block after inflation. Those of the stream protocols have some hundred bytes.
pub(in crate::streaming) const MAX_BLOCK_BYTES: usize = 16 << 10;
/// Most headers of one block. The stream protocols use five.
pub(in crate::streaming) const MAX_HEADERS: usize = 64;
/// What stands between the values of a header that has several.
const VALUE_SEPARATOR: char = '\0';

/// Headers of a stream. Names are in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::streaming) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a header, whose name is given in lower case.
    #[must_use]
    pub(in crate::streaming) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        Some(value.split(VALUE_SEPARATOR).next().unwrap_or_default())
    }

    /// Reads an inflated block: a count, then names and values behind their lengths.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::streaming) fn parse(block: &[u8]) -> Result<Self, ProtocolError> {
        let (count, mut rest) = take_length(block)?;
        if count > MAX_HEADERS {
            return Err(ProtocolError::TooManyHeaders(count));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, after_name) = take_text(rest)?;
            let (value, after_value) = take_text(after_name)?;
            headers.push((name.to_ascii_lowercase(), value));
            rest = after_value;
        }
        if !rest.is_empty() {
            return Err(ProtocolError::HeaderBlock("bytes follow the last header"));
        }
        Ok(Self(headers))
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

fn take_length(bytes: &[u8]) -> Result<(usize, &[u8]), ProtocolError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(ProtocolError::HeaderBlock("it ends within a length"))?;
    Ok((usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX), rest))
}

fn take_text(bytes: &[u8]) -> Result<(String, &[u8]), ProtocolError> {
    let (length, rest) = take_length(bytes)?;
    let (text, rest) = rest.split_at_checked(length).ok_or(ProtocolError::HeaderBlock("it ends within a text"))?;
    let text = std::str::from_utf8(text).map_err(|_| ProtocolError::HeaderBlock("a text is not UTF-8"))?;
    Ok((text.to_owned(), rest))
}

/// The inflating side of a connection.
#[derive(Debug)]
pub(in crate::streaming) struct Inflater {
    state: Decompress,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(true) }
    }
}

impl Inflater {
    /// Inflates one block.
    ///
    /// # Errors
    /// If it is no block of this stream, or longer than [`MAX_BLOCK_BYTES`]. The connection can not go on then.
    pub(in crate::streaming) fn block(&mut self, compressed: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        // One byte more than is allowed tells the longest block from one that is too long.
        let mut block = Vec::with_capacity(MAX_BLOCK_BYTES + 1);
        let start = self.state.total_in();
        loop {
            let consumed = usize::try_from(self.state.total_in() - start).unwrap_or(usize::MAX);
            let rest = compressed.get(consumed..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(block);
            }
            let room = block.len();
            match self.state.decompress_vec(rest, &mut block, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) => {}
                Ok(Status::StreamEnd) => return Err(ProtocolError::HeaderBlock("its compressed stream ends")),
                Err(error) if error.needs_dictionary().is_some() => self.give_dictionary()?,
                Err(_) => return Err(ProtocolError::HeaderBlock("it can not be inflated")),
            }
            if block.len() > MAX_BLOCK_BYTES {
                return Err(ProtocolError::HeaderBlockTooLong);
            }
            let now = usize::try_from(self.state.total_in() - start).unwrap_or(usize::MAX);
            if now == consumed && block.len() == room {
                return Err(ProtocolError::HeaderBlock("it can not be inflated"));
            }
        }
    }

    fn give_dictionary(&mut self) -> Result<(), ProtocolError> {
        match self.state.set_dictionary(&dictionary()) {
            Ok(_) => Ok(()),
            Err(_) => Err(ProtocolError::HeaderBlock("it names another dictionary")),
        }
    }
}

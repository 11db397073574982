//! A channel read like a file.

use std::io::{BufRead, Read, Result};
use std::sync::mpsc::Receiver;

use bytes::{Buf as _, Bytes};

/// Reads pieces one after the other. The channel's end is the file's end; that it came too early shows in the content.
pub(super) struct ChannelReader {
    channel: Receiver<Bytes>,
    piece: Bytes,
}

impl ChannelReader {
    pub(super) fn new(channel: Receiver<Bytes>) -> Self {
        Self { channel, piece: Bytes::new() }
    }
}

impl BufRead for ChannelReader {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        while self.piece.is_empty() {
            match self.channel.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, bytes: usize) {
        self.piece.advance(bytes.min(self.piece.len()));
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), available.get(..length)) {
            to.copy_from_slice(from);
        }
        self.consume(length);
        Ok(length)
    }
}

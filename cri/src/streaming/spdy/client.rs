//! What a SPDY client sends, for tests: frames with compressed headers, as other implementations write them.

use bytes::{BufMut as _, BytesMut};
use flate2::{Compress, Compression, FlushCompress};

use super::dictionary::dictionary;

/// The sending half of a client.
pub(crate) struct Sender {
    deflater: Compress,
}

impl Sender {
    pub(crate) fn new() -> Self {
        let mut deflater = Compress::new(Compression::best(), true);
        deflater.set_dictionary(&dictionary()).unwrap();
        Self { deflater }
    }

    fn deflated(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() + 512);
        self.deflater.compress_vec(block, &mut out, FlushCompress::Sync).unwrap();
        out
    }

    pub(crate) fn open(&mut self, stream: u32, fin: bool, headers: &[(&str, &str)]) -> BytesMut {
        self.open_with(stream, fin, &block(headers))
    }

    /// Opens a stream with a header block of any content.
    pub(crate) fn open_with(&mut self, stream: u32, fin: bool, block: &[u8]) -> BytesMut {
        let mut payload = BytesMut::new();
        payload.put_u32(stream);
        payload.put_slice(&[0; 6]);
        payload.put_slice(&self.deflated(block));
        control(1, u8::from(fin), &payload)
    }
}

/// A header block before compression.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        block.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        block.extend_from_slice(text.as_bytes());
    }
    block
}

pub(crate) fn control(kind: u16, flags: u8, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u16(0x8003);
    frame.put_u16(kind);
    frame.put_u32((u32::from(flags) << 24) | u32::try_from(payload.len()).unwrap());
    frame.put_slice(payload);
    frame
}

pub(crate) fn data(stream: u32, fin: bool, payload: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u32(stream);
    frame.put_u32((u32::from(fin) << 24) | u32::try_from(payload.len()).unwrap());
    frame.put_slice(payload);
    frame
}

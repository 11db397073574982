//! Decompression in-process: gzip (also of several members), zstd, and none.

use std::io::{BufRead, Chain, Cursor, Read, Result};

use flate2::bufread::MultiGzDecoder;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// zstd's skippable frames begin with one of 16 values; some writers put one first.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
/// Largest zstd window as a power of two: the 128 MiB that the zstd program takes too. It bounds memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

type Source<R> = Chain<Cursor<Vec<u8>>, R>;

/// A decoder chosen by the first bytes: what media types say is not reliable in the wild.
pub(crate) enum Decoder<R: BufRead> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>),
}

impl<R: BufRead> Decoder<R> {
    /// Looks at the first bytes of `source`.
    pub(crate) fn new(mut source: R) -> Result<Self> {
        let mut magic = Vec::with_capacity(4);
        source.by_ref().take(4).read_to_end(&mut magic)?;
        let is_gzip = magic.starts_with(&GZIP_MAGIC);
        let is_zstd = magic == ZSTD_MAGIC || magic.get(1..) == Some(&ZSTD_SKIPPABLE);
        let whole = Cursor::new(magic).chain(source);
        if is_gzip {
            return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(whole))));
        }
        if is_zstd {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            return Ok(Self::Zstd(Box::new(decoder)));
        }
        Ok(Self::Plain(whole))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(source) => source.read(buffer),
            Self::Zstd(source) => source.read(buffer),
        }
    }
}

//! Sparse files: where in a file the stored bytes belong.

use std::io::{BufRead, Read};

use super::header::{BLOCK_BYTES, RawHeader, sparse_array};
use super::{MAX_METADATA_BYTES, TarError, malformed, pax};

/// A run of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The map of GNU's old format: in the header, and in blocks after it.
pub(super) fn old_gnu(header: &RawHeader, source: &mut impl Read) -> Result<Vec<Segment>, TarError> {
    let (mut segments, mut more) = header.sparse_segments()?;
    let mut bytes = 0;
    while more {
        bytes += BLOCK_BYTES as u64;
        if bytes > MAX_METADATA_BYTES {
            return malformed("a sparse map is too long");
        }
        let mut block = [0; BLOCK_BYTES];
        source.read_exact(&mut block)?;
        let (array, flags) = block.split_at(504);
        segments.extend(sparse_array(array)?);
        more = flags.first().is_some_and(|flag| *flag != 0);
    }
    Ok(segments)
}

/// The map of format 1.0: decimal lines before the data, filled up to a block. Also gives the bytes it takes.
pub(super) fn in_data(source: &mut impl BufRead, stored: u64) -> Result<(Vec<Segment>, u64), TarError> {
    let mut taken = 0;
    let mut line = || -> Result<u64, TarError> {
        let mut digits = Vec::new();
        let read = source.by_ref().take(24).read_until(b'\n', &mut digits)? as u64;
        taken += read;
        if taken > stored.min(MAX_METADATA_BYTES) {
            return malformed("a sparse map is too long");
        }
        match digits.strip_suffix(b"\n") {
            Some(digits) => pax::number(digits),
            None => malformed("a sparse map has a line without end"),
        }
    };
    let count = line()?;
    let mut segments = Vec::new();
    for _ in 0..count {
        let offset = line()?;
        segments.push(Segment { offset, length: line()? });
    }
    let block = BLOCK_BYTES as u64;
    let fill = (block - taken % block) % block;
    std::io::copy(&mut source.by_ref().take(fill), &mut std::io::sink())?;
    Ok((segments, taken + fill))
}

/// Refuses maps that overlap, go backwards, leave the file, or do not match the stored bytes.
pub(super) fn check(segments: Vec<Segment>, size: u64, stored: u64) -> Result<Vec<Segment>, TarError> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for segment in &segments {
        let next = segment.offset.checked_add(segment.length);
        match next {
            Some(next) if segment.offset >= end && next <= size => end = next,
            _ => return malformed("a sparse map overlaps itself or leaves its file"),
        }
        // Bounded by `size`, since segments do not overlap.
        sum += segment.length;
    }
    if sum != stored || size > i64::MAX as u64 {
        return malformed("a sparse map does not match the stored bytes");
    }
    Ok(segments)
}

//! What a container writes, cut into the lines of a CRI log. The shim is a program and no library, so its file is taken in.

#[path = "../../shim/src/writer/lines.rs"]
mod lines;

use lines::{Lines, MAX_LINE_BYTES, Tag};

/// Runs of one byte, read in pieces. Bytes come in threes: a byte, how often it comes, how much the next read takes; with
/// both lengths up to some lines, since the limit of a line is where it gets difficult.
pub(super) fn log_lines(bytes: &[u8]) {
    let (mut stream, mut cuts) = (Vec::new(), vec![usize::MAX]);
    for three in bytes.chunks_exact(3).take(64) {
        let &[byte, often, taken] = three else { continue };
        stream.extend(std::iter::repeat_n(byte, length(often)));
        cuts.insert(cuts.len() - 1, length(taken).max(1));
    }
    let read = cut(&stream, &cuts);
    assert_eq!(read, cut(&stream, &[usize::MAX]), "it matters how it was read");
    assert!(read.iter().all(|(_, text)| text.len() <= MAX_LINE_BYTES && !text.contains(&b'\n')), "a line is none");
    let again: Vec<u8> =
        read.iter().flat_map(|(tag, text)| text.iter().copied().chain((*tag == Tag::Full).then_some(b'\n'))).collect();
    assert_eq!(again, stream, "bytes are lost");
}

/// Up to 63 by ones, then in steps to a little over a line's limit and back.
fn length(byte: u8) -> usize {
    let count = usize::from(byte);
    match count {
        0..64 => count,
        64..128 => MAX_LINE_BYTES + 32 - (count - 64),
        _ => (count - 127) * 181,
    }
}

fn cut(mut stream: &[u8], sizes: &[usize]) -> Vec<(Tag, Vec<u8>)> {
    let mut found = Vec::new();
    let mut lines = Lines::default();
    for size in sizes {
        let (piece, rest) = stream.split_at((*size).min(stream.len()));
        lines.push(piece, |tag, first, second| found.push((tag, [first, second].concat())));
        lines.shrink();
        stream = rest;
    }
    lines.finish(|tag, first, second| found.push((tag, [first, second].concat())));
    found
}

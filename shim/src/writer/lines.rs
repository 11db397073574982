//! Cutting a stream into the lines of a CRI log.
//!
//! A line is ended by a newline (`F`). One longer than [`MAX_LINE_BYTES`] is cut into pieces (`P`) and its rest; what is left
//! without a newline at the end of the stream is a piece too. Readers join pieces with what follows, so every byte comes back.

use std::io::BufRead as _;

/// Longest text of one log line, as kubelet's readers expect it.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;

/// By the C library's search: a loop over bytes would rule the time of long lines, in code that is optimised for size.
fn newline_in(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // A slice can always be read.
    let passed = rest.skip_until(b'\n').unwrap_or(0);
    passed.checked_sub(1).filter(|at| bytes.get(*at) == Some(&b'\n'))
}

/// Whether a line of the log ends a line of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// More of it follows.
    Partial,
    /// It does.
    Full,
}

/// One stream between two reads.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What came since the last newline; never longer than a line.
    held: Vec<u8>,
}

impl Lines {
    /// Takes what was read and passes finished lines on, each in up to two parts.
    pub(super) fn push(&mut self, mut chunk: &[u8], mut line: impl FnMut(Tag, &[u8], &[u8])) {
        while !chunk.is_empty() {
            let room = MAX_LINE_BYTES - self.held.len();
            let newline = newline_in(chunk.get(..=room).unwrap_or(chunk));
            let (text, tag, rest) = match newline {
                Some(at) => (chunk.get(..at), Tag::Full, chunk.get(at + 1..)),
                None if chunk.len() > room => (chunk.get(..room), Tag::Partial, chunk.get(room..)),
                None => {
                    self.held.extend_from_slice(chunk);
                    return;
                }
            };
            line(tag, &self.held, text.unwrap_or_default());
            self.held.clear();
            chunk = rest.unwrap_or_default();
        }
    }

    /// The stream has ended.
    pub(super) fn finish(&mut self, mut line: impl FnMut(Tag, &[u8], &[u8])) {
        if !self.held.is_empty() {
            line(Tag::Partial, &self.held, b"");
        }
        self.held = Vec::new();
    }

    /// Gives memory back while nothing happens.
    pub(super) fn shrink(&mut self) {
        self.held.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<(Tag, Vec<u8>)> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk, |tag, a, b| found.push((tag, [a, b].concat())));
        }
        lines.finish(|tag, a, b| found.push((tag, [a, b].concat())));
        found
    }

    fn joined(lines: &[(Tag, Vec<u8>)]) -> Vec<u8> {
        lines.iter().flat_map(|(tag, text)| text.iter().copied().chain((*tag == Tag::Full).then_some(b'\n'))).collect()
    }

    #[test]
    fn lines_keep_their_bytes() {
        let found = cut([&b"one\n\ntw"[..], b"o\0\xff\r\nrest"]);
        let want: [(Tag, &[u8]); 4] =
            [(Tag::Full, b"one"), (Tag::Full, b""), (Tag::Full, b"two\0\xff\r"), (Tag::Partial, b"rest")];
        assert_eq!(found.iter().map(|(tag, text)| (*tag, text.as_slice())).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_line_of_just_the_limit_is_not_cut() {
        let mut line = vec![b'x'; MAX_LINE_BYTES];
        line.push(b'\n');
        assert_eq!(cut([line.as_slice()]).len(), 1);
        line.insert(0, b'x');
        let found = cut([line.as_slice()]);
        assert_eq!((found[0].0, found[0].1.len()), (Tag::Partial, MAX_LINE_BYTES));
        assert_eq!((found[1].0, found[1].1.len()), (Tag::Full, 1));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_arrives(
            runs in prop::collection::vec((any::<u8>(), 1usize..40_000), 0..6),
            cuts in prop::collection::vec(1usize..20_000, 1..20),
        ) {
            let stream: Vec<u8> = runs.iter().flat_map(|(byte, count)| std::iter::repeat_n(*byte, *count)).collect();
            let mut chunks = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let found = cut(chunks);
            prop_assert!(found.iter().all(|(_, text)| text.len() <= MAX_LINE_BYTES && !text.contains(&b'\n')));
            prop_assert_eq!(joined(&found), stream.clone());
            prop_assert_eq!(found, cut([stream.as_slice()]));
        }
    }
}

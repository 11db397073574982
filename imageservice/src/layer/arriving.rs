//! The file of a blob that arrives. Nobody reads it again soon, so its pages are written out while more arrives and then given back: the last
//! sync has little left to do, and a pull takes no more memory for its blobs than a few MiB.

use std::fs::{File, OpenOptions};
use std::io::{Result, Write as _};
use std::num::NonZeroU64;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// How much is written between two pieces of advice.
const STRIDE_BYTES: u64 = 4 << 20;
/// How far back each reaches. The first one over a stride has the kernel write it out, the next one gives up what was written by then.
const REACH_BYTES: u64 = 3 * STRIDE_BYTES;

pub(super) struct ArrivingBlob {
    file: File,
    end: u64,
    advised: u64,
}

impl ArrivingBlob {
    /// Opens what an earlier attempt left, or makes the file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file, end, advised: end })
    }

    /// The file, to read first what is there.
    pub(super) fn present(&mut self) -> &mut File {
        &mut self.file
    }

    /// Writes after what was read or written before.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece)?;
        self.end += piece.len() as u64;
        if self.end - self.advised >= STRIDE_BYTES {
            self.advised = self.end;
            self.give_up_pages(self.end.saturating_sub(REACH_BYTES), NonZeroU64::new(REACH_BYTES));
        }
        Ok(())
    }

    /// Makes the content survive a power cut.
    pub(super) fn sync(self) -> Result<()> {
        self.file.sync_data()?;
        self.give_up_pages(0, None);
        Ok(())
    }

    /// Only advice: a file system that does not take it keeps the pages, as with any other file.
    fn give_up_pages(&self, from: u64, length: Option<NonZeroU64>) {
        let _ = fadvise(&self.file, from, length, Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_there_is_continued_and_all_of_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        std::fs::write(&path, b"there ").unwrap();
        let mut blob = ArrivingBlob::open(&path).unwrap();
        let mut present = Vec::new();
        blob.present().read_to_end(&mut present).unwrap();
        let piece = vec![7; usize::try_from(STRIDE_BYTES).unwrap() + 1];
        for _ in 0..5 {
            blob.append(&piece).unwrap();
        }
        blob.sync().unwrap();
        let expected = [present.as_slice(), &piece.repeat(5)].concat();
        assert!(present == b"there " && std::fs::read(&path).unwrap() == expected);
    }
}

//! The log of a disk's writes, as qemu's blklogwrites driver and Linux's dm-log-writes write it: a sector that says how many entries
//! there are, then each entry in a sector of its own, with what it wrote behind it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FORCED: u64 = 2;
const DISCARD: u64 = 4;
/// Entries that are read; a log of more is rubbish.
const MOST_ENTRIES: u64 = 10_000_000;

/// One request to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it wrote, in bytes.
    pub(crate) position: u64,
    /// How much it wrote.
    pub(crate) length: u64,
    /// Where in the log that lies.
    data: u64,
    flags: u64,
}

impl Entry {
    /// After it everything before it is on the disk for good.
    pub(crate) fn is_flush(&self) -> bool {
        self.flags & (FLUSH | FORCED) != 0
    }
}

/// A log that is read.
pub(crate) struct Log {
    file: File,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    /// Reads all entries.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0).context("reading the log's head")?;
        let (magic, version, count) = (number(&head, 0)?, number(&head, 8)?, number(&head, 16)?);
        ensure!(magic == MAGIC && version == VERSION, "this is no log of writes: {magic:x}, version {version}");
        ensure!(count <= MOST_ENTRIES, "the log claims {count} entries");
        let sector = number(&head, 20)? >> 32;
        ensure!((512..=4096).contains(&sector) && sector.is_power_of_two(), "sectors of {sector} bytes");
        let mut entries = Vec::new();
        let mut at = sector;
        for _ in 0..count {
            let mut head = [0; 32];
            file.read_exact_at(&mut head, at).context("reading an entry of the log")?;
            let (position, sectors, flags) = (number(&head, 0)?, number(&head, 8)?, number(&head, 16)?);
            at += sector;
            let is_discard = flags & DISCARD != 0;
            let length = if is_discard { 0 } else { sectors.checked_mul(sector).context("a length")? };
            let position = position.checked_mul(sector).context("a position")?;
            entries.push(Entry { position, length, data: at, flags });
            at = at.checked_add(length).context("a length")?;
        }
        Ok(Self { file, entries })
    }

    /// Writes to a disk what an entry wrote.
    pub(crate) fn apply(&self, entry: &Entry, disk: &File) -> Result<()> {
        let mut data = vec![0; usize::try_from(entry.length)?];
        self.file.read_exact_at(&mut data, entry.data).context("reading what was written")?;
        disk.write_all_at(&data, entry.position).context("writing it again")
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u64> {
    let bytes = bytes.get(at..at + 8).context("a number")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_and_applied() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        for number in [MAGIC, VERSION, 3] {
            bytes.extend(u64::to_le_bytes(number));
        }
        bytes.extend(u32::to_le_bytes(512));
        bytes.resize(512, 0);
        for (sector, sectors, flags) in [(3_u64, 1_u64, 0_u64), (0, 8, DISCARD), (0, 0, FLUSH)] {
            let start = bytes.len();
            for number in [sector, sectors, flags, 0] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.resize(start + 512, 0);
            if flags == 0 {
                bytes.extend([7; 512]);
            }
        }
        let path = dir.path().join("log");
        std::fs::write(&path, &bytes).unwrap();
        let log = Log::open(&path).unwrap();
        let (write, discard, flush) = (log.entries[0], log.entries[1], log.entries[2]);
        assert!((write.position, write.length, write.is_flush()) == (1536, 512, false));
        assert!((discard.length, flush.length, flush.is_flush()) == (0, 0, true));
        let disk = File::options().read(true).write(true).create_new(true).open(dir.path().join("disk")).unwrap();
        log.apply(&write, &disk).unwrap();
        assert_eq!(std::fs::read(dir.path().join("disk")).unwrap()[1535..1538], [0, 7, 7]);
        std::fs::write(&path, &bytes[..600]).unwrap();
        assert!(Log::open(&path).is_err());
    }
}

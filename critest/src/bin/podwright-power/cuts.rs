//! Which moments the power is cut at, and the disk as it is then.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::disk::copy;
use crate::log::Log;

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cut {
    /// Everything up to here was flushed: that many entries.
    pub(crate) flushed: usize,
    /// What of the entries after that had reached the disk.
    pub(crate) reached: Vec<usize>,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Right after a flush.
    Flush,
    /// Between two, all writes in their order.
    Between,
    /// Between two, with some of the writes since the flush: a disk with a cache writes as it likes.
    Torn,
}

/// A generator that gives the same numbers for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}

/// Every flush and as many points between; `most` of them, if it is not zero.
pub(crate) fn choose(log: &Log, most: usize, random: &mut Random) -> Vec<Cut> {
    let entries = &log.entries;
    let flushes: Vec<usize> =
        (0..entries.len()).filter(|at| entries.get(*at).is_some_and(|e| e.is_flush())).map(|at| at + 1).collect();
    let mut cuts: Vec<Cut> =
        flushes.iter().map(|at| Cut { flushed: *at, reached: Vec::new(), kind: Kind::Flush }).collect();
    for at in 0..flushes.len() {
        let cut = random.below(entries.len());
        let flushed = flushes.iter().copied().take_while(|flush| *flush <= cut).last().unwrap_or(0);
        let kind = if at % 2 == 0 { Kind::Between } else { Kind::Torn };
        let reached = (flushed..cut).filter(|_| kind == Kind::Between || random.below(2) == 0).collect();
        cuts.push(Cut { flushed, reached, kind });
    }
    while most > 0 && cuts.len() > most {
        let gone = random.below(cuts.len());
        cuts.swap_remove(gone);
    }
    cuts.sort();
    cuts
}

/// The disk at each cut, one after another.
pub(crate) struct Replay<'a> {
    log: &'a Log,
    /// The disk with the first `done` entries.
    base: File,
    path: PathBuf,
    done: usize,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(log: &'a Log, empty: &Path, path: &Path) -> Result<Self> {
        copy(empty, path)?;
        let base = File::options().read(true).write(true).open(path).context("opening the disk")?;
        Ok(Self { log, base, path: path.to_owned(), done: 0 })
    }

    /// Makes the disk of a cut. They come in their order.
    pub(crate) fn make(&mut self, cut: &Cut, to: &Path) -> Result<()> {
        for entry in self.log.entries.get(self.done..cut.flushed).unwrap_or_default() {
            self.log.apply(entry, &self.base)?;
        }
        self.done = self.done.max(cut.flushed);
        copy(&self.path, to)?;
        let disk = File::options().write(true).open(to)?;
        for entry in cut.reached.iter().filter_map(|at| self.log.entries.get(*at)) {
            self.log.apply(entry, &disk)?;
        }
        Ok(())
    }
}

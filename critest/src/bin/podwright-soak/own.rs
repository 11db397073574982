//! What the daemon itself holds.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use podwright_testutil::Daemon;
use tokio::time::{Instant, sleep};

/// What memory may grow by.
const GROWTH_PERCENT: u64 = 10;
/// Time for what is closed and given back a moment after the last call.
const AT_REST_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Memory and descriptors of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    kibibytes: u64,
    /// Of these, what no file stands behind: other daemons of the same program change the share of the rest.
    anonymous_kibibytes: u64,
    files: usize,
    threads: usize,
}

impl Own {
    /// Looks, until it is no more than `before` or long enough has been waited.
    pub(crate) async fn at_rest(daemon: &Daemon, before: Option<Self>) -> Result<Self> {
        let end = Instant::now() + AT_REST_WITHIN;
        sleep(LOOK_AGAIN).await;
        loop {
            let own = Self::of(daemon)?;
            let is_more = before.is_some_and(|before| own.growth_since(before).is_some());
            if !is_more || Instant::now() > end {
                return Ok(own);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn of(daemon: &Daemon) -> Result<Self> {
        let proc = format!("/proc/{}", daemon.pid().context("the daemon does not run")?);
        let rollup = std::fs::read_to_string(format!("{proc}/smaps_rollup")).context("reading the daemon's memory")?;
        let of = |name: &str| -> Result<u64> {
            let text = rollup.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            text.trim().trim_end_matches(" kB").parse().with_context(|| format!("{name} is {text:?}"))
        };
        let entries = |name: &str| std::fs::read_dir(format!("{proc}/{name}")).map(Iterator::count);
        Ok(Self {
            kibibytes: of("Pss:")?,
            anonymous_kibibytes: of("Pss_Anon:")?,
            files: entries("fd")?,
            threads: entries("task")?,
        })
    }

    /// In words, if it is more than it may be.
    pub(crate) fn growth_since(self, before: Self) -> Option<String> {
        let too_much = self.kibibytes * 100 > before.kibibytes * (100 + GROWTH_PERCENT);
        let grown = too_much || self.files > before.files;
        grown.then(|| format!("the daemon grows: it had {before}, now it has {self}"))
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kibibytes, anonymous_kibibytes, files, threads } = self;
        write!(f, "PSS {kibibytes} KiB ({anonymous_kibibytes} anonymous), {files} descriptors, {threads} threads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_memory_is_no_growth_and_one_descriptor_is() {
        let own = |kibibytes, files| Own { kibibytes, anonymous_kibibytes: 1, files, threads: 9 };
        assert_eq!(own(1100, 20).growth_since(own(1000, 20)), None);
        assert!(own(1101, 20).growth_since(own(1000, 20)).is_some());
        assert!(own(1000, 21).growth_since(own(1000, 20)).is_some());
        assert_eq!(own(900, 19).growth_since(own(1000, 20)), None);
    }
}

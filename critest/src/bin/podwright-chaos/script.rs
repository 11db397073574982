//! The programs in the containers: they count into their logs, so that a gap or a double shows.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use podwright_critest::read_growing_log;

/// Exit code of a counter that was asked to end.
pub(crate) const STOPPED_CODE: i32 = 7;

/// Counts ten times a second until SIGTERM, then says how far it came.
pub(crate) const COUNTER: &str = "trap 'trap \"\" TERM; echo end $i; exit 7' TERM; i=0; \
    while :; do echo $i; i=$((i+1)); sleep 0.1; done";

/// Counts to `lines` at once, waits, and ends with `code`.
pub(crate) fn burst(lines: u64, code: u64) -> String {
    format!("i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); done; sleep 0.2; echo end $i; exit {code}")
}

/// What a counter's log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// Numbers so far.
    pub(crate) lines: u64,
    /// Whether it said that it ends.
    pub(crate) ended: bool,
}

/// Reads a counter's log, without gap or double from 0 on.
pub(crate) fn count(log: &Path) -> Result<Count> {
    let mut count = Count { lines: 0, ended: false };
    let mut line = String::new();
    for entry in read_growing_log(log)? {
        line.push_str(&String::from_utf8_lossy(&entry.text));
        if !entry.full {
            continue;
        }
        take(&mut count, &line).with_context(|| format!("line {} of {}", count.lines, log.display()))?;
        line.clear();
    }
    Ok(count)
}

fn take(count: &mut Count, line: &str) -> Result<()> {
    ensure!(!count.ended, "{line:?} after the end");
    match line.strip_prefix("end ") {
        Some(total) => {
            // The signal may have come between a number and its count.
            let total: u64 = total.parse().with_context(|| format!("{line:?} is no end"))?;
            ensure!(total == count.lines || total + 1 == count.lines, "{} numbers, then {line:?}", count.lines);
            count.ended = true;
        }
        None => {
            ensure!(line == count.lines.to_string(), "{line:?} where {} is due", count.lines);
            count.lines += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Count> {
        let mut count = Count { lines: 0, ended: false };
        lines.iter().try_for_each(|line| take(&mut count, line)).map(|()| count)
    }

    #[test]
    fn gaps_and_doubles_are_found() {
        assert_eq!(read(&["0", "1", "2", "end 3"]).unwrap(), Count { lines: 3, ended: true });
        assert_eq!(read(&["0", "1", "end 1"]).unwrap(), Count { lines: 2, ended: true });
        for bad in [&["1"][..], &["0", "0"], &["0", "2"], &["0", "end 4"], &["end 0", "0"], &["0", "x"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}

//! The rate at which a counter rises, from reads that come when they come. Nobody polls for it.

use std::sync::Mutex;

use crate::util::lock;

/// Shortest span of a rate: two clients that ask one right after the other would see noise.
const SHORTEST_NANOS: i64 = 1_000_000_000;
/// Longest span from the beginning of a counter: the rate is to be one of late.
const LONGEST_FIRST_NANOS: i64 = 60_000_000_000;

/// The reads that a rate is made of.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    reads: Mutex<[Option<Read>; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    at_nanos: i64,
    value: u64,
}

impl Rate {
    /// Takes note of a read and gives the rise per second. The first span begins where the counter did, if that was of late.
    pub(crate) fn next(&self, at_nanos: i64, value: u64, began: Option<i64>) -> Option<u64> {
        let now = Read { at_nanos, value };
        let mut reads = lock(&self.reads);
        let [older, newer] = *reads;
        // A counter that fell began anew.
        let newer = newer.filter(|read| read.value <= value);
        let older = older.filter(|_| newer.is_some());
        let from = match (newer, older) {
            (Some(newer), older) => {
                if at_nanos.saturating_sub(newer.at_nanos) >= SHORTEST_NANOS {
                    *reads = [Some(newer), Some(now)];
                    Some(newer)
                } else {
                    older
                }
            }
            (None, _) => {
                let began = began.filter(|began| at_nanos.saturating_sub(*began) <= LONGEST_FIRST_NANOS);
                let first = began.map(|at_nanos| Read { at_nanos, value: 0 });
                *reads = [first, Some(now)];
                first
            }
        };
        from.and_then(|from| from.to(now))
    }
}

impl Read {
    fn to(self, later: Self) -> Option<u64> {
        let nanos = u128::try_from(later.at_nanos.checked_sub(self.at_nanos)?).ok().filter(|nanos| *nanos > 0)?;
        let rise = u128::from(later.value.checked_sub(self.value)?);
        u64::try_from(rise * 1_000_000_000 / nanos).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = SHORTEST_NANOS;

    #[test]
    fn the_rate_is_that_since_the_read_before() {
        let rate = Rate::default();
        assert_eq!(rate.next(10 * SECOND, 500, None), None, "one read makes no rate");
        assert_eq!(rate.next(12 * SECOND, 2500, None), Some(1000));
        assert_eq!(rate.next(14 * SECOND, 2500, None), Some(0));
    }

    #[test]
    fn reads_right_after_each_other_share_their_span() {
        let rate = Rate::default();
        rate.next(10 * SECOND, 0, None);
        assert_eq!(rate.next(20 * SECOND, 1000, None), Some(100));
        assert_eq!(rate.next(20 * SECOND + 1, 1000, None), Some(99), "from the same read as before");
        assert_eq!(rate.next(21 * SECOND, 1500, None), Some(500));
    }

    #[test]
    fn a_young_counter_has_a_rate_at_once_and_one_that_fell_begins_anew() {
        let rate = Rate::default();
        assert_eq!(rate.next(12 * SECOND, 400, Some(10 * SECOND)), Some(200));
        assert_eq!(Rate::default().next(100 * SECOND, 400, Some(10 * SECOND)), None);
        assert_eq!(rate.next(30 * SECOND, 3, None), None);
        assert_eq!(rate.next(32 * SECOND, 7, None), Some(2));
        assert_eq!(rate.next(32 * SECOND, 7, None), Some(2), "the same instant");
    }
}

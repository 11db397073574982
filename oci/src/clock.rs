//! Times as text: RFC 3339 in UTC with nanoseconds.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Now.
pub(crate) fn now() -> String {
    text(clock_gettime(ClockId::Realtime))
}

fn text(time: Timespec) -> String {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.tv_nsec)
}

/// Year, month and day of a day since 1970-01-01. Years begin in March here, so that the leap day is a year's last, and go in eras of 400
/// years, which all have the same length.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        let of = |tv_sec, tv_nsec| text(Timespec { tv_sec, tv_nsec });
        assert_eq!(of(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(of(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(of(1_795_233_600, 123_456_789), "2026-11-21T04:00:00.123456789Z");
    }
}

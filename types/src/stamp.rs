//! Times as text: RFC 3339 in UTC with nanoseconds, `2026-11-21T04:00:00.123456789Z`, made without heap.

/// Length in bytes of every time stamp.
pub const STAMP_BYTES: usize = 30;

/// A time stamp as ASCII text.
pub type Stamp = [u8; STAMP_BYTES];

/// The time stamp of `seconds` and `nanos` since 1970-01-01. Times before that become it; years have four digits.
#[must_use]
pub fn stamp(seconds: i64, nanos: i64) -> Stamp {
    let seconds = seconds.max(0).unsigned_abs();
    let (year, month, day) = civil(seconds / 86_400);
    let second_of_day = seconds % 86_400;
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, second_of_day / 3600),
        (14, 2, second_of_day / 60 % 60),
        (17, 2, second_of_day % 60),
        (20, 9, nanos.max(0).unsigned_abs()),
    ];
    let mut stamp = *b"0000-00-00T00:00:00.000000000Z";
    for (start, width, value) in fields {
        write_digits(stamp.get_mut(start..start + width).unwrap_or_default(), value);
    }
    stamp
}

fn write_digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. Years begin in March here, so that the
/// leap day is a year's last, and go in eras of 400 years, which all have the same length.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, nanos: i64) -> String {
        String::from_utf8(stamp(seconds, nanos).to_vec()).unwrap()
    }

    #[test]
    fn known_times() {
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(text(1_795_233_600, 123_456_789), "2026-11-21T04:00:00.123456789Z");
        assert_eq!(text(4_107_542_399, 999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(text(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for days in 1..80_000 {
            let next = civil(days);
            let follows = next == (last.0, last.1, last.2 + 1)
                || (next == (last.0, last.1 + 1, 1) && last.2 >= 28)
                || (next == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31));
            assert!(follows, "{next:?} after {last:?}");
            last = next;
        }
    }
}

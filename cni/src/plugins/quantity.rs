//! Kubernetes quantities, as bandwidth annotations have them: `10M`, `1.5Gi`, `1e6`.

/// Least and most bits per second that a pod may ask for.
const LIMITS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// Bits per second of an annotation.
pub(super) fn bits_per_second(text: &str) -> Result<u64, String> {
    let problem = || format!("the bandwidth {text:?} must be a quantity between 1k and 1P, like 10M");
    let value = parse(text.trim()).ok_or_else(problem)?;
    u64::try_from(value).ok().filter(|value| LIMITS.contains(value)).ok_or_else(problem)
}

/// The value, rounded up.
fn parse(text: &str) -> Option<u128> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 18 || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    Some(digits.checked_mul(multiplier)?.div_ceil(divisor))
}

fn scale(suffix: &str) -> Option<(u128, u128)> {
    let thousand = |power: u32| Some((1000u128.pow(power), 1));
    let binary = |power: u32| Some((1024u128.pow(power), 1));
    match suffix {
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "" => Some((1, 1)),
        "k" => thousand(1),
        "M" => thousand(2),
        "G" => thousand(3),
        "T" => thousand(4),
        "P" => thousand(5),
        "E" => thousand(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10u128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        for (text, value) in [
            ("10M", 10_000_000),
            ("1.5Gi", 1_610_612_736),
            ("1e6", 1_000_000),
            ("1k", 1000),
            ("1P", 1_000_000_000_000_000),
            ("2500000m", 2500),
            ("1000.5", 1001),
        ] {
            assert_eq!(bits_per_second(text), Ok(value), "{text}");
        }
        for bad in
            ["", "M", "-1M", "1MM", "999", "1.1P", "1e99", "1e-3", "0x10", ".", "1.2.3k", "９k", "99999999999999999999"]
        {
            assert!(bits_per_second(bad).is_err(), "{bad}");
        }
    }
}

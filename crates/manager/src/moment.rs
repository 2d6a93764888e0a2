//! Times as an operator writes them: RFC 3339, or back from now as `90s`, `30m`, `2h`, `7d`, `2w`.
//!
//! The one place that reads them: command line, control socket and console mean the same by the same words.

use tally_types::Timestamp;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MomentError {
    #[error("\"{0}\" is not a time: write it as 2026-11-24T07:03:33Z, or back from now as 90s, 30m, 2h, 7d")]
    NotAMoment(String),
    #[error("\"{0}\" is not a duration: write it as 90s, 30m, 2h, 7d")]
    NotADuration(String),
}

/// Reads a moment; a duration means so long before `now`, and `now` is itself.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, MomentError> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(back_us) = duration_us(text) {
        return Ok(now.minus_micros(back_us));
    }
    text.parse().map_err(|_| MomentError::NotAMoment(shown(text)))
}

/// Reads a duration, in microseconds: a whole number and its unit (`ms`, `s`, `m`, `h`, `d`, `w`), or several of them as
/// in `1h30m`.
pub fn duration_us(text: &str) -> Result<i64, MomentError> {
    let refused = || MomentError::NotADuration(shown(text));
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: i64 = number.parse().map_err(|_| refused())?;
        let part = unit_us(unit).and_then(|us| number.checked_mul(us)).ok_or_else(refused)?;
        total = total.checked_add(part).ok_or_else(refused)?;
        rest = after;
    }
    if text.is_empty() { Err(refused()) } else { Ok(total) }
}

fn unit_us(unit: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000;
    match unit {
        "ms" => Some(1000),
        "s" => Some(SECOND),
        "m" => Some(60 * SECOND),
        "h" => Some(3600 * SECOND),
        "d" => Some(86_400 * SECOND),
        "w" => Some(7 * 86_400 * SECOND),
        _ => None,
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, us) in [("90s", 90_000_000), ("1h30m", 5_400_000_000), ("7d", 604_800_000_000), ("250ms", 250_000)] {
            assert_eq!(duration_us(text), Ok(us), "{text}");
        }
        for bad in ["", "s", "5", "-5s", "5 s", "1y", "99999999999999d", "5s3"] {
            assert!(duration_us(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments_are_absolute_or_back_from_now() {
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(moment("2h", now), Ok(Timestamp::from_secs(1_000_000 - 7200)));
        assert_eq!(moment("now", now), Ok(now));
        assert_eq!(moment("1970-01-01T00:00:01Z", now), Ok(Timestamp::from_secs(1)));
        assert!(moment("yesterday", now).unwrap_err().to_string().contains("2026-11-24T07:03:33Z"));
    }
}

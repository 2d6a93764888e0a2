//! Moments as microseconds since the Unix epoch, in UTC, shown as RFC 3339.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z. Shown as `2026-11-24T07:03:33.000000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not a time: write it as 2026-11-24T07:03:33Z")]
pub struct TimestampError(String);

impl Timestamp {
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    #[must_use]
    pub const fn minus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_sub(micros))
    }

    /// Microseconds from `earlier` to this; negative if the clock went back.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rfc3339(f, self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000), 6)
    }
}

/// Writes seconds and a fraction of `digits` digits; a year outside 0–9999 as `@SECONDS`.
pub(crate) fn write_rfc3339(f: &mut fmt::Formatter<'_>, secs: i64, fraction: i64, digits: usize) -> fmt::Result {
    match OffsetDateTime::from_unix_timestamp(secs) {
        Ok(t) if (0..=9999).contains(&t.year()) => write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{fraction:0digits$}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        ),
        _ => write!(f, "@{secs}.{fraction:0digits$}"),
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// RFC 3339 with any offset; a finer fraction is cut to microseconds.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let refused = || TimestampError(text.chars().take(64).collect());
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refused())?;
        i64::try_from(moment.unix_timestamp_nanos().div_euclid(1000)).map(Self).map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_and_reads_rfc_3339() {
        let t = Timestamp(1_795_503_813_000_001);
        assert_eq!(t.to_string(), "2026-11-24T07:03:33.000001Z");
        assert_eq!(t.to_string().parse(), Ok(t));
        assert_eq!("2026-11-24T08:03:33.0000015+01:00".parse(), Ok(t));
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "@9223372036854.775807");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}

//! When a rule holds: hours of a day, and days of a week, by the manager's local time.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, time and weekday). `12 am` is noon there, and is here.

use tally_types::Timestamp;

/// A moment, and what a clock on the wall shows then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    pub now: Timestamp,
    /// Local time less UTC.
    pub offset_s: i32,
}

const DAY_S: i64 = 86_400;

impl Clock {
    pub const fn utc(now: Timestamp) -> Self {
        Self { now, offset_s: 0 }
    }

    /// Whole seconds since 1970, in which rules count.
    pub(crate) const fn seconds(self) -> i64 {
        self.now.0.div_euclid(1_000_000)
    }

    fn local_s(self) -> i64 {
        self.seconds().saturating_add(i64::from(self.offset_s))
    }

    /// Hours times 100 and minutes.
    pub(crate) fn hours(self) -> u16 {
        let minute = self.local_s().rem_euclid(DAY_S) / 60;
        u16::try_from(minute / 60 * 100 + minute % 60).unwrap_or_default()
    }

    /// Days since 1970, by local time.
    pub(crate) fn day(self) -> i64 {
        self.local_s().div_euclid(DAY_S)
    }

    /// 0 is Sunday. The first of January 1970 was a Thursday.
    pub(crate) fn weekday(self) -> u8 {
        u8::try_from((self.day() + 4).rem_euclid(7)).unwrap_or_default()
    }
}

/// `8 am - 6 pm`; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hours {
    negated: bool,
    start: u16,
    end: u16,
}

impl Hours {
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(' ');
        let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (start, rest) = hour(text)?;
        let (end, rest) = hour(rest.trim_start_matches(' ').strip_prefix('-')?)?;
        if !rest.trim_start_matches(' ').is_empty() {
            return None;
        }
        // Over midnight is the rest of the day; a negation on top is lost, as in OSSEC.
        Some(if start > end { Self { negated: true, start: end, end: start } } else { Self { negated, start, end } })
    }

    pub fn hold(self, clock: Clock) -> bool {
        (self.start..=self.end).contains(&clock.hours()) != self.negated
    }
}

/// An hour, and what stands behind it.
fn hour(text: &str) -> Option<(u16, &str)> {
    let text = text.trim_start_matches(' ');
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=2).contains(&digits) {
        return None;
    }
    let mut hour: u16 = text[..digits].parse().ok().filter(|hour| *hour <= 23)?;
    let mut rest = &text[digits..];
    let mut minute = 0;
    if let Some(behind) = rest.strip_prefix(':') {
        let two = behind.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_digit()))?;
        minute = two.parse().ok()?;
        rest = &behind[2..];
    }
    let behind = rest.trim_start_matches(' ');
    match behind.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("am") if hour <= 12 => rest = &behind[2..],
        Some("pm") if hour <= 12 => {
            hour += if hour == 12 { 0 } else { 12 };
            rest = &behind[2..];
        }
        Some("am" | "pm") => return None,
        _ => {}
    }
    Some((hour * 100 + minute, rest))
}

/// `weekdays`, `sat, sun`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weekdays(u8);

impl Weekdays {
    const NAMES: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    const ALL: u8 = 0b111_1111;

    pub fn parse(text: &str) -> Option<Self> {
        let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let mut days = 0;
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let word = word.to_ascii_lowercase();
            days |= match &*word {
                "weekdays" => 0b011_1110,
                "weekends" => 0b100_0001,
                _ => 1 << Self::NAMES.iter().position(|name| *name == word || name[..3] == *word)?,
            };
        }
        let days = if negated { Self::ALL & !days } else { days };
        (days != 0).then_some(Self(days))
    }

    pub fn hold(self, clock: Clock) -> bool {
        self.0 & (1 << clock.weekday()) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hour: i64, minute: i64) -> Clock {
        Clock::utc(Timestamp((hour * 3600 + minute * 60 + 59) * 1_000_000))
    }

    #[test]
    fn hours_are_as_written() {
        for (text, inside, outside) in [
            ("8 am - 6 pm", &[(8, 0), (18, 0)][..], &[(7, 59), (18, 1)][..]),
            ("8am-6pm", &[(8, 0)], &[(19, 0)]),
            ("!08:00 - 18:00", &[(7, 59), (18, 1)], &[(8, 0), (18, 0)]),
            ("22:00 - 04:00", &[(22, 1), (3, 59)], &[(22, 0), (4, 0), (12, 0)]),
            ("!6 pm - 8:30 am", &[(18, 1), (8, 29)], &[(8, 30), (12, 0), (18, 0)]),
            ("12 am - 12 PM", &[(12, 0)], &[(0, 0), (12, 1)]),
            ("8 - 10:60", &[(10, 59)], &[(11, 0)]),
        ] {
            let hours = Hours::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert!(inside.iter().all(|(h, m)| hours.hold(at(*h, *m))), "{text}");
            assert!(!outside.iter().any(|(h, m)| hours.hold(at(*h, *m))), "{text}");
        }
        for text in ["", "8 am", "25:00 - 26:00", "13 pm - 14 pm", "8:5 - 9", "a - b", "8 - 9 x", "8 - ", "800 - 900"] {
            assert_eq!(Hours::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_as_named() {
        let sunday = Clock::utc(Timestamp(3 * DAY_S * 1_000_000));
        let monday = Clock { offset_s: 3600, now: Timestamp((4 * DAY_S - 1) * 1_000_000) };
        assert_eq!((sunday.weekday(), monday.weekday(), monday.hours()), (0, 1, 59));
        for (text, on_sunday, on_monday) in [
            ("weekends", true, false),
            ("weekdays", false, true),
            ("mon tue,WEDNESDAY", false, true),
            ("saturday, sun", true, false),
            ("!sunday", false, true),
        ] {
            let days = Weekdays::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((days.hold(sunday), days.hold(monday)), (on_sunday, on_monday), "{text}");
        }
        for text in ["", "someday", "mon;tue", "tues", "thurs", "!weekdays weekends", "mo"] {
            assert_eq!(Weekdays::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn random_text_never_panics(text in "[!0-9:apm é-]{0,16}", now in any::<i64>(), offset_s in any::<i32>()) {
            let clock = Clock { now: Timestamp(now), offset_s };
            if let Some(hours) = Hours::parse(&text) {
                hours.hold(clock);
            }
            Weekdays::parse(&text);
            prop_assert!(clock.weekday() < 7 && clock.hours() < 2400);
        }
    }
}

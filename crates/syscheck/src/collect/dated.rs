//! Dates in names, as strftime writes them: `app-%Y-%m-%d.log`.

/// A moment by the host's own clock and zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CivilTime {
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    /// From Sunday, 0.
    pub weekday: u8,
    /// Of the year, from 1.
    pub yearday: u16,
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

impl CivilTime {
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month.wrapping_sub(1))).copied().unwrap_or("Jan")
    }

    /// As a line of syslog begins: `Nov 24 15:00:01`.
    pub fn syslog(&self) -> String {
        let Self { day, hour, minute, second, .. } = self;
        format!("{} {day:2} {hour:02}:{minute:02}:{second:02}", self.month_name())
    }
}

/// `text` with the date in place of its signs. A sign that is not known stays as it is.
pub fn dated(text: &str, time: &CivilTime) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut signs = text.chars();
    while let Some(c) = signs.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match signs.next() {
            Some('Y') => out.push_str(&format!("{:04}", time.year)),
            Some('y') => out.push_str(&format!("{:02}", time.year.rem_euclid(100))),
            Some('m') => out.push_str(&format!("{:02}", time.month)),
            Some('d') => out.push_str(&format!("{:02}", time.day)),
            Some('e') => out.push_str(&format!("{:2}", time.day)),
            Some('H') => out.push_str(&format!("{:02}", time.hour)),
            Some('M') => out.push_str(&format!("{:02}", time.minute)),
            Some('S') => out.push_str(&format!("{:02}", time.second)),
            Some('j') => out.push_str(&format!("{:03}", time.yearday)),
            Some('b' | 'h') => out.push_str(time.month_name()),
            Some('a') => out.push_str(WEEKDAYS.get(usize::from(time.weekday)).copied().unwrap_or("Sun")),
            Some('w') => out.push_str(&time.weekday.to_string()),
            Some('F') => out.push_str(&format!("{:04}-{:02}-{:02}", time.year, time.month, time.day)),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: CivilTime =
        CivilTime { year: 2026, month: 2, day: 3, hour: 4, minute: 5, second: 6, weekday: 2, yearday: 34 };

    #[test]
    fn signs_become_the_date_and_others_stay() {
        let cases = [
            ("/var/log/app-%Y-%m-%d.log", "/var/log/app-2026-02-03.log"),
            ("u_ex%y%m%d.log", "u_ex260203.log"),
            ("%b%e %a %j %F %H%M%S %w", "Feb 3 Tue 034 2026-02-03 040506 2"),
            ("100%% %q %", "100% %q %"),
        ];
        for (text, wanted) in cases {
            assert_eq!(dated(text, &TIME), wanted);
        }
        assert_eq!(TIME.syslog(), "Feb  3 04:05:06");
    }
}

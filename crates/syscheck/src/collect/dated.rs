//! Dates in names, as strftime writes them: `app-%Y-%m-%d.log`.

use tally_types::LocalTime;

/// `text` with the date in place of its signs. A sign that is not known stays as it is.
pub fn dated(text: &str, time: &LocalTime) -> String {
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
            Some('a') => out.push_str(time.weekday_name()),
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

    const TIME: LocalTime =
        LocalTime { year: 2026, month: 2, day: 3, hour: 4, minute: 5, second: 6, weekday: 2, yearday: 34 };

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

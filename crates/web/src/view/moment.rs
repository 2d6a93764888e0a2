//! A moment: how long ago in the page, exactly in what a program reads and in what a pointer shows.

use askama::Template;
use askama::filters::HtmlSafe;
use tally_types::Timestamp;

/// Shown as `3 min ago`; the script keeps it right.
#[derive(Template)]
#[template(ext = "html", source = r#"<time datetime="{{ iso }}" title="{{ exact }}" data-ago>{{ ago }}</time>"#)]
pub struct Moment {
    iso: String,
    exact: String,
    ago: String,
}

/// Shown as `2026-11-24 07:03:33.000001 UTC`.
#[derive(Template)]
#[template(ext = "html", source = r#"<time datetime="{{ iso }}">{{ exact }}</time>"#)]
pub struct Exact {
    iso: String,
    exact: String,
}

impl HtmlSafe for Moment {}
impl HtmlSafe for Exact {}

impl Moment {
    pub fn new(time: Timestamp, now: Timestamp) -> Self {
        Self { iso: time.to_string(), exact: short(time), ago: ago(now.since(time)) }
    }
}

impl Exact {
    pub fn new(time: Timestamp) -> Self {
        Self { iso: time.to_string(), exact: exact(time) }
    }
}

/// To the microsecond, for the eye.
pub fn exact(time: Timestamp) -> String {
    match time.to_string().strip_suffix('Z') {
        Some(utc) => format!("{} UTC", utc.replace('T', " ")),
        None => time.to_string(),
    }
}

/// To the second.
pub fn short(time: Timestamp) -> String {
    let exact = exact(time);
    match (exact.split_once('.'), exact.ends_with("UTC")) {
        (Some((seconds, _)), true) => format!("{seconds} UTC"),
        _ => exact,
    }
}

fn ago(micros: i64) -> String {
    match micros.div_euclid(1_000_000) {
        i64::MIN..=-5 => "in the future".into(),
        -4..=1 => "now".into(),
        _ => format!("{} ago", length(micros)),
    }
}

/// A length of time in the unit that suits it. The script has the same steps.
pub fn length(micros: i64) -> String {
    let micros = micros.unsigned_abs();
    let secs = micros / 1_000_000;
    match secs {
        0 if micros < 1000 => format!("{micros} µs"),
        0 => format!("{} ms", micros / 1000),
        1..=99 => format!("{secs} s"),
        100..=5_999 => format!("{} min", secs / 60),
        6_000..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_well() {
        let now = Timestamp(1_795_503_813_000_001);
        let at = |secs: i64| Moment::new(now.minus_micros(secs * 1_000_000), now).ago;
        let shown = [-60, 0, 5, 99, 100, 5_999, 6_000, 172_800].map(at);
        assert_eq!(
            shown,
            ["in the future", "now", "5 s ago", "99 s ago", "1 min ago", "99 min ago", "1 h ago", "2 d ago"]
        );
        assert_eq!(exact(now), "2026-11-24 07:03:33.000001 UTC");
        assert_eq!(short(now), "2026-11-24 07:03:33 UTC");
        assert_eq!(short(Timestamp(i64::MAX)), "@9223372036854.775807");
        assert_eq!(
            Moment::new(now, now).to_string(),
            "<time datetime=\"2026-11-24T07:03:33.000001Z\" title=\"2026-11-24 07:03:33 UTC\" data-ago>now</time>"
        );
    }
}

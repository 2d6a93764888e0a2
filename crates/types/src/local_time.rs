//! A moment as a host's own clock and zone show it.

/// As directories and lines of logs name them.
pub const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalTime {
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

impl LocalTime {
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month.wrapping_sub(1))).copied().unwrap_or("Jan")
    }

    pub fn weekday_name(&self) -> &'static str {
        WEEKDAYS.get(usize::from(self.weekday)).copied().unwrap_or("Sun")
    }

    /// As a line of syslog begins: `Nov 24 15:00:01`.
    pub fn syslog(&self) -> String {
        let Self { day, hour, minute, second, .. } = self;
        format!("{} {day:2} {hour:02}:{minute:02}:{second:02}", self.month_name())
    }
}

//! How many events an hour usually brings, and when it brings far more: OSSEC's rule 11.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, statistics). Averages are of the hours of a day and of those of a week.

use crate::hours::Clock;

const HOURS: usize = 24;
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// With as many days or fewer nothing is usual yet.
const LEARNED_MIN: u64 = 2;
const ALERTS_A_DAY_MAX: u32 = 3;
/// Older days weigh no more than so many.
const WEIGHT_MAX: u64 = 7;

/// The id of the rule that this is.
pub const RULE_ID: u32 = 11;

/// What counts as far more; the defaults are OSSEC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    pub percent: u64,
    pub difference_min: u64,
    pub difference_max: u64,
}

impl Default for Excess {
    fn default() -> Self {
        Self { percent: 150, difference_min: 1250, difference_max: 999_000 }
    }
}

impl Excess {
    fn is(self, count: u64, average: u64) -> bool {
        let difference = average.saturating_mul(self.percent) / 100 + 1;
        count > average.saturating_add(difference.clamp(self.difference_min, self.difference_max))
    }
}

/// Averages of the hours of one kind of day, and of how many days they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Averages {
    pub hours: [u64; HOURS],
    pub days: u64,
}

impl Averages {
    fn learn(&mut self, counts: &[u64; HOURS], alerts: u32) {
        let weight = self.days.min(WEIGHT_MAX);
        let pairs = self.hours.iter_mut().zip(counts);
        pairs.for_each(|(average, count)| {
            *average = match *average {
                0 => count + 20,
                before if alerts >= ALERTS_A_DAY_MAX => (3 * count + weight * before) / (weight + 3) + 25,
                before => (count + weight * before) / (weight + 1) + 5,
            };
        });
        self.days += 1;
    }
}

#[derive(Clone, Debug, Default)]
pub struct Statistics {
    pub excess: Excess,
    pub day: Averages,
    pub week: [Averages; DAYS.len()],
    counts: [u64; HOURS],
    /// Days since 1970 and the weekday of what is counted.
    today: Option<(i64, usize)>,
    alerts: u32,
    told: [bool; HOURS],
}

impl Statistics {
    /// Counts one event; answers with the text of an alert if it is one too many.
    pub fn count(&mut self, clock: Clock) -> Option<String> {
        let weekday = usize::from(clock.weekday());
        let today = (clock.day(), weekday);
        if let Some((day, before)) = self.today
            && day != today.0
        {
            self.day.learn(&self.counts, self.alerts);
            self.week[before].learn(&self.counts, self.alerts);
            self.counts = [0; HOURS];
            self.told = [false; HOURS];
            self.alerts = 0;
        }
        self.today = Some(today);
        let hour = usize::from(clock.hours() / 100).min(HOURS - 1);
        self.counts[hour] += 1;
        let count = self.counts[hour];
        if self.told[hour] || self.alerts >= ALERTS_A_DAY_MAX {
            return None;
        }
        let (day, week) = (&self.day, &self.week[weekday]);
        let is_excess = |of: &Averages| of.days > LEARNED_MIN && self.excess.is(count, of.hours[hour]);
        let (of, on) = if is_excess(day) {
            (day, String::new())
        } else if is_excess(week) {
            (week, format!(" on {}", DAYS[weekday]))
        } else {
            return None;
        };
        let average = of.hours[hour];
        self.alerts += 1;
        self.told[hour] = true;
        let next = hour + 1;
        Some(format!(
            "The average number of logs between {hour}:00 and {next}:00{on} is {average}. We reached {count}."
        ))
    }
}

#[cfg(test)]
mod tests {
    use tally_types::Timestamp;

    use super::*;

    fn at(day: i64, hour: i64) -> Clock {
        Clock::utc(Timestamp::from_secs(day * 86_400 + hour * 3600))
    }

    #[test]
    fn tells_the_excess_once_an_hour() {
        let mut statistics = Statistics::default();
        for day in 0..4 {
            (0..100).for_each(|_| assert_eq!(statistics.count(at(day, 5)), None));
        }
        assert_eq!((statistics.day.days, statistics.day.hours[5], statistics.day.hours[6]), (3, 115, 15));
        let told: Vec<_> = (0..3000).filter_map(|_| statistics.count(at(4, 5))).collect();
        assert_eq!(told, ["The average number of logs between 5:00 and 6:00 is 116. We reached 1367."]);
        for hour in 6..10 {
            (0..3000).for_each(|_| drop(statistics.count(at(4, hour))));
        }
        assert_eq!(statistics.alerts, ALERTS_A_DAY_MAX);
    }

    #[test]
    fn knows_the_days_of_the_week() {
        let mut statistics =
            Statistics { week: [Averages { hours: [10; HOURS], days: 3 }; 7], ..Statistics::default() };
        let told: Vec<_> = (0..2000).filter_map(|_| statistics.count(at(0, 23))).collect();
        let expected = "The average number of logs between 23:00 and 24:00 on Thursday is 10. We reached 1261.";
        assert_eq!(told, [expected]);
    }
}

//! Cuts log lines into calls of PutLogEvents that keep every documented limit, so that the service has nothing to refuse.
//!
//! Pure: time comes in. Source: API reference of CloudWatch Logs, PutLogEvents (2026): a call has at most 10,000 events and
//! 1,048,576 bytes, counted as the UTF-8 of each message and 26 bytes more; its events are in order of time and span at most
//! 24 hours; an event that is older than 14 days or more than 2 hours ahead is refused.

pub const CALL_BYTES_MAX: usize = 1_048_576;
pub const EVENT_OVERHEAD_BYTES: usize = 26;
pub const CALL_EVENTS_MAX: usize = 10_000;
pub const SPAN_MS_MAX: i64 = 24 * 3_600_000;
pub const OLD_MS_MAX: i64 = 14 * 24 * 3_600_000;
pub const AHEAD_MS_MAX: i64 = 2 * 3_600_000;
/// By so much we stay away from the limits of time: the call has to arrive, and clocks differ.
pub const MARGIN_MS: i64 = 10 * 60_000;
/// What one message may have so that a call can hold it.
pub const EVENT_BYTES_MAX: usize = CALL_BYTES_MAX - EVENT_OVERHEAD_BYTES;

/// One message as CloudWatch gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place in the batch that it came with.
    pub at: usize,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    pub text: String,
}

impl Line {
    pub const fn bytes(&self) -> usize {
        self.text.len() + EVENT_OVERHEAD_BYTES
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each is one call.
    pub calls: Vec<Vec<Line>>,
    /// What no call can hold.
    pub refused: Vec<(usize, String)>,
}

/// Lines of one stream. One that is too old or too far ahead gets the present as its time: the true one is in its text.
pub fn plan(lines: Vec<Line>, now_ms: i64) -> Plan {
    let mut plan = Plan::default();
    let mut fitting = Vec::with_capacity(lines.len());
    for mut line in lines {
        if line.text.is_empty() {
            plan.refused.push((line.at, "it is empty, and CloudWatch Logs takes no empty event".into()));
        } else if line.text.len() > EVENT_BYTES_MAX {
            let bytes = line.text.len();
            let why = format!("it has {bytes} bytes, and CloudWatch Logs takes at most {EVENT_BYTES_MAX} in one event");
            plan.refused.push((line.at, why));
        } else {
            let is_timely =
                line.time_ms > now_ms - OLD_MS_MAX + MARGIN_MS && line.time_ms < now_ms + AHEAD_MS_MAX - MARGIN_MS;
            if !is_timely {
                line.time_ms = now_ms;
            }
            fitting.push(line);
        }
    }
    // What happened at one moment stays in the ledger's order.
    fitting.sort_by_key(|line| line.time_ms);
    let (mut call, mut bytes) = (Vec::new(), 0);
    for line in fitting {
        let is_full = call.len() >= CALL_EVENTS_MAX || bytes + line.bytes() > CALL_BYTES_MAX;
        let is_long = call.first().is_some_and(|first: &Line| line.time_ms - first.time_ms >= SPAN_MS_MAX);
        if is_full || is_long {
            plan.calls.push(std::mem::take(&mut call));
            bytes = 0;
        }
        bytes += line.bytes();
        call.push(line);
    }
    if !call.is_empty() {
        plan.calls.push(call);
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_795_000_000_000;

    /// Judges one call by the documented limits, knowing nothing of how it was made.
    fn judged(call: &[Line]) -> Result<(), String> {
        let total: usize = call.iter().map(|line| line.text.len() + 26).sum();
        let mut times = call.iter().map(|line| line.time_ms);
        let first = times.next().ok_or("empty")?;
        let last = call[call.len() - 1].time_ms;
        if total > 1_048_576 {
            return Err(format!("{total} bytes"));
        }
        if call.len() > 10_000 {
            return Err(format!("{} events", call.len()));
        }
        if last - first > 86_400_000 {
            return Err(format!("spans {} ms", last - first));
        }
        if call.windows(2).any(|pair| pair[0].time_ms > pair[1].time_ms) {
            return Err("out of order".into());
        }
        if first < NOW - 14 * 86_400_000 || last > NOW + 7_200_000 {
            return Err("too old or too far ahead".into());
        }
        if call.iter().any(|line| line.text.is_empty()) {
            return Err("empty event".into());
        }
        Ok(())
    }

    fn checked(lines: Vec<Line>) -> Result<Plan, TestCaseError> {
        let mut wanted: BTreeMap<usize, String> = lines.iter().map(|line| (line.at, line.text.clone())).collect();
        let plan = plan(lines, NOW);
        for call in &plan.calls {
            prop_assert_eq!(judged(call), Ok(()));
            for line in call {
                let text = wanted.remove(&line.at);
                prop_assert_eq!(text.as_ref(), Some(&line.text));
            }
        }
        for (at, why) in &plan.refused {
            let text = wanted.remove(at).expect("each is told of once");
            prop_assert!(text.is_empty() || text.len() > 1_048_550, "{} refused: {}", text.len(), why);
        }
        prop_assert!(wanted.is_empty(), "lost: {:?}", wanted.keys());
        Ok(plan)
    }

    fn line(at: usize, time_ms: i64, length: usize) -> Line {
        Line { at, time_ms, text: "x".repeat(length) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_call_keeps_every_limit(
            lines in prop::collection::vec(
                (
                    prop_oneof![
                        3 => -3_600_000i64..0,
                        1 => -20i64 * 86_400_000..86_400_000,
                        1 => prop::sample::select(vec![-14 * 86_400_000, -86_400_000, 0, 7_200_000, i64::MIN / 4, i64::MAX / 4]),
                    ],
                    prop_oneof![
                        6 => 0usize..400,
                        2 => 100_000usize..400_000,
                        1 => prop::sample::select(vec![0, 1_048_550, 1_048_551, 524_262, 524_263]),
                    ],
                ),
                0..24,
            )
        ) {
            checked(lines.iter().enumerate().map(|(at, (time, length))| line(at, NOW + time, *length)).collect())?;
        }
    }

    #[test]
    fn many_small_ones_are_cut_by_their_number() {
        let plan = checked((0..25_000).map(|at| line(at, NOW, 3)).collect()).unwrap();
        assert_eq!(plan.calls.iter().map(Vec::len).collect::<Vec<_>>(), [10_000, 10_000, 5_000]);
        assert_eq!(plan.calls[1][0].at, 10_000);
    }

    #[test]
    fn two_that_just_fit_are_one_call() {
        let plan = checked(vec![line(0, NOW, 524_262), line(1, NOW, 524_262)]).unwrap();
        assert_eq!(plan.calls.len(), 1);
        let plan = checked(vec![line(0, NOW, 524_262), line(1, NOW, 524_263)]).unwrap();
        assert_eq!(plan.calls.len(), 2);
    }
}

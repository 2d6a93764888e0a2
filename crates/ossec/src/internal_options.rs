//! `internal_options.conf` and `local_internal_options.conf`: `daemon.option=number`, one a line.
//!
//! OSSEC refuses to start without all of them; here a file is read for the few that mean something, and each option says what
//! became of it. The ranges are OSSEC's own.

use crate::finding::{Findings, Notary};
use crate::native::{Fate, Note};
use tally_types::shown;

/// The options of one file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InternalOptions {
    pub options: Vec<InternalOption>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalOption {
    pub line: u32,
    /// `remoted.verify_msg_id`
    pub name: &'static str,
    pub value: u32,
}

/// More lines are no such file.
const LINES_MAX: usize = 10_000;

/// An option with its range, and what it means here.
struct Known {
    name: &'static str,
    max: u32,
    fate: Fate,
    text: &'static str,
}

const fn known(name: &'static str, max: u32, fate: Fate, text: &'static str) -> Known {
    Known { name, max, fate, text }
}

const THREADS: &str = "threads and queues are the program's own";
const SCANS: &str = "[agent.budget] says what a scan may cost";
const DEBUG: &str = "programs tell more with the environment's RUST_LOG";
const STATS: &str = "there are no alerts about numbers of events";

const KNOWN: [Known; 69] = [
    known("analysisd.default_timeframe", 604_800, Fate::Left, "a rule without a timeframe has 360 seconds"),
    known("analysisd.stats_maxdiff", 9_999_999, Fate::Left, STATS),
    known("analysisd.stats_mindiff", 9_999_999, Fate::Left, STATS),
    known("analysisd.stats_percent_diff", 9999, Fate::Left, STATS),
    known("analysisd.fts_list_size", 512, Fate::Left, "what was seen first is remembered up to the engine's own bound"),
    known("analysisd.fts_min_size_for_str", 128, Fate::Left, "14, OSSEC's default, is used"),
    known("analysisd.log_fw", 1, Fate::Left, "there is no firewall.log"),
    known("analysisd.decoder_order_size", 256, Fate::Given, "an order may name as many fields as OSSEC allows at most"),
    known("analysisd.sid_prev_matched_max", 10_000, Fate::Left, "128, OSSEC's default, is used"),
    known("analysisd.event_threads", 64, Fate::Given, THREADS),
    known("analysisd.rule_matching_threads", 64, Fate::Given, THREADS),
    known("analysisd.syscheck_threads", 64, Fate::Given, THREADS),
    known("analysisd.rootcheck_threads", 64, Fate::Given, THREADS),
    known("analysisd.hostinfo_threads", 64, Fate::Given, THREADS),
    known("analysisd.input_demux_threads", 64, Fate::Given, THREADS),
    known("analysisd.decode_event_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.raw_input_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.decode_syscheck_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.decode_rootcheck_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.decode_hostinfo_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.decode_output_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.alerts_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.statistical_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.archives_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.firewall_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.fts_queue_size", 10_000_000, Fate::Given, THREADS),
    known("analysisd.raw_input_push_wait_ms", 60_000, Fate::Given, THREADS),
    known("analysisd.demux_push_wait_ms", 60_000, Fate::Given, THREADS),
    known("analysisd.shard_push_wait_ms", 60_000, Fate::Given, THREADS),
    known("analysisd.alerts_push_wait_ms", 60_000, Fate::Given, THREADS),
    known("analysisd.state_interval", 86_400, Fate::Left, "tally status tells the state whenever it is asked"),
    known("analysisd.geoip_jsonout", 1, Fate::Left, "no database of places is consulted"),
    known("logcollector.loop_timeout", 120, Fate::Given, "files are read as they grow"),
    known("logcollector.open_attempts", 998, Fate::Given, "a file that is missing is looked for again, for ever"),
    known("logcollector.remote_commands", 1, Fate::Left, "accept_commands in the agent's own file says the same"),
    known("ossec.thread_stack_size", 65_536, Fate::Given, THREADS),
    known("remoted.recv_counter_flush", 999_999, Fate::Given, "counters are kept so that a restart opens no window"),
    known("remoted.comp_average_printout", 999_999, Fate::Left, "the average compression is not told"),
    known(
        "remoted.verify_msg_id",
        1,
        Fate::Left,
        "counters are always checked; an agent that was installed anew is given a new key",
    ),
    known("remoted.pass_empty_keyfile", 1, Fate::Given, "a manager without agents runs"),
    known("remoted.syslog_tcp_worker_pool", 1024, Fate::Given, THREADS),
    known("remoted.syslog_tcp_max_tasks", 4096, Fate::Given, THREADS),
    known("remoted.syslog_tcp_read_timeout", 86_400, Fate::Given, THREADS),
    known("maild.strict_checking", 1, Fate::Given, "what a mail server answers is always checked"),
    known(
        "maild.groupping",
        1,
        Fate::Left,
        "alerts are gathered; a [[mail_route]] with alone has each in a mail of its own",
    ),
    known("maild.full_subject", 1, Fate::Left, "a subject always has host, level and description"),
    known("maild.geoip", 1, Fate::Left, "no database of places is consulted"),
    known("maild.max_workers", 64, Fate::Given, THREADS),
    known("authd.worker_pool", 64, Fate::Given, THREADS),
    known("authd.max_connections", 4096, Fate::Given, THREADS),
    known("monitord.day_wait", 600, Fate::Left, "nothing waits for the end of a day"),
    known("monitord.max_report_workers", 64, Fate::Left, "no reports are mailed"),
    known("monitord.compress", 1, Fate::Left, "finished days are compressed"),
    known("monitord.sign", 1, Fate::Given, "the ledger is signed"),
    known("monitord.monitor_agents", 1, Fate::Given, "an agent that is silent is an alert"),
    known("monitord.notify_time", 86_400, Fate::Left, "heartbeat_s says how often an agent speaks"),
    known("syscheck.sleep", 64, Fate::Left, SCANS),
    known("syscheck.sleep_after", 9999, Fate::Left, SCANS),
    known("rootcheck.sleep", 64, Fate::Left, SCANS),
    known("dbd.reconnect_attempts", 9999, Fate::Left, "the manager's own database holds the alerts"),
    known("windows.debug", 2, Fate::Left, DEBUG),
    known("syscheck.debug", 2, Fate::Left, DEBUG),
    known("remoted.debug", 2, Fate::Left, DEBUG),
    known("analysisd.debug", 2, Fate::Left, DEBUG),
    known("logcollector.debug", 2, Fate::Left, DEBUG),
    known("agent.debug", 2, Fate::Left, DEBUG),
    known("authd.debug", 2, Fate::Left, DEBUG),
    known("rootcheck.debug", 2, Fate::Left, DEBUG),
    known("execd.debug", 2, Fate::Left, DEBUG),
];

impl InternalOptions {
    /// Whether a text is such a file: its first line that is no comment is one option.
    pub fn is_one(text: &str) -> bool {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.next().is_some_and(|line| {
            let name = line.split('=').next().unwrap_or_default().trim();
            KNOWN.iter().any(|known| known.name == name)
        })
    }

    pub fn parse(text: &str, file: &str) -> (Self, Findings) {
        let mut notary = Notary::new(file, text);
        let mut options: Vec<InternalOption> = Vec::new();
        let mut at = 0;
        for (count, raw) in text.split_inclusive('\n').enumerate() {
            let start = at;
            at += raw.len();
            if count >= LINES_MAX {
                notary.error(start, format!("more than {LINES_MAX} lines"));
                break;
            }
            let line = raw.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let start = start + (raw.len() - raw.trim_start().len());
            let Some((name, value)) = line.split_once('=') else {
                notary.error(start, format!("an option is written as daemon.option=number, not \"{}\"", shown(line)));
                continue;
            };
            let Some(known) = KNOWN.iter().find(|known| known.name == name.trim()) else {
                notary.unknown(start, "option", name.trim(), KNOWN.iter().map(|known| known.name));
                continue;
            };
            match value.trim().parse::<u32>().ok().filter(|value| *value <= known.max) {
                Some(value) => options.push(InternalOption { line: notary.line(start), name: known.name, value }),
                None => notary.error(start, format!("{} is a whole number up to {}", known.name, known.max)),
            }
        }
        (Self { options }, notary.finish())
    }

    /// What became of each.
    pub fn notes(&self) -> Vec<Note> {
        let note = |option: &InternalOption| {
            let known = KNOWN.iter().find(|known| known.name == option.name)?;
            Some(Note {
                line: option.line,
                element: option.name.to_owned(),
                fate: known.fate,
                text: known.text.to_owned(),
            })
        };
        self.options.iter().filter_map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_with_their_places() {
        let text = "# a comment\n\nremoted.verify_msg_id=0\n syscheck.sleep = 2\nsyschek.sleep=1\nremoted.verify_msg_id=7\nx\n";
        let (options, findings) = InternalOptions::parse(text, "f");
        let read: Vec<_> = options.options.iter().map(|option| (option.line, option.name, option.value)).collect();
        assert_eq!(read, [(3, "remoted.verify_msg_id", 0), (4, "syscheck.sleep", 2)]);
        let told: Vec<_> = findings.0.iter().map(ToString::to_string).collect();
        let expected = [
            "f:5:1: warning: unknown option \"syschek.sleep\" (did you mean \"syscheck.sleep\"?); it has no effect",
            "f:6:1: remoted.verify_msg_id is a whole number up to 1",
            "f:7:1: an option is written as daemon.option=number, not \"x\"",
        ];
        assert_eq!(told, expected);
        assert_eq!(options.notes().len(), 2);
        assert!(InternalOptions::is_one(text) && !InternalOptions::is_one("listen = 1"));
    }

    #[test]
    fn the_shipped_file_is_known_whole() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/conf/internal_options.conf");
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("skipped: no conformance data");
            return;
        };
        let (options, findings) = InternalOptions::parse(&text, "internal_options.conf");
        assert_eq!(findings.0.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(options.options.len() > 60, "{}", options.options.len());
    }
}

//! `ossec-reportd`: a report of the alerts on standard input, on standard error as there.

use std::io::{Read, Write};

use anyhow::bail;
use tally_ossec::alerts_log::alerts;
use tally_ossec::report::{Field, Report};
use tally_rules::Pattern;

use super::Ended;

/// A larger log is not one day's.
const INPUT_BYTES_MAX: u64 = 4 << 30;

pub fn reportd(arguments: &[String], _out: &mut dyn Write) -> Ended {
    report_of(arguments, std::io::stdin().lock(), &mut std::io::stderr().lock())
}

pub fn report_of(arguments: &[String], input: impl Read, out: &mut dyn Write) -> Ended {
    let matches =
        |pattern: &str, text: &str| Pattern::os_match(pattern).is_ok_and(|pattern| pattern.matches(text.as_bytes()));
    let mut report = Report { matches: Some(&matches), ..Report::default() };
    let mut rest = arguments.iter();
    let field = |name: Option<&String>| match name.and_then(|name| Field::from_name(name)) {
        Some(field) => Ok(field),
        None => bail!("Invalid filter. Filters allowed: group, rule, level, location, user, srcip, filename"),
    };
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-f" => {
                let filter = field(rest.next())?;
                let Some(value) = rest.next() else { bail!("a filter needs a value") };
                report.filters.push((filter, value.clone()));
            }
            "-r" => report.relations.push((field(rest.next())?, field(rest.next())?)),
            "-n" => report.name = rest.next().cloned(),
            "-s" => report.shows_logs = true,
            // Whose rights, and which directory: of no meaning to a program that only reads its input.
            "-u" | "-g" | "-D" => drop(rest.next()),
            "-d" => {}
            "-t" => return Ok(0),
            other => bail!("\"{other}\" is no option"),
        }
    }
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (alerts, broken) = alerts(&text);
    if broken > 0 {
        writeln!(out, "ossec-reportd: {broken} alerts are none that is understood")?;
    }
    match report.of(&alerts) {
        Some(text) => out.write_all(text.replace('\n', "\r\n").as_bytes())?,
        None => writeln!(out, "ossec-reportd: INFO: Report completed and zero alerts post-filter.")?,
    }
    Ok(0)
}

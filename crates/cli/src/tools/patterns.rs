//! `ossec-regex`: which lines of standard input a pattern meets, as OSRegex and as OSMatch.

use std::io::{BufRead, Write};

use anyhow::bail;
use tally_rules::Pattern;

use super::Ended;

pub fn regex(arguments: &[String], out: &mut dyn Write) -> Ended {
    regex_of(arguments, std::io::stdin().lock(), out)
}

pub fn regex_of(arguments: &[String], input: impl BufRead, out: &mut dyn Write) -> Ended {
    let [pattern] = arguments else {
        write!(out, "\nOSSEC HIDS ossec-regex: ossec-regex pattern\n")?;
        return Ok(1);
    };
    let compiled = (Pattern::os_regex(pattern), Pattern::os_match(pattern));
    let (regex, matcher) = match compiled {
        (Ok(regex), Ok(matcher)) => (regex, matcher),
        (Err(error), _) | (_, Err(error)) => bail!("Pattern '{pattern}' does not compile: {error}"),
    };
    for line in input.split(b'\n') {
        let line = line?;
        // As there, shorter ones are not looked at.
        if line.len() < 2 {
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        if regex.matches(&line) {
            writeln!(out, "+OSRegex_Execute: {text}\n+OS_Regex       : {text}")?;
        }
        if matcher.matches(&line) {
            writeln!(out, "+OSMatch_Compile: {text}\n+OS_Match2      : {text}")?;
        }
    }
    Ok(0)
}

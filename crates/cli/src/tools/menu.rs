//! The menu of `manage_agents`, for whoever calls it without options: keys are added, extracted, listed and removed by answers to
//! questions.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::Result;

use super::{Ended, keys};

/// An answer longer than this is none.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Answers that go back to the menu, as OSSEC's.
const BACK: &str = "\\q";

const MENU: &str = "

****************************************
* Tallystick: OSSEC's agent manager.   *
* The following options are available: *
****************************************
   (A)dd an agent (A).
   (E)xtract key for an agent (E).
   (L)ist already added agents (L).
   (R)emove an agent (R).
   (Q)uit.
Choose your action: A,E,L,R or Q: ";

pub fn run(path: &Path, mut input: impl BufRead, out: &mut dyn Write) -> Ended {
    loop {
        let Some(choice) = ask(&mut input, out, MENU)? else { break };
        match choice.to_ascii_lowercase().as_str() {
            "a" => add(path, &mut input, out)?,
            "e" => {
                keys::list(path, out)?;
                let Some(id) =
                    asked(&mut input, out, "Provide the ID of the agent to extract the key (or '\\q' to quit): ")?
                else {
                    continue;
                };
                failed(keys::export(path, &id, out, false), out)?;
            }
            "l" => drop(keys::list(path, out)?),
            "r" => remove(path, &mut input, out)?,
            "q" => break,
            _ => write!(out, "\n ** Invalid Action ** \n")?,
        }
    }
    write!(out, "\n** Exiting; the manager takes in what changed by itself.\n")?;
    Ok(0)
}

fn add(path: &Path, input: &mut impl BufRead, out: &mut dyn Write) -> Result<()> {
    write!(out, "\n- Adding a new agent (use '\\q' to return to the main menu).\n  Please provide the following:\n")?;
    let Some(name) = asked(input, out, "   * A name for the new agent: ")? else { return Ok(()) };
    let Some(address) = asked(input, out, "   * The IP Address of the new agent: ")? else { return Ok(()) };
    let free = keys::free_id(path)?;
    let Some(id) = ask(input, out, &format!("   * An ID for the new agent[{free}]: "))? else { return Ok(()) };
    if id == BACK {
        return Ok(());
    }
    let id = if id.is_empty() { free } else { id };
    write!(out, "Agent information:\n   ID:{id}\n   Name:{name}\n   IP Address:{address}\n\n")?;
    if confirmed(input, out, "Confirm adding it?(y/n): ")? {
        let agent = keys::Agent { name: Some(name), address: Some(address), id: Some(id) };
        failed(keys::add_quietly(path, &agent, out), out)?;
    }
    Ok(())
}

fn remove(path: &Path, input: &mut impl BufRead, out: &mut dyn Write) -> Result<()> {
    keys::list(path, out)?;
    let Some(id) = asked(input, out, "Provide the ID of the agent to be removed (or '\\q' to quit): ")? else {
        return Ok(());
    };
    if confirmed(input, out, "Confirm deleting it?(y/n): ")? {
        failed(keys::remove(path, &id, out, false), out)?;
    }
    Ok(())
}

/// What went wrong is told, and the menu goes on.
fn failed(ended: Ended, out: &mut dyn Write) -> Result<()> {
    if let Err(error) = ended {
        write!(out, "\n** {error:#}.\n")?;
    }
    Ok(())
}

/// An answer that is not empty; `None` goes back to the menu.
fn asked(input: &mut impl BufRead, out: &mut dyn Write, question: &str) -> Result<Option<String>> {
    let answer = ask(input, out, question)?;
    Ok(answer.filter(|answer| !answer.is_empty() && answer != BACK))
}

fn confirmed(input: &mut impl BufRead, out: &mut dyn Write, question: &str) -> Result<bool> {
    Ok(ask(input, out, question)?.is_some_and(|answer| answer.eq_ignore_ascii_case("y")))
}

/// One line; `None` at the end of the input.
fn ask(input: &mut impl BufRead, out: &mut dyn Write, question: &str) -> Result<Option<String>> {
    out.write_all(question.as_bytes())?;
    out.flush()?;
    let mut line = String::new();
    let read = std::io::Read::take(&mut *input, ANSWER_BYTES_MAX).read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

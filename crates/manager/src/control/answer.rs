//! The answer to one request: `{"ok":true}`, the objects one a line, `{"end":true,"findings":N}`; or `{"error":"…"}` at any
//! point. Whoever reads it knows by the last line that it is whole.

use std::io::{self, Write};

use serde_json::{Value, json};

pub struct Answer<'w> {
    out: &'w mut dyn Write,
    begun: bool,
    findings: u64,
}

impl<'w> Answer<'w> {
    pub fn new(out: &'w mut dyn Write) -> Self {
        Self { out, begun: false, findings: 0 }
    }

    /// One object of the answer.
    pub fn object(&mut self, object: &Value) -> io::Result<()> {
        self.begin()?;
        self.line(object)
    }

    /// One object that counts as a finding: a change, a drift, a problem.
    pub fn finding(&mut self, object: &Value) -> io::Result<()> {
        self.findings += 1;
        self.object(object)
    }

    /// Findings that have no object of their own.
    pub fn add_findings(&mut self, count: u64) {
        self.findings += count;
    }

    pub fn end(mut self) -> io::Result<()> {
        self.begin()?;
        let findings = self.findings;
        self.line(&json!({"end": true, "findings": findings}))?;
        self.out.flush()
    }

    pub fn error(mut self, text: &str) -> io::Result<()> {
        self.line(&json!({"error": text}))?;
        self.out.flush()
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        self.line(&json!({"ok": true}))
    }

    fn line(&mut self, value: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, value)?;
        self.out.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(Answer<'_>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        fill(Answer::new(&mut out)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_begins_and_ends_even_if_it_is_empty() {
        assert_eq!(written(|answer| answer.end()), "{\"ok\":true}\n{\"end\":true,\"findings\":0}\n");
        let one = written(|mut answer| {
            answer.finding(&json!({"path": "/a"}))?;
            answer.end()
        });
        assert_eq!(one, "{\"ok\":true}\n{\"path\":\"/a\"}\n{\"end\":true,\"findings\":1}\n");
    }

    #[test]
    fn an_error_may_come_at_any_point() {
        assert_eq!(written(|answer| answer.error("no")), "{\"error\":\"no\"}\n");
        let midway = written(|mut answer| {
            answer.object(&json!(1))?;
            answer.error("no")
        });
        assert_eq!(midway, "{\"ok\":true}\n1\n{\"error\":\"no\"}\n");
    }
}

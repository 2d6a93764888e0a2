//! The patterns of rules: alternatives of plain text, anchored or not, without regard to case.
//!
//! OSSEC has two pattern languages. `OSMatch` (`<match>`) is this one: `|` parts alternatives, `^` and `$` anchor one, all
//! other signs mean themselves. `OSRegex` (`<field>`) means the same by such a text as long as it holds no `\`, `(` or `)`;
//! with these it is refused here, never read as something else.

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Alternative {
    /// Nothing, or only an anchor.
    Any,
    /// Only `^$`.
    Empty,
    /// Holds an anchor where nothing can be: `a^b`.
    Never,
    /// In small letters.
    Text { start: bool, end: bool, text: Box<[u8]> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern has {0} bytes, the limit is {max}", max = Pattern::BYTES_MAX)]
    TooLong(usize),
    #[error("the pattern is empty")]
    Empty,
    #[error("\"{0}\" in a pattern of a field: only plain text, \"^\", \"$\" and \"|\" are read here")]
    Sign(char),
}

impl Pattern {
    pub const BYTES_MAX: usize = 2048;

    /// As `<match>` has it.
    pub fn os_match(text: &str) -> Result<Self, PatternError> {
        if text.len() > Self::BYTES_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        Ok(Self { alternatives: text.split('|').map(alternative).collect() })
    }

    /// As `<field>` has it.
    pub fn os_regex(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(sign) = text.chars().find(|c| matches!(c, '\\' | '(' | ')')) {
            return Err(PatternError::Sign(sign));
        }
        Self::os_match(text)
    }

    pub fn matches(&self, subject: &[u8]) -> bool {
        self.alternatives.iter().any(|alternative| match alternative {
            Alternative::Any => true,
            Alternative::Empty => subject.is_empty(),
            Alternative::Never => false,
            Alternative::Text { start, end, text } => text_matches(*start, *end, text, subject),
        })
    }
}

fn alternative(text: &str) -> Alternative {
    let (start, rest) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
    let (end, body) = rest.strip_suffix('$').map_or((false, rest), |body| (true, body));
    match body {
        "" if start && end => Alternative::Empty,
        "" => Alternative::Any,
        _ if body.contains(['^', '$']) => Alternative::Never,
        _ => Alternative::Text { start, end, text: body.to_ascii_lowercase().into_bytes().into() },
    }
}

fn text_matches(start: bool, end: bool, text: &[u8], subject: &[u8]) -> bool {
    let Some(last) = subject.len().checked_sub(text.len()) else { return false };
    let at = |place: usize| subject[place..place + text.len()].eq_ignore_ascii_case(text);
    match (start, end) {
        (true, true) => last == 0 && at(0),
        (true, false) => at(0),
        (false, true) => at(last),
        (false, false) => {
            let (small, large) = (text[0], text[0].to_ascii_uppercase());
            (0..=last).any(|place| (subject[place] == small || subject[place] == large) && at(place))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The observed answers of OSSEC 4.3.0 (reference: its OSMatch), as far as plain signs go.
    #[test]
    fn matches_as_ossec_does() {
        for (pattern, hits, misses) in [
            ("abc", &["xABCx"][..], &["ab"][..]),
            ("^abc$", &["ABC"], &["abcd", "xabc"]),
            ("abc$", &["xxABC"], &["abcx"]),
            ("a.c", &["a.c"], &["abc"]),
            ("a+", &["a+"], &["aaa"]),
            ("[abc]", &["[abc]"], &["a"]),
            ("^a|b$", &["ax", "xb"], &["xa"]),
            ("x|^ab", &["abz", "zx"], &["zab"]),
            ("a$b", &[], &["a$b", "ab"]),
            ("ab^c", &[], &["ab^c"]),
            ("!abc", &["!abc"], &["xyz"]),
            ("a||b", &["zzz"], &[]),
            ("^", &["a", ""], &[]),
            ("$", &["a"], &[]),
            ("^$", &[""], &["a"]),
            ("", &["", "a"], &[]),
            ("(a)+", &["(a)+"], &["aa"]),
        ] {
            let pattern = Pattern::os_match(pattern).unwrap();
            assert!(hits.iter().all(|hit| pattern.matches(hit.as_bytes())), "{pattern:?}");
            assert!(!misses.iter().any(|miss| pattern.matches(miss.as_bytes())), "{pattern:?}");
        }
    }

    #[test]
    fn refuses_what_it_would_misread() {
        assert_eq!(Pattern::os_regex(r"\d+"), Err(PatternError::Sign('\\')));
        assert_eq!(Pattern::os_regex("(a|b)"), Err(PatternError::Sign('(')));
        assert_eq!(Pattern::os_regex(""), Err(PatternError::Empty));
        assert_eq!(Pattern::os_match(&"a".repeat(2049)), Err(PatternError::TooLong(2049)));
        assert_eq!(Pattern::os_regex("^/etc/a.b$"), Pattern::os_match("^/etc/a.b$"));
    }
}

//! From `OSMatch` and `OSRegex` to the language of PCRE2, sign by sign as the original does it.
//!
//! Some of what comes out is surprising (an escaped backslash lets the second sign after it be repeated; `$` never stands
//! before a line break). Rule writers have got used to it, so that none of it is put right. Reference: OSSEC's os_regex,
//! converter.

/// What `OSMatch` means: all signs but `^`, `$` and `|` for themselves.
pub(super) fn os_match(pattern: &str) -> String {
    let mut converted = String::with_capacity(pattern.len() + 8);
    for c in pattern.chars() {
        if matches!(c, '.' | '[' | ']' | '{' | '}' | '+' | '?' | '*' | '(' | ')' | '\\') {
            converted.push('\\');
        }
        converted.push(c);
    }
    converted
}

/// What `OSRegex` means; or the place of the backslash that is followed by nothing known.
pub(super) fn os_regex(pattern: &str) -> Result<String, usize> {
    let bytes = pattern.as_bytes();
    let mut converted = String::with_capacity(pattern.len() * 2);
    let mut at = 0;
    while let Some(c) = pattern[at..].chars().next() {
        // Only the sign two before is looked at, whatever it was part of.
        let repeats = at >= 2 && bytes[at - 2] == b'\\' && matches!(c, '*' | '+');
        let escaped = (c == '\\').then(|| bytes.get(at + 1).copied());
        let (text, taken) = match (c, escaped) {
            _ if repeats => (if c == '*' { "*?" } else { "+?" }, 1),
            (_, Some(Some(sign))) => (of_escape(sign).ok_or(at)?, 2),
            (_, Some(None)) => return Err(at),
            ('$', None) => ("(?!\\n)$", 1),
            ('.', None) => ("\\.", 1),
            ('[', None) => ("\\[", 1),
            (']', None) => ("\\]", 1),
            ('{', None) => ("\\{", 1),
            ('}', None) => ("\\}", 1),
            ('+', None) => ("\\+", 1),
            ('?', None) => ("\\?", 1),
            ('*', None) => ("\\*", 1),
            _ => (&pattern[at..at + c.len_utf8()], c.len_utf8()),
        };
        converted.push_str(text);
        at += taken;
    }
    Ok(greedy_at_ends(&converted))
}

const fn of_escape(sign: u8) -> Option<&'static str> {
    Some(match sign {
        b'p' => "[()*+,.:;\\<=>?\\[\\]!\"'#%&$|{}-]",
        b's' => "[ ]",
        b'W' => "[^A-Za-z0-9@_-]",
        b'w' => "[A-Za-z0-9@_-]",
        b'd' => "[0-9]",
        b'D' => "[^0-9]",
        b'S' => "[^ ]",
        b'.' => "(?:.|\\n)",
        b't' => "\\t",
        b'$' => "\\$",
        b'(' => "\\(",
        b')' => "\\)",
        b'{' => "\\{",
        b'}' => "\\}",
        b'[' => "\\[",
        b']' => "\\]",
        b'\\' => "\\\\",
        b'|' => "\\|",
        b'<' => "\\<",
        _ => return None,
    })
}

/// A lazy quantifier becomes greedy where, after any closing brackets, an alternative or the pattern ends.
fn greedy_at_ends(converted: &str) -> String {
    let bytes = converted.as_bytes();
    let mut text = String::with_capacity(converted.len());
    let mut from = 0;
    for at in 1..bytes.len() {
        let is_lazy = bytes[at] == b'?' && matches!(bytes[at - 1], b'+' | b'*') && (at < 2 || bytes[at - 2] != b'\\');
        let ends = || {
            let rest = bytes[at + 1..].iter().find(|byte| **byte != b')');
            matches!(rest, None | Some(b'|' | b'$'))
        };
        if is_lazy && ends() {
            text.push_str(&converted[from..at]);
            from = at + 1;
        }
    }
    text.push_str(&converted[from..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_as_the_original() {
        for (pattern, converted) in [
            (r"\d+", "[0-9]+"),
            (r"(\S+) (\S+)$", "([^ ]+?) ([^ ]+?)(?!\\n)$"),
            (r"(\w+)|\d*x", "([A-Za-z0-9@_-]+)|[0-9]*?x"),
            (r"a+.b", r"a\+\.b"),
            (r"\\d+", r"\\d+"),
            (r"\d**", r"[0-9]*?\*"),
            (r"\<\|", r"\<\|"),
        ] {
            assert_eq!(os_regex(pattern).as_deref(), Ok(converted), "{pattern}");
        }
        assert_eq!(os_regex(r"ab\q"), Err(2));
        assert_eq!(os_regex(r"ab\"), Err(2));
        assert_eq!(os_match(r"a.b|^\c$"), r"a\.b|^\\c$");
    }
}

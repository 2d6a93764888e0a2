//! A licence expression of SPDX 2.3, annex D: identifiers with `WITH`, `AND`, `OR` and brackets; also the `/` that older
//! crates write for `OR`.

/// Deeper brackets than this are no licence that a person wrote.
const DEPTH_MAX: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub enum Expression {
    /// One licence, its exception included: `Apache-2.0 WITH LLVM-exception`.
    Licence(String),
    And(Vec<Self>),
    Or(Vec<Self>),
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = &words[..];
        let expression = or(&mut rest, 0)?;
        if rest.is_empty() { Ok(expression) } else { Err("something stands behind its end") }
    }

    /// Whether it can be met with the licences that are allowed.
    pub fn holds(&self, is_allowed: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::Licence(licence) => is_allowed(licence),
            Self::And(parts) => parts.iter().all(|part| part.holds(is_allowed)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(is_allowed)),
        }
    }
}

fn or(rest: &mut &[&str], depth: usize) -> Result<Expression, &'static str> {
    let mut parts = vec![and(rest, depth)?];
    while take(rest, "OR") {
        parts.push(and(rest, depth)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
}

fn and(rest: &mut &[&str], depth: usize) -> Result<Expression, &'static str> {
    let mut parts = vec![one(rest, depth)?];
    while take(rest, "AND") {
        parts.push(one(rest, depth)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
}

fn one(rest: &mut &[&str], depth: usize) -> Result<Expression, &'static str> {
    if depth > DEPTH_MAX {
        return Err("its brackets are too deep");
    }
    if take(rest, "(") {
        let inner = or(rest, depth + 1)?;
        return if take(rest, ")") { Ok(inner) } else { Err("a bracket is not closed") };
    }
    let mut licence = word(rest)?.to_owned();
    if take(rest, "WITH") {
        licence.push_str(" WITH ");
        licence.push_str(word(rest)?);
    }
    Ok(Expression::Licence(licence))
}

fn word<'a>(rest: &mut &[&'a str]) -> Result<&'a str, &'static str> {
    match rest.split_first() {
        Some((word, tail)) if !matches!(*word, "(" | ")" | "AND" | "OR" | "WITH") => {
            *rest = tail;
            Ok(word)
        }
        _ => Err("a licence is missing"),
    }
}

fn take(rest: &mut &[&str], wanted: &str) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == wanted => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, allowed: &[&str]) -> bool {
        Expression::parse(text).unwrap().holds(&|licence| allowed.contains(&licence))
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(holds("MIT OR A AND B", &["MIT"]));
        assert!(!holds("(MIT OR A) AND B", &["MIT"]));
        assert!(holds("(MIT OR A) AND B", &["A", "B"]));
        assert!(holds("MIT/Apache-2.0", &["Apache-2.0"]));
        assert!(!holds("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"]));
        assert!(holds("Apache-2.0 WITH LLVM-exception OR B", &["Apache-2.0 WITH LLVM-exception"]));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["", "OR", "MIT OR", "(MIT", "MIT)", "MIT Apache", "MIT WITH", "A WITH (B)"] {
            assert!(Expression::parse(bad).is_err(), "{bad}");
        }
        assert!(Expression::parse(&"(".repeat(100_000)).is_err());
    }
}

//! The texts without which a pattern cannot match.
//!
//! A line is searched once for the texts of all patterns (`super::index`); only a pattern that has one of its own in the
//! line is tried. So these are chosen: long, few, and such that every match holds one of them.

use super::node::{Node, SubKind};
use super::set::other_cases;

/// One of these stands in every text that the pattern matches, without regard to case. In small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literals {
    pub any_of: Vec<Vec<u8>>,
    /// And every text in which one of them stands is matched.
    pub suffice: bool,
}

/// Shorter ones are in almost every line.
pub(super) const BYTES_MIN: usize = 3;
/// Of a longer one only the start is looked for.
pub(super) const BYTES_MAX: usize = 64;
const ALTERNATIVES_MAX: usize = 64;

pub(super) fn of(node: &Node, utf: bool) -> Option<Literals> {
    if let Some(texts) = texts(node, utf)
        && texts.iter().all(|text| (BYTES_MIN..=BYTES_MAX).contains(&text.len()))
    {
        return Some(Literals { any_of: distinct(texts), suffice: is_caseless(node) });
    }
    let any_of = distinct(required(node, utf)?);
    Some(Literals { any_of, suffice: false })
}

fn distinct(mut texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn is_caseless(node: &Node) -> bool {
    match node {
        Node::Char { caseless, .. } => *caseless,
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().all(is_caseless),
        Node::Capture(_, node) => is_caseless(node),
        _ => true,
    }
}

/// All texts that the node matches, where these are few and fixed.
fn texts(node: &Node, utf: bool) -> Option<Vec<Vec<u8>>> {
    match node {
        Node::Empty => Some(vec![Vec::new()]),
        Node::Char { c, caseless } => one(*c, *caseless, utf).map(|text| vec![text]),
        Node::Concat(nodes) => nodes.iter().try_fold(vec![Vec::new()], |all, node| cross(&all, &texts(node, utf)?)),
        Node::Alternate(nodes) => {
            let mut all = Vec::new();
            for node in nodes {
                all.extend(texts(node, utf)?);
                if all.len() > ALTERNATIVES_MAX {
                    return None;
                }
            }
            Some(all)
        }
        Node::Capture(_, node) => texts(node, utf),
        _ => None,
    }
}

fn one(c: u32, caseless: bool, utf: bool) -> Option<Vec<u8>> {
    if c < 0x80 {
        return Some(vec![(c as u8).to_ascii_lowercase()]);
    }
    if !utf {
        return Some(vec![c as u8]);
    }
    let c = char::from_u32(c).filter(|c| !caseless || other_cases(u32::from(*c)).is_empty())?;
    Some(c.encode_utf8(&mut [0; 4]).as_bytes().to_vec())
}

fn cross(heads: &[Vec<u8>], tails: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let few = heads.len() * tails.len() <= ALTERNATIVES_MAX;
    let joined = |head: &Vec<u8>| tails.iter().map(|tail| [&head[..], tail].concat()).collect::<Vec<_>>();
    few.then(|| heads.iter().flat_map(joined).collect())
}

fn required(node: &Node, utf: bool) -> Option<Vec<Vec<u8>>> {
    match node {
        Node::Char { .. } => worth(texts(node, utf)?),
        Node::Concat(nodes) => of_concat(nodes, utf),
        Node::Alternate(nodes) => {
            let mut all = Vec::new();
            for node in nodes {
                all.extend(required(node, utf)?);
            }
            (all.len() <= ALTERNATIVES_MAX).then_some(all)
        }
        Node::Repeat { node, min, .. } if *min > 0 => required(node, utf),
        Node::Capture(_, node) | Node::Sub(SubKind::Atomic | SubKind::Ahead, node) => required(node, utf),
        _ => None,
    }
}

/// The best of: each run of fixed texts, and what each other part asks for.
fn of_concat(nodes: &[Node], utf: bool) -> Option<Vec<Vec<u8>>> {
    let mut best = None;
    let mut run = vec![Vec::new()];
    for node in nodes {
        let fixed = texts(node, utf);
        match fixed.as_ref().and_then(|fixed| cross(&run, fixed)) {
            Some(longer) => run = longer,
            None => {
                best = better(best, worth(std::mem::replace(&mut run, vec![Vec::new()])));
                match fixed {
                    Some(fixed) => run = fixed,
                    None => best = better(best, required(node, utf)),
                }
            }
        }
    }
    better(best, worth(run))
}

fn worth(mut texts: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    texts.iter_mut().for_each(|text| text.truncate(BYTES_MAX));
    (!texts.is_empty() && texts.iter().all(|text| text.len() >= BYTES_MIN)).then_some(texts)
}

fn better(one: Option<Vec<Vec<u8>>>, other: Option<Vec<Vec<u8>>>) -> Option<Vec<Vec<u8>>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if score(&other) > score(&one) { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Length counts most, up to where a text is rare anyway; then that there are few.
fn score(texts: &[Vec<u8>]) -> i64 {
    let shortest = texts.iter().map(Vec::len).min().unwrap_or(0).min(12);
    let count = i64::try_from(texts.len()).unwrap_or(i64::MAX);
    i64::try_from(shortest).unwrap_or(0) * 10 - count
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn found(pattern: &str) -> Option<(Vec<String>, bool)> {
        let literals = of(&parse(pattern, false).expect("a pattern").node, false)?;
        let texts = literals.any_of.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        Some((texts, literals.suffice))
    }

    #[test]
    fn finds_what_must_be_there() {
        let texts = |texts: &[&str], suffice| Some((texts.iter().map(|text| (*text).to_owned()).collect(), suffice));
        assert_eq!(found("Failed"), texts(&["failed"], true));
        assert_eq!(found("^Failed"), texts(&["failed"], false));
        assert_eq!(found("(?-i)Failed"), texts(&["failed"], false));
        assert_eq!(found("error|warning"), texts(&["error", "warning"], true));
        assert_eq!(found("error|wa"), None);
        assert_eq!(found(r"^(?:log|si)n in \S+ from"), texts(&["logn in ", "sin in "], false));
        assert_eq!(found(r"a\d+bcd.*(?:efgh)+x?"), texts(&["efgh"], false));
        assert_eq!(found(r"\d+"), None);
        assert_eq!(found("(?:abc)?"), None);
        assert_eq!(found("(?!abcd)xyz"), texts(&["xyz"], false));
    }
}

//! A pattern as a tree.

use super::set::Set;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Empty,
    /// A byte, or a character of a pattern of UTF-8.
    Char {
        c: u32,
        caseless: bool,
    },
    Set(Set),
    Assert(Assert),
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        mode: Mode,
    },
    /// Numbered from 1.
    Capture(u32, Box<Node>),
    Sub(SubKind, Box<Node>),
    BackReference {
        group: u32,
        caseless: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Greedy,
    Lazy,
    Possessive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assert {
    Start,
    LineStart,
    /// The end, or before the line break that ends the text.
    End,
    LineEnd,
    /// The end, and nothing else.
    VeryEnd,
    WordBoundary,
    NoWordBoundary,
}

/// What is matched for itself: once it has matched, nothing inside of it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubKind {
    Atomic,
    Ahead,
    NotAhead,
    /// With how many bytes or characters to go back.
    Behind(u32),
    NotBehind(u32),
}

impl Node {
    /// The number of characters that it takes, if that is always the same.
    pub fn width(&self) -> Option<u32> {
        match self {
            Self::Empty | Self::Assert(_) => Some(0),
            Self::Char { .. } | Self::Set(_) => Some(1),
            Self::Concat(nodes) => nodes.iter().try_fold(0u32, |sum, node| sum.checked_add(node.width()?)),
            Self::Alternate(nodes) => {
                let first = nodes.first()?.width()?;
                nodes.iter().all(|node| node.width() == Some(first)).then_some(first)
            }
            Self::Repeat { node, min, max, .. } if *max == Some(*min) => node.width()?.checked_mul(*min),
            Self::Repeat { .. } | Self::BackReference { .. } => None,
            Self::Capture(_, node) | Self::Sub(SubKind::Atomic, node) => node.width(),
            Self::Sub(..) => Some(0),
        }
    }

    /// Whether it can match without taking anything. A reference to a group may.
    pub fn may_be_empty(&self) -> bool {
        match self {
            Self::Empty | Self::Assert(_) | Self::BackReference { .. } => true,
            Self::Char { .. } | Self::Set(_) => false,
            Self::Concat(nodes) => nodes.iter().all(Self::may_be_empty),
            Self::Alternate(nodes) => nodes.iter().any(Self::may_be_empty),
            Self::Repeat { node, min, .. } => *min == 0 || node.may_be_empty(),
            Self::Capture(_, node) | Self::Sub(SubKind::Atomic, node) => node.may_be_empty(),
            Self::Sub(..) => true,
        }
    }

    /// The fewest bytes that it takes.
    pub fn bytes_min(&self) -> usize {
        match self {
            Self::Empty | Self::Assert(_) | Self::BackReference { .. } => 0,
            Self::Char { .. } | Self::Set(_) => 1,
            Self::Concat(nodes) => nodes.iter().fold(0usize, |sum, node| sum.saturating_add(node.bytes_min())),
            Self::Alternate(nodes) => nodes.iter().map(Self::bytes_min).min().unwrap_or(0),
            Self::Repeat { node, min, .. } => node.bytes_min().saturating_mul(*min as usize),
            Self::Capture(_, node) | Self::Sub(SubKind::Atomic, node) => node.bytes_min(),
            Self::Sub(..) => 0,
        }
    }

    /// Whether it can match only at the start of the text.
    pub fn is_anchored(&self) -> bool {
        match self {
            Self::Assert(Assert::Start) => true,
            Self::Concat(nodes) => {
                let zero = |node: &&Self| node.width() != Some(0) || node.is_anchored();
                nodes.iter().find(zero).is_some_and(Self::is_anchored)
            }
            Self::Alternate(nodes) => nodes.iter().all(Self::is_anchored),
            Self::Capture(_, node) | Self::Sub(SubKind::Atomic | SubKind::Ahead, node) => node.is_anchored(),
            Self::Repeat { node, min, .. } => *min > 0 && node.is_anchored(),
            _ => false,
        }
    }
}

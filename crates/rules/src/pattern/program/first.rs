//! With which bytes a match can begin.

use super::super::node::{Assert, Node, SubKind};
use super::super::set::Set;
use super::folded_if;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct First {
    bits: [u64; 4],
    /// It may match where nothing is left.
    at_end: bool,
}

impl First {
    pub const fn anything() -> Self {
        Self { bits: [u64::MAX; 4], at_end: true }
    }

    const fn nothing() -> Self {
        Self { bits: [0; 4], at_end: false }
    }

    pub fn is_anything(&self) -> bool {
        *self == Self::anything()
    }

    /// Whether a match can begin at the place `at` of the text.
    pub fn allows(&self, text: &[u8], at: usize) -> bool {
        match text.get(at) {
            Some(byte) => self.allows_byte(*byte),
            None => self.at_end,
        }
    }

    pub const fn allows_byte(&self, byte: u8) -> bool {
        self.bits[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
    }

    pub const fn allows_end(&self) -> bool {
        self.at_end
    }

    pub fn join(&mut self, other: &Self) {
        self.bits.iter_mut().zip(other.bits).for_each(|(mine, theirs)| *mine |= theirs);
        self.at_end |= other.at_end;
    }

    pub fn meets(&self, other: &Self) -> bool {
        self.bits.iter().zip(other.bits).any(|(mine, theirs)| mine & theirs != 0)
    }

    pub fn of_set(set: &Set, utf: bool) -> Self {
        let mut bits = set.bits;
        if utf && !set.wide.is_empty() {
            bits[2] = u64::MAX;
            bits[3] = u64::MAX;
        }
        Self { bits, at_end: false }
    }

    /// Of `node`, if `next` is what follows it.
    pub fn of(node: &Node, next: &Self, utf: bool) -> Self {
        match node {
            Node::Empty => next.clone(),
            Node::Char { c, caseless } => Self::of_set(&folded_if(*c, *caseless, utf), utf),
            Node::Set(set) => Self::of_set(set, utf),
            Node::Assert(Assert::End | Assert::LineEnd) => Self { bits: Set::of_bytes([b'\n']).bits, at_end: true },
            Node::Assert(Assert::VeryEnd) => Self { bits: [0; 4], at_end: true },
            Node::Assert(_) => next.clone(),
            Node::Concat(nodes) => nodes.iter().rev().fold(next.clone(), |next, node| Self::of(node, &next, utf)),
            Node::Alternate(nodes) => nodes.iter().fold(Self::nothing(), |mut all, node| {
                all.join(&Self::of(node, next, utf));
                all
            }),
            Node::Repeat { node, min, .. } => {
                let behind = if node.may_be_empty() { Self::anything() } else { next.clone() };
                let mut first = Self::of(node, &behind, utf);
                if *min == 0 {
                    first.join(next);
                }
                first
            }
            Node::Capture(_, node) | Node::Sub(SubKind::Atomic, node) => Self::of(node, next, utf),
            Node::Sub(..) => next.clone(),
            Node::BackReference { .. } => Self::anything(),
        }
    }
}

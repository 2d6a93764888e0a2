//! What stands behind a backslash.

use super::super::node::{Assert, Node};
use super::super::set::{Set, WIDE_LAST};
use super::{ParseError, Parser, Read};

/// One character, or a set of them.
pub(super) enum Item {
    Char(u32),
    Set(Set),
}

impl Parser {
    /// `None` for what means nothing (`\E` alone).
    pub(super) fn escape(&mut self) -> Read<Option<Node>> {
        let start = self.at;
        let Some(c) = self.chars.get(start + 1).copied() else { return Err(self.wrong("nothing follows the \"\\\"")) };
        let assert = |assert| Ok(Some(Node::Assert(assert)));
        self.at += 2;
        match char::from_u32(c) {
            Some('b') => assert(Assert::WordBoundary),
            Some('B') => assert(Assert::NoWordBoundary),
            Some('A') => assert(Assert::Start),
            Some('Z') => assert(Assert::End),
            Some('z') => assert(Assert::VeryEnd),
            // It moves where the match begins; only its end counts here.
            Some('K') => Ok(None),
            Some('Q') => self.quoted().map(Some),
            Some('E') => Ok(None),
            Some('k') => {
                let end = match self.peek().and_then(char::from_u32) {
                    Some('<') => '>',
                    Some('{') => '}',
                    Some('\'') => '\'',
                    _ => return Err(self.wrong("a name is expected")),
                };
                self.at += 1;
                self.named_reference(end).map(Some)
            }
            Some('g') => self.numbered_reference(start).map(Some),
            Some('1'..='9') => self.digits(start).map(Some),
            Some('R' | 'X' | 'C' | 'G' | 'p' | 'P') => Err(ParseError::Unknown(start, "an escape of this kind")),
            Some('N') if self.sees("{") => Err(ParseError::Unknown(start, "a character by its name")),
            Some('N') => Ok(Some(Node::Set(self.all_but_newline()))),
            _ => {
                self.at = start;
                Ok(Some(match self.escaped_item()? {
                    Item::Char(c) => self.literal(c),
                    Item::Set(set) => Node::Set(set),
                }))
            }
        }
    }

    /// What an escape means in and out of classes alike.
    pub(super) fn escaped_item(&mut self) -> Read<Item> {
        let start = self.at;
        let Some(code) = self.chars.get(start + 1).copied() else {
            return Err(self.wrong("nothing follows the \"\\\""));
        };
        self.at += 2;
        let Some(c) = char::from_u32(code).filter(char::is_ascii) else { return Ok(Item::Char(code)) };
        let set = |set: Set| Ok(Item::Set(set));
        let not = |mut set: Set, utf: bool| {
            set.negate(utf);
            Ok(Item::Set(set))
        };
        match c {
            'd' => set(digits()),
            'D' => not(digits(), self.utf),
            's' => set(spaces()),
            'S' => not(spaces(), self.utf),
            'w' => set(words()),
            'W' => not(words(), self.utf),
            'h' => set(horizontal(self.utf)),
            'H' => not(horizontal(self.utf), self.utf),
            'v' => set(vertical(self.utf)),
            'V' => not(vertical(self.utf), self.utf),
            't' => Ok(Item::Char(9)),
            'n' => Ok(Item::Char(10)),
            'r' => Ok(Item::Char(13)),
            'f' => Ok(Item::Char(12)),
            'a' => Ok(Item::Char(7)),
            'e' => Ok(Item::Char(27)),
            'c' => {
                let c = self.peek().filter(|c| (32..127).contains(c)).ok_or(self.wrong("a letter is expected"))?;
                self.at += 1;
                Ok(Item::Char(u32::from((c as u8).to_ascii_uppercase() ^ 64)))
            }
            'x' if self.takes("{") => self.braced(16),
            'x' => Ok(Item::Char(self.number(16, 2))),
            'o' if self.takes("{") => self.braced(8),
            '0' => Ok(Item::Char(self.number(8, 2))),
            _ if c.is_ascii_alphanumeric() => {
                self.at = start;
                Err(self.wrong("the \"\\\" is followed by nothing known"))
            }
            _ => Ok(Item::Char(code)),
        }
    }

    fn number(&mut self, base: u32, digits_max: usize) -> u32 {
        let mut value = 0u32;
        for _ in 0..digits_max {
            let Some(digit) = self.peek().and_then(char::from_u32).and_then(|c| c.to_digit(base)) else { break };
            value = value.saturating_mul(base).saturating_add(digit);
            self.at += 1;
        }
        value
    }

    fn braced(&mut self, base: u32) -> Read<Item> {
        let before = self.at;
        let value = self.number(base, 12);
        let max = if self.utf { WIDE_LAST } else { 0xFF };
        if self.at == before || !self.takes("}") || value > max {
            return Err(self.wrong("a number in brackets is expected"));
        }
        Ok(Item::Char(value))
    }

    /// `\1` to `\9` always refer to a group; a larger number is one where there are so many, else an octal code.
    fn digits(&mut self, start: usize) -> Read<Node> {
        self.at = start + 1;
        let group = self.number(10, 6);
        if group >= 10 && group > self.groups {
            return Err(ParseError::Unknown(start, "an octal code or a reference to a group that follows"));
        }
        Ok(self.reference(start, group))
    }

    fn numbered_reference(&mut self, start: usize) -> Read<Node> {
        let braced = self.takes("{");
        let back = self.takes("-");
        let before = self.at;
        let number = self.number(10, 6);
        if self.at == before || (braced && !self.takes("}")) || number == 0 {
            return Err(ParseError::Unknown(start, "a reference of this kind"));
        }
        let group = if back { (self.groups + 1).checked_sub(number).filter(|group| *group > 0) } else { Some(number) };
        let group = group.ok_or(self.wrong("it refers to a group that is not there"))?;
        Ok(self.reference(start, group))
    }

    fn reference(&mut self, start: usize, group: u32) -> Node {
        self.references.push((start, group));
        Node::BackReference { group, caseless: self.flags.caseless }
    }

    fn quoted(&mut self) -> Read<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if self.takes("\\E") {
                break;
            }
            self.at += 1;
            nodes.push(self.literal(c));
        }
        // A quantifier behind it concerns its last sign alone.
        let Some(last) = nodes.pop() else { return Ok(Node::Empty) };
        let last = self.quantified(last)?;
        nodes.push(last);
        Ok(Node::Concat(nodes))
    }
}

pub(super) fn digits() -> Set {
    Set::of_bytes(b'0'..=b'9')
}

pub(super) fn spaces() -> Set {
    Set::of_bytes([b' ', 9, 10, 11, 12, 13])
}

pub(super) fn words() -> Set {
    Set::of_bytes((0..=127u8).filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'))
}

fn horizontal(utf: bool) -> Set {
    let mut set = Set::of_bytes([b' ', b'\t']);
    set.add(0xA0, 0xA0, utf);
    if utf {
        for (first, last) in [(0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F)]
        {
            set.add(first, last, true);
        }
        set.add(0x3000, 0x3000, true);
    }
    set
}

fn vertical(utf: bool) -> Set {
    let mut set = Set::of_bytes([10, 11, 12, 13]);
    set.add(0x85, 0x85, utf);
    if utf {
        set.add(0x2028, 0x2029, true);
    }
    set
}

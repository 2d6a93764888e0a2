//! A class in square brackets.

use super::super::set::Set;
use super::escape::Item;
use super::{ParseError, Parser, Read};

impl Parser {
    pub(super) fn class(&mut self) -> Read<Set> {
        let start = self.at;
        self.at += 1;
        let negated = self.takes("^");
        let mut set = Set::default();
        let mut is_first = true;
        loop {
            let Some(c) = self.peek() else {
                self.at = start;
                return Err(self.wrong("the class is not closed"));
            };
            if c == u32::from(']') && !is_first {
                self.at += 1;
                break;
            }
            is_first = false;
            match self.class_item()? {
                Item::Set(item) => {
                    set.join(&item);
                    if self.sees("-") && !self.sees("-]") {
                        return Err(self.wrong("a range begins with a class"));
                    }
                }
                Item::Char(first) => {
                    let last = self.range_end(first)?;
                    set.add(first, last, self.utf);
                }
            }
        }
        if self.flags.caseless {
            set.fold(self.utf);
        }
        if negated {
            set.negate(self.utf);
        }
        Ok(set)
    }

    /// The last of the range that `first` begins: itself where it begins none.
    fn range_end(&mut self, first: u32) -> Read<u32> {
        if !self.sees("-") || self.sees("-]") || self.at + 1 >= self.chars.len() {
            return Ok(first);
        }
        self.at += 1;
        match self.class_item()? {
            Item::Set(_) => Err(self.wrong("a range ends with a class")),
            Item::Char(last) if last < first => Err(self.wrong("a range is out of order")),
            Item::Char(last) => Ok(last),
        }
    }

    fn class_item(&mut self) -> Read<Item> {
        let Some(c) = self.peek() else { return Err(self.wrong("the class is not closed")) };
        match char::from_u32(c) {
            Some('[') if self.sees("[:") => match self.posix()? {
                Some(set) => Ok(Item::Set(set)),
                None => {
                    self.at += 1;
                    Ok(Item::Char(c))
                }
            },
            Some('[') if self.sees("[.") || self.sees("[=") => Err(ParseError::Unknown(self.at, "a collating element")),
            Some('\\') => match self.chars.get(self.at + 1).copied().and_then(char::from_u32) {
                Some('b') => {
                    self.at += 2;
                    Ok(Item::Char(8))
                }
                Some('Q' | 'E' | 'p' | 'P' | 'N') => {
                    Err(ParseError::Unknown(self.at, "an escape of this kind in a class"))
                }
                // Octal, whatever the number.
                Some('1'..='7') => Err(ParseError::Unknown(self.at, "an octal code in a class")),
                _ => self.escaped_item(),
            },
            _ => {
                self.at += 1;
                Ok(Item::Char(c))
            }
        }
    }

    /// `[:alpha:]`; `None` where no such name follows, so that the bracket is itself.
    fn posix(&mut self) -> Read<Option<Set>> {
        let rest = &self.chars[self.at + 2..];
        let name: String = rest
            .iter()
            .map_while(|c| char::from_u32(*c))
            .take_while(|c| c.is_ascii_alphabetic() || *c == '^')
            .collect();
        let ends = rest.get(name.len()..).is_some_and(|end| end.starts_with(&[u32::from(':'), u32::from(']')]));
        if !ends {
            return Ok(None);
        }
        let (negated, word) = name.strip_prefix('^').map_or((false, &*name), |word| (true, word));
        let is: fn(&u8) -> bool = match word {
            "alpha" => u8::is_ascii_alphabetic,
            "digit" => u8::is_ascii_digit,
            "alnum" => u8::is_ascii_alphanumeric,
            "upper" | "lower" if self.flags.caseless => u8::is_ascii_alphabetic,
            "upper" => u8::is_ascii_uppercase,
            "lower" => u8::is_ascii_lowercase,
            "punct" => u8::is_ascii_punctuation,
            "space" => |b| matches!(b, b' ' | 9..=13),
            "blank" => |b| matches!(b, b' ' | b'\t'),
            "cntrl" => u8::is_ascii_control,
            "graph" => u8::is_ascii_graphic,
            "print" => |b| matches!(b, 32..=126),
            "xdigit" => u8::is_ascii_hexdigit,
            "word" => |b| b.is_ascii_alphanumeric() || *b == b'_',
            "ascii" => u8::is_ascii,
            _ => return Err(self.wrong("the class has no such name")),
        };
        let mut set = Set::of_bytes((0..=127u8).filter(is));
        if negated {
            set.negate(self.utf);
        }
        self.at += name.len() + 4;
        Ok(Some(set))
    }
}

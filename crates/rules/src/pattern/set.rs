//! A set of characters, as a class of a pattern names one.

/// In a pattern of bytes the bits say all. In a pattern of UTF-8 they speak of ASCII, `wide` of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Set {
    pub bits: [u64; 4],
    /// First and last, sorted, apart.
    pub wide: Vec<(u32, u32)>,
}

const WIDE_FIRST: u32 = 0x80;
pub(super) const WIDE_LAST: u32 = 0x10_FFFF;

/// More characters of one range are not looked at for their other case.
const FOLD_MAX: u32 = 4096;

impl Set {
    pub const fn has(&self, byte: u8) -> bool {
        self.bits[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
    }

    pub fn has_wide(&self, c: u32) -> bool {
        self.wide.iter().any(|(first, last)| (*first..=*last).contains(&c))
    }

    pub fn add_byte(&mut self, byte: u8) {
        self.bits[(byte >> 6) as usize] |= 1 << (byte & 63);
    }

    pub fn of_bytes(bytes: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self::default();
        bytes.into_iter().for_each(|byte| set.add_byte(byte));
        set
    }

    pub fn add(&mut self, first: u32, last: u32, utf: bool) {
        let narrow_last = if utf { 0x7F } else { 0xFF };
        for c in first..=last.min(narrow_last) {
            self.add_byte(u8::try_from(c).unwrap_or(u8::MAX));
        }
        if utf && last >= WIDE_FIRST {
            self.wide.push((first.max(WIDE_FIRST), last.min(WIDE_LAST)));
            self.tidy();
        }
    }

    pub fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.bits.iter_mut().zip(other.bits) {
            *mine |= theirs;
        }
        self.wide.extend_from_slice(&other.wide);
        self.tidy();
    }

    pub fn negate(&mut self, utf: bool) {
        self.bits = self.bits.map(|bits| !bits);
        if !utf {
            return;
        }
        self.bits[2] = 0;
        self.bits[3] = 0;
        let mut next = WIDE_FIRST;
        let mut gaps = Vec::new();
        for (first, last) in &self.wide {
            if next < *first {
                gaps.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= WIDE_LAST {
            gaps.push((next, WIDE_LAST));
        }
        self.wide = gaps;
    }

    /// Adds the other case of each.
    pub fn fold(&mut self, utf: bool) {
        for letter in b'a'..=b'z' {
            if self.has(letter) || self.has(letter.to_ascii_uppercase()) {
                self.add_byte(letter);
                self.add_byte(letter.to_ascii_uppercase());
            }
        }
        if !utf {
            return;
        }
        let narrow = (0..0x80).filter(|byte| self.has(*byte)).map(u32::from);
        let wide = self.wide.iter().flat_map(|(first, last)| *first..=(*last).min(first.saturating_add(FOLD_MAX)));
        let others: Vec<u32> = narrow.chain(wide).flat_map(other_cases).collect();
        for c in others {
            self.add(c, c, true);
        }
    }

    /// Whether it holds every character outside of ASCII, or none, as almost all do.
    pub fn wide_all(&self) -> bool {
        self.wide == [(WIDE_FIRST, WIDE_LAST)]
    }

    fn tidy(&mut self) {
        self.wide.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(self.wide.len());
        for (first, last) in self.wide.drain(..) {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        self.wide = joined;
    }
}

/// The characters that are the same as `c` but for their case, by the single-character mappings of Unicode.
pub(super) fn other_cases(c: u32) -> Vec<u32> {
    let Some(c) = char::from_u32(c) else { return Vec::new() };
    // These three fold to letters that do not fold back.
    let strangers: &[char] = match c {
        'k' | 'K' => &['\u{212A}'],
        's' | 'S' => &['\u{17F}'],
        '\u{E5}' | '\u{C5}' => &['\u{212B}'],
        _ => &[],
    };
    let lower = single(c.to_lowercase());
    let upper = single(c.to_uppercase());
    let around =
        [lower, upper, lower.and_then(|c| single(c.to_uppercase())), upper.and_then(|c| single(c.to_lowercase()))];
    // The dotless i and its like fold only by special rules; plain folding leaves them alone.
    let is_plain = |other: char| other.is_ascii() == c.is_ascii() || stranger(other) || stranger(c);
    let mut cases: Vec<u32> = strangers.iter().copied().map(u32::from).collect();
    for other in around.into_iter().flatten().filter(|other| *other != c && is_plain(*other)).map(u32::from) {
        if !cases.contains(&other) {
            cases.push(other);
        }
    }
    cases
}

const fn stranger(c: char) -> bool {
    matches!(c, '\u{212A}' | '\u{17F}')
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next()?;
    chars.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u32, u32)]) -> Set {
        let mut set = Set::default();
        ranges.iter().for_each(|(first, last)| set.add(*first, *last, true));
        set
    }

    #[test]
    fn negates_within_unicode() {
        let mut all = set(&[]);
        all.negate(true);
        assert!(all.has(b'a') && all.wide_all());
        let mut rest = set(&[(0x80, 0xFF), (0x200, 0x2FF), (0x100, 0x10F)]);
        assert_eq!(rest.wide, [(0x80, 0x10F), (0x200, 0x2FF)]);
        rest.negate(true);
        assert_eq!(rest.wide, [(0x110, 0x1FF), (0x300, WIDE_LAST)]);
    }

    #[test]
    fn folds_letters() {
        let mut letters = set(&[(0x6B, 0x6B), (0xC9, 0xC9)]);
        letters.fold(true);
        assert!(letters.has(b'K') && letters.has_wide(0x212A) && letters.has_wide(0xE9) && !letters.has(b'e'));
        assert_eq!(other_cases(u32::from('i')), [u32::from('I')]);
        assert!(other_cases(0x131).is_empty());
    }
}

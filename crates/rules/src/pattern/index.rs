//! One search of a line for the texts of all patterns at once.
//!
//! Each text is looked for by its rarest three bytes. A table of bits, small enough for the fastest cache, says of each
//! three bytes of the line whether any text has them as its own; only then the text is compared. An automaton for the two
//! thousand texts of OSSEC's rules does the same with megabytes, which is slower.

use super::literal::BYTES_MIN;
use super::{Pattern, literal::Literals};

const TABLE_BITS: u32 = 15;

/// Collects the texts of patterns.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    texts: Vec<Vec<u8>>,
    places: std::collections::HashMap<Vec<u8>, u32>,
}

/// What a pattern asks of a line; made by [`IndexBuilder::add`].
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Numbers of texts, of which one must be there; none at all: nothing is asked.
    any_of: Box<[u32]>,
    suffice: bool,
    utf: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches no part of the line.
    No,
    /// It matches the line.
    Yes,
    /// It has to be tried.
    Maybe,
}

#[derive(Debug)]
pub struct Index {
    texts: Vec<Vec<u8>>,
    bits: Box<[u64]>,
    /// By the hash of three bytes: where its entries begin; one more than there are hashes.
    starts: Box<[u32]>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    text: u32,
    /// Its three bytes, and where they lie in it.
    key: u32,
    offset: u32,
}

/// Which texts are in a line.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    found: Vec<u64>,
    /// Signs that count as ASCII letters but are none: no pattern can be ruled out.
    everything: bool,
    is_ascii: bool,
}

impl IndexBuilder {
    pub fn add(&mut self, pattern: &Pattern) -> Filter {
        let Some(Literals { any_of, suffice }) = pattern.literals() else { return Filter::default() };
        let any_of = any_of.iter().map(|text| self.place(text)).collect();
        Filter { any_of, suffice: *suffice, utf: pattern.is_utf() }
    }

    fn place(&mut self, text: &[u8]) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.to_vec());
        self.places.insert(text.to_vec(), place);
        place
    }

    pub fn build(self) -> Index {
        let size = 1usize << TABLE_BITS;
        let mut keyed: Vec<(usize, Entry)> = Vec::new();
        for (place, text) in (0u32..).zip(&self.texts) {
            let offset = rarest(text);
            let offset_u32 = u32::try_from(offset).unwrap_or(0);
            let key = three(&text[offset..]);
            keyed.push((hash(key), Entry { text: place, key, offset: offset_u32 }));
        }
        keyed.sort_by_key(|(hash, _)| *hash);
        let mut bits = vec![0u64; size / 64].into_boxed_slice();
        let mut starts = vec![0u32; size + 1].into_boxed_slice();
        for (hash, _) in &keyed {
            bits[hash >> 6] |= 1 << (hash & 63);
            starts[hash + 1] += 1;
        }
        for place in 0..size {
            starts[place + 1] += starts[place];
        }
        Index { texts: self.texts, bits, starts, entries: keyed.into_iter().map(|(_, entry)| entry).collect() }
    }
}

fn three(text: &[u8]) -> u32 {
    text.iter().take(BYTES_MIN).fold(0, |key, byte| key << 8 | u32::from(byte.to_ascii_lowercase()))
}

const fn hash(three: u32) -> usize {
    ((three & 0xFF_FFFF).wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)) as usize
}

/// The place of the three bytes that lines have most rarely.
fn rarest(text: &[u8]) -> usize {
    let commonness = |window: &[u8]| window.iter().map(|byte| common(*byte)).sum::<u32>();
    let places = 0..=text.len().saturating_sub(BYTES_MIN);
    places.min_by_key(|place| commonness(&text[*place..(*place + BYTES_MIN).min(text.len())])).unwrap_or(0)
}

/// How common a byte is in logs, roughly.
const fn common(byte: u8) -> u32 {
    match byte {
        b' ' | b'e' => 12,
        b'0'..=b'9' | b'.' | b':' => 9,
        b'a' | b'i' | b'n' | b'o' | b'r' | b's' | b't' => 8,
        b'c' | b'd' | b'l' | b'm' | b'p' | b'u' => 6,
        b'-' | b'/' | b'=' | b'[' | b']' | b'"' | b'(' | b')' | b',' => 5,
        b'b' | b'f' | b'g' | b'h' | b'w' => 4,
        b'k' | b'v' | b'y' | b'_' => 3,
        _ => 1,
    }
}

impl Index {
    pub fn scan(&self, line: &[u8], hits: &mut Hits) {
        hits.found.clear();
        hits.found.resize(self.texts.len().div_ceil(64), 0);
        hits.is_ascii = line.is_ascii();
        hits.everything = !hits.is_ascii && has_strange(line);
        let mut key = 0u32;
        for (at, byte) in line.iter().enumerate() {
            key = key << 8 | u32::from(byte.to_ascii_lowercase());
            let hash = hash(key);
            if self.bits[hash >> 6] & (1 << (hash & 63)) != 0 && at + 1 >= BYTES_MIN {
                self.compare(hash, key & 0xFF_FFFF, line, at + 1 - BYTES_MIN, hits);
            }
        }
    }

    #[inline(never)]
    fn compare(&self, hash: usize, key: u32, line: &[u8], at: usize, hits: &mut Hits) {
        let entries = self.starts[hash] as usize..self.starts[hash + 1] as usize;
        for Entry { text: place, key: own, offset } in &self.entries[entries] {
            let (word, bit) = ((*place >> 6) as usize, 1u64 << (*place & 63));
            if *own != key || hits.found[word] & bit != 0 {
                continue;
            }
            let text = &self.texts[*place as usize];
            let Some(start) = at.checked_sub(*offset as usize) else { continue };
            let found = line.get(start..start + text.len());
            if found.is_some_and(|found| found.eq_ignore_ascii_case(text)) {
                hits.found[word] |= bit;
            }
        }
    }
}

impl Hits {
    pub fn verdict(&self, filter: &Filter) -> Verdict {
        let has =
            |place: &u32| self.found.get((*place >> 6) as usize).is_some_and(|word| word & (1 << (*place & 63)) != 0);
        match () {
            () if filter.any_of.is_empty() || self.everything => Verdict::Maybe,
            () if !filter.any_of.iter().any(has) => Verdict::No,
            () if filter.suffice && (self.is_ascii || !filter.utf) => Verdict::Yes,
            () => Verdict::Maybe,
        }
    }
}

/// The Kelvin sign and the long s.
fn has_strange(line: &[u8]) -> bool {
    line.windows(2).enumerate().any(|(at, pair)| match pair {
        [0xC5, 0xBF] => true,
        [0xE2, 0x84] => line.get(at + 2) == Some(&0xAA),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_out_what_cannot_match() {
        let mut builder = IndexBuilder::default();
        let plain = builder.add(&Pattern::pcre2("failed|error").expect("a pattern"));
        let regex = builder.add(&Pattern::os_regex(r"kern\w+ from \d").expect("a pattern"));
        let open = builder.add(&Pattern::pcre2(r"\d").expect("a pattern"));
        let index = builder.build();
        let mut hits = Hits::default();
        for (line, verdicts) in [
            (&b"it FAILED"[..], [Verdict::Yes, Verdict::No, Verdict::Maybe]),
            (b"kernel: x from 5", [Verdict::No, Verdict::Maybe, Verdict::Maybe]),
            (b"", [Verdict::No, Verdict::No, Verdict::Maybe]),
            ("\u{212A}ern, from ".as_bytes(), [Verdict::Maybe, Verdict::Maybe, Verdict::Maybe]),
        ] {
            index.scan(line, &mut hits);
            assert_eq!([&plain, &regex, &open].map(|filter| hits.verdict(filter)), verdicts, "{line:?}");
        }
    }
}

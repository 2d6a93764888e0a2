//! One search of a line for the texts of all patterns at once.
//!
//! Each text is looked for by three bytes of it, chosen rare, and such that few texts have the same. A table of bits, small
//! enough for the fastest cache, says of each place of the line whether any text has what stands there; only then up to eight
//! bytes are compared, and the rest only if those are equal. An automaton for the two thousand texts of OSSEC's rules does the
//! same with megabytes, which is slower.

use std::collections::HashMap;

use super::literal::BYTES_MIN;
use super::{Pattern, literal::Literals};

const TABLE_BITS: u32 = 16;
const TABLE_WORDS: usize = 1 << (TABLE_BITS - 6);
/// So many neighbouring places of the table of bits share one bucket, as a power of two.
const BUCKET_SHIFT: u32 = 4;
/// Bytes that are compared at once.
const WINDOW: usize = 8;

/// Collects the texts of patterns.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    texts: Vec<Vec<u8>>,
    places: HashMap<Vec<u8>, u32>,
}

/// What a pattern asks of a line; made by [`IndexBuilder::add`].
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Numbers of texts, of which one must be there; none at all: nothing is asked.
    any_of: Box<[u32]>,
    suffice: bool,
    utf: bool,
    /// How much it rules out, roughly: the length of the shortest text.
    worth: usize,
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
    /// By the hash of a key.
    bits: Box<[u64; TABLE_WORDS]>,
    /// By bucket: where its entries begin; one more than there are buckets.
    starts: Box<[u32]>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The bytes of the text from its key on, as far as the mask reaches.
    value: u64,
    mask: u64,
    text: u32,
    /// Where the key lies in the text.
    offset: u32,
    /// The mask reaches from the start of the text to its end.
    is_whole: bool,
}

/// Which texts are in a line.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    found: Vec<u64>,
    /// The same, one by one.
    texts: Vec<u32>,
    /// The line in small letters, with zeros behind it.
    lower: Vec<u8>,
    /// Where in it a text may stand.
    places: Vec<u32>,
    /// Signs that count as ASCII letters but are none: no pattern can be ruled out.
    everything: bool,
    is_ascii: bool,
}

/// Of many that wait for texts: which may match a line at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    /// By text: where those that wait for it begin; one more than there are texts.
    starts: Box<[u32]>,
    waiting: Box<[u32]>,
    /// Those that wait for nothing.
    open: Box<[u64]>,
}

/// Those that may match the line at hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admitted(Vec<u64>);

impl IndexBuilder {
    pub fn add(&mut self, pattern: &Pattern) -> Filter {
        let Some(Literals { any_of, suffice }) = pattern.literals() else { return Filter::default() };
        let worth = any_of.iter().map(Vec::len).min().unwrap_or(0);
        let any_of = any_of.iter().map(|text| self.place(text)).collect();
        Filter { any_of, suffice: *suffice, utf: pattern.is_utf(), worth }
    }

    fn place(&mut self, text: &[u8]) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.to_ascii_lowercase());
        self.places.insert(text.to_vec(), place);
        place
    }

    pub fn build(self) -> Index {
        let mut crowd = HashMap::new();
        for text in &self.texts {
            (0..=text.len() - BYTES_MIN).for_each(|place| *crowd.entry(key(text, place)).or_insert(0) += 1);
        }
        let mut keyed: Vec<(usize, Entry)> = Vec::new();
        let mut taken = HashMap::new();
        for (text, bytes) in (0..).zip(&self.texts) {
            let offset = key_place(bytes, &crowd, &taken);
            *taken.entry(key(bytes, offset)).or_insert(0) += 1;
            let mut window = [0; WINDOW];
            let known = &bytes[offset..bytes.len().min(offset + WINDOW)];
            window[..known.len()].copy_from_slice(known);
            let entry = Entry {
                value: u64::from_le_bytes(window),
                mask: u64::MAX >> (8 * (WINDOW - known.len())),
                text,
                offset: u32::try_from(offset).unwrap_or(0),
                is_whole: known.len() == bytes.len(),
            };
            keyed.push((hash(entry.value), entry));
        }
        keyed.sort_by_key(|(hash, _)| *hash);
        let mut bits = Box::new([0u64; TABLE_WORDS]);
        let mut starts = vec![0u32; (1 << (TABLE_BITS - BUCKET_SHIFT)) + 1].into_boxed_slice();
        for (hash, _) in &keyed {
            bits[hash >> 6] |= 1 << (hash & 63);
            starts[(hash >> BUCKET_SHIFT) + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        Index { texts: self.texts, bits, starts, entries: keyed.into_iter().map(|(_, entry)| entry).collect() }
    }
}

/// Of the key that stands at the start of the window.
const fn hash(window: u64) -> usize {
    ((window as u32 & 0xFF_FFFF).wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)) as usize
}

fn key(text: &[u8], place: usize) -> u32 {
    text[place..place + BYTES_MIN].iter().fold(0, |key, byte| key << 8 | u32::from(*byte))
}

/// The place of the bytes that lines have most rarely, as far as the texts themselves show it, and few others go by.
fn key_place(text: &[u8], crowd: &HashMap<u32, u32>, taken: &HashMap<u32, u32>) -> usize {
    let cost = |place: &usize| {
        let commonness: u32 = text[*place..*place + BYTES_MIN].iter().map(|byte| common(*byte)).sum();
        let key = key(text, *place);
        let count = |of: &HashMap<u32, u32>| of.get(&key).copied().unwrap_or(0);
        commonness + count(crowd).min(20) + 2 * count(taken)
    };
    (0..=text.len() - BYTES_MIN).min_by_key(cost).unwrap_or(0)
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
        hits.begin(line, self.texts.len());
        let (lower, mut places) = (std::mem::take(&mut hits.lower), std::mem::take(&mut hits.places));
        // Without a branch for each place, which could not be foretold.
        places.resize(lower.len(), 0);
        let mut count = 0;
        for (at, window) in lower.windows(WINDOW).enumerate() {
            let hash = hash(window.try_into().map_or(0, u64::from_le_bytes));
            places[count] = at as u32;
            count += (self.bits[hash >> 6] >> (hash & 63) & 1) as usize;
        }
        for at in &places[..count] {
            self.compare(*at as usize, &lower, hits);
        }
        (hits.lower, hits.places) = (lower, places);
    }

    fn compare(&self, at: usize, lower: &[u8], hits: &mut Hits) {
        let window = lower[at..at + WINDOW].try_into().map_or(0, u64::from_le_bytes);
        let bucket = hash(window) >> BUCKET_SHIFT;
        // What stands behind the line is no part of it.
        let line = &lower[..lower.len() - WINDOW];
        for entry in &self.entries[self.starts[bucket] as usize..self.starts[bucket + 1] as usize] {
            if window & entry.mask != entry.value {
                continue;
            }
            let text = &*self.texts[entry.text as usize];
            let Some(start) = at.checked_sub(entry.offset as usize) else { continue };
            let Some(found) = line.get(start..start + text.len()) else { continue };
            let (word, bit) = (&mut hits.found[(entry.text >> 6) as usize], 1u64 << (entry.text & 63));
            if *word & bit == 0 && (entry.is_whole || found == text) {
                *word |= bit;
                hits.texts.push(entry.text);
            }
        }
    }
}

impl Hits {
    fn begin(&mut self, line: &[u8], texts: usize) {
        self.found.clear();
        self.found.resize(texts.div_ceil(64), 0);
        self.texts.clear();
        self.lower.clear();
        self.lower.extend(line.iter().map(u8::to_ascii_lowercase));
        self.lower.resize(line.len() + WINDOW, 0);
        self.is_ascii = line.is_ascii();
        self.everything = !self.is_ascii && has_strange(line);
    }

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

impl Filter {
    /// How much it rules out; of none, nothing.
    pub(crate) fn worth(&self) -> usize {
        self.worth
    }
}

impl Guards {
    /// Each waits for what its filter asks for; without a filter, for nothing.
    pub fn new(filters: &[Option<&Filter>]) -> Self {
        let filters = || filters.iter().enumerate();
        let texts = |filter: &Option<&Filter>| filter.map_or(&[][..], |filter| &filter.any_of).to_vec();
        let count = filters().flat_map(|(_, filter)| texts(filter)).max().map_or(0, |last| last as usize + 1);
        let mut starts = vec![0u32; count + 1].into_boxed_slice();
        let mut open = vec![0u64; filters().len().div_ceil(64)].into_boxed_slice();
        let mut pairs = Vec::new();
        for (place, filter) in filters() {
            let texts = texts(filter);
            if texts.is_empty() {
                open[place >> 6] |= 1 << (place & 63);
            }
            pairs.extend(texts.into_iter().map(|text| (text, u32::try_from(place).unwrap_or(u32::MAX))));
        }
        pairs.sort_unstable();
        for (text, _) in &pairs {
            starts[*text as usize + 1] += 1;
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        Self { starts, waiting: pairs.into_iter().map(|(_, place)| place).collect(), open }
    }

    pub fn admit(&self, hits: &Hits, admitted: &mut Admitted) {
        admitted.0.clear();
        if hits.everything {
            admitted.0.resize(self.open.len(), u64::MAX);
            return;
        }
        admitted.0.extend_from_slice(&self.open);
        for text in &hits.texts {
            let text = *text as usize;
            let (Some(start), Some(end)) = (self.starts.get(text), self.starts.get(text + 1)) else { continue };
            for place in &self.waiting[*start as usize..*end as usize] {
                admitted.0[(*place >> 6) as usize] |= 1 << (place & 63);
            }
        }
    }
}

impl Admitted {
    #[inline]
    pub fn has(&self, place: usize) -> bool {
        self.0.get(place >> 6).is_some_and(|word| word & (1 << (place & 63)) != 0)
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

//! Matches: a search that tries the ways of a pattern in the order of PCRE2, and is bounded.
//!
//! Most patterns of rules are decided within a few steps. One that takes more than `STEPS_PLAIN` is tried again with a
//! memory of the places where it failed, by which every regular expression needs no more than a step for each of its own
//! and each byte. What is none (it looks around, or refers back) ends as [`Exhausted`] at `STEPS_MAX`.

use super::node::{Assert, Mode, SubKind};
use super::program::{NO_FOLLOW, Op, Program};
use super::set::Set;

/// The search was given up: neither a match nor none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern takes more than {max} steps for this text", max = STEPS_MAX)]
pub struct Exhausted;

const STEPS_PLAIN: u32 = 20_000;
pub(super) const STEPS_MAX: u32 = 4_000_000;
/// The memory takes one bit for each step of the pattern and each place in the text; a larger one is not begun.
const MEMORY_BITS_MAX: usize = 1 << 26;
const UNSET: u32 = u32::MAX;

/// What a search needs beside pattern and text. Kept, it saves allocations; it carries nothing from one search to another.
#[derive(Debug, Default)]
pub struct Scratch {
    frames: Vec<Frame>,
    slots: Vec<u32>,
    failed: Vec<u64>,
    /// Of each step that repeats a class: a part of the text that is all of the class, to its very end.
    runs: Vec<(u32, u32)>,
}

impl Scratch {
    /// Where the group lies, in the text of the last search that found groups.
    pub(super) fn group(&self, group: u32) -> Option<std::ops::Range<usize>> {
        let start = *self.slots.get(2 * group as usize)?;
        let end = *self.slots.get(2 * group as usize + 1)?;
        (start != UNSET && end != UNSET && start <= end).then_some(start as usize..end as usize)
    }
}

#[derive(Clone, Copy, Debug)]
enum Frame {
    Branch {
        op: u32,
        at: u32,
    },
    Restore {
        slot: u32,
        value: u32,
    },
    /// A loop took all it could; it can give back down to `low`.
    Greedy {
        op: u32,
        low: u32,
        at: u32,
    },
    /// A loop took what it must; it can take `left` more.
    Lazy {
        op: u32,
        at: u32,
        left: u32,
    },
}

/// The end of the leftmost match. With `groups`, the scratch knows the groups afterwards.
pub(super) fn search(
    program: &Program,
    text: &[u8],
    groups: bool,
    scratch: &mut Scratch,
) -> Result<Option<usize>, Exhausted> {
    if text.len() < program.bytes_min || text.len() >= UNSET as usize {
        return Ok(None);
    }
    if program.is_anchored && !program.first.allows(text, 0) {
        return Ok(None);
    }
    let track = groups || program.refers_back;
    // In a text of ASCII each byte is a character.
    let utf = program.utf && !text.is_ascii();
    let mut run = Run { program, text, scratch, track, utf, steps: 0, limit: STEPS_PLAIN, remembers: false };
    match run.whole() {
        Err(Exhausted) => {
            let bits = program.ops.len() * (text.len() + 1);
            run.remembers = program.is_regular && bits <= MEMORY_BITS_MAX;
            if run.remembers {
                run.scratch.failed.clear();
                run.scratch.failed.resize(bits.div_ceil(64), 0);
                run.scratch.runs.clear();
                run.scratch.runs.resize(program.ops.len(), (UNSET, 0));
            }
            run.steps = 0;
            run.limit = STEPS_MAX;
            run.whole()
        }
        answer => answer,
    }
}

struct Run<'a> {
    program: &'a Program,
    text: &'a [u8],
    scratch: &'a mut Scratch,
    track: bool,
    /// Whether a character may have several bytes.
    utf: bool,
    steps: u32,
    limit: u32,
    remembers: bool,
}

const fn at(place: usize) -> u32 {
    place as u32
}

impl Run<'_> {
    fn whole(&mut self) -> Result<Option<usize>, Exhausted> {
        if self.program.is_anchored {
            return self.attempt(0);
        }
        let first = &self.program.first;
        let mut start = 0;
        loop {
            let rest = &self.text[start..];
            match rest.iter().position(|byte| first.allows_byte(*byte)) {
                Some(skipped) => start += skipped,
                None if first.allows_end() => start = self.text.len(),
                None => return Ok(None),
            }
            let is_inside = self.utf && self.text.get(start).is_some_and(|byte| is_continuation(*byte));
            if !is_inside && let Some(end) = self.attempt(start)? {
                return Ok(Some(end));
            }
            if start >= self.text.len() {
                return Ok(None);
            }
            start += 1;
        }
    }

    fn attempt(&mut self, start: usize) -> Result<Option<usize>, Exhausted> {
        self.scratch.frames.clear();
        if self.track || self.program.slots > 2 * (self.program.groups as usize + 1) {
            self.scratch.slots.clear();
            self.scratch.slots.resize(self.program.slots, UNSET);
        }
        self.go(0, start)
    }

    fn step(&mut self, count: usize) -> Result<(), Exhausted> {
        self.steps = self.steps.saturating_add(1 + at(count >> 4));
        if self.steps > self.limit { Err(Exhausted) } else { Ok(()) }
    }

    /// From the step `op` at the place `pos`; the end, or nothing. What it leaves open lies above the frames it found.
    fn go(&mut self, op: usize, pos: usize) -> Result<Option<usize>, Exhausted> {
        let base = self.scratch.frames.len();
        let (mut op, mut pos) = (op, pos);
        loop {
            self.step(0)?;
            let next = match &self.program.ops[op] {
                Op::Match | Op::SubEnd => return Ok(Some(pos)),
                Op::Text { start, len, caseless, strange } => {
                    let wanted = &self.program.text[*start as usize..(*start + *len) as usize];
                    text_at(self.text, pos, wanted, *caseless, *strange).map(|end| (op + 1, end))
                }
                Op::Set(set) => {
                    let set = &self.program.sets[*set as usize];
                    self.one(set, pos).map(|end| (op + 1, end))
                }
                Op::Loop { .. } => self.repeat(op, pos)?.map(|end| (op + 1, end)),
                Op::Split { first, second, first_if, second_if } => {
                    let (first, second) = (*first, *second);
                    match (self.follows(*first_if, pos), self.follows(*second_if, pos)) {
                        (true, true) => {
                            self.scratch.frames.push(Frame::Branch { op: second, at: at(pos) });
                            (!self.has_failed(first as usize, pos)).then_some((first as usize, pos))
                        }
                        (true, false) => Some((first as usize, pos)),
                        (false, true) => Some((second as usize, pos)),
                        (false, false) => None,
                    }
                }
                Op::Jump(to) => Some((*to as usize, pos)),
                Op::Save(slot) => {
                    if self.track {
                        self.save(*slot, pos);
                    }
                    Some((op + 1, pos))
                }
                Op::Mark(slot) => {
                    self.save(*slot, pos);
                    Some((op + 1, pos))
                }
                Op::Again { mark, back } => {
                    let took_nothing = self.scratch.slots[*mark as usize] == at(pos);
                    Some((if took_nothing { op + 1 } else { *back as usize }, pos))
                }
                Op::Assert(assert) => holds(*assert, self.text, pos).then_some((op + 1, pos)),
                Op::BackReference { group, caseless } => {
                    self.back_reference(*group, *caseless, pos).map(|end| (op + 1, end))
                }
                Op::Sub { kind, next } => {
                    let (kind, next) = (*kind, *next as usize);
                    self.sub(kind, op + 1, pos)?.map(|end| (next, end))
                }
            };
            match next {
                Some(place) => (op, pos) = place,
                None => match self.back(base)? {
                    Some(place) => (op, pos) = place,
                    None => return Ok(None),
                },
            }
        }
    }

    fn save(&mut self, slot: u32, pos: usize) {
        let value = std::mem::replace(&mut self.scratch.slots[slot as usize], at(pos));
        self.scratch.frames.push(Frame::Restore { slot, value });
    }

    /// The next way that is still open above `base`.
    fn back(&mut self, base: usize) -> Result<Option<(usize, usize)>, Exhausted> {
        while self.scratch.frames.len() > base {
            let Some(frame) = self.scratch.frames.pop() else { break };
            let place = match frame {
                Frame::Restore { slot, value } => {
                    self.scratch.slots[slot as usize] = value;
                    None
                }
                Frame::Branch { op, at } => Some((op as usize, at as usize)),
                Frame::Greedy { op, low, at } => self.give_back(op as usize, low as usize, at as usize)?,
                Frame::Lazy { op, at, left } => self.take_more(op as usize, at as usize, left)?,
            };
            if let Some((op, pos)) = place
                && !self.has_failed(op, pos)
            {
                return Ok(Some((op, pos)));
            }
        }
        Ok(None)
    }

    /// Whether this step was begun at this place before, which then came to nothing.
    fn has_failed(&mut self, op: usize, pos: usize) -> bool {
        if !self.remembers {
            return false;
        }
        let bit = op * (self.text.len() + 1) + pos;
        let word = &mut self.scratch.failed[bit >> 6];
        let known = *word & (1 << (bit & 63)) != 0;
        *word |= 1 << (bit & 63);
        known
    }

    /// The last place from `low` to `pos`, both included, at which this step has not failed.
    fn last_open(&self, op: usize, low: usize, pos: usize) -> Option<usize> {
        let row = op * (self.text.len() + 1);
        let (low, mut bit) = (row + low, row + pos);
        loop {
            // The bits above the place count as failed.
            let open = !self.scratch.failed[bit >> 6] & (u64::MAX >> (63 - (bit & 63)));
            if open != 0 {
                let found = (bit & !63) + 63 - open.leading_zeros() as usize;
                return (found >= low).then(|| found - row);
            }
            if bit < 64 || (bit & !63) <= low {
                return None;
            }
            bit = (bit & !63) - 1;
        }
    }

    /// One character of the set; the place behind it.
    fn one(&self, set: &Set, pos: usize) -> Option<usize> {
        let byte = *self.text.get(pos)?;
        if byte < 0x80 || !self.utf {
            return set.has(byte).then_some(pos + 1);
        }
        let (c, length) = wide_char(&self.text[pos..]);
        (set.wide_all() || set.has_wide(c)).then_some(pos + length)
    }

    fn follows(&self, follow: u32, pos: usize) -> bool {
        follow == NO_FOLLOW || self.program.follows[follow as usize].allows(self.text, pos)
    }

    fn repeat(&mut self, op: usize, pos: usize) -> Result<Option<usize>, Exhausted> {
        let Op::Loop { set, min, max, mode, follow } = self.program.ops[op] else { return Ok(None) };
        let set = &self.program.sets[set as usize];
        let Some(low) = self.take(set, pos, min, true) else { return Ok(None) };
        if mode == Mode::Lazy {
            if max > min {
                self.scratch.frames.push(Frame::Lazy { op: at(op), at: at(low), left: max.saturating_sub(min) });
            }
            let is_open = self.follows(follow, low) && !self.has_failed(op + 1, low);
            return Ok(is_open.then_some(low));
        }
        let left = if max == u32::MAX { max } else { max - min };
        let known = if self.remembers && left == u32::MAX { self.scratch.runs[op] } else { (UNSET, 0) };
        let end = if known.0 <= at(low) && at(low) <= known.1 {
            known.1 as usize
        } else {
            let end = self.take(set, low, left, false).unwrap_or(low);
            self.step(end - pos)?;
            if self.remembers && left == u32::MAX {
                self.scratch.runs[op] = (at(low), at(end));
            }
            end
        };
        if mode == Mode::Greedy && end > low {
            self.scratch.frames.push(Frame::Greedy { op: at(op), low: at(low), at: at(end) });
        }
        let is_open = self.follows(follow, end) && !self.has_failed(op + 1, end);
        Ok(is_open.then_some(end))
    }

    /// Up to `count` of the set, or exactly as many.
    fn take(&self, set: &Set, pos: usize, count: u32, exactly: bool) -> Option<usize> {
        let is_narrow = !self.utf || set.wide.is_empty();
        if is_narrow || !exactly && set.wide_all() && count == u32::MAX {
            let rest = &self.text[pos..];
            let rest = &rest[..rest.len().min(count as usize)];
            // In UTF-8, all bytes of wide characters are taken, and so whole ones.
            let wide = !is_narrow;
            let taken = rest.iter().position(|byte| !(set.has(*byte) || wide && *byte >= 0x80)).unwrap_or(rest.len());
            return (!exactly || taken == count as usize).then_some(pos + taken);
        }
        let mut pos = pos;
        for _ in 0..count {
            match self.one(set, pos) {
                Some(end) => pos = end,
                None if exactly => return None,
                None => break,
            }
        }
        Some(pos)
    }

    fn give_back(&mut self, op: usize, low: usize, pos: usize) -> Result<Option<(usize, usize)>, Exhausted> {
        let Op::Loop { follow, .. } = self.program.ops[op] else { return Ok(None) };
        let mut pos = pos;
        let before = pos;
        while pos > low {
            pos -= 1;
            if self.remembers {
                match self.last_open(op + 1, low, pos) {
                    Some(open) => pos = open,
                    None => break,
                }
            }
            while self.utf && pos > low && is_continuation(self.text[pos]) {
                pos -= 1;
            }
            if self.follows(follow, pos) {
                if pos > low {
                    self.scratch.frames.push(Frame::Greedy { op: at(op), low: at(low), at: at(pos) });
                }
                self.step(if self.remembers { 0 } else { before - pos })?;
                return Ok(Some((op + 1, pos)));
            }
        }
        self.step(if self.remembers { 0 } else { before - pos })?;
        Ok(None)
    }

    fn take_more(&mut self, op: usize, pos: usize, left: u32) -> Result<Option<(usize, usize)>, Exhausted> {
        let Op::Loop { set, follow, .. } = self.program.ops[op] else { return Ok(None) };
        let set = &self.program.sets[set as usize];
        let (mut pos, mut left) = (pos, left);
        let before = pos;
        while left > 0 {
            let Some(end) = self.one(set, pos) else { break };
            pos = end;
            left = if left == u32::MAX { left } else { left - 1 };
            if self.follows(follow, pos) {
                if left > 0 {
                    self.scratch.frames.push(Frame::Lazy { op: at(op), at: at(pos), left });
                }
                self.step(pos - before)?;
                return Ok(Some((op + 1, pos)));
            }
        }
        self.step(pos - before)?;
        Ok(None)
    }

    fn back_reference(&self, group: u32, caseless: bool, pos: usize) -> Option<usize> {
        let wanted = &self.text[self.scratch.group(group)?];
        let end = pos.checked_add(wanted.len()).filter(|end| *end <= self.text.len())?;
        let found = &self.text[pos..end];
        (if caseless { found.eq_ignore_ascii_case(wanted) } else { found == wanted }).then_some(end)
    }

    /// What is matched for itself. The depth is bounded by the nesting of brackets.
    fn sub(&mut self, kind: SubKind, op: usize, pos: usize) -> Result<Option<usize>, Exhausted> {
        let base = self.scratch.frames.len();
        let start = match kind {
            SubKind::Behind(width) | SubKind::NotBehind(width) => self.before(pos, width),
            SubKind::Atomic | SubKind::Ahead | SubKind::NotAhead => Some(pos),
        };
        let end = match start {
            Some(start) => self.go(op, start)?,
            None => None,
        };
        if matches!(kind, SubKind::NotAhead | SubKind::NotBehind(_)) {
            while self.scratch.frames.len() > base {
                if let Some(Frame::Restore { slot, value }) = self.scratch.frames.pop() {
                    self.scratch.slots[slot as usize] = value;
                }
            }
            return Ok(end.is_none().then_some(pos));
        }
        // No other way inside is tried any more; what it noted of groups is undone if the whole goes back.
        let mut kept = base;
        for nth in base..self.scratch.frames.len() {
            if matches!(self.scratch.frames[nth], Frame::Restore { .. }) {
                self.scratch.frames.swap(kept, nth);
                kept += 1;
            }
        }
        self.scratch.frames.truncate(kept);
        Ok(end.map(|end| if kind == SubKind::Atomic { end } else { pos }))
    }

    fn before(&self, pos: usize, width: u32) -> Option<usize> {
        if !self.utf {
            return pos.checked_sub(width as usize);
        }
        let mut pos = pos;
        for _ in 0..width {
            pos = pos.checked_sub(1)?;
            while pos > 0 && is_continuation(self.text[pos]) {
                pos -= 1;
            }
        }
        Some(pos)
    }
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// The character at the start of `text`, and its length. A byte that begins none stands for itself.
fn wide_char(text: &[u8]) -> (u32, usize) {
    let length = match text[0] {
        0xF0.. => 4,
        0xE0.. => 3,
        _ => 2,
    };
    let read = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.chars().next());
    read.map_or((0xFFFD, 1), |c| (u32::from(c), length))
}

/// The place behind `wanted` if it stands at `pos`.
fn text_at(text: &[u8], pos: usize, wanted: &[u8], caseless: bool, strange: bool) -> Option<usize> {
    let end = pos + wanted.len();
    let is_same = text.get(pos..end).is_some_and(|found| match caseless {
        true => found.iter().zip(wanted).all(|(found, wanted)| found.to_ascii_lowercase() == *wanted),
        false => found == wanted,
    });
    match is_same {
        true => Some(end),
        false if strange => strange_text_at(text, pos, wanted),
        false => None,
    }
}

/// The same where the Kelvin sign counts as a `k`, the long s as an `s`.
fn strange_text_at(text: &[u8], pos: usize, wanted: &[u8]) -> Option<usize> {
    let mut pos = pos;
    for wanted in wanted {
        let rest = text.get(pos..)?;
        pos += match (*wanted, rest.first()?.to_ascii_lowercase()) {
            (wanted, found) if wanted == found => 1,
            (b'k', _) if rest.starts_with("\u{212A}".as_bytes()) => "\u{212A}".len(),
            (b's', _) if rest.starts_with("\u{17F}".as_bytes()) => "\u{17F}".len(),
            _ => return None,
        };
    }
    Some(pos)
}

fn holds(assert: Assert, text: &[u8], pos: usize) -> bool {
    let is_word = |pos: Option<usize>| {
        pos.and_then(|pos| text.get(pos)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    let boundary = || is_word(pos.checked_sub(1)) != is_word(Some(pos));
    let is_end = || pos == text.len();
    match assert {
        Assert::Start => pos == 0,
        // Not behind a line break that ends the text.
        Assert::LineStart => pos == 0 || (text[pos - 1] == b'\n' && !is_end()),
        Assert::End => is_end() || (pos + 1 == text.len() && text[pos] == b'\n'),
        Assert::LineEnd => is_end() || text[pos] == b'\n',
        Assert::VeryEnd => is_end(),
        Assert::WordBoundary => boundary(),
        Assert::NoWordBoundary => !boundary(),
    }
}

//! Runs a path through a glob's automaton: every state that is possible, side by side, one byte at a time.

use super::Pass;

/// One state. All but the first three take no byte.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Step {
    Byte(u8),
    NotSlash,
    Class(Box<ByteSet>),
    Split(usize, usize),
    Jump(usize),
    Accept,
}

/// A set of bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(super) fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
    }

    pub(super) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
    }

    pub(super) fn complement(&self) -> Self {
        Self(self.0.map(|word| !word))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// The states that are possible at one place of the path, each held once.
struct States {
    held: Vec<usize>,
    /// For each state, the place at which it was last added.
    seen_at: Vec<usize>,
}

impl States {
    fn new(count: usize) -> Self {
        Self { held: Vec::with_capacity(16), seen_at: vec![usize::MAX; count] }
    }

    /// Adds `state` and what it leads to without a byte.
    fn add(&mut self, steps: &[Step], state: usize, place: usize, stack: &mut Vec<usize>) {
        stack.push(state);
        while let Some(state) = stack.pop() {
            if self.seen_at[state] == place {
                continue;
            }
            self.seen_at[state] = place;
            match steps[state] {
                Step::Jump(to) => stack.push(to),
                Step::Split(one, other) => stack.extend([one, other]),
                _ => self.held.push(state),
            }
        }
    }

    fn take(&mut self, steps: &[Step], from: &Self, byte: u8, place: usize, stack: &mut Vec<usize>) {
        self.held.clear();
        for &state in &from.held {
            let taken = match &steps[state] {
                Step::Byte(wanted) => *wanted == byte,
                Step::NotSlash => byte != b'/',
                Step::Class(set) => set.contains(byte),
                _ => false,
            };
            if taken {
                self.add(steps, state + 1, place, stack);
            }
        }
    }

    fn accept(&self, steps: &[Step]) -> bool {
        self.held.iter().any(|&state| steps[state] == Step::Accept)
    }
}

/// Runs `path` from its byte `start`, which the state `start` stands before.
pub(super) fn run(steps: &[Step], start: usize, path: &[u8]) -> Pass {
    let (mut now, mut next) = (States::new(steps.len()), States::new(steps.len()));
    let mut stack = Vec::with_capacity(16);
    let mut longest = None;
    now.add(steps, start, start, &mut stack);
    for place in start..=path.len() {
        if matches!(path.get(place), None | Some(b'/')) && now.accept(steps) {
            longest = Some(place);
        }
        // Behind the end comes a `/` that is not there: what it leads to says whether something below can match.
        let byte = path.get(place).copied().unwrap_or(b'/');
        next.take(steps, &now, byte, place + 1, &mut stack);
        std::mem::swap(&mut now, &mut next);
        if now.held.is_empty() {
            break;
        }
    }
    Pass { longest, alive: !now.held.is_empty() }
}

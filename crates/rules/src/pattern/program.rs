//! From a pattern's tree to the steps that [`super::run`] takes.
//!
//! What can be known beforehand is worked out here: with which bytes a match can begin, and what may follow a repeated
//! class, so that most of the ways that a backtracking search would try are never begun.

use super::node::{Assert, Mode, Node, SubKind};
use super::parse::Parsed;
use super::set::{Set, other_cases};

mod first;

pub(super) use first::First;

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A run of bytes of `Program::text`, in small letters if `caseless`.
    Text {
        start: u32,
        len: u32,
        caseless: bool,
        strange: bool,
    },
    Set(u32),
    /// One class again and again; `follow` is what may come behind.
    Loop {
        set: u32,
        min: u32,
        max: u32,
        mode: Mode,
        follow: u32,
    },
    /// One way, then the other; each only where the text goes on with one of its bytes (`Program::follows`).
    Split {
        first: u32,
        second: u32,
        first_if: u32,
        second_if: u32,
    },
    Jump(u32),
    Save(u32),
    /// Remembers where one turn of a loop begins.
    Mark(u32),
    /// Goes back for another turn unless the last one took nothing.
    Again {
        mark: u32,
        back: u32,
    },
    Assert(Assert),
    BackReference {
        group: u32,
        caseless: bool,
    },
    Sub {
        kind: SubKind,
        next: u32,
    },
    SubEnd,
    Match,
}

#[derive(Debug)]
pub(super) struct Program {
    pub ops: Vec<Op>,
    pub sets: Vec<Set>,
    pub follows: Vec<First>,
    pub text: Vec<u8>,
    /// Two for the whole and for each group, then the marks.
    pub slots: usize,
    pub groups: u32,
    pub utf: bool,
    pub is_anchored: bool,
    pub first: First,
    pub bytes_min: usize,
    /// Groups must be known while matching.
    pub refers_back: bool,
    /// Whether a step at a place fails for good if it once failed: so for all patterns that are regular expressions.
    pub is_regular: bool,
}

/// More steps are refused: repetitions of large groups are written out.
const OPS_MAX: usize = 20_000;
pub(super) const NO_FOLLOW: u32 = u32::MAX;

/// The pattern is too large.
pub(super) struct TooLarge;

pub(super) fn compile(parsed: &Parsed, utf: bool) -> Result<Program, TooLarge> {
    let node = &parsed.node;
    let program = Program {
        ops: Vec::new(),
        sets: Vec::new(),
        follows: Vec::new(),
        text: Vec::new(),
        slots: 2 * (parsed.groups as usize + 1),
        groups: parsed.groups,
        utf,
        is_anchored: node.is_anchored(),
        first: First::of(node, &First::anything(), utf),
        bytes_min: node.bytes_min(),
        refers_back: false,
        is_regular: true,
    };
    let mut compiler = Compiler { program };
    compiler.emit(node, &First::anything())?;
    compiler.push(Op::Match)?;
    Ok(compiler.program)
}

struct Compiler {
    program: Program,
}

type Emitted = Result<(), TooLarge>;

impl Compiler {
    fn push(&mut self, op: Op) -> Result<usize, TooLarge> {
        if self.program.ops.len() >= OPS_MAX {
            return Err(TooLarge);
        }
        self.program.ops.push(op);
        Ok(self.program.ops.len() - 1)
    }

    fn here(&self) -> u32 {
        place(self.program.ops.len())
    }

    fn set(&mut self, set: &Set) -> u32 {
        let known = self.program.sets.iter().position(|known| known == set);
        place(known.unwrap_or_else(|| {
            self.program.sets.push(set.clone());
            self.program.sets.len() - 1
        }))
    }

    fn emit(&mut self, node: &Node, next: &First) -> Emitted {
        match node {
            Node::Empty => {}
            Node::Char { .. } => self.texts(std::slice::from_ref(node))?,
            Node::Set(set) => {
                let set = self.set(set);
                self.push(Op::Set(set))?;
            }
            Node::Assert(assert) => {
                self.push(Op::Assert(*assert))?;
            }
            Node::Concat(nodes) => self.concat(nodes, next)?,
            Node::Alternate(nodes) => self.alternate(nodes, next)?,
            Node::Repeat { node, min, max, mode } => self.repeat(node, *min, *max, *mode, next)?,
            Node::Capture(group, node) => {
                self.push(Op::Save(2 * group))?;
                self.emit(node, next)?;
                self.push(Op::Save(2 * group + 1))?;
            }
            Node::Sub(kind, node) => self.sub(*kind, |this| this.emit(node, &First::anything()))?,
            Node::BackReference { group, caseless } => {
                self.program.refers_back = true;
                self.program.is_regular = false;
                self.push(Op::BackReference { group: *group, caseless: *caseless })?;
            }
        }
        Ok(())
    }

    fn sub(&mut self, kind: SubKind, inside: impl FnOnce(&mut Self) -> Emitted) -> Emitted {
        self.program.is_regular = false;
        let start = self.push(Op::Sub { kind, next: 0 })?;
        inside(self)?;
        self.push(Op::SubEnd)?;
        self.program.ops[start] = Op::Sub { kind, next: self.here() };
        Ok(())
    }

    fn concat(&mut self, nodes: &[Node], next: &First) -> Emitted {
        let mut follows = vec![next.clone()];
        for node in nodes.iter().skip(1).rev() {
            let last = follows.last().unwrap_or(next);
            follows.push(First::of(node, last, self.program.utf));
        }
        let mut at = 0;
        while at < nodes.len() {
            let run = nodes[at..].iter().take_while(|node| matches!(node, Node::Char { .. })).count();
            if run > 0 {
                self.texts(&nodes[at..at + run])?;
                at += run;
            } else {
                let follow = follows[nodes.len() - 1 - at].clone();
                self.emit(&nodes[at], &follow)?;
                at += 1;
            }
        }
        Ok(())
    }

    /// Neighbouring characters as one comparison, as far as they have one case, or two in ASCII.
    fn texts(&mut self, chars: &[Node]) -> Emitted {
        for node in chars {
            let Node::Char { c, caseless } = *node else { continue };
            let utf = self.program.utf;
            if utf && c >= 0x80 && caseless && !other_cases(c).is_empty() {
                let set = self.set(&folded(c, true));
                self.push(Op::Set(set))?;
                continue;
            }
            let start = place(self.program.text.len());
            let is_strange = utf && caseless && matches!(c, 0x6B | 0x4B | 0x73 | 0x53);
            match char::from_u32(c) {
                Some(c) if utf => self.program.text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => self.program.text.push(c as u8),
            }
            if caseless {
                self.program.text[start as usize..].make_ascii_lowercase();
            }
            let added = place(self.program.text.len()) - start;
            match self.program.ops.last_mut() {
                // No jump leads between two characters of one run: it is emitted at once.
                Some(Op::Text { start: first, len, caseless: same, strange })
                    if *same == caseless && *first + *len == start && !std::ptr::eq(node, &raw const chars[0]) =>
                {
                    *len += added;
                    *strange |= is_strange;
                }
                _ => {
                    self.push(Op::Text { start, len: added, caseless, strange: is_strange })?;
                }
            }
        }
        Ok(())
    }

    fn alternate(&mut self, nodes: &[Node], next: &First) -> Emitted {
        let mut jumps = Vec::new();
        // What this one, or any behind it, can begin with.
        let firsts: Vec<First> = nodes.iter().map(|node| First::of(node, next, self.program.utf)).collect();
        let mut rests = firsts.clone();
        for nth in (1..rests.len()).rev() {
            let behind = rests[nth].clone();
            rests[nth - 1].join(&behind);
        }
        for (nth, node) in nodes.iter().enumerate() {
            if nth + 1 == nodes.len() {
                self.emit(node, next)?;
                continue;
            }
            let split = self.push(Op::Jump(0))?;
            let first = self.here();
            self.emit(node, next)?;
            jumps.push(self.push(Op::Jump(0))?);
            let (first_if, second_if) = (self.follow(&firsts[nth]), self.follow(&rests[nth + 1]));
            self.program.ops[split] = Op::Split { first, second: self.here(), first_if, second_if };
        }
        let end = self.here();
        jumps.into_iter().for_each(|jump| self.program.ops[jump] = Op::Jump(end));
        Ok(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>, mode: Mode, next: &First) -> Emitted {
        let single = match node {
            Node::Set(set) => Some(set.clone()),
            Node::Char { c, caseless } => Some(folded_if(*c, *caseless, self.program.utf)),
            _ => None,
        };
        if let Some(set) = single {
            return self.repeat_set(&set, min, max, mode, next);
        }
        if mode == Mode::Possessive {
            return self.sub(SubKind::Atomic, |this| this.repeat(node, min, max, Mode::Greedy, &First::anything()));
        }
        let mut around = First::of(node, &First::anything(), self.program.utf);
        around.join(next);
        let body_if = self.follow(&First::of(node, &around, self.program.utf));
        let exit_if = self.follow(next);
        let next = &around;
        for _ in 0..min {
            self.emit(node, next)?;
        }
        match max {
            None => self.endless(node, mode, next, (body_if, exit_if)),
            Some(max) => {
                let mut splits = Vec::new();
                for _ in min..max {
                    splits.push(self.push(Op::Jump(0))?);
                    self.emit(node, next)?;
                }
                let end = self.here();
                for split in splits {
                    self.program.ops[split] = branch(mode, (place(split) + 1, body_if), (end, exit_if));
                }
                Ok(())
            }
        }
    }

    fn endless(&mut self, node: &Node, mode: Mode, next: &First, (body_if, exit_if): (u32, u32)) -> Emitted {
        let split = self.push(Op::Jump(0))?;
        if node.may_be_empty() {
            self.program.is_regular = false;
            let mark = place(self.program.slots);
            self.program.slots += 1;
            self.push(Op::Mark(mark))?;
            self.emit(node, next)?;
            self.push(Op::Again { mark, back: place(split) })?;
        } else {
            self.emit(node, next)?;
            self.push(Op::Jump(place(split)))?;
        }
        self.program.ops[split] = branch(mode, (place(split) + 1, body_if), (self.here(), exit_if));
        Ok(())
    }

    /// The place of what may come; nothing where that is anything.
    fn follow(&mut self, next: &First) -> u32 {
        if next.is_anything() {
            return NO_FOLLOW;
        }
        let known = self.program.follows.iter().position(|known| known == next);
        place(known.unwrap_or_else(|| {
            self.program.follows.push(next.clone());
            self.program.follows.len() - 1
        }))
    }

    fn repeat_set(&mut self, set: &Set, min: u32, max: Option<u32>, mode: Mode, next: &First) -> Emitted {
        let mut mode = mode;
        let mut follow = NO_FOLLOW;
        if mode != Mode::Possessive && !next.is_anything() {
            // Where nothing that is repeated can be what follows, there is one way only.
            if max.is_none() && !next.meets(&First::of_set(set, self.program.utf)) {
                mode = Mode::Possessive;
            } else {
                follow = self.follow(next);
            }
        }
        let set = self.set(set);
        self.push(Op::Loop { set, min, max: max.unwrap_or(u32::MAX), mode, follow })?;
        Ok(())
    }
}

const fn branch(mode: Mode, body: (u32, u32), exit: (u32, u32)) -> Op {
    let ((first, first_if), (second, second_if)) = match mode {
        Mode::Lazy => (exit, body),
        Mode::Greedy | Mode::Possessive => (body, exit),
    };
    Op::Split { first, second, first_if, second_if }
}

fn folded(c: u32, utf: bool) -> Set {
    folded_if(c, true, utf)
}

pub(super) fn folded_if(c: u32, caseless: bool, utf: bool) -> Set {
    let mut set = Set::default();
    set.add(c, c, utf);
    if caseless {
        set.fold(utf);
    }
    set
}

/// Bounded by `OPS_MAX`, and by the length of a pattern.
fn place(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

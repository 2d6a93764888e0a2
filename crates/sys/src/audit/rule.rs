//! Audit rules: ours, written as the kernel takes them, and those of others, read as far as they concern us. Pure.
//!
//! Source: `struct audit_rule_data` in `include/uapi/linux/audit.h`, `audit_data_to_entry` in kernel/auditfilter.c.

use super::word;
use crate::audit::record::kind;

const WORDS: usize = 64;
const FIELDS_MAX: usize = 64;
/// Where the arrays of the structure begin.
const MASK: usize = 12;
const FIELDS: usize = MASK + 4 * WORDS;
const VALUES: usize = FIELDS + 4 * FIELDS_MAX;
const OPERATORS: usize = VALUES + 4 * FIELDS_MAX;
const TEXT_BYTES: usize = OPERATORS + 4 * FIELDS_MAX;
const TEXT: usize = TEXT_BYTES + 4;

const LIST_TASK: u32 = 1;
const LIST_EXIT: u32 = 4;
const LIST_EXCLUDE: u32 = 5;
const PREPEND: u32 = 0x10;
const NEVER: u32 = 0;
const ALWAYS: u32 = 2;
const EQUAL: u32 = 0x4000_0000;
const FIELD_ARCH: u32 = 11;
const FIELD_MESSAGE_TYPE: u32 = 12;
const FIELD_PPID: u32 = 18;
const FIELD_SUCCESS: u32 = 104;
const FIELD_KEY: u32 = 210;
/// Fields whose value is the length of a text: SELinux's, watch, directory, program, key.
const TEXT_FIELDS: [u32; 14] = [13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 105, 107, 112, FIELD_KEY];

/// A way of calling the kernel, and the numbers that execve and execveat have in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abi {
    /// `AUDIT_ARCH_*`.
    arch: u32,
    execve: u32,
    execveat: u32,
}

/// The ways of this machine: its own, then that of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub const ABIS: [Abi; 2] =
    [Abi { arch: 0xc000_003e, execve: 59, execveat: 322 }, Abi { arch: 0x4000_0003, execve: 11, execveat: 358 }];

/// The ways of this machine: its own, then that of 32-bit programs.
#[cfg(target_arch = "aarch64")]
pub const ABIS: [Abi; 2] =
    [Abi { arch: 0xc000_00b7, execve: 221, execveat: 281 }, Abi { arch: 0x4000_0028, execve: 11, execveat: 387 }];

/// Elsewhere no rule is made, and audit tells nothing.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const ABIS: [Abi; 0] = [];

/// A rule, in the bytes that the kernel takes and gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Rule(Vec<u8>);

/// What a rule does to the records of programs' starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It has nothing to do with them.
    None,
    /// All of them are told by it.
    Tells,
    /// No process that begins after it is audited at all (`-a never,task`).
    SilencesAll,
    /// The same, of some processes.
    SilencesSome,
    /// Starts of programs, or some of them, are not told (`-a never,exit -S execve`).
    HidesStarts,
    /// Records of these types are left out (`-a always,exclude -F msgtype=EXECVE`).
    ExcludesRecords,
}

impl Rule {
    /// Tells every successful start of a program.
    pub fn starts(abi: Abi, key: &str) -> Self {
        Self::build(abi, FIELD_SUCCESS, 1, key)
    }

    /// Tells every start of a program, also one that fails, by the children of `ppid`.
    pub fn starts_by_children_of(abi: Abi, ppid: u32, key: &str) -> Self {
        Self::build(abi, FIELD_PPID, ppid, key)
    }

    fn build(abi: Abi, field: u32, value: u32, key: &str) -> Self {
        let key_bytes = u32::try_from(key.len()).expect("keys are short");
        let mut bytes = vec![0; TEXT];
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        put(0, LIST_EXIT);
        put(4, ALWAYS);
        let fields = [(FIELD_ARCH, abi.arch), (field, value), (FIELD_KEY, key_bytes)];
        put(8, 3);
        let (mut at, mut mask) = (0, [0u32; WORDS]);
        for (field, value) in fields {
            put(FIELDS + at, field);
            put(VALUES + at, value);
            put(OPERATORS + at, EQUAL);
            at += 4;
        }
        for call in [abi.execve, abi.execveat] {
            mask[(call / 32) as usize] |= 1 << (call % 32);
        }
        mask.iter().enumerate().for_each(|(n, word)| put(MASK + 4 * n, *word));
        put(TEXT_BYTES, key_bytes);
        bytes.extend_from_slice(key.as_bytes());
        Self(bytes)
    }

    /// As the kernel gave it; `None` if it is cut short.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text_bytes = usize::try_from(word(bytes, TEXT_BYTES)?).ok()?;
        let whole = bytes.get(..TEXT.checked_add(text_bytes)?)?;
        let rule = Self(whole.to_vec());
        (rule.word(8) as usize <= FIELDS_MAX).then_some(rule)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text by which its records can be found.
    pub fn key(&self) -> Option<&[u8]> {
        let mut texts = &self.0[TEXT..];
        for (field, _, value) in self.fields() {
            if TEXT_FIELDS.contains(&field) {
                let (text, after) = texts.split_at_checked(value as usize)?;
                if field == FIELD_KEY {
                    return Some(text);
                }
                texts = after;
            }
        }
        None
    }

    pub fn effect(&self, abi: Abi) -> Effect {
        let (list, action) = (self.word(0) & !PREPEND, self.word(4));
        match (list, action) {
            (LIST_TASK, NEVER) if self.conditions().next().is_none() => Effect::SilencesAll,
            (LIST_TASK, NEVER) => Effect::SilencesSome,
            (LIST_EXIT, _) if !self.covers(abi) => Effect::None,
            (LIST_EXIT, NEVER) => Effect::HidesStarts,
            (LIST_EXIT, ALWAYS) if self.conditions().all(|field| field == FIELD_SUCCESS) => Effect::Tells,
            (LIST_EXCLUDE, _) if self.excludes() => Effect::ExcludesRecords,
            _ => Effect::None,
        }
    }

    /// Whether it looks at both calls of this way of calling.
    fn covers(&self, abi: Abi) -> bool {
        let is_called = |call: u32| self.word(MASK + 4 * (call / 32) as usize) >> (call % 32) & 1 == 1;
        let of_arch = self
            .fields()
            .all(|(field, operator, value)| field != FIELD_ARCH || (value == abi.arch) == (operator == EQUAL));
        // A rule against starts hides some with one of the two calls already.
        let calls = [is_called(abi.execve), is_called(abi.execveat)];
        of_arch && if self.word(4) == NEVER { calls.contains(&true) } else { calls == [true; 2] }
    }

    /// Whether it leaves out records that are needed, or cannot be told not to.
    fn excludes(&self) -> bool {
        let needed = [kind::SYSCALL, kind::EXECVE, kind::END].map(u32::from);
        self.fields()
            .all(|(field, operator, value)| field != FIELD_MESSAGE_TYPE || operator != EQUAL || needed.contains(&value))
    }

    /// The fields that narrow it, beside those that say which calls and under which name.
    fn conditions(&self) -> impl Iterator<Item = u32> + '_ {
        self.fields().map(|(field, _, _)| field).filter(|field| !matches!(*field, FIELD_ARCH | FIELD_KEY))
    }

    /// Field, operator, value.
    fn fields(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        let count = self.word(8) as usize;
        (0..count.min(FIELDS_MAX)).map(|n| {
            let of = |array: usize| self.word(array + 4 * n);
            (of(FIELDS), of(OPERATORS), of(VALUES))
        })
    }

    fn word(&self, at: usize) -> u32 {
        word(&self.0, at).unwrap_or(0)
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key().map(String::from_utf8_lossy);
        let fields: Vec<_> = self.fields().collect();
        let (list, action) = (self.word(0), self.word(4));
        f.debug_struct("Rule")
            .field("list", &list)
            .field("action", &action)
            .field("fields", &fields)
            .field("key", &key)
            .finish()
    }
}

#[cfg(test)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(rule: &Rule, changes: &[(usize, u32)]) -> Rule {
        let mut bytes = rule.0.clone();
        for (at, value) in changes {
            bytes[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        Rule::decode(&bytes).unwrap()
    }

    #[test]
    fn own_rules_have_their_key_and_effect() {
        let own = Rule::starts(ABIS[0], "tallystick-7-9");
        assert_eq!(own.key(), Some(&b"tallystick-7-9"[..]));
        assert_eq!(own.effect(ABIS[0]), Effect::Tells);
        assert_eq!(own.effect(ABIS[1]), Effect::None);
        assert_eq!(Rule::decode(own.as_bytes()), Some(own));
        // Told only of one process's children: no sign that all are told.
        assert_eq!(Rule::starts_by_children_of(ABIS[0], 7, "x").effect(ABIS[0]), Effect::None);
    }

    #[test]
    fn the_rules_of_others_are_understood() {
        let (own, first_field) = (Rule::starts(ABIS[0], "k"), FIELDS);
        assert_eq!(with(&own, &[(4, NEVER)]).effect(ABIS[0]), Effect::HidesStarts);
        let every_call: Vec<_> = (0..WORDS).map(|n| (MASK + 4 * n, u32::MAX)).collect();
        assert_eq!(with(&own, &every_call).effect(ABIS[0]), Effect::Tells);
        let task = with(&own, &[(0, LIST_TASK), (4, NEVER), (8, 0)]);
        assert_eq!(task.effect(ABIS[0]), Effect::SilencesAll);
        assert_eq!(with(&own, &[(0, LIST_TASK), (4, NEVER)]).effect(ABIS[0]), Effect::SilencesSome);
        let exclude = |kind: u16| {
            let changes = [(0, LIST_EXCLUDE), (8, 1), (first_field, FIELD_MESSAGE_TYPE), (VALUES, kind.into())];
            with(&own, &changes).effect(ABIS[0])
        };
        assert_eq!((exclude(kind::EXECVE), exclude(1307)), (Effect::ExcludesRecords, Effect::None));
    }

    proptest! {
        #[test]
        fn random_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            if let Some(rule) = Rule::decode(&bytes) {
                let _ = (rule.key().map(<[u8]>::len), rule.effect(ABIS[0]));
            }
        }

        #[test]
        fn damaged_rules_end_without_a_panic(at in 0usize..260, value in any::<u32>(), count in 0u32..70) {
            let mut bytes = Rule::starts(ABIS[0], "key").0;
            bytes[8..12].copy_from_slice(&count.to_ne_bytes());
            bytes[at * 4..at * 4 + 4].copy_from_slice(&value.to_ne_bytes());
            if let Some(rule) = Rule::decode(&bytes) {
                let _ = (rule.key().map(<[u8]>::len), rule.effect(ABIS[0]), format!("{rule:?}"));
            }
        }
    }
}

//! Journal files made here, byte by byte, as the format's description says. The agent's tests use those of systemd itself.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::append_log::{self, CHUNK_BYTES, Depth, Seal, Verdict};

const HEADER: usize = 272;

/// Writes what journald would, without hash tables: nothing here looks anything up.
#[derive(Clone)]
struct Writer {
    bytes: Vec<u8>,
    compact: bool,
    last: usize,
    objects: u64,
    entries: Vec<usize>,
}

impl Writer {
    fn new(compact: bool) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        let incompatible: u32 = if compact { 1 << 4 | 1 << 2 } else { 0 };
        bytes[12..16].copy_from_slice(&incompatible.to_le_bytes());
        bytes[16] = 1;
        bytes[24..40].copy_from_slice(b"the id of a file");
        bytes[88..96].copy_from_slice(&(HEADER as u64).to_le_bytes());
        Self { bytes, compact, last: 0, objects: 0, entries: Vec::new() }
    }

    fn put(&mut self, at: usize, number: u64) {
        self.bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }

    fn object(&mut self, kind: u8, body: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend((16 + body.len() as u64).to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.last = at;
        self.objects += 1;
        at
    }

    fn entry(&mut self, text: &[u8]) {
        let key = self.compact.then_some(*b"the id of a file");
        let mut data = hash::of(text, key.as_ref()).to_le_bytes().to_vec();
        data.extend([0; 32]);
        data.extend(1u64.to_le_bytes());
        data.extend(if self.compact { &[0; 8][..] } else { &[] });
        data.extend(text);
        let data = self.object(1, &data);
        let mut entry = (self.entries.len() as u64 + 1).to_le_bytes().to_vec();
        entry.extend([7; 40]);
        if self.compact {
            entry.extend((data as u32).to_le_bytes());
        } else {
            entry.extend((data as u64).to_le_bytes());
            entry.extend([9; 8]);
        }
        let entry = self.object(3, &entry);
        self.entries.push(entry);
    }

    /// Counts and lists what there is.
    fn file(&self) -> Vec<u8> {
        let mut done = self.clone();
        let mut list = vec![0; 8];
        for entry in &self.entries {
            let bytes = (*entry as u64).to_le_bytes();
            list.extend(&bytes[..if self.compact { 4 } else { 8 }]);
        }
        // A place that is free.
        list.extend([0; 8]);
        let array = done.object(6, &list);
        let counts =
            [(136, done.last as u64), (144, done.objects), (152, self.entries.len() as u64), (176, array as u64)];
        counts.into_iter().for_each(|(at, number)| done.put(at, number));
        done.bytes.resize(done.bytes.len() + 100_000, 0);
        done.bytes
    }
}

fn written(compact: bool, entries: usize) -> Writer {
    let mut writer = Writer::new(compact);
    (0..entries).for_each(|n| writer.entry(format!("MESSAGE=line {n} of a daemon, {}", "x".repeat(n % 90)).as_bytes()));
    writer
}

fn view(bytes: &[u8], mark: Mark) -> Journal<Cursor<&[u8]>> {
    Journal::open(Cursor::new(bytes), mark).unwrap()
}

fn sealed(bytes: &[u8]) -> (Seal, Mark) {
    let mut journal = view(bytes, Mark::default());
    let size = journal.size();
    let seal = Seal::of(&mut journal, size).unwrap();
    let mark = journal.mark(&seal.state);
    (seal, mark)
}

fn compared(bytes: &[u8], old: &Seal, depth: Depth, mark: Mark) -> (Verdict, Seal) {
    let mut journal = view(bytes, mark);
    let size = journal.size();
    append_log::check(&mut journal, size, old, depth).unwrap()
}

fn seal_has_two_chunks(seal: &Seal) -> bool {
    seal.state.leaves().len() > 1
}

fn faults(bytes: &[u8]) -> Vec<What> {
    let verified = verify(Cursor::new(bytes), &mut |_, _, _, _| false).unwrap();
    verified.faults.into_iter().map(|fault| fault.what).collect()
}

#[test]
fn the_journals_own_names_are_known() {
    for name in ["system.journal", "user-1000.journal", "system@0-1-2.journal", "system@0006-ab.journal~"] {
        assert!(is_journal(name.as_bytes()), "{name}");
    }
    for name in [".journal", "fss", "journal", "system.journal.gz", "~", ""] {
        assert!(!is_journal(name.as_bytes()), "{name}");
    }
}

#[test]
fn growth_is_an_append_whatever_is_linked_anew() {
    for compact in [false, true] {
        let (mut old, mut mark) = sealed(&written(compact, 0).file());
        for entries in [1, 2, 500, 501, 4000] {
            let mut file = written(compact, entries).file();
            // What journald writes in place: the state, an id, links and counts of a field.
            file[17..24].fill(1);
            file[56..72].fill(3);
            file[HEADER + 24..HEADER + 56].fill(5);
            for (depth, from) in [(Depth::TAIL, mark), (Depth::Full, Mark::default()), (Depth::Full, mark)] {
                let (verdict, seal) = compared(&file, &old, depth, from);
                assert!(matches!(verdict, Verdict::Appended(_)), "{entries} {depth:?}: {verdict:?}");
                assert_eq!(seal, sealed(&file).0);
            }
            (old, mark) = sealed(&file);
            assert_eq!(mark.offset > 0, seal_has_two_chunks(&old));
            assert_eq!(compared(&file, &old, Depth::TAIL, mark).0, Verdict::Unchanged);
        }
    }
}

#[test]
fn an_altered_entry_or_field_is_named_by_its_place_in_the_file() {
    let writer = written(true, 4000);
    let file = writer.file();
    let (seal, _) = sealed(&file);
    for at in [HEADER + 80, writer.entries[2000] + 20, writer.entries[3999] + 60, 26] {
        let mut altered = file.clone();
        altered[at] ^= 1;
        let (verdict, _) = compared(&altered, &seal, Depth::Full, Mark::default());
        let range = verdict.lost_bytes().unwrap();
        assert!(range.contains(&(at as u64)) && range.end - range.start <= CHUNK_BYTES, "{at}: {range:?}");
    }
}

#[test]
fn what_is_not_complete_yet_is_not_sealed_and_an_archived_file_is_to_its_end() {
    let mut writer = written(false, 3);
    let before = sealed(&writer.file()).0;
    // A field and an entry are there, but not counted.
    writer.entry(b"MESSAGE=half");
    let mut file = writer.file();
    file[152] = 3;
    assert_eq!(sealed(&file).0, before);
    // A tag at the end, of an archived file.
    let mut archived = written(false, 3);
    archived.object(7, &[1; 48]);
    let mut file = archived.file();
    file[16] = 2;
    let (verdict, _) = compared(&file, &before, Depth::Full, Mark::default());
    let whole = archived.bytes.len() as u64;
    assert!(matches!(verdict, Verdict::Appended(range) if range.end > whole));
}

#[test]
fn what_is_cut_or_counted_no_more_is_gone() {
    let writer = written(false, 4000);
    let file = writer.file();
    let (seal, mark) = sealed(&file);
    let cut = &file[..writer.entries[2000] + 30];
    let (verdict, _) = compared(cut, &seal, Depth::TAIL, mark);
    assert!(!verdict.is_intact(), "{verdict:?}");
    let mut fewer = file.clone();
    fewer[152..160].copy_from_slice(&3000u64.to_le_bytes());
    assert!(matches!(compared(&fewer, &seal, Depth::Full, Mark::default()).0, Verdict::Truncated(_)));
    assert_eq!(view(b"no journal at all", Mark::default()).fault().unwrap().what, What::NoJournal);
    assert_eq!(view(b"", Mark::default()).size(), 0);
}

#[test]
fn a_whole_file_verifies_and_each_fault_is_found() {
    for compact in [false, true] {
        let writer = written(compact, 300);
        let file = writer.file();
        let verified = verify(Cursor::new(&file), &mut |_, _, _, _| false).unwrap();
        assert_eq!((verified.faults, verified.entries, verified.is_sealed), (vec![], 300, false));
        let altered = |at: usize, to: u8| {
            let mut file = file.clone();
            file[at] = to;
            faults(&file)
        };
        assert_eq!(altered(writer.entries[9] - 12, b'#'), [What::DataAltered]);
        assert_eq!(altered(writer.entries[9] + 16, 1), [What::EntryOrder]);
        let array = usize::try_from(u64::from_le_bytes(file[176..184].try_into().unwrap())).unwrap();
        // The entry is there, but the list leads past it.
        let item = array + 24 + 7 * if compact { 4 } else { 8 };
        assert_eq!(altered(item, file[item] ^ 8), [What::EntryUnlinked]);
        assert_eq!(altered(176, 0), [What::EntryListDamaged, What::EntryUnlinked]);
        assert_eq!(altered(HEADER + 56, 0), [What::DataCount]);
        assert_eq!(altered(writer.entries[9] + 64, 1), [What::EntryPointsNowhere]);
        assert_eq!(altered(writer.entries[9], 9), [What::ObjectDamaged]);
        assert_eq!(altered(0, 0), [What::NoJournal]);
    }
}

fn entries(bytes: &[u8], from: Mark) -> (Vec<Entry>, Mark, Option<What>) {
    let file = || Cursor::new(bytes);
    let mut reader = match Entries::open(file(), file(), from, Cache::default()).unwrap() {
        Ok(reader) => reader,
        Err(fault) => return (Vec::new(), from, Some(fault.what)),
    };
    let mut read = Vec::new();
    loop {
        match reader.next(&mut |_, _, _, _| false).unwrap() {
            Ok(Some(entry)) => read.push(entry),
            Ok(None) => return (read, reader.mark(), None),
            Err(fault) => return (read, reader.mark(), Some(fault.what)),
        }
    }
}

#[test]
fn entries_are_read_on_from_where_they_ended() {
    for compact in [false, true] {
        let file = written(compact, 300).file();
        let (all, end, fault) = entries(&file, Mark::default());
        assert_eq!((all.len(), end.entries, fault), (300, 300, None));
        assert!(all.iter().enumerate().all(|(n, entry)| entry.number == n as u64 + 1 && entry.cut == Some(0)));
        assert!(all.iter().all(|entry| entry.field(Name::Message).is_some_and(|text| !text.is_empty())));
        let (first, middle, _) = entries(&written(compact, 200).file(), Mark::default());
        let (rest, last, _) = entries(&file, middle);
        assert_eq!(([first, rest].concat(), last), (all, end));
        assert_eq!(entries(&file, end).0, []);
        // A part of the file is gone, and one that never was in it.
        let cut = &file[..written(compact, 300).entries[200] + 30];
        let (read, mark, fault) = entries(cut, Mark::default());
        assert_eq!((read.len(), mark.entries, fault), (200, 200, Some(What::ObjectDamaged)));
        assert!(entries(&file, Mark { offset: end.offset + 8, entries: 20 }).2.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_and_mutated_bytes_never_panic(
        junk in prop::collection::vec(any::<u8>(), 0..600), compact in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        mark in (0u64..5000, 0u64..50),
    ) {
        let mut file = written(compact, 20).file();
        file.truncate(file.len() - 99_000);
        edits.iter().for_each(|(at, to)| { let at = at.index(file.len()); file[at] = *to; });
        let mark = Mark { offset: mark.0 * 8, entries: mark.1 };
        for bytes in [&junk, &file] {
            let mut journal = view(bytes, mark);
            let size = journal.size();
            prop_assert!(size <= (bytes.len() as u64).max(mark.offset).max(4096));
            drop(Seal::of(&mut journal, size));
            drop(verify(Cursor::new(bytes), &mut |_, _, _, _| true));
            drop((entries(bytes, mark), entries(bytes, Mark::default())));
        }
    }
}

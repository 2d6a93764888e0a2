//! Seals against altered, cut and grown content, made in memory.

use std::io::Cursor;

use proptest::prelude::*;

use super::sealer::pair_hash;
use super::*;

const CHUNK: usize = CHUNK_BYTES as usize;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i / 7 % 251) as u8).collect()
}

fn seal(content: &[u8]) -> Seal {
    Seal::of(&mut Cursor::new(content), content.len() as u64).unwrap()
}

fn check_bytes(content: &[u8], old: &Seal, depth: Depth) -> (Verdict, Seal) {
    check(&mut Cursor::new(content), content.len() as u64, old, depth).unwrap()
}

fn checked(content: &[u8], old: &Seal, depth: Depth) -> Verdict {
    let (verdict, new) = check_bytes(content, old, depth);
    assert_eq!(new, seal(content));
    verdict
}

/// The seal of an agent that has lost the bytes of the tail.
fn without_tail(content: &[u8]) -> Seal {
    Seal::new(seal(content).state, Box::default())
}

#[test]
fn growth_is_an_append_at_every_border() {
    for old in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
        for more in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 3] {
            let content = bytes(old + more);
            let sealed = seal(&content[..old]);
            assert_eq!((sealed.size(), sealed.state.leaves().len()), (old as u64, old / CHUNK));
            let expected =
                if more == 0 { Verdict::Unchanged } else { Verdict::Appended(old as u64..(old + more) as u64) };
            for depth in [Depth::TAIL, Depth::Full] {
                assert_eq!(checked(&content, &sealed, depth), expected, "{old} {more} {depth:?}");
            }
        }
    }
}

#[test]
fn names_the_chunks_and_the_bytes_that_were_altered() {
    let content = bytes(4 * CHUNK + 100);
    let altered = |places: &[usize], more: usize| {
        let mut content = bytes(4 * CHUNK + 100 + more);
        places.iter().for_each(|place| content[*place] ^= 1);
        content
    };
    let c = CHUNK_BYTES;
    for (places, exactly, chunks) in [
        (&[4 * CHUNK][..], 4 * c..4 * c + 1, 4 * c..4 * c + 100),
        (&[4 * CHUNK + 3, 4 * CHUNK + 90], 4 * c + 3..4 * c + 91, 4 * c..4 * c + 100),
        (&[4 * CHUNK - 1], 3 * c..4 * c, 3 * c..4 * c),
        (&[3 * CHUNK, 4 * CHUNK + 99], 3 * c..4 * c + 100, 3 * c..4 * c + 100),
    ] {
        for (sealed, range) in [(seal(&content), exactly), (without_tail(&content), chunks)] {
            for depth in [Depth::TAIL, Depth::Full] {
                for more in [0, 70_000] {
                    assert_eq!(checked(&altered(places, more), &sealed, depth), Verdict::Rewritten(range.clone()));
                }
            }
        }
    }
    // What lies deeper only a full check sees, or a check that already found something.
    let sealed = seal(&content);
    assert_eq!(checked(&altered(&[5], 0), &sealed, Depth::Full), Verdict::Rewritten(0..c));
    assert_eq!(check_bytes(&altered(&[5], 0), &sealed, Depth::TAIL).0, Verdict::Unchanged);
    assert_eq!(checked(&altered(&[5, 3 * CHUNK], 0), &sealed, Depth::TAIL), Verdict::Rewritten(0..4 * c));
}

#[test]
fn a_window_over_the_old_chunks_finds_what_lies_in_it() {
    let sealed = seal(&bytes(8 * CHUNK + 9));
    let mut forged = bytes(9 * CHUNK);
    forged[2 * CHUNK + 7] ^= 1;
    let found = |from, chunks| check_bytes(&forged, &sealed, Depth::Window { from, chunks }).0;
    let appended = Verdict::Appended(8 * CHUNK_BYTES + 9..9 * CHUNK_BYTES);
    assert_eq!(
        (found(0, 2), found(3, 2), found(7, 100), found(99, 1)),
        (appended.clone(), appended.clone(), appended.clone(), appended)
    );
    let rewritten = Verdict::Rewritten(2 * CHUNK_BYTES..3 * CHUNK_BYTES);
    assert_eq!((found(2, 1), found(0, 3), found(0, usize::MAX)), (rewritten.clone(), rewritten.clone(), rewritten));
}

#[test]
fn believed_chunks_keep_their_old_hashes() {
    let content = bytes(4 * CHUNK);
    let sealed = seal(&content);
    let mut forged = bytes(5 * CHUNK);
    forged[0] ^= 1;
    let (verdict, new) = check_bytes(&forged, &sealed, Depth::TAIL);
    assert_eq!(verdict, Verdict::Appended(4 * CHUNK_BYTES..5 * CHUNK_BYTES));
    // The forgery is not taken over into the state: the next full check still finds it.
    assert_eq!(new.state.leaves()[0], sealed.state.leaves()[0]);
    assert_eq!(check_bytes(&forged, &new, Depth::Full).0, Verdict::Rewritten(0..CHUNK_BYTES));
}

#[test]
fn what_is_shorter_is_truncated_or_rewritten() {
    let content = bytes(2 * CHUNK + 10);
    let sealed = seal(&content);
    let size = content.len() as u64;
    assert_eq!(checked(b"", &sealed, Depth::TAIL), Verdict::Truncated(0..size));
    assert_eq!(checked(&content[..CHUNK + 3], &sealed, Depth::TAIL), Verdict::Truncated(CHUNK_BYTES + 3..size));
    let mut both = content[..CHUNK + 3].to_vec();
    both[9] ^= 1;
    assert_eq!(checked(&both, &sealed, Depth::TAIL), Verdict::Rewritten(0..CHUNK_BYTES));
    // A file that ends within the old tail is compared by its bytes.
    let mut cut = content[..2 * CHUNK + 7].to_vec();
    assert_eq!(checked(&cut, &sealed, Depth::TAIL), Verdict::Truncated(size - 3..size));
    cut[2 * CHUNK + 4] ^= 1;
    let exactly = 2 * CHUNK_BYTES + 4..2 * CHUNK_BYTES + 5;
    assert_eq!(checked(&cut, &sealed, Depth::TAIL), Verdict::Rewritten(exactly));
}

#[test]
fn what_was_cut_and_grew_again_is_rewritten_from_the_cut_on() {
    let sealed = seal(&bytes(3 * CHUNK + 50));
    let mut regrown = bytes(CHUNK + 9);
    regrown.extend(vec![b'x'; 4 * CHUNK]);
    let verdict = checked(&regrown, &sealed, Depth::Full);
    let Verdict::Rewritten(range) = verdict else { panic!("{verdict:?}") };
    assert_eq!((range.start, range.end > 3 * CHUNK_BYTES), (CHUNK_BYTES, true));
}

#[test]
fn a_stream_is_compared_as_far_as_was_sealed_and_no_further() {
    let content = bytes(2 * CHUNK + 10);
    let sealed = seal(&content);
    let stream = |bytes: &[u8]| {
        let mut rest = bytes;
        let verdict = check_stream(&mut rest, &sealed).unwrap();
        (verdict, rest.len())
    };
    assert_eq!(stream(&content), (Verdict::Unchanged, 0));
    let mut longer = content.clone();
    longer.extend(vec![7; 1000]);
    assert_eq!(stream(&longer), (Verdict::Unchanged, 1000));
    assert_eq!(stream(&content[..CHUNK]), (Verdict::Truncated(CHUNK_BYTES..content.len() as u64), 0));
    longer[CHUNK + 1] ^= 1;
    assert_eq!(stream(&longer).0, Verdict::Rewritten(CHUNK_BYTES..2 * CHUNK_BYTES));
}

#[test]
fn an_append_costs_the_new_bytes_the_tail_and_one_chunk() {
    struct Counted(Cursor<Vec<u8>>, u64);
    impl Read for Counted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let got = self.0.read(buffer)?;
            self.1 += got as u64;
            Ok(got)
        }
    }
    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let (old, new) = (100 * CHUNK + 1000, 100 * CHUNK + 1000 + (1 << 20));
    let sealed = seal(&bytes(old));
    let mut file = Counted(Cursor::new(bytes(new)), 0);
    let depth = Depth::Window { from: 3, chunks: 2 };
    let (verdict, _) = check(&mut file, new as u64, &sealed, depth).unwrap();
    assert_eq!(verdict, Verdict::Appended(old as u64..new as u64));
    assert_eq!(file.1, (1 << 20) + 1000 + 3 * CHUNK_BYTES);
}

/// A file of zeros, of any size, that costs nothing.
struct Zeros {
    size: u64,
    at: u64,
    read: u64,
}

impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = (self.size - self.at).min(buffer.len() as u64).min(50_000) as usize;
        buffer[..length].fill(0);
        self.at += length as u64;
        self.read += length as u64;
        Ok(length)
    }
}

impl Seek for Zeros {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.size.saturating_add_signed(by),
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

/// The seal of zeros, made by arithmetic.
fn zeros(size: u64) -> Seal {
    let mut leaf = *blake3::hash(&vec![0; CHUNK]).as_bytes();
    let fold = LogState::fold_for(size);
    (0..fold).for_each(|_| leaf = pair_hash(&leaf, &leaf));
    let chunk = CHUNK_BYTES << fold;
    let tail = *blake3::hash(&vec![0; (size % chunk) as usize]).as_bytes();
    let state = LogState { size, fold, leaves: vec![leaf; (size / chunk) as usize], tail };
    let kept = if fold == 0 { size % CHUNK_BYTES } else { 0 };
    Seal::new(state, vec![0; kept as usize].into())
}

#[test]
fn a_huge_log_has_a_small_state_and_a_cheap_check() {
    let size = (LogState::LEAVES_MAX as u64) * CHUNK_BYTES * 3 + 10;
    let old = zeros(size);
    assert!(old.state.encode().len() < 512 * 1024 && old.state.chunk_bytes() == 4 * CHUNK_BYTES);
    let mut file = Zeros { size: size + 5, at: 0, read: 0 };
    let (verdict, new) = check(&mut file, size + 5, &old, Depth::TAIL).unwrap();
    assert_eq!((verdict, new), (Verdict::Appended(size..size + 5), zeros(size + 5)));
    assert!(file.read <= 2 * old.state.chunk_bytes(), "{}", file.read);
}

#[test]
fn chunks_are_paired_as_the_log_outgrows_them() {
    let size = (LogState::LEAVES_MAX as u64 - 1) * CHUNK_BYTES;
    let mut file = Zeros { size: size + 3 * CHUNK_BYTES + 7, at: 0, read: 0 };
    let (verdict, new) = check(&mut file, size + 3 * CHUNK_BYTES + 7, &zeros(size + 7), Depth::TAIL).unwrap();
    assert_eq!(verdict, Verdict::Appended(size + 7..file.size));
    assert_eq!((new.state.fold, &new), (1, &zeros(file.size)));
    // And back again, when what is left is small.
    let mut cut = Zeros { size: 9, at: 0, read: 0 };
    let (verdict, small) = check(&mut cut, 9, &new, Depth::TAIL).unwrap();
    assert_eq!((verdict, small), (Verdict::Truncated(9..file.size), zeros(9)));
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_as_long_as_was_read() {
    let old = seal(&bytes(50));
    let (verdict, new) = check(&mut Cursor::new(bytes(40)), 100, &old, Depth::TAIL).unwrap();
    assert_eq!((verdict, new.size()), (Verdict::Truncated(40..50), 40));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn appends_in_any_pieces_give_the_state_of_the_whole(cuts in prop::collection::vec(0..200_000usize, 0..8)) {
        let content = bytes(200_000);
        let mut sealed = Seal::empty();
        let mut cuts = cuts;
        cuts.sort();
        for cut in cuts {
            let (verdict, new) = check_bytes(&content[..cut], &sealed, Depth::TAIL);
            prop_assert!(matches!(verdict, Verdict::Unchanged | Verdict::Appended(_)));
            prop_assert_eq!(&new, &seal(&content[..cut]));
            prop_assert_eq!(LogState::decode(&new.state.encode()), Ok(new.state.clone()));
            prop_assert_eq!(&Seal::new(new.state.clone(), new.tail().into()), &new);
            sealed = new;
        }
    }

    #[test]
    fn a_full_check_finds_any_altered_byte(length in 1..200_000usize, place in any::<usize>(), flip in 1..=255u8) {
        let mut content = bytes(length);
        let sealed = seal(&content);
        let place = place % length;
        content[place] ^= flip;
        let Verdict::Rewritten(range) = checked(&content, &sealed, Depth::Full) else { panic!() };
        prop_assert!(range.contains(&(place as u64)) && range.end - range.start <= CHUNK_BYTES);
    }

    #[test]
    fn random_bytes_are_no_state_or_a_canonical_one(junk in prop::collection::vec(any::<u8>(), 0..200), at in 0..74usize, to in any::<u8>()) {
        for candidate in [junk, { let mut good = seal(&bytes(70_000)).state.encode(); good[at] = to; good }] {
            if let Ok(state) = LogState::decode(&candidate) {
                prop_assert_eq!(state.encode(), candidate);
            }
        }
    }
}

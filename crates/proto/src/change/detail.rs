//! What explains a change to people: byte range, place, notes, summary, tags, diff.
//!
//! It gets what room is left of a change. A part that does not fit is left out whole, but a diff is cut at a line and says
//! so; parts come in the order of their worth.

use tally_types::{ByteRange, Change, ContainerPath, Diff, PATH_BYTES_MAX};

use super::read_path;
use crate::actor::{read_container, write_container};
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{DIFF_BYTES_MAX, DIFF_NOTE_BYTES_MAX, SENTENCE_BYTES_MAX, SENTENCES_MAX, TAG_BYTES_MAX, TAGS_MAX};

const WHAT: &str = "detail of a change";

const HAS_BYTES: u8 = 1;
const HAS_PLACE: u8 = 1 << 1;
const HAS_NOTES: u8 = 1 << 2;
const HAS_SUMMARY: u8 = 1 << 3;
const HAS_TAGS: u8 = 1 << 4;
const HAS_DIFF: u8 = 1 << 5;
const HAS_ALL: u8 = HAS_BYTES | HAS_PLACE | HAS_NOTES | HAS_SUMMARY | HAS_TAGS | HAS_DIFF;

/// Said of a diff that had to be cut.
const CUT: &str = "cut: there is no more room in the record";

/// The bytes, at most `room`; `None` if there is nothing to tell.
pub(super) fn encode(change: &Change, room: usize) -> Option<Vec<u8>> {
    let (mut has, mut w) = (0, Writer::default());
    let mut add = |bit: u8, part: Writer| {
        // One byte says which parts there are.
        if part.len() > 0 && 1 + w.len() + part.len() <= room {
            has |= bit;
            w.raw(&part.into_bytes());
        }
        room.saturating_sub(1 + w.len())
    };
    add(
        HAS_BYTES,
        part(change.bytes, |w, bytes| {
            w.number(bytes.start);
            w.number(bytes.end);
        }),
    );
    add(
        HAS_PLACE,
        part(change.place.as_ref(), |w, place| {
            write_container(w, &place.container);
            w.bytes(place.path.as_bytes(), PATH_BYTES_MAX);
        }),
    );
    let texts = |texts: &[std::sync::Arc<str>], count_max, bytes_max| {
        part((!texts.is_empty()).then_some(texts), |w, texts| {
            w.list(texts, count_max, |w, text| w.text(text, bytes_max))
        })
    };
    add(HAS_NOTES, texts(&change.notes, SENTENCES_MAX, SENTENCE_BYTES_MAX));
    add(HAS_SUMMARY, texts(&change.summary, SENTENCES_MAX, SENTENCE_BYTES_MAX));
    let left = add(HAS_TAGS, texts(&change.tags, TAGS_MAX, TAG_BYTES_MAX));
    add(HAS_DIFF, part(change.diff.as_ref(), |w, diff| write_diff(w, diff, left)));
    (has != 0).then(|| [&[has][..], &w.into_bytes()].concat())
}

fn part<T>(value: Option<T>, write: impl FnOnce(&mut Writer, T)) -> Writer {
    let mut w = Writer::default();
    if let Some(value) = value {
        write(&mut w, value);
    }
    w
}

fn write_diff(w: &mut Writer, diff: &Diff, room: usize) {
    // The note with its length and flag, and the length of the text.
    let text_max = room.saturating_sub(DIFF_NOTE_BYTES_MAX + 8).min(DIFF_BYTES_MAX);
    let text = lines_within(&diff.text, text_max);
    let note = if text.len() < diff.text.len() { Some(CUT) } else { diff.note.as_deref() };
    w.text(text, DIFF_BYTES_MAX);
    w.option(note, |w, note| w.text(note, DIFF_NOTE_BYTES_MAX));
}

/// The whole lines at the start of `text` that have at most `max` bytes.
fn lines_within(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = text.as_bytes()[..max].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &text[..end]
}

/// Adds to `change` what `encode` wrote.
pub(super) fn read(r: &mut Reader<'_>, mut change: Change) -> Result<Change> {
    let has = r.u8(WHAT)?;
    if has == 0 || has & !HAS_ALL != 0 {
        return Err(DecodeError::NotCanonical(WHAT));
    }
    if has & HAS_BYTES != 0 {
        change.bytes = Some(ByteRange { start: r.number(WHAT)?, end: r.number(WHAT)? });
    }
    if has & HAS_PLACE != 0 {
        change.place =
            Some(ContainerPath { container: read_container(r)?, path: read_path(r, "path in a container")? });
    }
    let texts = |r: &mut Reader<'_>, bit: u8, count_max, bytes_max| {
        if has & bit == 0 {
            return Ok(Vec::new());
        }
        let texts = r.list(WHAT, count_max, |r| r.text(WHAT, bytes_max).map(Into::into))?;
        if texts.is_empty() { Err(DecodeError::NotCanonical(WHAT)) } else { Ok(texts) }
    };
    change.notes = texts(r, HAS_NOTES, SENTENCES_MAX, SENTENCE_BYTES_MAX)?;
    change.summary = texts(r, HAS_SUMMARY, SENTENCES_MAX, SENTENCE_BYTES_MAX)?;
    change.tags = texts(r, HAS_TAGS, TAGS_MAX, TAG_BYTES_MAX)?;
    if has & HAS_DIFF != 0 {
        let text = r.text(WHAT, DIFF_BYTES_MAX)?.into();
        change.diff = Some(Diff { text, note: r.option(WHAT, |r| r.text(WHAT, DIFF_NOTE_BYTES_MAX).map(Into::into))? });
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_cut_at_a_line() {
        assert_eq!(lines_within("+a\n+bc\n", 6), "+a\n");
        assert_eq!(lines_within("+a\n+bc\n", 7), "+a\n+bc\n");
        assert_eq!(lines_within("é", 1), "");
    }
}

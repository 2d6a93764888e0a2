//! A line of a log as bytes: the body of an event.

use std::sync::Arc;

use tally_types::{Decoding, LogLine, LogQueue};

use crate::codec::{DecodeError, Reader, Result, Writer, cut};

const WHAT: &str = "log line";

pub(crate) fn write(w: &mut Writer, line: &LogLine) {
    w.u8(line.queue.sign());
    w.text(&line.location, LogLine::LOCATION_BYTES_MAX);
    w.bytes(&line.text, LogLine::TEXT_BYTES_MAX);
    w.option(line.decoding.as_deref(), write_decoding);
}

fn write_decoding(w: &mut Writer, decoding: &Decoding) {
    let word = |w: &mut Writer, text: &Arc<str>| w.text(text, Decoding::WORD_BYTES_MAX);
    w.option(decoding.decoder.as_ref(), word);
    w.option(decoding.hostname.as_ref(), word);
    w.option(decoding.program.as_ref(), word);
    let mut room = Decoding::FIELDS_BYTES_MAX;
    let fits = |(name, value): &&(Arc<str>, Arc<str>)| {
        let needed = name_of(name).len() + value_of(value).len();
        let has_room = needed <= room;
        room -= if has_room { needed } else { 0 };
        has_room
    };
    let fields: Vec<_> = decoding.fields.iter().take(Decoding::FIELDS_MAX).take_while(fits).collect();
    w.list(&fields, Decoding::FIELDS_MAX, |w, (name, value)| {
        w.text(name, Decoding::FIELD_NAME_BYTES_MAX);
        w.text(value, Decoding::FIELD_VALUE_BYTES_MAX);
    });
}

fn name_of(name: &str) -> &str {
    cut(name, Decoding::FIELD_NAME_BYTES_MAX)
}

fn value_of(value: &str) -> &str {
    cut(value, Decoding::FIELD_VALUE_BYTES_MAX)
}

pub(crate) fn read(r: &mut Reader<'_>) -> Result<LogLine> {
    let sign = r.u8(WHAT)?;
    let queue =
        LogQueue::from_sign(sign).ok_or(DecodeError::Unknown { what: "queue of a log line", value: sign.into() })?;
    Ok(LogLine {
        queue,
        location: r.text("location of a log line", LogLine::LOCATION_BYTES_MAX)?.into(),
        text: r.bytes("text of a log line", LogLine::TEXT_BYTES_MAX)?.into(),
        decoding: r.option(WHAT, read_decoding)?.map(Box::new),
    })
}

fn read_decoding(r: &mut Reader<'_>) -> Result<Decoding> {
    const WHAT: &str = "decoding of a log line";
    let word = |r: &mut Reader<'_>| r.text(WHAT, Decoding::WORD_BYTES_MAX).map(Arc::from);
    let decoder = r.option(WHAT, word)?;
    let hostname = r.option(WHAT, word)?;
    let program = r.option(WHAT, word)?;
    let fields: Vec<(Arc<str>, Arc<str>)> = r.list(WHAT, Decoding::FIELDS_MAX, |r| {
        let name = r.text(WHAT, Decoding::FIELD_NAME_BYTES_MAX)?;
        Ok((name.into(), r.text(WHAT, Decoding::FIELD_VALUE_BYTES_MAX)?.into()))
    })?;
    let bytes = fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if bytes > Decoding::FIELDS_BYTES_MAX {
        let max = Decoding::FIELDS_BYTES_MAX as u64;
        return Err(DecodeError::TooLarge { what: "fields of a log line", value: bytes as u64, max });
    }
    Ok(Decoding { decoder, hostname, program, fields })
}

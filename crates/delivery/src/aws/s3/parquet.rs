//! Writes Parquet: one table of plain columns in one row group, which every reader of the format understands.
//!
//! The crate `parquet` brings chrono and a decimal library with it and half a minute of building, for the tenth of it that
//! is used here. What is written is the oldest core of the format: data pages of version 1, PLAIN values, definition levels
//! as run lengths, pages compressed by gzip, the footer in Thrift's compact protocol, and statistics of numbers.
//! Source: the specification of Apache Parquet, parquet.thrift 2.11. Pure.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

const MAGIC: &[u8] = b"PAR1";
const GZIP: i64 = 2;
const PLAIN: i64 = 0;
const RLE: i64 = 3;
const CREATED_BY: &str = concat!("tallystick version ", env!("CARGO_PKG_VERSION"));

/// One column with its values, a value a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    Text(Vec<String>),
    TextOrNone(Vec<Option<String>>),
    Number(Vec<i64>),
    /// 32 bits.
    SmallOrNone(Vec<Option<i32>>),
    /// Microseconds since 1970, UTC.
    Time(Vec<i64>),
}

impl Values {
    fn rows(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::TextOrNone(values) => values.len(),
            Self::Number(values) | Self::Time(values) => values.len(),
            Self::SmallOrNone(values) => values.len(),
        }
    }

    const fn is_optional(&self) -> bool {
        matches!(self, Self::TextOrNone(_) | Self::SmallOrNone(_))
    }

    /// `Type` of parquet.thrift.
    const fn physical(&self) -> i64 {
        match self {
            Self::SmallOrNone(_) => 1,
            Self::Number(_) | Self::Time(_) => 2,
            Self::Text(_) | Self::TextOrNone(_) => 6,
        }
    }

    /// `ConvertedType` of parquet.thrift.
    const fn converted(&self) -> Option<i64> {
        match self {
            Self::Text(_) | Self::TextOrNone(_) => Some(0),
            Self::Time(_) => Some(10),
            Self::Number(_) | Self::SmallOrNone(_) => None,
        }
    }

    /// Definition levels where there may be none, then the values that are there.
    fn page(&self) -> Vec<u8> {
        let mut page = Vec::new();
        match self {
            Self::Text(values) => values.iter().for_each(|value| push_text(&mut page, value)),
            Self::TextOrNone(values) => {
                push_levels(&mut page, values.iter().map(Option::is_some));
                values.iter().flatten().for_each(|value| push_text(&mut page, value));
            }
            Self::Number(values) | Self::Time(values) => {
                values.iter().for_each(|value| page.extend(value.to_le_bytes()));
            }
            Self::SmallOrNone(values) => {
                push_levels(&mut page, values.iter().map(Option::is_some));
                values.iter().flatten().for_each(|value| page.extend(value.to_le_bytes()));
            }
        }
        page
    }

    /// Least and greatest, as their bytes.
    fn range(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        match self {
            Self::Number(values) | Self::Time(values) => {
                let (least, greatest) = (values.iter().min()?, values.iter().max()?);
                Some((least.to_le_bytes().to_vec(), greatest.to_le_bytes().to_vec()))
            }
            Self::SmallOrNone(values) => {
                let (least, greatest) = (values.iter().flatten().min()?, values.iter().flatten().max()?);
                Some((least.to_le_bytes().to_vec(), greatest.to_le_bytes().to_vec()))
            }
            Self::Text(_) | Self::TextOrNone(_) => None,
        }
    }

    fn nones(&self) -> usize {
        match self {
            Self::TextOrNone(values) => values.iter().filter(|value| value.is_none()).count(),
            Self::SmallOrNone(values) => values.iter().filter(|value| value.is_none()).count(),
            _ => 0,
        }
    }
}

fn push_text(page: &mut Vec<u8>, text: &str) {
    page.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    page.extend(text.as_bytes());
}

/// Runs of equal levels, each its length and the level.
fn push_levels(page: &mut Vec<u8>, levels: impl Iterator<Item = bool>) {
    let mut runs: Vec<(u64, bool)> = Vec::new();
    for level in levels {
        match runs.last_mut() {
            Some((count, same)) if *same == level => *count += 1,
            _ => runs.push((1, level)),
        }
    }
    let mut bytes = Vec::new();
    for (count, level) in runs {
        push_varint(&mut bytes, count << 1);
        bytes.push(u8::from(level));
    }
    page.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    page.extend(bytes);
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A struct of Thrift's compact protocol while it is written.
#[derive(Default)]
struct Thrift {
    out: Vec<u8>,
    last: u8,
}

impl Thrift {
    fn field(&mut self, id: u8, kind: u8) {
        self.out.push((id - self.last) << 4 | kind);
        self.last = id;
    }

    fn int(&mut self, id: u8, value: i64) -> &mut Self {
        self.field(id, 5);
        self.zigzag(value)
    }

    fn truth(&mut self, id: u8) -> &mut Self {
        self.field(id, 1);
        self
    }

    fn long(&mut self, id: u8, value: usize) -> &mut Self {
        self.field(id, 6);
        self.zigzag(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn zigzag(&mut self, value: i64) -> &mut Self {
        push_varint(&mut self.out, ((value << 1) ^ (value >> 63)) as u64);
        self
    }

    fn binary(&mut self, id: u8, bytes: &[u8]) -> &mut Self {
        self.field(id, 8);
        self.bytes(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        push_varint(&mut self.out, bytes.len() as u64);
        self.out.extend(bytes);
        self
    }

    fn list(&mut self, id: u8, kind: u8, count: usize) -> &mut Self {
        self.field(id, 9);
        if count < 15 {
            self.out.push((count as u8) << 4 | kind);
        } else {
            self.out.push(0xF0 | kind);
            push_varint(&mut self.out, count as u64);
        }
        self
    }

    fn structure(&mut self, id: u8, inner: Self) -> &mut Self {
        self.field(id, 12);
        self.element(inner)
    }

    /// Of a list of structs.
    fn element(&mut self, inner: Self) -> &mut Self {
        self.out.extend(inner.finish());
        self
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.push(0);
        self.out
    }
}

/// The whole file. All columns have as many rows.
pub fn write(columns: &[Column]) -> Vec<u8> {
    let rows = columns.first().map_or(0, |column| column.values.rows());
    let mut file = MAGIC.to_vec();
    let (mut chunks, mut total) = (Vec::new(), 0);
    for column in columns {
        let (chunk, bytes) = chunk(&mut file, column, rows);
        chunks.push(chunk);
        total += bytes;
    }
    let mut group = Thrift::default();
    group.list(1, 12, chunks.len());
    for chunk in chunks {
        group.element(chunk);
    }
    group.long(2, total).long(3, rows);
    let mut footer = Thrift::default();
    footer.int(1, 1).list(2, 12, columns.len() + 1);
    let mut root = Thrift::default();
    root.binary(4, b"schema").int(5, columns.len() as i64);
    footer.element(root);
    for column in columns {
        let mut element = Thrift::default();
        element.int(1, column.values.physical()).int(3, i64::from(column.values.is_optional()));
        element.binary(4, column.name.as_bytes());
        if let Some(converted) = column.values.converted() {
            element.int(6, converted);
        }
        if matches!(column.values, Values::Time(_)) {
            element.structure(10, utc_micros());
        }
        footer.element(element);
    }
    footer.long(3, rows).list(4, 12, 1).element(group).binary(6, CREATED_BY.as_bytes());
    // Statistics are of each type's own order.
    footer.list(7, 12, columns.len());
    for _ in columns {
        let mut order = Thrift::default();
        order.structure(1, Thrift::default());
        footer.element(order);
    }
    let footer = footer.finish();
    file.extend(&footer);
    file.extend(u32::try_from(footer.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend(MAGIC);
    file
}

/// `LogicalType` of moments, which says beside the older `ConvertedType` that they are of UTC.
fn utc_micros() -> Thrift {
    let (mut unit, mut time, mut logical) = (Thrift::default(), Thrift::default(), Thrift::default());
    unit.structure(2, Thrift::default());
    time.truth(1).structure(2, unit);
    logical.structure(8, time);
    logical
}

/// Writes a column's only page and gives its `ColumnChunk`, with its size before it was compressed.
fn chunk(file: &mut Vec<u8>, column: &Column, rows: usize) -> (Thrift, usize) {
    let page = column.values.page();
    let compressed = gzip(&page);
    let mut data = Thrift::default();
    data.int(1, rows as i64).int(2, PLAIN).int(3, RLE).int(4, RLE);
    let mut header = Thrift::default();
    header.int(1, 0).int(2, page.len() as i64).int(3, compressed.len() as i64).structure(5, data);
    let header = header.finish();
    let offset = file.len();
    file.extend(&header);
    file.extend(&compressed);
    let whole = header.len() + page.len();
    let mut meta = Thrift::default();
    meta.int(1, column.values.physical()).list(2, 5, 2).zigzag(PLAIN).zigzag(RLE);
    meta.list(3, 8, 1).bytes(column.name.as_bytes());
    meta.int(4, GZIP).long(5, rows).long(6, whole).long(7, header.len() + compressed.len()).long(9, offset);
    if let Some((least, greatest)) = column.values.range() {
        let mut statistics = Thrift::default();
        statistics.long(3, column.values.nones()).binary(5, &greatest).binary(6, &least);
        meta.structure(12, statistics);
    }
    let mut chunk = Thrift::default();
    chunk.long(2, offset).structure(3, meta);
    (chunk, whole)
}

/// The same bytes for the same content: no time and no name are in it.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_thrift_has_them() {
        let mut thrift = Thrift::default();
        thrift.int(1, -3).long(3, 300).list(4, 5, 1).zigzag(1);
        assert_eq!(thrift.finish(), [0x15, 5, 0x26, 0xD8, 4, 0x19, 0x15, 2, 0]);
        let mut levels = Vec::new();
        push_levels(&mut levels, [true, true, false].into_iter());
        assert_eq!(levels, [4, 0, 0, 0, 4, 1, 2, 0]);
    }

    #[test]
    fn a_file_has_its_parts_where_readers_look() {
        let columns = [
            Column { name: "id", values: Values::Text(vec!["a".into(), "b".into()]) },
            Column { name: "level", values: Values::SmallOrNone(vec![None, Some(7)]) },
        ];
        let file = write(&columns);
        assert!(file.starts_with(MAGIC) && file.ends_with(MAGIC));
        let length = file.len();
        let footer = u32::from_le_bytes(file[length - 8..length - 4].try_into().unwrap()) as usize;
        assert!(footer + 12 < length);
        assert_eq!(file, write(&columns));
    }
}

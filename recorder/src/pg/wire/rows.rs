//! RowDescription and DataRow.

use txray_store::event::{Format, ResultColumn, WireValue};
use txray_store::ids::Oid;

use super::cursor::Cursor;
use super::{WireError, encode};

/// Reads a format code.
pub fn format(code: i16) -> Result<Format, WireError> {
    match code {
        0 => Ok(Format::Text),
        1 => Ok(Format::Binary),
        _ => Err(WireError::InvalidField { field: "format" }),
    }
}

/// The code of a format.
pub fn format_code(format: Format) -> u16 {
    match format {
        Format::Text => 0,
        Format::Binary => 1,
    }
}

/// Format of the `index`th value under the rule of Bind: no codes mean text, one stands for all.
pub fn format_at(formats: &[Format], index: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(index).copied().unwrap_or(Format::Text),
    }
}

/// A column of a RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDescription<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Table it comes from, or 0.
    pub table_oid: Oid,
    /// Column number in that table, or 0.
    pub attribute_number: i16,
    /// Type.
    pub type_oid: Oid,
    /// `typlen`.
    pub type_bytes: i16,
    /// `atttypmod`.
    pub type_modifier: i32,
    /// Format.
    pub format: Format,
}

impl ColumnDescription<'_> {
    /// As the trace keeps it.
    pub fn to_column(&self) -> ResultColumn {
        ResultColumn {
            name: String::from_utf8_lossy(self.name).into_owned(),
            table_oid: self.table_oid,
            attribute_number: self.attribute_number,
            type_oid: self.type_oid,
            format: self.format,
        }
    }
}

/// Decodes a RowDescription payload.
pub fn decode_description(payload: &[u8]) -> Result<Vec<ColumnDescription<'_>>, WireError> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let mut columns = Vec::with_capacity(count.min(payload.len() / 19));
    for _ in 0..count {
        columns.push(ColumnDescription {
            name: cursor.text()?,
            table_oid: Oid(cursor.uint32()?),
            attribute_number: cursor.int16()?,
            type_oid: Oid(cursor.uint32()?),
            type_bytes: cursor.int16()?,
            type_modifier: cursor.int32()?,
            format: format(cursor.int16()?)?,
        });
    }
    cursor.end()?;
    Ok(columns)
}

/// Appends a RowDescription payload.
pub fn encode_description(columns: &[ColumnDescription<'_>], out: &mut Vec<u8>) {
    encode::count(out, columns.len());
    for column in columns {
        encode::text(out, column.name);
        encode::uint32(out, column.table_oid.0);
        out.extend_from_slice(&column.attribute_number.to_be_bytes());
        encode::uint32(out, column.type_oid.0);
        out.extend_from_slice(&column.type_bytes.to_be_bytes());
        encode::int32(out, column.type_modifier);
        encode::count(out, usize::from(format_code(column.format)));
    }
}

/// Decodes a DataRow payload.
pub fn decode_row(payload: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let mut values = Vec::with_capacity(count.min(payload.len() / 4));
    for _ in 0..count {
        values.push(cursor.value()?);
    }
    cursor.end()?;
    Ok(values)
}

/// Decodes a DataRow payload into owned values.
pub fn decode_row_owned(payload: &[u8]) -> Result<Vec<WireValue>, WireError> {
    let mut cursor = Cursor::new(payload);
    let count = cursor.count()?;
    let mut values = Vec::with_capacity(count.min(payload.len() / 4));
    for _ in 0..count {
        values.push(cursor.value()?.map(<[u8]>::to_vec));
    }
    cursor.end()?;
    Ok(values)
}

/// Appends a DataRow payload.
pub fn encode_row<'a>(values: impl ExactSizeIterator<Item = Option<&'a [u8]>>, out: &mut Vec<u8>) {
    encode::count(out, values.len());
    for value in values {
        encode::value(out, value);
    }
}

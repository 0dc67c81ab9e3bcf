//! ErrorResponse and NoticeResponse.

use txray_store::event::PgError;

use super::cursor::Cursor;
use super::{WireError, encode};

/// Fields of an ErrorResponse or NoticeResponse in the order of the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields<'a> {
    /// Field code and value.
    pub fields: Vec<(u8, &'a [u8])>,
}

impl<'a> ErrorFields<'a> {
    /// Decodes a payload.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload);
        let mut fields = Vec::new();
        loop {
            match cursor.byte()? {
                0 => break,
                code => fields.push((code, cursor.text()?)),
            }
        }
        cursor.end()?;
        Ok(ErrorFields { fields })
    }

    /// The fields that the prefix of a long message holds.
    pub fn decode_prefix(prefix: &'a [u8]) -> Self {
        let mut cursor = Cursor::new(prefix);
        let mut fields = Vec::new();
        while let Ok(code @ 1..) = cursor.byte() {
            let Ok(value) = cursor.text() else {
                fields.push((code, cursor.rest()));
                break;
            };
            fields.push((code, value));
        }
        ErrorFields { fields }
    }

    /// Value of a field.
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        self.fields.iter().find(|(field, _)| *field == code).map(|(_, value)| *value)
    }

    fn text(&self, code: u8) -> Option<String> {
        self.get(code).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// As the trace keeps it.
    pub fn to_error(&self) -> PgError {
        PgError {
            severity: self.text(b'V').or_else(|| self.text(b'S')).unwrap_or_default(),
            sqlstate: self.text(b'C').unwrap_or_default(),
            message: self.text(b'M').unwrap_or_default(),
            detail: self.text(b'D'),
            hint: self.text(b'H'),
            position: self.text(b'P').and_then(|position| position.parse().ok()),
            schema: self.text(b's'),
            table: self.text(b't'),
            column: self.text(b'c'),
            constraint: self.text(b'n'),
        }
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (code, value) in &self.fields {
            out.push(*code);
            encode::text(out, value);
        }
        out.push(0);
    }
}

/// Appends an ErrorResponse message that says what `error` says.
pub fn encode_error(error: &PgError, out: &mut Vec<u8>) {
    let position = error.position.map(|position| position.to_string());
    let mut fields: Vec<(u8, &[u8])> = vec![
        (b'S', error.severity.as_bytes()),
        (b'V', error.severity.as_bytes()),
        (b'C', error.sqlstate.as_bytes()),
        (b'M', error.message.as_bytes()),
    ];
    let optional = [
        (b'D', error.detail.as_deref()),
        (b'H', error.hint.as_deref()),
        (b'P', position.as_deref()),
        (b's', error.schema.as_deref()),
        (b't', error.table.as_deref()),
        (b'c', error.column.as_deref()),
        (b'n', error.constraint.as_deref()),
    ];
    fields.extend(optional.into_iter().filter_map(|(code, value)| Some((code, value?.as_bytes()))));
    encode::message(out, b'E', |out| ErrorFields { fields }.encode(out));
}

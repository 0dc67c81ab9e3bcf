//! Row values as COPY text: how every row version in a trace is kept.
//!
//! Fields are parted by tabs; backslash, tab, newline and the other control characters that COPY names are escaped;
//! `\N` alone is NULL. Restoring rows is therefore a plain `COPY … FROM`, and nothing is lost for any type, provided
//! that values were printed under [`PINNED_SETTINGS`]. One marker is ours: `\U` alone stands for a TOAST value that an
//! update left as it was. COPY never writes it, because it doubles every backslash of a value.
//!
//! Source: PostgreSQL manual, COPY, "Text Format"; `CopyAttributeOutText` in `copyto.c` for the canonical escapes.

use std::borrow::Cow;

/// Session settings under which values are printed, in the base copy and in the change stream alike. They make the
/// text form of a value unique and lossless.
pub const PINNED_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("search_path", "pg_catalog"),
];

const NULL: &str = "\\N";
const UNCHANGED: &str = "\\U";

/// One field of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CopyField {
    /// A value as PostgreSQL prints it.
    Text(String),
    /// NULL.
    Null,
    /// A TOAST value that the change left as it was; replication does not repeat it.
    Unchanged,
}

impl CopyField {
    /// The value, when there is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            CopyField::Text(text) => Some(text),
            CopyField::Null | CopyField::Unchanged => None,
        }
    }
}

/// A row text that COPY would not have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyTextError {
    /// A field ends in a lone backslash.
    #[error("field {field} of a row ends in an unfinished escape")]
    UnfinishedEscape {
        /// Position of the field, from 0.
        field: usize,
    },
    /// Octal or hexadecimal escapes give bytes that are not UTF-8.
    #[error("field {field} of a row is not UTF-8 once its escapes are resolved")]
    NotUtf8 {
        /// Position of the field, from 0.
        field: usize,
    },
}

/// Splits a row into its fields and resolves their escapes.
pub fn split(row: &str) -> Result<Vec<CopyField>, CopyTextError> {
    raw_fields(row).enumerate().map(|(index, raw)| decode_field(index, raw)).collect()
}

/// Joins fields to a row, in the very form that COPY writes. A row of no fields and one of a single empty field are both
/// the empty text.
pub fn join(fields: &[CopyField]) -> String {
    let mut row = String::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            row.push('\t');
        }
        match field {
            CopyField::Text(text) => row.push_str(&escape(text)),
            CopyField::Null => row.push_str(NULL),
            CopyField::Unchanged => row.push_str(UNCHANGED),
        }
    }
    row
}

/// The fields of a row as they stand, escapes included. Equal values have equal raw fields.
pub fn raw_fields(row: &str) -> impl Iterator<Item = &str> {
    row.split('\t')
}

/// Whether a raw field is NULL.
pub fn is_null(raw: &str) -> bool {
    raw == NULL
}

/// Whether a raw field stands for an unchanged TOAST value.
pub fn is_unchanged(raw: &str) -> bool {
    raw == UNCHANGED
}

/// The key of a row: its fields at `positions`, in COPY text form, parted by tabs. Without positions (a relation without
/// identity) the whole row is its key. None when the row has too few fields.
pub fn key_text(row: &str, positions: &[usize]) -> Option<String> {
    if positions.is_empty() {
        return Some(row.to_owned());
    }
    let fields: Vec<&str> = raw_fields(row).collect();
    let mut key = String::new();
    for (index, position) in positions.iter().enumerate() {
        if index > 0 {
            key.push('\t');
        }
        key.push_str(fields.get(*position)?);
    }
    Some(key)
}

/// Hash of a key text as tables keep it: the first eight bytes of BLAKE3, little-endian.
pub fn key_hash(key: &str) -> u64 {
    let digest = blake3::hash(key.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// One value in COPY text form.
pub fn escape(text: &str) -> Cow<'_, str> {
    let special = |byte: u8| byte == b'\\' || (8..=13).contains(&byte);
    if !text.bytes().any(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\x08' => escaped.push_str("\\b"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\x0b' => escaped.push_str("\\v"),
            '\x0c' => escaped.push_str("\\f"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

fn decode_field(index: usize, raw: &str) -> Result<CopyField, CopyTextError> {
    if is_null(raw) {
        return Ok(CopyField::Null);
    }
    if is_unchanged(raw) {
        return Ok(CopyField::Unchanged);
    }
    if !raw.contains('\\') {
        return Ok(CopyField::Text(raw.to_owned()));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (value, length) = resolve_escape(rest).ok_or(CopyTextError::UnfinishedEscape { field: index })?;
        bytes.push(value);
        rest = &rest[length..];
    }
    String::from_utf8(bytes).map(CopyField::Text).map_err(|_| CopyTextError::NotUtf8 { field: index })
}

/// The byte that an escape stands for, and how many bytes after the backslash it takes. COPY itself never writes octal or
/// hexadecimal escapes, but reads them.
fn resolve_escape(rest: &[u8]) -> Option<(u8, usize)> {
    let first = *rest.first()?;
    let digits = |radix: u32, from: usize, most: usize| {
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
        let found = rest[from..].iter().take(most).take_while(is_digit);
        found.fold((0_u32, 0), |(value, count), byte| {
            (value * radix + char::from(*byte).to_digit(radix).unwrap_or(0), count + 1)
        })
    };
    Some(match first {
        b'b' => (8, 1),
        b'f' => (12, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'v' => (11, 1),
        b'0'..=b'7' => {
            let (value, count) = digits(8, 0, 3);
            (value as u8, count)
        }
        b'x' => match digits(16, 1, 2) {
            (_, 0) => (b'x', 1),
            (value, count) => (value as u8, count + 1),
        },
        other => (other, 1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str) -> CopyField {
        CopyField::Text(value.to_owned())
    }

    #[test]
    fn writes_and_reads_what_copy_writes() {
        let check = |fields: &[CopyField], row: &str| {
            assert_eq!(join(fields), row);
            assert_eq!(split(row).as_deref(), Ok(fields), "{row:?}");
        };
        check(&[text("1"), text("a b"), CopyField::Null], "1\ta b\t\\N");
        check(&[text("tab\there"), text("line\nfeed\r")], "tab\\there\tline\\nfeed\\r");
        check(&[text("\\N"), text("\\U"), text("\\")], "\\\\N\t\\\\U\t\\\\");
        check(&[CopyField::Unchanged, text("")], "\\U\t");
        check(&[text("\x08\x0b\x0c"), text("ä€😀")], "\\b\\v\\f\tä€😀");
        check(&[text("")], "");
    }

    #[test]
    fn reads_escapes_that_only_people_write() {
        let check = |row: &str, expected: Result<CopyField, CopyTextError>| {
            assert_eq!(split(row).map(|fields| fields[0].clone()), expected, "{row:?}");
        };
        check("\\101\\x42\\x4g\\z\\.", Ok(text("AB\x04gz.")));
        check("\\xy", Ok(text("xy")));
        check("\\303\\244", Ok(text("ä")));
        check("\\377", Err(CopyTextError::NotUtf8 { field: 0 }));
        check("abc\\", Err(CopyTextError::UnfinishedEscape { field: 0 }));
    }

    #[test]
    fn keys_are_raw_fields_and_whole_rows_without_positions() {
        let check = |row: &str, positions: &[usize], key: Option<&str>| {
            assert_eq!(key_text(row, positions).as_deref(), key);
        };
        check("7\ta\\tb\t\\N", &[0], Some("7"));
        check("7\ta\\tb\t\\N", &[1, 0], Some("a\\tb\t7"));
        check("7\ta\\tb\t\\N", &[], Some("7\ta\\tb\t\\N"));
        check("7", &[1], None);
    }

    fn field() -> impl Strategy<Value = CopyField> {
        let awkward = proptest::collection::vec(
            prop_oneof![Just("\\"), Just("N"), Just("U"), Just("\t"), Just("\n"), Just("\r"), Just("x41"), Just("é")],
            0..6,
        );
        prop_oneof![
            any::<String>().prop_map(CopyField::Text),
            awkward.prop_map(|parts| CopyField::Text(parts.concat())),
            Just(CopyField::Null),
            Just(CopyField::Unchanged),
        ]
    }

    proptest! {
        #[test]
        fn rows_survive_the_round_trip(fields in proptest::collection::vec(field(), 1..8)) {
            let row = join(&fields);
            prop_assert!(!row.contains('\n') && !row.contains('\r'));
            prop_assert_eq!(split(&row), Ok(fields));
        }

        #[test]
        fn any_text_is_read_or_refused(row in any::<String>()) {
            if let Ok(fields) = split(&row) {
                prop_assert_eq!(split(&join(&fields)), Ok(fields));
            }
        }
    }
}

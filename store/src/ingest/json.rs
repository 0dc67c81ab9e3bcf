//! Values as JSON text, and wire values as text.

use serde::Serialize;

use super::tables::Json;
use crate::event::{Format, WireValue};
use crate::ids::Oid;
use crate::pg_text;

/// JSON of a value whose types are all plain.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Json {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// A wire value as tables show it: as PostgreSQL prints it, none for NULL, and `\x…` for a binary value whose type is not known
/// here or whose bytes were cut short.
pub(super) fn shown(type_oid: Oid, format: Format, value: &WireValue) -> Option<String> {
    let bytes = value.as_ref()?;
    Some(pg_text::to_text(type_oid, format, bytes).unwrap_or_else(|| match format {
        Format::Text => String::from_utf8_lossy(bytes).into_owned(),
        Format::Binary => pg_text::hex(bytes),
    }))
}

//! Values of the wire as text.
//!
//! Text format passes through. Binary format (`typsend`) is decoded for the types that drivers send in binary, exactly
//! as PostgreSQL prints them under [`PINNED_SETTINGS`](crate::copy_text::PINNED_SETTINGS). One difference stays:
//! a *parameter* is shown as the client wrote it (`{"a":1}` for a `jsonb`), not as the server would print it back.
//!
//! Source: the `*_send` and `*_out` functions of PostgreSQL's `src/backend/utils/adt`.

mod array;
mod datetime;
mod network;
mod number;

use crate::event::Format;
use crate::ids::Oid;

/// A value as PostgreSQL prints it. None for a type whose binary form is unknown here, or for bytes that are not a
/// value of the type; callers then show [`hex`].
pub fn to_text(type_oid: Oid, format: Format, bytes: &[u8]) -> Option<String> {
    match format {
        Format::Text => utf8(bytes),
        Format::Binary => binary_to_text(type_oid, bytes),
    }
}

/// Bytes as `\x…`, as PostgreSQL prints a `bytea`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// Type OIDs are those of `pg_type.dat`; they never change between versions.
fn binary_to_text(type_oid: Oid, bytes: &[u8]) -> Option<String> {
    if let Some(layout) = array::layout(type_oid) {
        return array::to_text(layout, bytes);
    }
    let mut value = Bytes(bytes);
    let text = match type_oid.0 {
        16 => match value.u8()? {
            0 => "f".to_owned(),
            _ => "t".to_owned(),
        },
        17 => return Some(hex(bytes)),
        18 => return char_text(bytes),
        // name, text, json, xml, unknown, bpchar, varchar, cstring, refcursor
        19 | 25 | 114 | 142 | 705 | 1042 | 1043 | 1790 | 2275 => return utf8(bytes),
        20 => value.i64()?.to_string(),
        21 => value.i16()?.to_string(),
        23 => value.i32()?.to_string(),
        // oid, xid, cid
        26 | 28 | 29 => value.u32()?.to_string(),
        27 => format!("({},{})", value.u32()?, value.u16()?),
        700 => number::float4(f32::from_bits(value.u32()?)),
        701 => number::float8(f64::from_bits(value.u64()?)),
        1700 => number::numeric(&mut value)?,
        1560 | 1562 => number::bits(&mut value)?,
        1082 => datetime::date(value.i32()?),
        1083 => datetime::time(value.i64()?)?,
        1114 => datetime::timestamp(value.i64()?, "")?,
        1184 => datetime::timestamp(value.i64()?, "+00")?,
        1186 => datetime::interval(value.i64()?, value.i32()?, value.i32()?),
        1266 => datetime::time_with_zone(value.i64()?, value.i32()?)?,
        650 | 869 => network::inet(&mut value, type_oid.0 == 650)?,
        829 => network::mac(value.take(6)?),
        774 => network::mac(value.take(8)?),
        2278 => String::new(),
        2950 => uuid(value.take(16)?),
        3220 => crate::ids::Lsn(value.u64()?).to_string(),
        // jsonb and jsonpath: a version byte before the text
        3802 | 4072 => match value.u8()? {
            1 => return utf8(value.0),
            _ => return None,
        },
        5069 => value.u64()?.to_string(),
        _ => return None,
    };
    value.0.is_empty().then_some(text)
}

/// `"char"`: one byte, printed as nothing when it is zero.
fn char_text(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0] => Some(String::new()),
        [_] => utf8(bytes),
        _ => None,
    }
}

fn uuid(bytes: &[u8]) -> String {
    let digits = hex(bytes);
    let digits = &digits[2..];
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// What is left of a value: big-endian numbers are taken off its front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;

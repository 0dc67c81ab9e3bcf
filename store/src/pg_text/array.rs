//! Arrays, as `array_out` prints them.

use std::fmt::Write as _;

use super::{Bytes, binary_to_text};
use crate::ids::Oid;

/// PostgreSQL's `MAXDIM`.
const MAX_DIMENSIONS: i32 = 6;

/// What stands around and between an array type's elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `{1,2}`, quoted where needed.
    Braces,
    /// `1 2`: `int2vector` and `oidvector`.
    Vector,
}

/// How values of an array type are laid out; none for other types.
pub(super) fn layout(type_oid: Oid) -> Option<Layout> {
    match type_oid.0 {
        22 | 30 => Some(Layout::Vector),
        143
        | 199
        | 271
        | 651
        | 775
        | 1000..=1003
        | 1005..=1007
        | 1009..=1016
        | 1021
        | 1022
        | 1028
        | 1040
        | 1041
        | 1115
        | 1182
        | 1183
        | 1185
        | 1187
        | 1231
        | 1263
        | 1270
        | 1561
        | 1563
        | 2201
        | 2951
        | 3221
        | 3807
        | 4073 => Some(Layout::Braces),
        _ => None,
    }
}

struct Dimension {
    length: usize,
    lower: i32,
}

/// `array_send`: dimensions, flags, element type, length and lower bound of each dimension, elements.
pub(super) fn to_text(layout: Layout, bytes: &[u8]) -> Option<String> {
    let mut value = Bytes(bytes);
    let (count, _has_nulls, element) = (value.i32()?, value.i32()?, Oid(value.u32()?));
    if !(0..=MAX_DIMENSIONS).contains(&count) {
        return None;
    }
    let mut dimensions = Vec::new();
    for _ in 0..count {
        dimensions.push(Dimension { length: usize::try_from(value.i32()?).ok()?, lower: value.i32()? });
    }
    if dimensions.iter().any(|dimension| dimension.length == 0) || dimensions.is_empty() {
        return Some(if layout == Layout::Braces { "{}".to_owned() } else { String::new() });
    }
    let mut text = String::new();
    match layout {
        Layout::Braces => {
            push_bounds(&mut text, &dimensions)?;
            push_level(&mut text, &dimensions, element, &mut value)?;
        }
        Layout::Vector => {
            for index in 0..dimensions[0].length {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(&next_element(element, &mut value)??);
            }
        }
    }
    value.0.is_empty().then_some(text)
}

/// `[0:2]=` where a lower bound is not 1.
fn push_bounds(text: &mut String, dimensions: &[Dimension]) -> Option<()> {
    if dimensions.iter().all(|dimension| dimension.lower == 1) {
        return Some(());
    }
    for Dimension { length, lower } in dimensions {
        let upper = i64::from(*lower) + i64::try_from(*length).ok()? - 1;
        let _ = write!(text, "[{lower}:{upper}]");
    }
    text.push('=');
    Some(())
}

fn push_level(text: &mut String, dimensions: &[Dimension], element: Oid, value: &mut Bytes<'_>) -> Option<()> {
    let (dimension, inner) = dimensions.split_first()?;
    text.push('{');
    for index in 0..dimension.length {
        if index > 0 {
            text.push(',');
        }
        if !inner.is_empty() {
            push_level(text, inner, element, value)?;
            continue;
        }
        match next_element(element, value)? {
            None => text.push_str("NULL"),
            Some(item) => push_quoted(text, &item),
        }
    }
    text.push('}');
    Some(())
}

/// The next element; the inner option is none for NULL.
#[expect(clippy::option_option, reason = "the outer one is damage, the inner one NULL")]
fn next_element(element: Oid, value: &mut Bytes<'_>) -> Option<Option<String>> {
    let length = value.i32()?;
    if length == -1 {
        return Some(None);
    }
    let bytes = value.take(usize::try_from(length).ok()?)?;
    binary_to_text(element, bytes).map(Some)
}

fn push_quoted(text: &mut String, item: &str) {
    let special = |character: char| matches!(character, '"' | '\\' | '{' | '}' | ',' | ' ' | '\t'..='\r');
    if !item.is_empty() && !item.eq_ignore_ascii_case("null") && !item.contains(special) {
        text.push_str(item);
        return;
    }
    text.push('"');
    for character in item.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

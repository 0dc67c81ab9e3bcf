//! Rows of the change stream in COPY text form, byte for byte as the server's COPY would print them.

use txray_store::copy_text;

use crate::pgoutput::{Tuple, Value};

/// Puts a tuple's values at their positions among `width` columns; columns that the stream leaves out are NULL.
///
/// `positions[i]` is where the stream's column `i` stands in the relation's description.
pub(super) fn of_tuple(tuple: &Tuple, positions: &[usize], width: usize) -> String {
    let mut by_column: Vec<&Value> = vec![&Value::Null; width];
    for (value, position) in tuple.iter().zip(positions) {
        if let Some(slot) = by_column.get_mut(*position) {
            *slot = value;
        }
    }
    let mut row = String::with_capacity(by_column.iter().map(|value| encoded_length(value)).sum());
    for (index, value) in by_column.into_iter().enumerate() {
        if index > 0 {
            row.push('\t');
        }
        match value {
            Value::Null => row.push_str("\\N"),
            Value::Unchanged => row.push_str("\\U"),
            Value::Text(bytes) | Value::Binary(bytes) => {
                row.push_str(&copy_text::escape(&String::from_utf8_lossy(bytes)));
            }
        }
    }
    row
}

fn encoded_length(value: &Value) -> usize {
    match value {
        Value::Null | Value::Unchanged => 3,
        Value::Text(bytes) | Value::Binary(bytes) => bytes.len() + 1,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn puts_values_at_their_columns() {
        let check = |tuple: &[Value], positions: &[usize], width: usize, expected: &str| {
            assert_eq!(of_tuple(&tuple.to_vec(), positions, width), expected);
        };
        check(&[text("1"), Value::Null, Value::Unchanged], &[0, 1, 2], 3, "1\t\\N\t\\U");
        check(&[text("a\tb\\N\n")], &[0], 1, "a\\tb\\\\N\\n");
        check(&[text("x"), text("z")], &[0, 2], 3, "x\t\\N\tz");
        check(&[text("")], &[0], 1, "");
        check(&[text("\\U")], &[0], 1, "\\\\U");
        check(&[text("beyond")], &[7], 1, "\\N");
        check(&[], &[], 0, "");
    }
}

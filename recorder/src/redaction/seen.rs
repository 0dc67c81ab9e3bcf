//! Values of redacted columns that were seen lately, to be found again where they appear verbatim.
//!
//! Best effort by design: it knows what passed before, of a bounded number of values, in their own spelling, in that of
//! JSON strings and in that of queries. Short values are not remembered: they would be found everywhere.

use std::collections::HashMap;

/// Values of each of the two generations.
const GENERATION_VALUES: usize = 16_384;
/// Bytes of each of the two generations.
const GENERATION_BYTES: usize = 2 << 20;
/// Shorter values are not remembered.
const VALUE_BYTES_MIN: usize = 6;
/// Longer values are not remembered.
const VALUE_BYTES_MAX: usize = 512;
/// Bytes by which a place is told to be worth a look.
const HEAD: usize = 4;
const FILTER_BITS: usize = 1 << 16;

/// See the [module's text](self).
#[derive(Debug, Default)]
pub(super) struct Seen {
    new: Generation,
    old: Generation,
}

#[derive(Debug)]
struct Generation {
    /// What stands for each value.
    values: HashMap<Box<[u8]>, Box<str>>,
    bytes: usize,
    /// Lengths of the values that begin so.
    lengths: HashMap<[u8; HEAD], Vec<u16>>,
    filter: Vec<u64>,
}

impl Default for Generation {
    fn default() -> Self {
        Generation { values: HashMap::new(), bytes: 0, lengths: HashMap::new(), filter: vec![0; FILTER_BITS / 64] }
    }
}

impl Seen {
    /// Remembers a value and what stands for it.
    pub(super) fn remember(&mut self, value: &str, mask: &str) {
        if value.len() < VALUE_BYTES_MIN
            || value.len() > VALUE_BYTES_MAX
            || self.new.values.contains_key(value.as_bytes())
        {
            return;
        }
        if self.new.values.len() >= GENERATION_VALUES || self.new.bytes + value.len() > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.new);
        }
        let json = serde_json::Value::from(value).to_string();
        for spelling in [value, &json[1..json.len() - 1], &percent_encoded(value, "%20"), &percent_encoded(value, "+")]
        {
            self.new.insert(spelling, mask);
        }
    }

    /// The bytes with what was seen replaced; none where nothing was.
    pub(super) fn replaced(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut copied, mut at) = (Vec::new(), 0, 0);
        while at + VALUE_BYTES_MIN <= bytes.len() {
            match self.found(bytes, at) {
                Some((length, mask)) => {
                    out.extend_from_slice(&bytes[copied..at]);
                    out.extend_from_slice(mask.as_bytes());
                    at += length;
                    copied = at;
                }
                None => at += 1,
            }
        }
        (copied > 0).then(|| {
            out.extend_from_slice(&bytes[copied..]);
            out
        })
    }

    /// The text with what was seen replaced; none where nothing was.
    pub(super) fn replaced_text(&self, text: &str) -> Option<String> {
        // A value's borders are characters' borders, because no character's bytes are within another's.
        self.replaced(text.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn found(&self, bytes: &[u8], at: usize) -> Option<(usize, &str)> {
        let head = head(&bytes[at..])?;
        let found = [&self.new, &self.old].into_iter().filter_map(|generation| generation.longest(head, &bytes[at..]));
        let (length, mask) = found.max_by_key(|(length, _)| *length)?;
        // Digits within more digits are another number.
        let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let number = bytes[at..at + length].iter().all(u8::is_ascii_digit);
        let part = number && (at > 0 && digit(bytes.get(at - 1)) || digit(bytes.get(at + length)));
        (!part).then_some((length, mask))
    }
}

impl Generation {
    fn insert(&mut self, value: &str, mask: &str) {
        let Some(head) = head(value.as_bytes()) else { return };
        let (Ok(length), false) = (u16::try_from(value.len()), self.values.contains_key(value.as_bytes())) else {
            return;
        };
        let bit = bit(head);
        self.filter[bit / 64] |= 1 << (bit % 64);
        let lengths = self.lengths.entry(head).or_default();
        if !lengths.contains(&length) {
            lengths.push(length);
        }
        self.bytes += value.len();
        self.values.insert(value.as_bytes().into(), mask.into());
    }

    /// The longest value that the bytes begin with.
    fn longest(&self, head: [u8; HEAD], bytes: &[u8]) -> Option<(usize, &str)> {
        let bit = bit(head);
        if self.filter[bit / 64] & (1 << (bit % 64)) == 0 {
            return None;
        }
        let lengths = self.lengths.get(&head)?.iter().map(|length| usize::from(*length));
        let hits = lengths.filter_map(|length| Some((length, self.values.get(bytes.get(..length)?)?.as_ref())));
        hits.max_by_key(|(length, _)| *length)
    }
}

fn head(bytes: &[u8]) -> Option<[u8; HEAD]> {
    bytes.get(..HEAD)?.try_into().ok()
}

fn bit(head: [u8; HEAD]) -> usize {
    (u32::from_le_bytes(head).wrapping_mul(0x9E37_79B1) >> 16) as usize
}

/// As queries and forms spell it.
fn percent_encoded(value: &str, space: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            b' ' => text.push_str(space),
            byte => text.extend(percent(byte)),
        }
    }
    text
}

fn percent(byte: u8) -> [char; 3] {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase();
    ['%', digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_every_spelling() {
        let mut seen = Seen::default();
        seen.remember("ann lee@x.org", "M");
        seen.remember("say \"hi\"", "Q");
        seen.remember("short", "S");
        seen.remember("4711001", "N");
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(seen.replaced_text(text).as_deref(), expected, "{text}");
        check("to ann lee@x.org, äöü", Some("to M, äöü"));
        check("?e=ann%20lee%40x.org&f=ann+lee%40x.org", Some("?e=M&f=M"));
        check(r#"{"a":"say \"hi\""}"#, Some(r#"{"a":"Q"}"#));
        check("short and ann lee@x.or", None);
        check("4711001 14711001 47110011", Some("N 14711001 47110011"));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_kept() {
        let mut seen = Seen::default();
        for number in 0..4 * GENERATION_VALUES {
            seen.remember(&format!("value number {number};"), "M");
        }
        assert!(seen.new.values.len() <= GENERATION_VALUES + 3 && seen.old.values.len() <= GENERATION_VALUES + 3);
        let last = format!("value number {};", 4 * GENERATION_VALUES - 1);
        assert_eq!(seen.replaced_text(&last).as_deref(), Some("M"));
        assert_eq!(seen.replaced_text("value number 0;"), None);
    }
}

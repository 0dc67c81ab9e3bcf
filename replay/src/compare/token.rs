//! Cuts a text into what must be equal and what may be renamed or masked: ids made by the application, and clock values.

use txray_store::time::Timestamp;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Must be equal.
    Plain(&'a str),
    /// A value such as applications make: UUID, hexadecimal token of 16 digits or more, ULID.
    Made(MadeKind, &'a str),
    /// A moment, with its text.
    Moment(Timestamp, &'a str),
}

/// Kinds of made values; one kind never stands for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MadeKind {
    Uuid,
    Hex(usize),
    Ulid,
}

/// Shortest hexadecimal token that counts as made.
const MIN_HEX: usize = 16;

/// Cuts a text into pieces.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut plain_from = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let starts_word = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let found = if starts_word { special(rest) } else { None };
        if let Some((piece, length)) = found {
            if plain_from < at {
                pieces.push(Piece::Plain(&text[plain_from..at]));
            }
            pieces.push(piece);
            at += length;
            plain_from = at;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    if plain_from < text.len() {
        pieces.push(Piece::Plain(&text[plain_from..]));
    }
    pieces
}

/// A special piece at the start of `rest`, with its length in bytes.
fn special(rest: &str) -> Option<(Piece<'_>, usize)> {
    if let Some((moment, length)) = moment(rest) {
        return Some((Piece::Moment(moment, &rest[..length]), length));
    }
    if let Some(length) = uuid(rest) {
        return Some((Piece::Made(MadeKind::Uuid, &rest[..length]), length));
    }
    let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let word = &rest[..length];
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let has_letter = word.bytes().any(|byte| byte.is_ascii_alphabetic());
    if length >= MIN_HEX && has_digit && has_letter && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some((Piece::Made(MadeKind::Hex(length), word), length));
    }
    // Crockford's base 32 without I, L, O and U; the first digit holds three bits (ULID specification)
    let crockford = |byte: u8| byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !b"ILOU".contains(&byte));
    if length == 26 && has_digit && has_letter && word.as_bytes()[0] <= b'7' && word.bytes().all(crockford) {
        return Some((Piece::Made(MadeKind::Ulid, word), length));
    }
    None
}

/// Length of a hyphenated UUID at the start of `rest`.
fn uuid(rest: &str) -> Option<usize> {
    const LENGTH: usize = 36;
    let bytes = rest.as_bytes().get(..LENGTH)?;
    let shaped = bytes.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = bytes.len() == rest.len() || !rest.as_bytes()[LENGTH].is_ascii_alphanumeric();
    (shaped && ends).then_some(LENGTH)
}

/// A moment at the start of `rest`: `2026-04-25T14:32:00.5Z`, `2026-04-25 14:32:00+00`, or a count of seconds or milliseconds
/// since 1970 with a fraction or not.
fn moment(rest: &str) -> Option<(Timestamp, usize)> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        4 => calendar_moment(rest),
        10 | 13 | 16 => unix_moment(rest, digits),
        _ => None,
    }
}

fn unix_moment(rest: &str, digits: usize) -> Option<(Timestamp, usize)> {
    if rest[digits..].starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let count: i64 = rest[..digits].parse().ok()?;
    let micros = match digits {
        10 => count.checked_mul(1_000_000)?,
        13 => count.checked_mul(1_000)?,
        _ => count,
    };
    // a fraction of a second belongs to the value: `1777127520.123456`
    let fraction = match rest[digits..].strip_prefix('.') {
        Some(after) if digits == 10 => after.bytes().take_while(u8::is_ascii_digit).count(),
        _ => 0,
    };
    let length = if fraction > 0 { digits + 1 + fraction } else { digits };
    Some((Timestamp(micros), length))
}

fn calendar_moment(rest: &str) -> Option<(Timestamp, usize)> {
    let bytes = rest.as_bytes();
    let shape = b"0000-00-00?00:00:00";
    let head = bytes.get(..shape.len())?;
    let fits = head.iter().zip(shape).all(|(byte, wanted)| match wanted {
        b'0' => byte.is_ascii_digit(),
        b'?' => matches!(byte, b'T' | b' ' | b't'),
        other => byte == other,
    });
    if !fits {
        return None;
    }
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = shape.len();
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    let civil: jiff::civil::DateTime = rest[..end].replacen(' ', "T", 1).parse().ok()?;
    let (offset_seconds, zone) = zone(&rest[end..]);
    let utc = jiff::tz::Offset::UTC.to_timestamp(civil).ok()?;
    Some((Timestamp(utc.as_microsecond() - offset_seconds * 1_000_000), end + zone))
}

/// Offset in seconds east of UTC, and the length of its text: `Z`, `+02`, `+0200`, `+02:00`, or nothing.
fn zone(rest: &str) -> (i64, usize) {
    let bytes = rest.as_bytes();
    match bytes.first() {
        Some(b'Z' | b'z') => (0, 1),
        Some(sign @ (b'+' | b'-')) => {
            let two = |from: usize| rest.get(from..from + 2).and_then(|text| text.parse::<u8>().ok()).map(i64::from);
            let Some(hours) = two(1) else { return (0, 0) };
            let (minutes, length) = match (bytes.get(3) == Some(&b':'), two(4), two(3)) {
                (true, Some(minutes), _) => (minutes, 6),
                (false, _, Some(minutes)) => (minutes, 5),
                _ => (0, 3),
            };
            let seconds = hours * 3600 + minutes * 60;
            (if *sign == b'-' { -seconds } else { seconds }, length)
        }
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_values_and_moments_are_found_and_nothing_else() {
        let show = |text: &str| -> Vec<String> {
            let pieces = pieces(text);
            let kinds = pieces.iter().map(|piece| match piece {
                Piece::Plain(text) => format!("={text}"),
                Piece::Made(MadeKind::Uuid, text) => format!("uuid {text}"),
                Piece::Made(MadeKind::Hex(_), text) => format!("hex {text}"),
                Piece::Made(MadeKind::Ulid, text) => format!("ulid {text}"),
                Piece::Moment(at, _) => format!("at {at}"),
            });
            kinds.collect()
        };
        let check = |text: &str, expected: &[&str]| assert_eq!(show(text), expected, "{text:?}");
        check("", &[]);
        check("plain ünïcode 42", &["=plain ünïcode 42"]);
        check("id=6f1c2f60-5a1e-4b0e-9d2a-2b1c3d4e5f60!", &["=id=", "uuid 6f1c2f60-5a1e-4b0e-9d2a-2b1c3d4e5f60", "=!"]);
        check("6f1c2f60-5a1e-4b0e-9d2a-2b1c3d4e5f600", &["=6f1c2f60-5a1e-4b0e-9d2a-2b1c3d4e5f600"]);
        check("tok_9f86d081884c7d65", &["=tok_", "hex 9f86d081884c7d65"]);
        // all digits, too short, or part of a longer word
        check(
            "1234567890123456789 abcdef0123 x9f86d081884c7d65z",
            &["=1234567890123456789 abcdef0123 x9f86d081884c7d65z"],
        );
        check("01ARZ3NDEKTSV4RRFFQ69G5FAV", &["ulid 01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
        check("2026-04-25T14:32:00.5Z,", &["at 2026-04-25T14:32:00.500000Z", "=,"]);
        check("2026-04-25 14:32:00+02", &["at 2026-04-25T12:32:00.000000Z"]);
        check("2026-04-25 14:32:00.000001-05:30", &["at 2026-04-25T20:02:00.000001Z"]);
        check("2026-04-25 14:32:00", &["at 2026-04-25T14:32:00.000000Z"]);
        check("2026-13-45 14:32:00", &["=2026-13-45 14:32:00"]);
        check("1777127520", &["at 2026-04-25T14:32:00.000000Z"]);
        check("{\"t\":1777127520123}", &["={\"t\":", "at 2026-04-25T14:32:00.123000Z", "=}"]);
        check("1777127520.123456", &["at 2026-04-25T14:32:00.000000Z"]);
    }

    proptest::proptest! {
        #[test]
        fn pieces_join_to_the_text(text in "[a-f0-9T:Z+. é-]{0,80}") {
            let joined: String = pieces(&text).iter().map(|piece| match piece {
                Piece::Plain(text) | Piece::Made(_, text) | Piece::Moment(_, text) => *text,
            }).collect();
            proptest::prop_assert_eq!(joined, text);
        }
    }
}

//! What stands in the place of a column's value: of the column's type where that can be, so that a redacted row can still be
//! restored.

use jiff::ToSpan;
use jiff::civil::date;
use txray_store::ids::Oid;

use super::permutation::permuted;
use super::{Action, MASK_DIGITS, MASK_PREFIX, Redactor};

/// The marker of [`Action::Mask`] in texts.
pub(super) const MARKER: &str = "***";

/// A column's or a value's type as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Type.
    pub(super) type_oid: Oid,
    /// As `format_type` prints it, with its modifier; empty when only the OID is known.
    pub(super) type_name: String,
    /// Whether NULL cannot stand there.
    pub(super) not_null: bool,
}

impl Shape {
    /// Of a type of which only the OID is known.
    pub(super) fn of(type_oid: Oid) -> Shape {
        Shape { type_oid, type_name: String::new(), not_null: false }
    }
}

/// Types whose values are made alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// With the most characters it takes.
    Text(Option<usize>),
    Int,
    /// With the most digits before its point.
    Numeric(u32),
    Float,
    Bool,
    Uuid,
    Date,
    Timestamp {
        zone: bool,
    },
    Time {
        zone: bool,
    },
    Interval,
    Bytea,
    Json,
    Inet,
    Cidr,
    Mac(usize),
    Bits,
    Range,
    Array {
        of_text: bool,
        of_int: bool,
    },
    /// Not known: NULL where that can be.
    Other,
}

/// Type OIDs are those of `pg_type.dat`; they never change between versions.
fn family(shape: &Shape) -> Family {
    let name = shape.type_name.as_str();
    match shape.type_oid.0 {
        0 | 19 | 25 | 705 | 2275 => Family::Text(None),
        18 => Family::Text(Some(1)),
        1042 | 1043 => Family::Text(modifier(name).map(|(length, _)| length as usize)),
        20 | 21 | 23 | 26 | 28 | 29 => Family::Int,
        1700 => Family::Numeric(modifier(name).map_or(9, |(precision, scale)| precision.saturating_sub(scale).min(9))),
        700 | 701 => Family::Float,
        16 => Family::Bool,
        2950 => Family::Uuid,
        1082 => Family::Date,
        1114 => Family::Timestamp { zone: false },
        1184 => Family::Timestamp { zone: true },
        1083 => Family::Time { zone: false },
        1266 => Family::Time { zone: true },
        1186 => Family::Interval,
        17 => Family::Bytea,
        114 | 3802 => Family::Json,
        869 => Family::Inet,
        650 => Family::Cidr,
        829 => Family::Mac(6),
        774 => Family::Mac(8),
        1560 | 1562 => Family::Bits,
        3904 | 3906 | 3908 | 3910 | 3912 | 3926 => Family::Range,
        1009 | 1014 | 1015 | 1002 | 1003 => Family::Array { of_text: true, of_int: false },
        1005 | 1007 | 1016 | 1028 => Family::Array { of_text: false, of_int: true },
        _ if name.ends_with("[]") => Family::Array { of_text: false, of_int: false },
        _ if name == "citext" || name.ends_with(".citext") => Family::Text(None),
        _ => Family::Other,
    }
}

/// `(10)` or `(10,2)` within a type's name.
fn modifier(name: &str) -> Option<(u32, u32)> {
    let (_, rest) = name.split_once('(')?;
    let (inside, _) = rest.split_once(')')?;
    let (first, second) = inside.split_once(',').unwrap_or((inside, "0"));
    Some((first.trim().parse().ok()?, second.trim().parse().ok()?))
}

impl Redactor {
    /// What stands for a value, as PostgreSQL prints it; none for NULL.
    pub(super) fn value(&self, action: Action, text: &str, shape: &Shape) -> Option<String> {
        let family = family(shape);
        match action {
            Action::Keep => Some(text.to_owned()),
            Action::Drop if !shape.not_null => None,
            Action::Hash => match family {
                Family::Other if !shape.not_null && !shape.type_name.is_empty() => None,
                family => Some(self.hashed(text, family)),
            },
            Action::Mask | Action::Drop => match family {
                Family::Other if !shape.not_null && !shape.type_name.is_empty() => None,
                family => Some(marker(family)),
            },
        }
    }

    fn hashed(&self, text: &str, family: Family) -> String {
        let hash = blake3::keyed_hash(&self.key, text.as_bytes());
        let hex = hash.to_hex();
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        let number = u64::from_le_bytes(word);
        match family {
            Family::Text(Some(length)) if length < MASK_PREFIX.len() + MASK_DIGITS => hex[..length.min(64)].to_owned(),
            Family::Text(_) | Family::Other => format!("{MASK_PREFIX}{}", &hex[..MASK_DIGITS]),
            Family::Int => self.whole_number(text).unwrap_or_else(|| (number % (1 << 15)).to_string()),
            Family::Numeric(0) => "0".to_owned(),
            Family::Numeric(digits) => match text.parse::<i64>() {
                // As an int column would have it, where that fits: the two may be compared.
                Ok(whole) if digits == 9 && whole.unsigned_abs() < 1 << 15 => permuted(&self.key, whole).to_string(),
                _ => (number % 10_u64.pow(digits)).to_string(),
            },
            // Small enough to be printed without an exponent.
            Family::Float => (number % 1_000_000).to_string(),
            Family::Uuid => uuid(&hex),
            Family::Date => day(number).to_string(),
            Family::Timestamp { zone } => {
                let time = time(number >> 32);
                format!("{} {time}{}", day(number & 0xffff_ffff), if zone { "+00" } else { "" })
            }
            Family::Time { zone } => time(number) + if zone { "+00" } else { "" },
            Family::Interval => time(number),
            Family::Bytea => format!("\\x{}", &hex[..32]),
            Family::Json => format!("\"{MASK_PREFIX}{}\"", &hex[..MASK_DIGITS]),
            Family::Inet => format!("2001:db8:{}:{}::1", group(number), group(number >> 16)),
            Family::Cidr => format!("2001:db8:{}:{}::/64", group(number), group(number >> 16)),
            Family::Mac(bytes) => {
                let rest: Vec<&str> = (0..bytes - 1).map(|at| &hex[2 * at..2 * at + 2]).collect();
                format!("02:{}", rest.join(":"))
            }
            Family::Array { of_text, of_int } => self.array(text, of_text, of_int),
            // One bit cannot be hashed; the others have no room for a hash that would be valid.
            Family::Bool | Family::Bits | Family::Range => marker_as(family, text),
        }
    }

    /// The number that stands for a whole number; none for other texts.
    pub(super) fn whole_number(&self, text: &str) -> Option<String> {
        text.trim().parse().ok().map(|number| permuted(&self.key, number).to_string())
    }

    /// Element by element, so that `= ANY` still finds what it found; the empty array where that is not possible.
    fn array(&self, text: &str, of_text: bool, of_int: bool) -> String {
        let elements = if of_text || of_int { elements(text) } else { None };
        let Some(elements) = elements else { return "{}".to_owned() };
        let masked = elements.into_iter().map(|element| match element {
            None => Some("NULL".to_owned()),
            Some(element) if of_int => self.whole_number(&element),
            Some(element) => Some(format!("\"{}\"", self.hashed(&element, Family::Text(None)))),
        });
        let masked: Option<Vec<String>> = masked.collect();
        masked.map_or_else(|| "{}".to_owned(), |masked| format!("{{{}}}", masked.join(",")))
    }
}

/// A constant of the type.
fn marker(family: Family) -> String {
    marker_as(family, "")
}

/// The same; a bit string's has the length of the value.
fn marker_as(family: Family, text: &str) -> String {
    match family {
        Family::Text(Some(length)) => MARKER[..length.min(MARKER.len())].to_owned(),
        Family::Text(None) | Family::Other => MARKER.to_owned(),
        Family::Int | Family::Numeric(_) | Family::Float => "0".to_owned(),
        Family::Bool => "f".to_owned(),
        Family::Uuid => uuid(&"0".repeat(32)),
        Family::Date => day(0).to_string(),
        Family::Timestamp { zone: false } => format!("{} 00:00:00", day(0)),
        Family::Timestamp { zone: true } => format!("{} 00:00:00+00", day(0)),
        Family::Time { zone: false } | Family::Interval => "00:00:00".to_owned(),
        Family::Time { zone: true } => "00:00:00+00".to_owned(),
        Family::Bytea => "\\x".to_owned(),
        Family::Json => format!("\"{MARKER}\""),
        Family::Inet => "0.0.0.0".to_owned(),
        Family::Cidr => "0.0.0.0/32".to_owned(),
        Family::Mac(bytes) => vec!["00"; bytes].join(":"),
        Family::Bits => "0".repeat(text.chars().count()),
        Family::Range => "empty".to_owned(),
        Family::Array { .. } => "{}".to_owned(),
    }
}

/// Version 8 of RFC 9562: the one that is anybody's own.
fn uuid(hex: &str) -> String {
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
}

/// A day of the hundred years from 2000.
fn day(number: u64) -> jiff::civil::Date {
    let days = i32::try_from(number % 36_525).unwrap_or_default();
    date(2000, 1, 1).checked_add(days.days()).unwrap_or(date(2000, 1, 1))
}

fn time(number: u64) -> String {
    let seconds = number % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// One to four digits of an IPv6 address, never all zeros, in the form that PostgreSQL prints.
fn group(number: u64) -> String {
    format!("{:x}", (number & 0xffff) | 1)
}

/// Elements of an array of one dimension as PostgreSQL prints it; none for anything else.
fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inside = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    let mut characters = inside.chars().peekable();
    while characters.peek().is_some() {
        let (mut element, mut quoted) = (String::new(), false);
        loop {
            match characters.next() {
                None | Some(',') => break,
                Some('"') if !quoted && element.is_empty() => {
                    quoted = true;
                    loop {
                        match characters.next()? {
                            '"' => break,
                            '\\' => element.push(characters.next()?),
                            other => element.push(other),
                        }
                    }
                }
                Some('{' | '}' | '"') => return None,
                Some('\\') => element.push(characters.next()?),
                Some(other) => element.push(other),
            }
        }
        elements.push(if !quoted && element == "NULL" { None } else { Some(element) });
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(type_oid: u32, type_name: &str, not_null: bool) -> Shape {
        Shape { type_oid: Oid(type_oid), type_name: type_name.to_owned(), not_null }
    }

    /// Types with a value of each, and what masks them.
    const TYPES: &[(u32, &str, &str, &str)] = &[
        (25, "text", "alice", "***"),
        (1043, "character varying(2)", "al", "**"),
        (1043, "character varying", "alice", "***"),
        (1042, "character(1)", "a", "*"),
        (23, "integer", "4711", "0"),
        (20, "bigint", "-9223372036854775808", "0"),
        (21, "smallint", "32767", "0"),
        (1700, "numeric(5,2)", "123.45", "0"),
        (1700, "numeric(2,2)", "0.45", "0"),
        (1700, "numeric", "1e20", "0"),
        (701, "double precision", "1.5", "0"),
        (16, "boolean", "t", "f"),
        (2950, "uuid", "8c5d6f5e-0000-4000-8000-000000000000", "00000000-0000-8000-8000-000000000000"),
        (1082, "date", "1980-01-02", "2000-01-01"),
        (1114, "timestamp without time zone", "1980-01-02 03:04:05", "2000-01-01 00:00:00"),
        (1184, "timestamp with time zone", "1980-01-02 03:04:05+00", "2000-01-01 00:00:00+00"),
        (1083, "time without time zone", "03:04:05", "00:00:00"),
        (1266, "time with time zone", "03:04:05+00", "00:00:00+00"),
        (1186, "interval", "1 day", "00:00:00"),
        (17, "bytea", "\\x0102", "\\x"),
        (3802, "jsonb", "{\"a\": 1}", "\"***\""),
        (869, "inet", "10.1.2.3", "0.0.0.0"),
        (650, "cidr", "10.1.2.0/24", "0.0.0.0/32"),
        (829, "macaddr", "01:02:03:04:05:06", "00:00:00:00:00:00"),
        (3904, "int4range", "[1,2)", "empty"),
        (1009, "text[]", "{alice,\"b c\",NULL}", "{}"),
        (1007, "integer[]", "{1,2}", "{}"),
        (1231, "numeric[]", "{1.5}", "{}"),
    ];

    #[test]
    fn each_type_has_its_marker() {
        let redactor = Redactor::with_key([7; 32]);
        for (oid, name, value, marker) in TYPES {
            let shape = shape(*oid, name, true);
            assert_eq!(redactor.value(Action::Mask, value, &shape).as_deref(), Some(*marker), "{name}");
            assert_eq!(redactor.value(Action::Drop, value, &shape).as_deref(), Some(*marker), "{name} NOT NULL");
            assert_eq!(redactor.value(Action::Drop, value, &Shape { not_null: false, ..shape }), None, "{name}");
        }
    }

    #[test]
    fn hashes_are_equal_for_equal_values_and_hide_them() {
        let (redactor, other) = (Redactor::with_key([7; 32]), Redactor::with_key([8; 32]));
        for (oid, name, value, marker) in TYPES {
            let shape = shape(*oid, name, true);
            let hashed = redactor.value(Action::Hash, value, &shape).unwrap();
            assert_eq!(redactor.value(Action::Hash, value, &shape).as_ref(), Some(&hashed));
            assert_ne!(&hashed, value, "{name}");
            let constant = matches!(*name, "boolean" | "numeric(2,2)" | "int4range" | "numeric[]");
            let again = other.value(Action::Hash, value, &shape).unwrap();
            assert_eq!(hashed == *marker || again == hashed, constant, "{name} {hashed}");
        }
    }

    #[test]
    fn a_value_has_one_hash_wherever_it_stands() {
        let redactor = Redactor::with_key([7; 32]);
        let hash = |value: &str, oid, name| redactor.value(Action::Hash, value, &shape(oid, name, true)).unwrap();
        assert_eq!(hash("alice", 25, "text"), redactor.mask(b"alice"));
        assert_eq!(hash("alice", 25, "text"), hash("alice", 1043, "character varying(100)"));
        assert_eq!(hash("{alice}", 1009, "text[]"), format!("{{\"{}\"}}", redactor.mask(b"alice")));
        assert_eq!(hash("42", 23, "integer"), hash("42", 20, "bigint"));
        assert_eq!(hash("{42}", 1007, "integer[]"), format!("{{{}}}", hash("42", 21, "smallint")));
    }

    #[test]
    fn types_of_users_become_null_where_they_may() {
        let redactor = Redactor::with_key([7; 32]);
        for action in [Action::Hash, Action::Mask, Action::Drop] {
            assert_eq!(redactor.value(action, "open", &shape(20_000, "mood", false)), None);
            assert!(redactor.value(action, "open", &shape(20_000, "mood", true)).is_some());
        }
        let citext = redactor.value(Action::Hash, "alice", &shape(20_001, "public.citext", false));
        assert_eq!(citext, Some(redactor.mask(b"alice")));
    }

    proptest::proptest! {
        #[test]
        fn any_text_of_any_type_is_taken(text in ".{0,30}", array in "\\{[a,\"\\\\{}NUL]{0,12}\\}") {
            let redactor = Redactor::with_key([7; 32]);
            for (oid, name, _, _) in TYPES {
                for text in [&text, &array] {
                    for action in [Action::Hash, Action::Mask, Action::Drop] {
                        proptest::prop_assert!(redactor.value(action, text, &shape(*oid, name, true)).is_some());
                    }
                }
            }
        }
    }
}

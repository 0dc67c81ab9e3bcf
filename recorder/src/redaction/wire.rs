//! Values that stand for others, in the format in which the others passed.

use std::str::FromStr;

use txray_store::event::Format;
use txray_store::ids::Oid;

/// A value as the wire has it; none where a type's binary form is not made here, for which NULL stands.
pub(super) fn encoded(type_oid: Oid, format: Format, text: &str) -> Option<Vec<u8>> {
    match format {
        Format::Text => Some(text.as_bytes().to_vec()),
        Format::Binary => binary(type_oid, text),
    }
}

/// Type OIDs are those of `pg_type.dat`. Source of the forms: the `*_send` functions of PostgreSQL.
fn binary(type_oid: Oid, text: &str) -> Option<Vec<u8>> {
    Some(match type_oid.0 {
        // text and what has its form; 0 and the types of users, most of which are domains over text, citext or enums
        0 | 18 | 19 | 25 | 114 | 705 | 1042 | 1043 | 2275 | 16_384.. => text.as_bytes().to_vec(),
        16 => vec![u8::from(text == "t")],
        17 => unhex(text.strip_prefix("\\x")?)?,
        20 => parsed::<i64>(text)?.to_be_bytes().to_vec(),
        21 => parsed::<i16>(text)?.to_be_bytes().to_vec(),
        23 => parsed::<i32>(text)?.to_be_bytes().to_vec(),
        26 | 28 | 29 => parsed::<u32>(text)?.to_be_bytes().to_vec(),
        700 => parsed::<f32>(text)?.to_be_bytes().to_vec(),
        701 => parsed::<f64>(text)?.to_be_bytes().to_vec(),
        1082 => days(text.parse().ok()?)?.to_be_bytes().to_vec(),
        1114 | 1184 => {
            let (day, time) = text.strip_suffix("+00").unwrap_or(text).split_once(' ')?;
            let day = i64::from(days(day.parse().ok()?)?);
            (day * 86_400_000_000 + seconds(time)? * 1_000_000).to_be_bytes().to_vec()
        }
        1083 => (seconds(text)? * 1_000_000).to_be_bytes().to_vec(),
        2950 => unhex(&text.replace('-', ""))?,
        3802 => [&[1], text.as_bytes()].concat(),
        _ => return None,
    })
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Days from 2000-01-01.
fn days(day: jiff::civil::Date) -> Option<i32> {
    Some(day.since(jiff::civil::date(2000, 1, 1)).ok()?.get_days())
}

fn seconds(time: &str) -> Option<i64> {
    let mut parts = time.splitn(3, ':').map(parsed::<i64>);
    Some(parts.next()?? * 3600 + parts.next()?? * 60 + parts.next()??)
}

#[cfg(test)]
mod tests {
    use txray_store::pg_text;

    use super::*;

    #[test]
    fn what_is_made_reads_back_as_the_text_it_was_made_of() {
        for (oid, text) in [
            (25, "masked:0123456789abcdef"),
            (16, "f"),
            (17, "\\x00ff"),
            (20, "-42"),
            (21, "7"),
            (23, "2147483647"),
            (26, "5"),
            (700, "654321"),
            (701, "12"),
            (1082, "2099-12-30"),
            (1114, "2031-05-06 23:59:59"),
            (1184, "2000-01-01 00:00:00+00"),
            (1083, "01:02:03"),
            (2950, "01234567-89ab-8def-8012-3456789abcde"),
            (3802, "\"***\""),
        ] {
            let bytes = encoded(Oid(oid), Format::Binary, text).unwrap();
            assert_eq!(pg_text::to_text(Oid(oid), Format::Binary, &bytes).as_deref(), Some(text), "{oid}");
            assert_eq!(encoded(Oid(oid), Format::Text, text), Some(text.as_bytes().to_vec()));
        }
        assert_eq!(encoded(Oid(1700), Format::Binary, "1"), None);
        assert_eq!(encoded(Oid(23), Format::Binary, "x"), None);
    }
}

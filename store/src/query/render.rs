//! DuckDB's values as text.

use std::fmt::Write;

use duckdb::types::{TimeUnit, Value};
use jiff::ToSpan;
use serde_json::{Map, Number, Value as Json};

/// A value as text: timestamps RFC 3339 in UTC, blobs hexadecimal behind `\x`, lists and records JSON; none for NULL.
pub(super) fn render(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(value) => value.to_string(),
        Value::TinyInt(value) => value.to_string(),
        Value::SmallInt(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::BigInt(value) => value.to_string(),
        Value::HugeInt(value) => value.to_string(),
        Value::UHugeInt(value) => value.to_string(),
        Value::UTinyInt(value) => value.to_string(),
        Value::USmallInt(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::UBigInt(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Timestamp(unit, count) => timestamp(*unit, *count),
        Value::Text(text) | Value::Enum(text) => text.clone(),
        Value::Blob(bytes) | Value::Geometry(bytes) => hexadecimal(bytes),
        Value::Date32(days) => date(*days),
        Value::Time64(unit, count) => time_of_day(unit.to_micros(*count)),
        Value::Interval { months, days, nanos } => interval(*months, *days, *nanos),
        Value::Union(inner) => return render(inner),
        Value::List(_) | Value::Array(_) | Value::Struct(_) | Value::Map(_) => json(value).to_string(),
        other => format!("{other:?}"),
    })
}

/// A value within a list or record.
fn json(value: &Value) -> Json {
    let number = |text: String| text.parse::<Number>().map_or(Json::String(text), Json::Number);
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::List(items) | Value::Array(items) => Json::Array(items.iter().map(json).collect()),
        Value::Struct(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.clone(), json(value))).collect::<Map<_, _>>())
        }
        Value::Map(entries) => Json::Object(
            entries.iter().map(|(key, value)| (render(key).unwrap_or_default(), json(value))).collect::<Map<_, _>>(),
        ),
        Value::Union(inner) => json(inner),
        Value::TinyInt(_)
        | Value::SmallInt(_)
        | Value::Int(_)
        | Value::BigInt(_)
        | Value::UTinyInt(_)
        | Value::USmallInt(_)
        | Value::UInt(_)
        | Value::UBigInt(_)
        | Value::Float(_)
        | Value::Double(_) => render(value).map_or(Json::Null, number),
        other => render(other).map_or(Json::Null, Json::String),
    }
}

fn timestamp(unit: TimeUnit, count: i64) -> String {
    let parsed = match unit {
        TimeUnit::Second => jiff::Timestamp::from_second(count),
        TimeUnit::Millisecond => jiff::Timestamp::from_millisecond(count),
        TimeUnit::Microsecond => jiff::Timestamp::from_microsecond(count),
        TimeUnit::Nanosecond => jiff::Timestamp::from_nanosecond(i128::from(count)),
    };
    match (parsed, count) {
        (Ok(timestamp), _) if unit == TimeUnit::Nanosecond => format!("{timestamp:.9}"),
        (Ok(timestamp), _) => format!("{timestamp:.6}"),
        (Err(_), i64::MAX) => "infinity".to_owned(),
        (Err(_), count) if count == -i64::MAX => "-infinity".to_owned(),
        (Err(_), count) => format!("{count} {unit:?}s since 1970"),
    }
}

fn date(days: i32) -> String {
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    epoch.checked_add(days.days()).map_or_else(|_| format!("{days} days since 1970"), |date| date.to_string())
}

fn time_of_day(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { clock } else { format!("{clock}.{fraction:06}") }
}

/// As DuckDB prints it: `1 year 2 months 3 days 04:05:06`.
fn interval(months: i32, days: i32, nanos: i64) -> String {
    let mut parts = Vec::new();
    for (count, unit) in [(months / 12, "year"), (months % 12, "month"), (days, "day")] {
        if count != 0 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if nanos != 0 || parts.is_empty() {
        let sign = if nanos < 0 { "-" } else { "" };
        parts.push(format!("{sign}{}", time_of_day((nanos / 1000).abs())));
    }
    parts.join(" ")
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        // writing to a string does not fail
        let _ = write!(text, "{byte:02x}");
    }
    text
}

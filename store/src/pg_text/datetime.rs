//! Dates, times and intervals, in ISO style and UTC.

use std::fmt::Write as _;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;

/// `date_out`: days since 2000-01-01.
pub(super) fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        _ => {
            let (date, era) = civil(i64::from(days));
            format!("{date}{era}")
        }
    }
}

/// `timestamp_out` and `timestamptz_out`: microseconds since 2000-01-01; `zone` follows the time.
pub(super) fn timestamp(micros: i64, zone: &str) -> Option<String> {
    match micros {
        i64::MAX => Some("infinity".to_owned()),
        i64::MIN => Some("-infinity".to_owned()),
        _ => {
            let (date, era) = civil(micros.div_euclid(MICROS_PER_DAY));
            Some(format!("{date} {}{zone}{era}", time(micros.rem_euclid(MICROS_PER_DAY))?))
        }
    }
}

/// `time_out`: microseconds since midnight, 24:00:00 included.
pub(super) fn time(micros: i64) -> Option<String> {
    (0..=MICROS_PER_DAY).contains(&micros).then(|| clock(micros))
}

/// `timetz_out`: the zone is in seconds west of Greenwich.
pub(super) fn time_with_zone(micros: i64, west: i32) -> Option<String> {
    let mut text = time(micros)?;
    let seconds = west.unsigned_abs();
    text.push(if west > 0 { '-' } else { '+' });
    let _ = write!(text, "{:02}", seconds / 3600);
    if !seconds.is_multiple_of(3600) {
        let _ = write!(text, ":{:02}", seconds / 60 % 60);
    }
    if !seconds.is_multiple_of(60) {
        let _ = write!(text, ":{:02}", seconds % 60);
    }
    Some(text)
}

/// `interval_out` in style `postgres`: `1 year 2 mons -3 days +04:05:06`.
pub(super) fn interval(micros: i64, days: i32, months: i32) -> String {
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return "infinity".to_owned(),
        (i64::MIN, i32::MIN, i32::MIN) => return "-infinity".to_owned(),
        _ => {}
    }
    let mut text = String::new();
    let mut after_negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if text.is_empty() { "" } else { " " };
        let plus = if after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        let _ = write!(text, "{space}{plus}{value} {unit}{plural}");
        after_negative = value < 0;
    }
    if text.is_empty() || micros != 0 {
        let space = if text.is_empty() { "" } else { " " };
        let sign = match (micros < 0, after_negative) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let _ = write!(text, "{space}{sign}");
        push_clock(&mut text, micros.unsigned_abs());
    }
    text
}

fn clock(micros: i64) -> String {
    let mut text = String::new();
    push_clock(&mut text, micros.unsigned_abs());
    text
}

/// `HH:MM:SS`, with a fraction without trailing zeros when there is one.
fn push_clock(text: &mut String, micros: u64) {
    let seconds = micros / 1_000_000;
    let fraction = micros % 1_000_000;
    let _ = write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
}

/// `YYYY-MM-DD` and ` BC` or nothing, from days since 2000-01-01, in the proleptic Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (String, &'static str) {
    let shifted = days + EPOCH_DAYS + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (shown, bc) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{shown:04}-{month:02}-{day:02}"), bc)
}

//! Numbers: floats in their shortest form, numeric, bit strings.

use std::fmt::Write as _;
use std::num::FpCategory;

use super::Bytes;

/// `float8out` with `extra_float_digits` above 0.
pub(super) fn float8(value: f64) -> String {
    let magnitude = value.abs();
    let reads_back = |text: &str| text.parse::<f64>().ok() == Some(magnitude);
    let digits = match value.classify() {
        FpCategory::Nan => return "NaN".to_owned(),
        FpCategory::Infinite | FpCategory::Zero => format!("{magnitude:e}"),
        _ => shortest(
            &format!("{magnitude:e}"),
            value.to_bits() & 1 == 0,
            &|places| format!("{magnitude:.places$e}"),
            &reads_back,
        ),
    };
    layout(value.is_sign_negative(), &digits, 15)
}

/// `float4out` with `extra_float_digits` above 0.
pub(super) fn float4(value: f32) -> String {
    let magnitude = value.abs();
    let reads_back = |text: &str| text.parse::<f32>().ok() == Some(magnitude);
    let digits = match value.classify() {
        FpCategory::Nan => return "NaN".to_owned(),
        FpCategory::Infinite | FpCategory::Zero => format!("{magnitude:e}"),
        _ => shortest(
            &format!("{magnitude:e}"),
            value.to_bits() & 1 == 0,
            &|places| format!("{magnitude:.places$e}"),
            &reads_back,
        ),
    };
    layout(value.is_sign_negative(), &digits, 6)
}

/// The digits that PostgreSQL's Ryu chooses, from those that Rust chooses: where two decimals of the shortest length are equally
/// near, the even one (Rust takes the larger); and none that reads back only because a tie goes to an even mantissa.
fn shortest(found: &str, even: bool, rounded: &dyn Fn(usize) -> String, reads_back: &dyn Fn(&str) -> bool) -> String {
    let least = found.split('e').next().map_or(0, |mantissa| mantissa.len().saturating_sub(2));
    for places in least..=17 {
        let digits = trim_mantissa(&rounded(places));
        if reads_back(&digits) && !(even && on_boundary(&digits, reads_back)) {
            return digits;
        }
        if places == least && !(even && on_boundary(found, reads_back)) {
            return found.to_owned();
        }
    }
    found.to_owned()
}

/// Whether a decimal reads back as its float only because a tie goes to the even neighbour. PostgreSQL's Ryu takes only
/// decimals strictly inside the interval (`acceptBounds = false` in `d2s.c`).
fn on_boundary(digits: &str, reads_back: &dyn Fn(&str) -> bool) -> bool {
    let Some((mantissa, exponent)) = digits.split_once('e') else { return false };
    let dot = if mantissa.contains('.') { "" } else { "." };
    let zeros = "0".repeat(60);
    let above = format!("{mantissa}{dot}{zeros}1e{exponent}");
    // Digits end in one that is not zero, so the next smaller decimal is that digit less one, followed by nines.
    let (head, last) = mantissa.split_at(mantissa.len() - 1);
    let last = last.bytes().next().map_or(b'0', |digit| digit.saturating_sub(1)).max(b'0');
    let below = format!("{head}{}{dot}{}e{exponent}", char::from(last), "9".repeat(60));
    !reads_back(&above) || !reads_back(&below)
}

fn trim_mantissa(digits: &str) -> String {
    match digits.split_once('e') {
        Some((mantissa, exponent)) if mantissa.contains('.') => {
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => digits.to_owned(),
    }
}

/// Lays out `d.ddde±x` as PostgreSQL does: plain from 1e-4 up to `limit` digits before the point, else with an exponent of at
/// least two digits.
fn layout(negative: bool, digits: &str, limit: i32) -> String {
    let sign = if negative { "-" } else { "" };
    if digits == "inf" {
        return format!("{sign}Infinity");
    }
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let plain: String = mantissa.chars().filter(|character| *character != '.').collect();
    if !(-4..limit).contains(&exponent) {
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{mark}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{plain}");
    }
    let whole = exponent as usize + 1;
    if plain.len() <= whole {
        return format!("{sign}{plain}{}", "0".repeat(whole - plain.len()));
    }
    format!("{sign}{}.{}", &plain[..whole], &plain[whole..])
}

const NUMERIC_POSITIVE: u16 = 0x0000;
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xC000;
const NUMERIC_INFINITY: u16 = 0xD000;
const NUMERIC_NEGATIVE_INFINITY: u16 = 0xF000;
/// `NUMERIC_DSCALE_MASK`: no numeric has more digits after the point.
const NUMERIC_MAX_SCALE: u16 = 0x3FFF;

/// `numeric_send`: digit count, weight of the first digit, sign, digits after the point, digits to base 10,000.
pub(super) fn numeric(value: &mut Bytes<'_>) -> Option<String> {
    let (count, weight, sign, scale) = (value.u16()?, value.i16()?, value.u16()?, value.u16()?);
    match sign {
        NUMERIC_POSITIVE | NUMERIC_NEGATIVE => {}
        NUMERIC_NAN => return Some("NaN".to_owned()),
        NUMERIC_INFINITY => return Some("Infinity".to_owned()),
        NUMERIC_NEGATIVE_INFINITY => return Some("-Infinity".to_owned()),
        _ => return None,
    }
    if scale > NUMERIC_MAX_SCALE {
        return None;
    }
    let digits = (0..count).map(|_| value.u16().filter(|digit| *digit < 10_000)).collect::<Option<Vec<u16>>>()?;
    let digit = |place: i32| usize::try_from(place).ok().and_then(|place| digits.get(place)).copied().unwrap_or(0);
    let weight = i32::from(weight);
    let mut text = String::new();
    if sign == NUMERIC_NEGATIVE {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    }
    for place in 0..=weight {
        let width = if place == 0 { 1 } else { 4 };
        let _ = write!(text, "{:0width$}", digit(place));
    }
    if scale > 0 {
        let groups = i32::from(scale.div_ceil(4));
        text.push('.');
        let end = text.len() + usize::from(scale);
        for place in 1..=groups {
            let _ = write!(text, "{:04}", digit(weight + place));
        }
        text.truncate(end);
    }
    Some(text)
}

/// `bit_send`: length in bits, then the bits, most significant first.
pub(super) fn bits(value: &mut Bytes<'_>) -> Option<String> {
    let length = usize::try_from(value.i32()?).ok()?;
    let bytes = value.take(length.div_ceil(8))?;
    Some((0..length).map(|bit| if bytes[bit / 8] >> (7 - bit % 8) & 1 == 1 { '1' } else { '0' }).collect())
}

//! Sizes and times as people type them.

use std::time::Duration;

/// Splits `64MiB` into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    Some((number, unit.trim()))
}

/// Reads a size: a number of bytes, or one with `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bytes = split(text).and_then(|(number, unit)| {
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return None,
        };
        Some(number * factor)
    });
    match bytes {
        Some(bytes) if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err("a size is a number with a unit, such as 64MiB, 500kB or 2GB".to_owned()),
    }
}

/// Reads a time: a number with `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let seconds = split(text).and_then(|(number, unit)| {
        let factor = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        Some(number * factor)
    });
    match seconds {
        Some(seconds) if (1e-3..1e10).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a time is a number with a unit, such as 500ms, 30s, 15m, 12h or 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("1", Some(1)),
            ("64MiB", Some(64 << 20)),
            ("64 mib", Some(64 << 20)),
            ("1.5kB", Some(1_500)),
            ("2G", Some(2_000_000_000)),
            ("0", None),
            ("-1MB", None),
            ("MB", None),
            ("1TBx", None),
            ("", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, time_ms) in [
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("7", None),
            ("0s", None),
            ("s", None),
            ("-1s", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok().map(|time| time.as_millis()), time_ms, "{text:?}");
        }
    }
}

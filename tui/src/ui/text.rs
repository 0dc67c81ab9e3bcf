//! Text on a grid of cells: widths, cutting, wrapping, numbers and times.

use ratatui::text::Span;
use txray_store::time::Timestamp;

use crate::output::visible;

/// Cells that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { Span::raw(text).width() }
}

/// The grapheme clusters of `text` with their widths. Control characters must have been made visible before.
fn clusters(text: &str) -> Vec<(String, usize)> {
    Span::raw(text)
        .styled_graphemes(ratatui::style::Style::new())
        .map(|cluster| (cluster.symbol.to_owned(), width(cluster.symbol)))
        .collect()
}

/// The grapheme clusters of a line with their widths; its line end, if any, is one of its own without width.
pub(crate) fn line_clusters(line: &str) -> Vec<(String, usize)> {
    let body = line.trim_end_matches('\n');
    let mut found = clusters(body);
    if body.len() < line.len() {
        found.push(("\n".to_owned(), 0));
    }
    found
}

/// `text` in at most `limit` cells, with `…` where its end was left out.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    if limit == 0 {
        return String::new();
    }
    let mut kept = String::new();
    let mut used = 0;
    for (symbol, cells) in clusters(text) {
        if used + cells + 1 > limit {
            break;
        }
        used += cells;
        kept.push_str(&symbol);
    }
    kept.push('…');
    kept
}

/// `text` in exactly `cells` cells: cut, or filled with blanks at its end.
pub(crate) fn left(text: &str, cells: usize) -> String {
    let mut text = cut(text, cells);
    let blanks = cells.saturating_sub(width(&text));
    text.extend(std::iter::repeat_n(' ', blanks));
    text
}

/// `text` in at most `limit` cells, with `…` where its start was left out: for names that differ at their ends.
pub(crate) fn cut_start(text: &str, limit: usize) -> String {
    let cells = width(text);
    if cells <= limit {
        return text.to_owned();
    }
    match limit {
        0 => String::new(),
        _ => format!("…{}", skip(text, cells + 1 - limit)),
    }
}

/// `text` in exactly `cells` cells: cut, or with blanks before it.
pub(crate) fn right(text: &str, cells: usize) -> String {
    let text = cut(text, cells);
    let blanks = cells.saturating_sub(width(&text));
    " ".repeat(blanks) + &text
}

/// `text` without its first `cells` cells. A wide character that is cut in half becomes a blank.
pub(crate) fn skip(text: &str, cells: usize) -> String {
    if cells == 0 {
        return text.to_owned();
    }
    let mut passed = 0;
    let mut rest = String::new();
    for (symbol, cluster) in clusters(text) {
        if passed >= cells {
            rest.push_str(&symbol);
        } else if passed + cluster > cells {
            rest.extend(std::iter::repeat_n(' ', passed + cluster - cells));
        }
        passed += cluster;
    }
    rest
}

/// `text` as lines of at most `limit` cells: at its own line ends, else between words, else anywhere.
pub(crate) fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(1);
    let mut lines = Vec::new();
    for line in text.lines() {
        let line: String = line.replace('\t', "    ").chars().map(visible).collect();
        wrap_line(line.trim_end(), limit, &mut lines);
    }
    lines
}

fn wrap_line(line: &str, limit: usize, lines: &mut Vec<String>) {
    if width(line) <= limit {
        lines.push(line.to_owned());
        return;
    }
    let mut current = String::new();
    let mut used = 0;
    for word in line.split_inclusive(' ') {
        let cells = width(word.trim_end());
        if used > 0 && used + cells > limit {
            lines.push(std::mem::take(&mut current).trim_end().to_owned());
            used = 0;
        }
        if cells <= limit {
            current.push_str(word);
            used += width(word);
            continue;
        }
        for (symbol, cells) in clusters(word) {
            if used + cells > limit && used > 0 {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            current.push_str(&symbol);
            used += cells;
        }
    }
    if !current.trim_end().is_empty() {
        lines.push(current.trim_end().to_owned());
    }
}

/// A count with its thousands parted: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut parted = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            parted.push(',');
        }
        parted.push(digit);
    }
    parted
}

/// A count with its noun: `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Time of day in UTC with milliseconds: `14:32:00.123`.
pub(crate) fn clock(time: Timestamp) -> String {
    time.to_string().get(11..23).map_or_else(|| "?".to_owned(), str::to_owned)
}

/// Date and time of day in UTC with microseconds: `2026-04-25 14:32:00.123456`.
pub(crate) fn moment(time: Timestamp) -> String {
    time.to_string().trim_end_matches('Z').replacen('T', " ", 1)
}

/// A share in per cent, never rounded up to a whole that it is not.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let share = u128::from(part) * 100 / u128::from(whole);
    format!("{share} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_by_cells_and_never_through_a_wide_character() {
        for (text, limit, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("日本語", 1, "…"),
            ("e\u{301}te\u{301}", 2, "e\u{301}…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, limit), expected, "{text} in {limit}");
            assert_eq!(width(&left(text, limit)), limit);
            assert_eq!(width(&right(text, limit)), limit);
        }
        assert_eq!(left("日本語", 4), "日… ");
    }

    #[test]
    fn cuts_the_start_of_names() {
        for (text, limit, expected) in
            [("load-01", 7, "load-01"), ("load-01", 4, "…-01"), ("ab", 1, "…"), ("ab", 0, "")]
        {
            assert_eq!(cut_start(text, limit), expected);
        }
    }

    #[test]
    fn skips_by_cells() {
        for (text, cells, expected) in [("abc", 0, "abc"), ("abc", 2, "c"), ("abc", 9, ""), ("日本語", 3, " 語")] {
            assert_eq!(skip(text, cells), expected, "{text} without {cells}");
        }
    }

    #[test]
    fn wraps_between_words_where_it_can() {
        let check = |text: &str, limit, expected: &[&str]| assert_eq!(wrap(text, limit), expected, "{text:?}");
        check("", 5, &[]);
        check("one two", 10, &["one two"]);
        check("one two", 5, &["one", "two"]);
        check("one twothree", 5, &["one", "twoth", "ree"]);
        check("  a\n\n  b", 5, &["  a", "", "  b"]);
        check("日本語", 3, &["日", "本", "語"]);
        check("a\u{1b}[2Jb", 20, &["a␛[2Jb"]);
        check("x", 0, &["x"]);
    }

    #[test]
    fn numbers_and_times_read_well() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), expected);
        }
        assert_eq!(percent(999, 1_000), "99 %");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(clock(Timestamp(1_777_127_520_123_456)), "14:32:00.123");
        assert_eq!(moment(Timestamp(1_777_127_520_123_456)), "2026-04-25 14:32:00.123456");
        assert_eq!(clock(Timestamp(-1)), "23:59:59.999");
    }
}

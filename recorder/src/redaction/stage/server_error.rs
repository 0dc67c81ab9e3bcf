//! Messages of the server, which quote values.

use txray_store::event::PgError;

use super::RedactingStage;
use crate::redaction::sql::Analysis;
use crate::redaction::value::MARKER;
use crate::redaction::without_credentials;

/// Class of errors that functions raise in words of their own.
const RAISED: &str = "P0";
/// Shorter values are not looked for in messages word by word.
const VALUE_BYTES_MIN: usize = 3;

impl RedactingStage {
    /// Redacts a message. `sql` is redacted already; `originals` are the values that the statement had, with what stands for them.
    pub(super) fn server_error(
        &self,
        error: &mut PgError,
        analysis: &Analysis,
        sql: &str,
        originals: &[(String, String)],
    ) {
        let schema = error.schema.as_deref();
        let rules = &self.redactor.rules;
        // A trigger or a cascade may have met another table than the statement's.
        let names_table = error.table.as_deref().is_some_and(|table| {
            rules.rules_for_table(table).any(|rule| schema.is_none_or(|schema| rule.schema.matches(schema)))
                || self.names.has_table(table)
        });
        let masked_text = sql.contains("'***'");
        if analysis.concerned || names_table || masked_text {
            let known = Known { analysis, error: &error.clone() };
            error.message = if error.sqlstate.starts_with(RAISED) {
                MARKER.to_owned()
            } else {
                without_quoted(&error.message, &known)
            };
            error.detail = error.detail.take().map(|detail| without_values(&detail));
            error.hint = error.hint.take().map(|hint| without_quoted(&hint, &known));
        }
        let texts = [Some(&mut error.message), error.detail.as_mut(), error.hint.as_mut()];
        for text in texts.into_iter().flatten() {
            for (value, mask) in originals.iter().filter(|(value, _)| value.len() >= VALUE_BYTES_MIN) {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), mask);
                }
            }
            *text = self.without_seen(without_credentials(text).into_owned());
        }
    }
}

/// Names that a message may quote.
struct Known<'a> {
    analysis: &'a Analysis,
    error: &'a PgError,
}

impl Known<'_> {
    fn is_name(&self, quoted: &str) -> bool {
        let PgError { schema, table, column, constraint, .. } = self.error;
        [schema, table, column, constraint].into_iter().any(|name| name.as_deref() == Some(quoted))
            || self.analysis.identifiers.iter().any(|name| name == quoted)
    }
}

/// Replaces what stands in double quotes, unless it is a name. A quote within what is quoted is not told apart from its end, so that a
/// message with more quotes than one pair keeps nothing behind a value.
fn without_quoted(text: &str, known: &Known<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once('"') {
        out.push_str(before);
        match quoted.split_once('"') {
            Some((name, after)) if known.is_name(name) => {
                out.push('"');
                out.push_str(name);
                out.push('"');
                rest = after;
            }
            _ => {
                // Up to the last quote: everything between may be the value.
                let after = quoted.rsplit_once('"').map_or("", |(_, after)| after);
                out.push('"');
                out.push_str(MARKER);
                out.push('"');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// A detail without its values: `Key (email)=(…) already exists.`, `Failing row contains (…).`; nothing of one in other words.
fn without_values(detail: &str) -> String {
    let border = if detail.starts_with("Key (") {
        detail.find(")=(").map(|at| at + 3)
    } else if detail.starts_with("Failing row contains (") {
        detail.find('(').map(|at| at + 1)
    } else {
        None
    };
    let Some(start) = border else { return MARKER.to_owned() };
    // The last bracket: a value may have some of its own.
    let end = detail.rfind(')').filter(|end| *end >= start).unwrap_or(detail.len());
    let after = detail[end..].to_owned();
    // `is not present in table "t".` and the like hold names only, but `conflicts with existing key (…)=(…)` ends in a value.
    let after = if after.len() > 80 { ").".to_owned() } else { after };
    format!("{}{MARKER}{after}", &detail[..start])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_keep_their_words_and_lose_their_values() {
        let check = |detail: &str, expected: &str| assert_eq!(without_values(detail), expected);
        check("Key (email)=(a) b)) already exists.", "Key (email)=(***) already exists.");
        check("Key (id)=(5) is not present in table \"users\".", "Key (id)=(***) is not present in table \"users\".");
        check("Key (a)=(1) conflicts with existing key (a)=(s).", "Key (a)=(***).");
        check("Failing row contains (1, a), b).", "Failing row contains (***).");
        check("Token \"secret\" is invalid.", "***");
        check("Failing row contains (1, a", "Failing row contains (***");
    }
}

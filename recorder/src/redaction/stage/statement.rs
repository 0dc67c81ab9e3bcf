//! Statements: text, parameters, results.

use std::sync::Arc;

use txray_store::event::{Format, Parameter, ResultColumn, ResultRows, Statement, WireValue};
use txray_store::ids::{Oid, SourceId};
use txray_store::pg_text;

use super::{LINKS_MAX, RedactingStage};
use crate::pg::wire::rows;
use crate::redaction::rules::Action;
use crate::redaction::sql::{Analysis, Fate, Link};
use crate::redaction::value::Shape;
use crate::redaction::wire::encoded;

/// Type OIDs of what passes as text in either format: text, varchar, bpchar, name, unknown, json, jsonb, xml, and not told.
const TEXT_TYPES: [u32; 9] = [0, 19, 25, 114, 142, 705, 1042, 1043, 3802];

impl RedactingStage {
    pub(super) fn statement(&mut self, statement: &mut Statement) {
        if self.redactor.rules.spares_sql() && self.seen.is_none() {
            return;
        }
        let (analysis, source) = self.effective(statement);
        // Values and what stands for them: messages of the server may repeat them.
        let mut originals = Vec::new();
        if let Some(sql) = self.redacted_sql(&statement.sql, &analysis, &mut originals) {
            let whole = statement.sql_bytes == statement.sql.len() as u64;
            statement.sql_bytes = if whole { sql.len() as u64 } else { statement.sql_bytes.max(sql.len() as u64 + 1) };
            statement.sql = sql;
        }
        for (index, parameter) in statement.parameters.iter_mut().enumerate() {
            self.parameter(parameter, analysis.parameter(index), &mut originals);
        }
        self.result(&mut statement.result, &analysis, source);
        if let Some(error) = &mut statement.error {
            self.server_error(error, &analysis, &statement.sql, &originals);
        }
    }

    /// The analysis of a statement's text and of what its name stands for, and its server.
    fn effective(&mut self, statement: &Statement) -> (Arc<Analysis>, Option<SourceId>) {
        let analysis = self.analysis(&statement.sql);
        let guarded = !self.redactor.rules.columns.is_empty();
        let Some(session) = self.sessions.get_mut(&statement.session) else { return (analysis, None) };
        let source = Some(session.source);
        match &analysis.link {
            Some(Link::Defines(name)) => {
                if session.links.len() >= LINKS_MAX {
                    session.links.clear();
                }
                session.links.insert(name.clone(), Arc::clone(&analysis));
                (analysis, source)
            }
            Some(Link::Uses(name)) => {
                let meant = session.links.get(name).map(|meant| (meant.concerned, meant.unclear.clone()));
                let unclear = match meant {
                    Some((true, unclear)) => unclear,
                    // What it stands for was prepared before the recording, or is not remembered.
                    None if guarded => Fate::Redact(Action::Hash, None),
                    Some((false, _)) | None => return (analysis, source),
                };
                (Arc::new(analysis.with_unclear(&statement.sql, unclear)), source)
            }
            None => (analysis, source),
        }
    }

    fn parameter(&mut self, parameter: &mut Parameter, fate: &Fate, originals: &mut Vec<(String, String)>) {
        let Some(bytes) = &parameter.value else { return };
        let Fate::Redact(action, shape) = fate else {
            if let Some(changed) = self.untied_bytes(parameter.type_oid, parameter.format, bytes) {
                parameter.total_bytes = parameter.total_bytes - bytes.len() as u64 + changed.len() as u64;
                parameter.value = Some(changed);
            }
            return;
        };
        let text = pg_text::to_text(parameter.type_oid, parameter.format, bytes);
        let replaced = self.replaced(parameter.type_oid, parameter.format, bytes, *action, shape.as_deref());
        if let Some(text) = text {
            let shown =
                replaced.as_deref().and_then(|bytes| pg_text::to_text(parameter.type_oid, parameter.format, bytes));
            originals.push((text, shown.unwrap_or_default()));
        }
        parameter.total_bytes = replaced.as_ref().map_or(0, |bytes| bytes.len() as u64);
        parameter.value = replaced;
    }

    /// What stands for a value of the wire, in its format.
    fn replaced(
        &mut self,
        type_oid: Oid,
        format: Format,
        bytes: &[u8],
        action: Action,
        shape: Option<&Shape>,
    ) -> WireValue {
        let text = match pg_text::to_text(type_oid, format, bytes) {
            Some(text) => text,
            // A binary form that is not known, or another encoding: its bytes are hashed.
            None => String::from_utf8_lossy(bytes).into_owned(),
        };
        let own = Shape::of(type_oid);
        // A parameter of another type than its column: its own decides what it can be.
        let shape = match shape {
            Some(shape) if type_oid == Oid(0) || alike(shape.type_oid, type_oid) => shape,
            _ => &own,
        };
        let value = self.redacted(action, &text, shape)?;
        encoded(type_oid, format, &value)
    }

    /// A value that no rule for columns concerns: JSON, and values seen elsewhere.
    fn untied_bytes(&self, type_oid: Oid, format: Format, bytes: &[u8]) -> Option<Vec<u8>> {
        let text_like = format == Format::Text || TEXT_TYPES.contains(&type_oid.0);
        if !text_like || self.seen.is_none() && self.redactor.rules.json.is_empty() {
            return None;
        }
        let text = pg_text::to_text(type_oid, format, bytes)?;
        let changed = self.redactor.json(&text).unwrap_or_else(|| text.clone());
        let changed = self.without_seen(changed);
        if changed == text { None } else { encoded(type_oid, format, &changed) }
    }

    fn result(&mut self, result: &mut ResultRows, analysis: &Analysis, source: Option<SourceId>) {
        let count = result.columns.len();
        let columns = result.columns.iter().enumerate();
        let fates: Vec<Fate> =
            columns.map(|(index, column)| self.column_fate(column, index, count, analysis, source)).collect();
        let mut changed = fates.iter().any(|fate| *fate != Fate::Keep);
        // Rows whose columns were not described.
        let undescribed = count == 0 && analysis.unclear != Fate::Keep && !result.rows.is_empty();
        for row in &mut result.rows {
            for (index, value) in row.iter_mut().enumerate() {
                let Some(bytes) = value else { continue };
                let (type_oid, format) = match result.columns.get(index) {
                    Some(column) => (column.type_oid, column.format),
                    None => (Oid(0), Format::Text),
                };
                match fates.get(index).unwrap_or(&analysis.unclear) {
                    Fate::Redact(_, _) if undescribed => *value = None,
                    Fate::Redact(action, shape) => {
                        *value = self.replaced(type_oid, format, bytes, *action, shape.as_deref());
                    }
                    Fate::Keep => {
                        if let Some(replaced) = self.untied_bytes(type_oid, format, bytes) {
                            *value = Some(replaced);
                            changed = true;
                        }
                    }
                }
            }
        }
        if changed || undescribed {
            self.digest_anew(result);
        }
    }

    fn column_fate(
        &self,
        column: &ResultColumn,
        index: usize,
        count: usize,
        analysis: &Analysis,
        source: Option<SourceId>,
    ) -> Fate {
        if column.table_oid == Oid(0) {
            return analysis.result_column(index, count).clone();
        }
        match self.relations.column(source, column.table_oid, column.attribute_number) {
            Some((Some(verdict), shape)) => Fate::Redact(verdict.action, Some(shape)),
            Some((None, _)) => Fate::Keep,
            // A view, or a table that is not captured: its column's name is all there is, and it may be an alias.
            None => match self.redactor.rules.column_anywhere(&column.name) {
                Some(verdict) => Fate::Redact(verdict.action, None),
                None if analysis.renames(&column.name) => analysis.unclear.clone(),
                None => Fate::Keep,
            },
        }
    }

    /// Digests of what is kept, as a server would send it; of what is not kept, keyed, so that nothing can be tried against them.
    fn digest_anew(&self, result: &mut ResultRows) {
        let complete = result.row_digests.len() as u64 == result.row_count;
        for (index, digest) in result.row_digests.iter_mut().enumerate() {
            *digest = match result.rows.get(index) {
                Some(row) => first_word(&blake3::hash(&payload(row))),
                None => self.redactor.keyed_digest(*digest),
            };
        }
        if complete {
            let mut hasher = blake3::Hasher::new();
            for digest in &result.row_digests {
                hasher.update(&digest.to_le_bytes());
            }
            result.digest = first_word(&hasher.finalize());
        } else {
            result.digest = self.redactor.keyed_digest(result.digest);
        }
        if result.rows.len() as u64 == result.row_count {
            result.total_bytes = result.rows.iter().map(|row| payload(row).len() as u64).sum();
        }
    }
}

/// A row's DataRow payload.
fn payload(row: &[WireValue]) -> Vec<u8> {
    let mut bytes = Vec::new();
    rows::encode_row(row.iter().map(Option::as_deref), &mut bytes);
    bytes
}

/// Whether values of two types have one text and one replacement.
fn alike(one: Oid, other: Oid) -> bool {
    const TEXTS: [u32; 5] = [19, 25, 705, 1042, 1043];
    const INTS: [u32; 3] = [20, 21, 23];
    one == other || [&TEXTS[..], &INTS[..]].iter().any(|group| group.contains(&one.0) && group.contains(&other.0))
}

/// First eight bytes of a digest, little-endian.
fn first_word(hash: &blake3::Hash) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(word)
}

//! Rows of tables.

use std::collections::HashMap;
use std::sync::Arc;

use txray_store::copy_text::{self, CopyField};
use txray_store::event::RelationDescribed;
use txray_store::ids::{Oid, SourceId};

use super::RedactingStage;
use crate::redaction::rules::Verdict;
use crate::redaction::sql::SensitiveColumn;
use crate::redaction::value::Shape;

/// Type OIDs of json and jsonb.
const JSON_TYPES: [u32; 2] = [114, 3802];

/// Relations as they were described.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// By server and relation: descriptions by their version.
    plans: HashMap<(SourceId, Oid), Versions>,
}

/// Descriptions of one relation with their versions, the newest last.
type Versions = Vec<(u32, Arc<Plan>)>;

/// What becomes of a relation's rows.
#[derive(Debug)]
pub(super) struct Plan {
    columns: Vec<PlannedColumn>,
    /// Whether any column is touched.
    touches: bool,
}

#[derive(Debug)]
pub(super) struct PlannedColumn {
    pub(super) attribute_number: i16,
    pub(super) verdict: Option<Verdict>,
    pub(super) shape: Arc<Shape>,
    /// Whether rules for JSON apply within it.
    is_json: bool,
}

impl Relations {
    /// Versions of a description that are kept: rows of older ones are not under way any more.
    const VERSIONS_MAX: usize = 8;

    fn insert(&mut self, source: SourceId, oid: Oid, version: u32, plan: Plan) {
        let versions = self.plans.entry((source, oid)).or_default();
        versions.retain(|(known, _)| *known != version);
        if versions.len() >= Self::VERSIONS_MAX {
            versions.remove(0);
        }
        versions.push((version, Arc::new(plan)));
    }

    fn plan(&self, source: SourceId, oid: Oid, version: u32) -> Option<Arc<Plan>> {
        let versions = self.plans.get(&(source, oid))?;
        versions.iter().find(|(known, _)| *known == version).map(|(_, plan)| Arc::clone(plan))
    }

    /// A column by its number, by the newest description. Without a server, of any.
    pub(super) fn column(
        &self,
        source: Option<SourceId>,
        oid: Oid,
        number: i16,
    ) -> Option<(Option<Verdict>, Arc<Shape>)> {
        let newest = |versions: &Versions| {
            let (_, plan) = versions.last()?;
            let column = plan.columns.iter().find(|column| column.attribute_number == number)?;
            Some((column.verdict, Arc::clone(&column.shape)))
        };
        if let Some(source) = source {
            newest(self.plans.get(&(source, oid))?)
        } else {
            let all = self.plans.iter().filter(|((_, known), _)| *known == oid);
            all.filter_map(|(_, versions)| newest(versions)).max_by_key(|(verdict, _)| *verdict)
        }
    }
}

impl RedactingStage {
    /// Takes a relation's description, and marks in it which columns' values are not recorded as they are.
    pub(super) fn relation_described(&mut self, event: &mut RelationDescribed) {
        let rules = Arc::clone(&self.redactor.rules);
        let mut sensitive = Vec::new();
        let mut columns = Vec::new();
        for column in &event.columns {
            let verdict = rules.column(Some(&event.namespace), &event.name, &column.name);
            let shape = Arc::new(Shape {
                type_oid: column.type_oid,
                type_name: column.type_name.clone(),
                not_null: column.not_null,
            });
            if let Some(verdict) = verdict {
                let name = column.name.clone();
                sensitive.push(SensitiveColumn { name, verdict, shape: Some(Arc::clone(&shape)) });
            }
            let is_json = !rules.json.is_empty() && JSON_TYPES.contains(&column.type_oid.0);
            columns.push(PlannedColumn { attribute_number: column.attribute_number, verdict, shape, is_json });
        }
        let redacted = columns.iter().filter(|column| column.verdict.is_some() || column.is_json);
        event.traits.redacted_columns = redacted.map(|column| column.attribute_number).collect();
        let touches = columns.iter().any(|column| column.verdict.is_some() || column.is_json);
        self.relations.insert(event.source, event.oid, event.version, Plan { columns, touches });
        let all = event.columns.iter().map(|column| column.name.clone()).collect();
        self.names.describe(&event.name, all, sensitive);
        self.forget_analyses();
    }

    /// Redacts a row in place. Fields of columns without a rule stay byte for byte.
    pub(super) fn row(&mut self, source: SourceId, relation: Oid, version: u32, row: &mut String) {
        if self.redactor.rules.spares_sql() {
            return;
        }
        let Some(plan) = self.relations.plan(source, relation, version) else {
            // Its description was lost: nothing says which fields may stay.
            let nulls = copy_text::raw_fields(row).map(|_| "\\N").collect::<Vec<_>>();
            *row = nulls.join("\t");
            return;
        };
        if !plan.touches {
            return;
        }
        let mut redacted = String::with_capacity(row.len());
        for (index, raw) in copy_text::raw_fields(row).enumerate() {
            if index > 0 {
                redacted.push('\t');
            }
            match plan.columns.get(index) {
                Some(column) if column.verdict.is_some() || column.is_json => self.field(raw, column, &mut redacted),
                Some(_) => redacted.push_str(raw),
                // More fields than columns: not as described.
                None => redacted.push_str("\\N"),
            }
        }
        *row = redacted;
    }

    fn field(&mut self, raw: &str, column: &PlannedColumn, out: &mut String) {
        if copy_text::is_null(raw) || copy_text::is_unchanged(raw) {
            return out.push_str(raw);
        }
        let decoded = copy_text::split(raw).ok().and_then(|mut fields| fields.pop());
        let Some(CopyField::Text(text)) = decoded else { return out.push_str("\\N") };
        let value = match column.verdict {
            Some(verdict) => self.redacted(verdict.action, &text, &column.shape),
            None => Some(self.redactor.json(&text).unwrap_or(text)),
        };
        match value {
            Some(value) => out.push_str(&copy_text::escape(&value)),
            None => out.push_str("\\N"),
        }
    }
}

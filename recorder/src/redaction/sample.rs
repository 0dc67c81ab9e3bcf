//! What a configuration would do to sample input. The samples take the way that recorded events take.

use std::sync::Arc;

use txray_store::copy_text::{self, CopyField};
use txray_store::event::{
    BaseRows, Body, Event, Format, Parameter, Protocol, RelationColumn, RelationDescribed, RelationTraits,
    RequestBodyReceived, RequestEnd, RequestFinished, RequestStarted, ResultRows, SnapshotRecord, SnapshotUnknown,
    Statement, Tracking,
};
use txray_store::ids::{Oid, RequestId, SessionId, SourceId, StatementId, TransactionId, Xid};
use txray_store::sink::EventFilter;
use txray_store::snapshot::PgSnapshot;
use txray_store::time::Timestamp;

use super::{RedactingStage, Redactor};

/// Types of columns that a sample can name, with their OIDs.
pub const SAMPLE_TYPES: [(&str, u32); 17] = [
    ("text", 25),
    ("varchar", 1043),
    ("smallint", 21),
    ("int", 23),
    ("integer", 23),
    ("bigint", 20),
    ("numeric", 1700),
    ("float", 701),
    ("boolean", 16),
    ("uuid", 2950),
    ("date", 1082),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("bytea", 17),
    ("json", 114),
    ("jsonb", 3802),
    ("inet", 869),
];

/// A column of a sample row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleField {
    /// Column.
    pub column: String,
    /// Type; one of [`SAMPLE_TYPES`].
    pub type_name: String,
    /// Value as PostgreSQL prints it.
    pub value: String,
}

/// A piece of sample input, and what would be recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What it is: `column email`, `SQL`, `parameter $1`, `HTTP head`, `HTTP body`.
    pub what: String,
    /// As given.
    pub before: String,
    /// As it would be recorded; none for NULL.
    pub after: Option<String>,
}

impl Sample {
    /// Whether anything was redacted.
    pub fn is_redacted(&self) -> bool {
        self.after.as_deref() != Some(self.before.as_str())
    }
}

/// Takes samples through the rules.
#[derive(Debug)]
pub struct Sampler {
    stage: RedactingStage,
    next_relation: u32,
}

impl Sampler {
    /// With the rules and key of a redactor.
    pub fn new(redactor: Redactor) -> Sampler {
        Sampler { stage: RedactingStage::new(Arc::new(redactor)), next_relation: 16_384 }
    }

    /// A row of a table: `schema.table`, or a name in schema public. Later statements know the table's columns.
    pub fn row(&mut self, table: &str, fields: &[SampleField]) -> Vec<Sample> {
        let (namespace, name) = table.split_once('.').unwrap_or(("public", table));
        let relation = Oid(self.next_relation);
        self.next_relation += 1;
        let columns = fields.iter().enumerate().map(|(index, field)| column(index, field)).collect();
        self.stage.pass(&mut Event::RelationDescribed(RelationDescribed {
            source: SourceId(0),
            oid: relation,
            version: 1,
            at: Timestamp(0),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            columns,
            replica_identity: 'd',
            tracking: Tracking::Full,
            traits: RelationTraits::default(),
        }));
        let values: Vec<CopyField> = fields.iter().map(|field| CopyField::Text(field.value.clone())).collect();
        let mut event = Event::BaseRows(BaseRows {
            source: SourceId(0),
            relation,
            version: 1,
            snapshot: PgSnapshot { xmin: Xid(0), xmax: Xid(0), in_progress: Vec::new() },
            at: Timestamp(0),
            first_ordinal: 0,
            rows: vec![copy_text::join(&values)],
        });
        self.stage.pass(&mut event);
        let Event::BaseRows(BaseRows { rows, .. }) = event else { return Vec::new() };
        let redacted = rows.first().and_then(|row| copy_text::split(row).ok()).unwrap_or_default();
        let pairs = fields.iter().zip(redacted);
        pairs
            .map(|(field, after)| Sample {
                what: format!("column {}", field.column),
                before: field.value.clone(),
                after: after.as_text().map(str::to_owned),
            })
            .collect()
    }

    /// A statement with its parameters as text.
    pub fn statement(&mut self, sql: &str, parameters: &[String]) -> Vec<Sample> {
        let mut event = Event::Statement(Box::new(Statement {
            id: StatementId(0),
            session: SessionId(0),
            transaction: TransactionId(0),
            started: Timestamp(0),
            finished: Timestamp(0),
            protocol: Protocol::Extended,
            sql: sql.to_owned(),
            sql_bytes: sql.len() as u64,
            command_index: 0,
            parameters: parameters.iter().map(|value| parameter(value)).collect(),
            command_tag: None,
            result: ResultRows::default(),
            error: None,
            snapshot: SnapshotRecord::Unknown(SnapshotUnknown::TakesNone),
            xid: None,
            declared: None,
            copy_bytes: 0,
        }));
        self.stage.pass(&mut event);
        let Event::Statement(statement) = event else { return Vec::new() };
        let mut samples = vec![Sample { what: "SQL".to_owned(), before: sql.to_owned(), after: Some(statement.sql) }];
        for (index, (before, after)) in parameters.iter().zip(statement.parameters).enumerate() {
            let after = after.value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            samples.push(Sample { what: format!("parameter ${}", index + 1), before: before.clone(), after });
        }
        samples
    }

    /// A request or response as it is on the wire. None where it has no head of either.
    pub fn http(&mut self, raw: &[u8]) -> Option<Vec<Sample>> {
        let (head, body) = split_message(raw);
        let head = String::from_utf8_lossy(head).into_owned();
        let mut lines = head.lines();
        let first = lines.next()?.to_owned();
        let headers: Option<Vec<(String, String)>> = lines
            .map(|line| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())))
            .collect();
        let headers = headers?;
        let shown = |first: &str, headers: &[(String, String)]| {
            let lines = headers.iter().map(|(name, value)| format!("{name}: {value}"));
            std::iter::once(first.to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
        };
        let before_head = shown(&first, &headers);
        let body_event = Body {
            prefix: body.to_vec(),
            total_bytes: body.len() as u64,
            digest: *blake3::hash(body).as_bytes(),
            complete: true,
        };
        let (after_head, body_after) = if first.starts_with("HTTP/") {
            let (headers, body) = self.response(headers, body_event);
            (shown(&first, &headers), body)
        } else {
            let mut words = first.splitn(3, ' ');
            let (method, target, version) = (words.next()?, words.next()?, words.next().unwrap_or("HTTP/1.1"));
            let (target, headers, body) = self.request(target, headers, body_event);
            (shown(&format!("{method} {target} {version}"), &headers), body)
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut samples = vec![Sample { what: "HTTP head".to_owned(), before: before_head, after: Some(after_head) }];
        if !body.is_empty() {
            samples.push(Sample { what: "HTTP body".to_owned(), before: text(body), after: Some(text(&body_after)) });
        }
        Some(samples)
    }

    fn response(&mut self, headers: Vec<(String, String)>, body: Body) -> (Vec<(String, String)>, Vec<u8>) {
        let mut event = Event::RequestFinished(RequestFinished {
            id: RequestId(0),
            at: Timestamp(0),
            end: RequestEnd::Answered,
            status: Some(200),
            headers,
            body,
            worker_pid: None,
        });
        self.stage.pass(&mut event);
        match event {
            Event::RequestFinished(event) => (event.headers, event.body.prefix),
            _ => Default::default(),
        }
    }

    fn request(
        &mut self,
        target: &str,
        headers: Vec<(String, String)>,
        body: Body,
    ) -> (String, Vec<(String, String)>, Vec<u8>) {
        let mut started = Event::RequestStarted(RequestStarted {
            id: RequestId(0),
            source: SourceId(0),
            at: Timestamp(0),
            method: String::new(),
            target: target.to_owned(),
            version: String::new(),
            headers,
            peer: String::new(),
            traceparent: String::new(),
            external_id: None,
        });
        self.stage.pass(&mut started);
        let mut received = Event::RequestBodyReceived(RequestBodyReceived { id: RequestId(0), at: Timestamp(0), body });
        self.stage.pass(&mut received);
        match (started, received) {
            (Event::RequestStarted(started), Event::RequestBodyReceived(received)) => {
                (started.target, started.headers, received.body.prefix)
            }
            _ => Default::default(),
        }
    }
}

fn column(index: usize, field: &SampleField) -> RelationColumn {
    let known = SAMPLE_TYPES.iter().find(|(name, _)| *name == field.type_name);
    RelationColumn {
        name: field.column.clone(),
        attribute_number: i16::try_from(index + 1).unwrap_or(i16::MAX),
        type_oid: Oid(known.map_or(25, |(_, oid)| *oid)),
        type_name: field.type_name.clone(),
        key: index == 0,
        not_null: index == 0,
        generated: false,
        default_expression: None,
        sequence: None,
    }
}

fn parameter(value: &str) -> Parameter {
    Parameter {
        type_oid: Oid(0),
        format: Format::Text,
        value: Some(value.as_bytes().to_vec()),
        total_bytes: value.len() as u64,
    }
}

/// Head and body, parted by an empty line.
fn split_message(raw: &[u8]) -> (&[u8], &[u8]) {
    for border in [&b"\r\n\r\n"[..], b"\n\n"] {
        if let Some(at) = raw.windows(border.len()).position(|window| window == border) {
            return (&raw[..at], &raw[at + border.len()..]);
        }
    }
    (raw.trim_ascii_end(), &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redaction::{Action, ColumnRule, NameRule, RedactionConfig};

    #[test]
    fn samples_take_the_way_of_events() {
        let config = RedactionConfig {
            columns: vec![ColumnRule::new("public.users.email", Action::Mask).unwrap()],
            query: vec![NameRule::new("email", Action::Drop).unwrap()],
            ..RedactionConfig::default()
        };
        let mut sampler = Sampler::new(Redactor::with_rules(config, [7; 32]));
        let field = |column: &str, type_name: &str, value: &str| SampleField {
            column: column.to_owned(),
            type_name: type_name.to_owned(),
            value: value.to_owned(),
        };
        let row = sampler.row("users", &[field("id", "int", "7"), field("email", "text", "a\tb")]);
        assert_eq!((row[0].is_redacted(), row[1].after.as_deref()), (false, Some("***")));
        let statement = sampler.statement("INSERT INTO users VALUES ($1, $2)", &["7".to_owned(), "a".to_owned()]);
        let redacted: Vec<bool> = statement.iter().map(Sample::is_redacted).collect();
        assert_eq!(redacted, [false, false, true]);
        let http = sampler.http(b"POST /a?email=x&b=1 HTTP/1.1\r\nCookie: a=b\r\n\r\n{\"password\":\"p\"}").unwrap();
        let head = http[0].after.clone().unwrap();
        assert!(head.starts_with("POST /a?b=1 HTTP/1.1\nCookie: masked:"), "{head}");
        assert!(http[1].is_redacted());
        assert_eq!(sampler.http(b"HTTP/1.1 200 OK\n\nplain").unwrap()[1].after.as_deref(), Some("plain"));
        assert!(sampler.http(b"").is_none() && sampler.http(b"GET / HTTP/1.1\nbroken").is_none());
    }
}

//! Spans of uninterrupted change capture.
//!
//! When the change stream of a server was lost and began again, what happened in between is missing: a state is restored
//! from one span alone, by its base copy and its changes, and a row's version that was open when a span ended is not known
//! any more.

use std::collections::HashMap;

use duckdb::Connection;

use super::decode::select;
use super::error::QueryError;
use super::visible_set::VisibleSet;
use crate::ids::{Lsn, SourceId, Xid};
use crate::time::Timestamp;

/// A beginning of the change stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attachment {
    at: Timestamp,
    lost: Option<Timestamp>,
    lsn: Lsn,
    continued: bool,
    restarted: bool,
}

/// The bounds of a span; none at an end that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    /// When its stream began: base rows read from then on are its own.
    pub(crate) from: Option<Timestamp>,
    /// When the next one's did.
    pub(crate) until: Option<Timestamp>,
    /// Its first position.
    pub(crate) first: Option<Lsn>,
    /// The next one's first position.
    pub(crate) end: Option<Lsn>,
    /// Until when it is known to be complete, where another one follows.
    pub(crate) complete_until: Option<Timestamp>,
}

impl Span {
    /// Whether a commit at that position is its own.
    pub(crate) fn holds(&self, lsn: Lsn) -> bool {
        self.first.is_none_or(|first| first <= lsn) && self.end.is_none_or(|end| lsn < end)
    }

    /// Whether base rows read at that time are its own.
    pub(crate) fn holds_base(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// The same as SQL over `commit_lsn`. It holds numbers only.
    pub(crate) fn changes_as_sql(&self) -> String {
        let first = self.first.map(|lsn| format!("commit_lsn >= {}", lsn.0));
        let end = self.end.map(|lsn| format!("commit_lsn < {}", lsn.0));
        both(first, end)
    }

    /// The same as SQL over `committed_at` of base rows. It holds numbers only.
    pub(crate) fn base_as_sql(&self) -> String {
        let from = self.from.map(|at| format!("committed_at >= make_timestamp({}::BIGINT)", at.0));
        let until = self.until.map(|at| format!("committed_at < make_timestamp({}::BIGINT)", at.0));
        both(from, until)
    }
}

fn both(one: Option<String>, other: Option<String>) -> String {
    let conditions: Vec<String> = [one, other].into_iter().flatten().collect();
    if conditions.is_empty() { "true".to_owned() } else { format!("({})", conditions.join(" AND ")) }
}

/// Every span of every server.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    attachments: HashMap<SourceId, Vec<Attachment>>,
    /// For each complete base copy, where it was complete and which ids were then in the past.
    bases: HashMap<SourceId, Vec<(Lsn, Xid)>>,
}

impl Spans {
    /// Reads them from the trace.
    pub(crate) fn load(connection: &Connection) -> Result<Self, QueryError> {
        let found = select(
            connection,
            "captures",
            "SELECT source, attached, lost, lsn, continued, restarted FROM captures ORDER BY source, lsn, attached",
            Vec::new(),
            |row| {
                let attachment = Attachment {
                    at: row.time("attached")?,
                    lost: row.optional_time("lost")?,
                    lsn: Lsn(row.number("lsn")?),
                    continued: row.flag("continued")?,
                    restarted: row.flag("restarted")?,
                };
                Ok((SourceId(row.get("source")?), attachment))
            },
        )?;
        let mut spans = Spans::default();
        for (source, attachment) in found {
            spans.attachments.entry(source).or_default().push(attachment);
        }
        for base in super::restore::base_copies(connection)? {
            spans.bases.entry(base.source).or_default().push((base.lsn, base.snapshot.xmax));
        }
        Ok(spans)
    }

    fn attachments(&self, source: SourceId) -> &[Attachment] {
        self.attachments.get(&source).map_or(&[], Vec::as_slice)
    }

    /// A server's spans in order; one that is open at both ends where nothing is known of any.
    pub(crate) fn of(&self, source: SourceId) -> Vec<Span> {
        let begins: Vec<&Attachment> = self.attachments(source).iter().filter(|one| !one.continued).collect();
        if begins.is_empty() {
            return vec![Span::default()];
        }
        // What there is from before the first known beginning belongs to it: its own may have been removed.
        (0..begins.len())
            .map(|index| {
                let own = (index > 0).then(|| begins[index]);
                let next = begins.get(index + 1);
                Span {
                    from: own.map(|own| own.at),
                    first: own.map(|own| own.lsn),
                    until: next.map(|next| next.at),
                    end: next.map(|next| next.lsn),
                    complete_until: next.map(|next| next.lost.unwrap_or(next.at)),
                }
            })
            .collect()
    }

    /// The span that a state is restored from.
    pub(crate) fn behind(&self, source: SourceId, visible: &VisibleSet) -> Span {
        let spans = self.of(source);
        let fitting = |span: &Span| match visible {
            VisibleSet::Prefix { lsn, .. } => span.first.is_none_or(|first| first <= *lsn),
            VisibleSet::Snapshot { before: Some(before), .. } => span.first.is_none_or(|first| first < *before),
            // Ids tell too, but for the few that recur after a crash.
            VisibleSet::Snapshot { snapshot, before: None, .. } => {
                let bases = self.bases.get(&source).map_or(&[][..], Vec::as_slice);
                bases.iter().any(|(lsn, xmax)| span.holds(*lsn) && *xmax <= snapshot.xmax)
            }
        };
        spans.iter().copied().rfind(fitting).or(spans.first().copied()).unwrap_or_default()
    }

    /// The span of a time.
    pub(crate) fn at(&self, source: SourceId, at: Timestamp) -> Span {
        let spans = self.of(source);
        let begun = |span: &Span| span.from.is_none_or(|from| from <= at);
        spans.iter().copied().rfind(begun).or(spans.first().copied()).unwrap_or_default()
    }

    /// The position from which on commits mean nothing to a snapshot taken at that time: they are of a later stream or of
    /// a later life of the server, whose ids may be the same.
    pub(crate) fn border_after(&self, source: SourceId, at: Timestamp) -> Option<Lsn> {
        let later = self.attachments(source).iter().filter(|one| !one.continued || one.restarted);
        later.filter(|one| one.at > at && one.lost.is_some()).map(|one| one.lsn).min()
    }

    /// When streams of a server were lost that did not go on.
    pub(crate) fn losses(&self, source: SourceId) -> Vec<Timestamp> {
        self.attachments(source).iter().filter(|one| !one.continued).filter_map(|one| one.lost).collect()
    }

    /// Whether changes of that time are missing because the stream was lost.
    pub(crate) fn is_missing(&self, source: SourceId, at: Timestamp) -> bool {
        let lost = self.attachments(source).iter().filter(|one| !one.continued);
        lost.filter_map(|one| Some((one.lost?, one.at))).any(|(lost, attached)| lost < at && at < attached)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{empty, run};
    use super::*;

    const SERVER: SourceId = SourceId(0);

    fn spans() -> Spans {
        let connection = empty();
        run(
            &connection,
            "INSERT INTO captures VALUES
                (0, make_timestamp(100), NULL, 1000, false, false),
                (0, make_timestamp(300), make_timestamp(200), 3000, false, false),
                (0, make_timestamp(400), make_timestamp(400), 4000, true, true);
             INSERT INTO base_copies VALUES
                (0, make_timestamp(110), '50:50:', 1100), (0, make_timestamp(310), '80:80:', 3100)",
        );
        Spans::load(&connection).expect("spans")
    }

    fn snapshot(text: &str, before: Option<u64>) -> VisibleSet {
        match VisibleSet::of(text.parse().expect("a snapshot")) {
            VisibleSet::Snapshot { snapshot, also, except, .. } => {
                VisibleSet::Snapshot { snapshot, also, except, before: before.map(Lsn) }
            }
            other @ VisibleSet::Prefix { .. } => other,
        }
    }

    #[test]
    fn a_state_is_restored_from_one_span() {
        let spans = spans();
        let prefix = |lsn| VisibleSet::Prefix { lsn: Lsn(lsn), inclusive: true };
        let check = |visible: VisibleSet, first: Option<u64>| {
            assert_eq!(spans.behind(SERVER, &visible).first, first.map(Lsn), "{visible:?}");
        };
        check(prefix(500), None);
        check(prefix(2999), None);
        check(prefix(3000), Some(3000));
        check(VisibleSet::everything(), Some(3000));
        check(snapshot("60:60:", None), None);
        check(snapshot("80:80:", None), Some(3000));
        // The same ids, but of the time before.
        check(snapshot("85:85:", Some(3000)), None);
        check(snapshot("85:85:", Some(4000)), Some(3000));
        assert_eq!(spans.of(SERVER).len(), 2);
        assert_eq!(spans.of(SourceId(9)), [Span::default()]);
    }

    #[test]
    fn times_know_their_border_and_what_is_missing() {
        let spans = spans();
        let border = |at| spans.border_after(SERVER, Timestamp(at)).map(|lsn| lsn.0);
        assert_eq!([border(50), border(150), border(350), border(450)], [Some(3000), Some(3000), Some(4000), None]);
        let missing = |at| spans.is_missing(SERVER, Timestamp(at));
        assert_eq!([missing(150), missing(250), missing(350), missing(400)], [false, true, false, false]);
    }

    #[test]
    fn bounds_hold_in_sql_as_in_rust() {
        let spans = spans().of(SERVER);
        let connection = Connection::open_in_memory().expect("a database");
        for span in &spans {
            for lsn in [0, 999, 2999, 3000, 9000] {
                let sql = format!("SELECT {} FROM (SELECT {lsn}::UBIGINT AS commit_lsn)", span.changes_as_sql());
                let found: bool = connection.query_row(&sql, [], |row| row.get(0)).expect("a truth");
                assert_eq!(found, span.holds(Lsn(lsn)), "{lsn} {span:?}");
            }
            for at in [0, 299, 300, 900] {
                let sql =
                    format!("SELECT {} FROM (SELECT make_timestamp({at}::BIGINT) AS committed_at)", span.base_as_sql());
                let found: bool = connection.query_row(&sql, [], |row| row.get(0)).expect("a truth");
                assert_eq!(found, span.holds_base(Timestamp(at)), "{at} {span:?}");
            }
        }
    }
}

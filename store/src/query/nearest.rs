//! States that cannot be restored: why not, and the nearest ones that can.

use std::fmt::Write as _;

use duckdb::Connection;

use super::error::QueryError;
use super::moments::resolve;
use super::restore::base_copies;
use super::spans::Spans;
use super::totals::{gaps, gaps_within};
use crate::ids::SourceId;
use crate::model::GapRow;
use crate::position::{Anchor, Position, Side};
use crate::time::Timestamp;

/// Kinds of gaps that keep states from being restored.
const KINDS: [&str; 2] = ["capture off", "base copy"];

/// What stands in the way of a state, and the nearest ones on both sides of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unrestorable {
    /// What was not recorded at that time.
    pub gaps: Vec<GapRow>,
    /// The last state before it that can be restored.
    pub before: Option<Position>,
    /// The first state behind it that can be restored.
    pub after: Option<Position>,
}

impl Unrestorable {
    /// Why the state cannot be restored, as the gaps tell it.
    pub fn reason(&self) -> String {
        let mut text = String::new();
        for gap in &self.gaps {
            let until = gap.until.map_or_else(|| "the end".to_owned(), |until| until.to_string());
            let separator = if text.is_empty() { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}from {} to {until}: {}", gap.from, gap.reason);
        }
        if text.is_empty() { "changes of that time are not in the trace".to_owned() } else { text }
    }

    /// Which positions to take instead.
    pub fn hint(&self) -> String {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                format!("the nearest states that can be restored are {before} (before) and {after} (behind)")
            }
            (Some(before), None) => format!("the last state before it that can be restored is {before}"),
            (None, Some(after)) => format!("the first state that can be restored is {after}"),
            (None, None) => "`txray ls gaps` lists what could not be recorded, and why".to_owned(),
        }
    }
}

/// Looks at the surroundings of a time whose state cannot be restored.
pub(super) fn around(connection: &Connection, source: SourceId, at: Timestamp) -> Result<Unrestorable, QueryError> {
    let mut reasons = gaps_within(connection, Some(at), Some(at))?;
    reasons.retain(|gap| KINDS.contains(&gap.kind.as_str()));
    let mut before: Vec<Timestamp> = gaps(connection)?
        .into_iter()
        .filter(|gap| gap.kind == KINDS[0])
        .map(|gap| gap.from)
        .chain(Spans::load(connection)?.losses(source))
        .filter(|time| *time <= at)
        .collect();
    before.sort_unstable_by(|one, other| other.cmp(one));
    let after = base_copies(connection)?.into_iter().filter(|base| base.source == source);
    let after = after.map(|base| base.completed).filter(|time| *time > at);
    Ok(Unrestorable {
        gaps: reasons,
        before: first_restorable(connection, source, before.into_iter())?,
        after: first_restorable(connection, source, after)?,
    })
}

fn first_restorable(
    connection: &Connection,
    source: SourceId,
    times: impl Iterator<Item = Timestamp>,
) -> Result<Option<Position>, QueryError> {
    for time in times {
        let position = Position { anchor: Anchor::Time(time), side: Side::At };
        let resolved = resolve(connection, &position)?;
        if resolved.restorable && resolved.source == Some(source) {
            return Ok(Some(position));
        }
    }
    Ok(None)
}

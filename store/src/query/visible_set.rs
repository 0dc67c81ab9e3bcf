//! Which committed transactions a state of the database consists of.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::decode::number_list;
use crate::ids::{Lsn, Xid};
use crate::snapshot::PgSnapshot;

/// A state of the database as the set of committed transactions whose changes it holds. Uncommitted ones never count:
/// the change stream has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VisibleSet {
    /// What a snapshot sees, more and less some transactions.
    Snapshot {
        /// The snapshot.
        snapshot: PgSnapshot,
        /// Visible although the snapshot does not see them.
        also: BTreeSet<Xid>,
        /// Not visible although the snapshot sees them. Stronger than `also`.
        except: BTreeSet<Xid>,
        /// Nothing committed at or behind this position is visible: the server was restarted or its change stream lost
        /// after the snapshot, and ids may recur.
        before: Option<Lsn>,
    },
    /// Every commit up to a position in the write-ahead log: a state in commit order, which no session need have seen.
    Prefix {
        /// The last commit's position.
        lsn: Lsn,
        /// Whether a commit at just that position counts.
        inclusive: bool,
    },
}

impl VisibleSet {
    /// Just what a snapshot sees.
    pub fn of(snapshot: PgSnapshot) -> Self {
        VisibleSet::Snapshot { snapshot, also: BTreeSet::new(), except: BTreeSet::new(), before: None }
    }

    /// Everything that was recorded.
    pub fn everything() -> Self {
        VisibleSet::Prefix { lsn: Lsn(u64::MAX), inclusive: true }
    }

    /// Whether a committed transaction's changes are in the state.
    pub fn contains(&self, xid: Xid, commit_lsn: Lsn) -> bool {
        match self {
            VisibleSet::Snapshot { snapshot, also, except, before } => {
                before.is_none_or(|before| commit_lsn < before)
                    && !except.contains(&xid)
                    && (also.contains(&xid) || snapshot.sees(xid))
            }
            VisibleSet::Prefix { lsn, inclusive } => commit_lsn < *lsn || (*inclusive && commit_lsn == *lsn),
        }
    }

    /// The same as SQL over the columns `xid` and `commit_lsn`. It holds numbers only.
    pub(crate) fn as_sql(&self) -> String {
        let list = |xids: &mut dyn Iterator<Item = Xid>| number_list(xids.map(|xid| xid.0));
        match self {
            VisibleSet::Snapshot { snapshot, also, except, before } => {
                let mut sql = format!("(xid < {} OR (xid < {}", snapshot.xmin, snapshot.xmax);
                // writing to a string does not fail
                if !snapshot.in_progress.is_empty() {
                    let running = list(&mut snapshot.in_progress.iter().copied());
                    let _ = write!(sql, " AND xid NOT IN {running}");
                }
                let _ = write!(sql, ") OR xid IN {})", list(&mut also.iter().copied()));
                if !except.is_empty() {
                    let hidden = list(&mut except.iter().copied());
                    let _ = write!(sql, " AND xid NOT IN {hidden}");
                }
                if let Some(before) = before {
                    let _ = write!(sql, " AND commit_lsn < {}", before.0);
                }
                format!("({sql})")
            }
            VisibleSet::Prefix { lsn, inclusive } => {
                format!("(commit_lsn {} {})", if *inclusive { "<=" } else { "<" }, lsn.0)
            }
        }
    }
}

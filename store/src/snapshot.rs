//! PostgreSQL's transaction snapshot: which transactions a statement sees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{ParseIdError, Xid};

/// `xmin:xmax:xip` as `pg_current_snapshot()` prints it. A snapshot is a set of transactions, not a prefix of
/// commit order.
///
/// Source: PostgreSQL manual, "Transaction ID and Snapshot Information Functions".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PgSnapshot {
    /// Every transaction below this had ended.
    pub xmin: Xid,
    /// No transaction at or above this had ended.
    pub xmax: Xid,
    /// Transactions in progress with `xmin <= id < xmax`, ascending.
    pub in_progress: Vec<Xid>,
}

impl PgSnapshot {
    /// Whether changes of `xid` are visible, given that it committed (a snapshot does not tell commit from abort).
    pub fn sees(&self, xid: Xid) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }
}

impl fmt::Display for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.in_progress.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            xid.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for PgSnapshot {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdError { what: "snapshot (such as 740:742:740,741)", text: text.to_owned() };
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or_else(error);
        let (xmin, xmax, list) = (next()?.parse()?, next()?.parse()?, next()?);
        let in_progress =
            list.split(',').filter(|xid| !xid.is_empty()).map(str::parse).collect::<Result<Vec<Xid>, _>>()?;
        let ascending = in_progress.windows(2).all(|pair| pair[0] < pair[1]);
        let within = in_progress.iter().all(|xid| (xmin..xmax).contains(xid));
        if parts.next().is_some() || xmin > xmax || !ascending || !within {
            return Err(error());
        }
        Ok(PgSnapshot { xmin, xmax, in_progress })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_ended_before_and_not_what_ran() {
        let snapshot: PgSnapshot = "10:20:12,15".parse().expect("valid");
        for (xid, seen) in [(9, true), (10, true), (12, false), (13, true), (15, false), (19, true), (20, false)] {
            assert_eq!(snapshot.sees(Xid(xid)), seen, "xid {xid}");
        }
        assert_eq!(snapshot.to_string(), "10:20:12,15");
    }

    #[test]
    fn refuses_what_postgresql_never_prints() {
        for text in ["", "1", "1:2", "2:1:", "1:9:5,4", "1:9:9", "1:9:0", "1:2::", "a:b:", "1:9:3,,x"] {
            assert!(text.parse::<PgSnapshot>().is_err(), "{text:?}");
        }
        assert_eq!("7:7:".parse::<PgSnapshot>().map(|s| s.in_progress.len()), Ok(0));
    }
}

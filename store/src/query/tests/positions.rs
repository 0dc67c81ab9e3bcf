//! Positions.

use std::collections::BTreeSet;

use super::{empty, world};
use crate::ids::{Lsn, RequestId, StatementId, TransactionId, Xid};
use crate::query::moments::resolve;
use crate::query::{QueryError, ResolvedPosition, VisibleSet};
use crate::time::Timestamp;

fn find(position: &str) -> Result<ResolvedPosition, QueryError> {
    resolve(&world(), &position.parse().expect("a position"))
}

fn prefix(lsn: u64, inclusive: bool) -> VisibleSet {
    VisibleSet::Prefix { lsn: Lsn(lsn), inclusive }
}

fn saw(snapshot: &str, also: &[u64]) -> VisibleSet {
    VisibleSet::Snapshot {
        before: None,
        snapshot: snapshot.parse().expect("a snapshot"),
        also: also.iter().map(|xid| Xid(*xid)).collect(),
        except: BTreeSet::new(),
    }
}

#[test]
fn every_form_stands_for_a_state() {
    let check = |position: &str, at: i64, visible: VisibleSet| {
        let found = find(position).unwrap_or_else(|error| panic!("{position}: {error}"));
        assert_eq!((found.at, &found.visible), (Timestamp(at), &visible), "{position}");
        assert_eq!(found.position, position);
        found
    };
    assert!(check("@start", 90, saw("100:100:", &[])).restorable);
    check("@end", 1035, VisibleSet::everything());
    check("@1970-01-01T00:00:00.001010Z", 1010, prefix(1010, true));
    assert!(check("@1970-01-01T00:00:00.001010Z^", 1010, prefix(1000, true)).restorable);
    assert!(!check("@1970-01-01T00:00:00.000010Z", 10, prefix(0, true)).restorable);
    check("@-0s", 1035, prefix(1030, true));
    check("@lsn:0/3F2", 1010, prefix(1010, true));
    check("@lsn:0/3F2^", 1010, prefix(1010, false));
    let xid = check("@xid:102", 1010, prefix(1010, true));
    assert_eq!((xid.transaction, xid.request), (Some(TransactionId(2)), Some(RequestId(2))));
    check("@xid:102^", 1010, prefix(1010, false));
    check("@txn:1^", 110, saw("100:101:", &[]));
    check("@txn:1", 150, saw("100:101:", &[101]));
    let statement = check("@stmt:6^", 1026, saw("103:105:103", &[]));
    assert_eq!((statement.statement, statement.transaction), (Some(StatementId(6)), Some(TransactionId(4))));
    check("@stmt:6", 1034, saw("103:105:103", &[104]));
    // BEGIN saw nothing: the wall time decides
    check("@stmt:1^", 110, prefix(900, true));
    let request = check("@req:4^", 1025, saw("103:105:103", &[]));
    assert_eq!((request.request, request.transaction), (Some(RequestId(4)), None));
    check("@req:4", 1035, saw("103:105:103", &[104]));
    check("@req:load-1", 200, saw("100:101:", &[101]));
    let call = check("@call:1^", 160, prefix(900, true));
    assert_eq!(call.request, Some(RequestId(1)));
}

#[test]
fn unknown_positions_name_what_there_is() {
    let check = |position: &str, message: &str| {
        let error = find(position).expect_err(position);
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some());
    };
    check("@req:99999", "no request 99999; the trace has requests 1 to 4");
    check("@req:nobody", "no request named \"nobody\"; the trace has requests 1 to 4");
    check("@txn:9", "no transaction 9; the trace has transactions 1 to 4");
    check("@stmt:5", "no statement 5; the trace has statements 1 to 6");
    check("@call:9", "no external call 9; the trace has external calls 1 to 1");
    check("@xid:999", "no committed transaction with xid 999; the trace has xids 101 to 104");
    check("@lsn:0/1", "no commit at or before 0/1; the trace has commits from 0/384 to 0/406");
    let error = find("@req:load-2").expect_err("ambiguous");
    let QueryError::AmbiguousPosition { candidates, .. } = error else { panic!("{error:?}") };
    assert_eq!(candidates, ["@req:2", "@req:3"]);
    let error = resolve(&empty(), &"@req:1".parse().expect("a position")).expect_err("nothing there");
    assert_eq!(error.to_string(), "no request 1; the trace has no requests");
}

//! Lineage.

use super::world;
use crate::model::{AccessKind, RowAccess};
use crate::query::lineage::{LineageFilter, each_access, lineage};
use crate::query::{QueryError, lineage as module};
use crate::time::Timestamp;

fn shown(access: &RowAccess) -> String {
    let who = access.request.as_ref().map_or("-".to_owned(), |request| request.id.to_string());
    format!("{} {} {} by {who}", access.at.0, access.op, access.row.key)
}

#[test]
fn accesses_come_in_order_of_time() {
    let connection = world();
    let check = |filter: LineageFilter, expected: &[&str]| {
        let found = lineage(&connection, &filter).expect("lineage");
        assert_eq!(found.accesses.iter().map(shown).collect::<Vec<_>>(), expected, "{filter:?}");
        found
    };
    let all = [
        "130 read 2 by 1",
        "515 read 1 by -",
        "1000 update 1 by 1",
        "1010 insert 3 by 2",
        "1020 update 1 by -",
        "1030 delete 2 by 4",
    ];
    let everything = check(LineageFilter::default(), &all);
    assert_eq!((everything.since, everything.until), (Timestamp(50), Timestamp(1035)));
    assert_eq!(everything.gaps.len(), 2);
    assert_eq!(everything.accesses[0].sql.as_deref(), Some("UPDATE posts SET title = $1 WHERE id = $2"));
    assert_eq!(
        (everything.accesses[2].kind, everything.accesses[2].commit_lsn.map(|lsn| lsn.0)),
        (AccessKind::Wrote, Some(1000))
    );
    let posts = || LineageFilter { table: Some("posts".to_owned()), ..LineageFilter::default() };
    check(posts(), &all);
    check(LineageFilter { key: Some(vec!["2".to_owned()]), ..posts() }, &[all[0], all[5]]);
    let range = LineageFilter { since: Some(Timestamp(515)), until: Some(Timestamp(1010)), ..posts() };
    let within = check(range, &[all[1], all[2]]);
    assert_eq!(within.gaps.iter().map(|gap| gap.kind.as_str()).collect::<Vec<_>>(), ["overload"]);
    let users = LineageFilter { table: Some("users".to_owned()), ..LineageFilter::default() };
    check(users, &[]);
    let unknown = LineageFilter { table: Some("nothing".to_owned()), ..LineageFilter::default() };
    assert!(matches!(lineage(&connection, &unknown), Err(QueryError::UnknownRelation { .. })));
}

#[test]
fn small_chunks_give_the_same_accesses() {
    let connection = world();
    let collect = |chunk: u64| {
        let mut found = Vec::new();
        module::each_access_in_chunks::<QueryError>(&connection, &LineageFilter::default(), chunk, &mut |access| {
            found.push(shown(&access));
            Ok(())
        })
        .expect("accesses");
        found
    };
    let whole = collect(1000);
    assert_eq!(whole.len(), 6);
    for chunk in 1..7 {
        assert_eq!(collect(chunk), whole, "chunks of {chunk}");
    }
}

#[test]
fn whoever_takes_accesses_can_stop() {
    let connection = world();
    let mut taken = 0;
    let enough = || QueryError::OneStatement { found: 2 };
    let stopped = each_access(&connection, &LineageFilter::default(), &mut |_| {
        taken += 1;
        if taken == 2 { Err(enough()) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(QueryError::OneStatement { .. })) && taken == 2);
}

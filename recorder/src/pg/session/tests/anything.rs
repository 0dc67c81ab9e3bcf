//! Whatever is sent, in whatever order, the session goes on or goes blind, and its records are whole.

use proptest::prelude::*;

use super::script::play;
use crate::pg::session::inject::Mode;

const LINES: &[&str] = &[
    "> Q select 1",
    "> Q begin",
    "> Q begin isolation level serializable",
    "> Q insert into t values (1); select 2",
    "> Q commit",
    "> Q rollback and chain",
    "> Q rollback to a",
    "> Q copy t from stdin",
    "> Q discard all",
    "> Q",
    "> P |select $1",
    "> P s|begin",
    "> B ||1",
    "> B p|s",
    "> D Ss",
    "> D Pp",
    "> E",
    "> E p",
    "> C Ss",
    "> S",
    "> H",
    "> F 12",
    "> d abc",
    "> c",
    "> f",
    "> X",
    "< T a,b",
    "< D 1,2",
    "< C SELECT 1",
    "< C BEGIN",
    "< C COMMIT",
    "< C ROLLBACK",
    "< I",
    "< s",
    "< 1",
    "< 2",
    "< 3",
    "< n",
    "< t 23",
    "< G",
    "< H",
    "< d abc",
    "< c",
    "< V 5:5:",
    "< V xid 7",
    "< V",
    "< E 42601",
    "< E 25P02",
    "< E 57P01 FATAL",
    "< N 00000",
    "< A",
    "< S application_name=x",
    "< Z I",
    "< Z T",
    "< Z E",
    "< Z I",
    "< Z T",
];

proptest! {
    #[test]
    fn every_statement_has_a_transaction_that_ends_once(
        lines in prop::collection::vec(prop::sample::select(LINES), 1..60),
        observe in any::<bool>(),
    ) {
        let mode = if observe { Mode::Observe } else { Mode::Inject };
        let printed = play(mode, &lines.join("\n"));
        let mut begun = Vec::new();
        let mut ended = Vec::new();
        for line in printed.lines() {
            let id = line.split([' ', '.']).next().and_then(|id| id.parse::<u64>().ok());
            match id {
                Some(id) if line.contains(" of ") && !line.contains('"') => ended.push(id),
                Some(id) => begun.push(id),
                None => {}
            }
        }
        begun.dedup();
        prop_assert_eq!(begun, ended, "{}", printed);
        if observe {
            prop_assert!(!printed.contains("ask"), "{}", printed);
        }
    }
}

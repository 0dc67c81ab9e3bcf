//! Exchanges of segments that stop between two steps, and readers that are in the middle.

use super::*;
use crate::test_events::{POSTGRES, RELATION, insert, relation_described, request_finished, request_started};

/// A trace of so many logs, each with a request and an inserted row.
fn trace(logs: u64) -> tempfile::TempDir {
    let log = |number: u64| {
        let at = 1_000 * number.cast_signed();
        let request = [request_started(number, at), request_finished(number, at + 2)];
        [vec![relation_described(1)], insert(number, at + 1).to_vec(), request.to_vec()].concat()
    };
    sealed(&(1..=logs).map(log).collect::<Vec<_>>())
}

fn everything(trace: &Path) -> Vec<String> {
    rows(trace, (POSTGRES, RELATION), &VisibleSet::everything())
}

const REQUESTS: &str = "SELECT id FROM requests ORDER BY id";

#[test]
fn a_cut_that_stops_anywhere_is_all_or_nothing() {
    for until in [Step::Built, Step::Named, Step::Committed, Step::Removed] {
        let directory = trace(4);
        let trace = directory.path();
        let before = everything(trace);
        let manifest = Manifest::read(trace).expect("reads");
        let head = manifest.head();
        let planned = plan(trace, Keep::From(Timestamp(2_500)), Timestamp(9_000)).expect("plans").expect("a cut");
        assert_eq!(planned.files, ["segments/000001.duckdb", "segments/000002.duckdb"]);
        cut(trace, manifest, &planned, Timestamp(9_000), until).expect("cuts");

        let done = until >= Step::Committed;
        assert_sound(trace, &format!("{until:?}"));
        assert_eq!(everything(trace), before, "{until:?}");
        assert_eq!(texts(trace, REQUESTS), if done { vec!["3", "4"] } else { vec!["1", "2", "3", "4"] }, "{until:?}");

        // the next one does what is left, and leaves nothing behind
        let again = prune(trace, Keep::From(Timestamp(2_500)), Timestamp(9_000), Timestamp(9_000)).expect("prunes");
        assert_eq!(again.is_some(), !done, "{until:?}");
        assert_sound(trace, &format!("{until:?}, then again"));
        assert_eq!(files(trace), ["000002-image.duckdb", "000003.duckdb", "000004.duckdb"], "{until:?}");
        assert_eq!(everything(trace), before, "{until:?}");
        let manifest = Manifest::read(trace).expect("reads");
        let heads: Vec<_> = manifest.ledger.iter().map(|link| Some(link.chain)).collect();
        assert!(heads.contains(&head), "a digest kept elsewhere is found again");
        assert_ne!(manifest.head(), head);
    }
}

#[test]
fn merges_stop_anywhere_and_keep_everything() {
    for until in [Step::Built, Step::Named, Step::Committed, Step::Removed] {
        let directory = trace(4);
        let trace = directory.path();
        let (before, requests) = (everything(trace), texts(trace, REQUESTS));
        merge::merge(trace, Manifest::read(trace).expect("reads"), 1..3, until).expect("merges");
        assert_sound(trace, &format!("{until:?}"));
        assert_eq!((everything(trace), texts(trace, REQUESTS)), (before.clone(), requests.clone()), "{until:?}");
        let manifest = Manifest::read(trace).expect("reads");
        sweep(trace, &manifest).expect("sweeps");
        let merged = ["000001.duckdb", "000002-000003.duckdb", "000004.duckdb"];
        let apart = ["000001.duckdb", "000002.duckdb", "000003.duckdb", "000004.duckdb"];
        assert_eq!(files(trace), if until >= Step::Committed { &merged[..] } else { &apart[..] }, "{until:?}");
        assert_sound(trace, &format!("{until:?}, swept"));
        assert_eq!((everything(trace), texts(trace, REQUESTS)), (before, requests), "{until:?}, swept");
    }
}

#[test]
fn long_recordings_keep_few_segments() {
    let directory = trace(50);
    let trace = directory.path();
    let (before, requests) = (everything(trace), texts(trace, REQUESTS));
    let done = maintain(trace, &Retention::default(), Timestamp(90_000)).expect("maintains");
    assert!(done.merged > 0 && done.cut.is_none(), "{done:?}");
    let manifest = Manifest::read(trace).expect("reads");
    assert!(manifest.segments.len() < 48, "{}", manifest.segments.len());
    assert_eq!(files(trace).len(), manifest.segments.len());
    assert_sound(trace, "merged");
    assert_eq!((everything(trace), texts(trace, REQUESTS)), (before.clone(), requests));
    assert!(!is_due(trace, &Retention::default(), Timestamp(90_000)).expect("looks"));
    // a cut goes by the segments that there are now
    let cut = prune(trace, Keep::Age(Duration::from_millis(30)), Timestamp(51_000), Timestamp(51_000))
        .expect("prunes")
        .expect("a cut");
    assert_sound(trace, "merged and cut");
    assert_eq!(everything(trace), before);
    assert!(cut.at < Timestamp(21_000), "{cut:?}");
    assert_eq!(texts(trace, "SELECT min(id) FROM requests"), [(cut.removed.last + 1).to_string()]);
}

#[test]
fn readers_go_on_while_segments_are_exchanged() {
    let directory = trace(6);
    let path = directory.path();
    let mut open = Reader::open(path).expect("opens");
    let before = everything(path);
    merge::merge(path, Manifest::read(path).expect("reads"), 0..2, Step::Removed).expect("merges");
    prune(path, Keep::From(Timestamp(3_500)), Timestamp(9_000), Timestamp(9_000)).expect("prunes").expect("a cut");
    // what it has open stays readable, and a refresh sees the new ones
    assert_eq!(live(&open, (POSTGRES, RELATION), &VisibleSet::everything()), before);
    assert!(open.refresh().expect("refreshes"));
    assert_eq!(live(&open, (POSTGRES, RELATION), &VisibleSet::everything()), before);
    let requests = open.sql(REQUESTS, 10).expect("requests").rows.len();
    assert_eq!(requests, 3);
}

#[test]
fn opening_never_fails_while_segments_are_exchanged() {
    let directory = trace(10);
    let path = directory.path();
    let expected = everything(path).len();
    std::thread::scope(|scope| {
        let exchange = scope.spawn(|| {
            for last in 1..9 {
                let window = if last % 2 == 0 { 1..3 } else { 0..2 };
                let manifest = Manifest::read(path).expect("reads");
                if last % 3 == 0 {
                    prune(path, Keep::From(Timestamp(1_000 * last)), Timestamp(90_000), Timestamp(90_000))
                        .expect("prunes");
                } else if manifest.segments.iter().all(|entry| entry.kind != SegmentKind::Image) {
                    merge::merge(path, manifest, window, Step::Removed).expect("merges");
                }
            }
        });
        while !exchange.is_finished() {
            assert_eq!(everything(path).len(), expected);
            assert_sound(path, "meanwhile");
            crate::trace::Trace::open(path).expect("opens");
        }
    });
}

#[test]
fn what_retention_did_not_remove_is_still_missed() {
    let check = |what: &str, part: &str, tamper: &dyn Fn(&Path)| {
        let directory = trace(4);
        let trace = directory.path();
        prune(trace, Keep::From(Timestamp(2_500)), Timestamp(9_000), Timestamp(9_000)).expect("prunes").expect("a cut");
        assert_sound(trace, "cut");
        tamper(trace);
        let findings = verify(trace).expect("verifies").findings;
        assert!(findings.iter().any(|finding| finding.to_string().contains(part)), "{what}: {findings:?}");
    };
    check("the image removed", "missing", &|trace| {
        fs::remove_file(trace.join("segments/000002-image.duckdb")).expect("removes");
    });
    check("a later segment removed", "missing", &|trace| {
        fs::remove_file(trace.join("segments/000003.duckdb")).expect("removes");
    });
    let edit = |trace: &Path, change: &dyn Fn(&mut Manifest)| {
        let mut manifest = Manifest::read(trace).expect("reads");
        change(&mut manifest);
        manifest.write(trace).expect("writes");
    };
    check("a later segment taken out of the manifest", "chain value is left", &|trace| {
        edit(trace, &|manifest| drop(manifest.segments.remove(1)));
    });
    check("another moment", "chain value", &|trace| {
        edit(trace, &|manifest| {
            for link in &mut manifest.ledger {
                if let Deed::Cut(cut) = &mut link.deed {
                    cut.at = Timestamp(1);
                }
            }
        });
    });
    check("a removal that was not made", "chain value", &|trace| {
        edit(trace, &|manifest| {
            let link = manifest.ledger.last().expect("a link").clone();
            manifest.segments.remove(1);
            manifest.ledger.push(crate::manifest::Link { number: 3, ..link });
        });
    });
}

use proptest::prelude::*;

use super::*;

mod calibration;

/// A request as tests write it: when it was in flight, what the client sent, what was answered.
struct Asked {
    from: i64,
    until: i64,
    sent: &'static [&'static str],
    answered: &'static [&'static str],
    route: &'static str,
    pid: Option<u32>,
    trace_id: &'static str,
}

const fn asked(from: i64, until: i64, sent: &'static [&'static str]) -> Asked {
    Asked { from, until, sent, answered: &[], route: "GET/x", pid: None, trace_id: "" }
}

/// Work as tests write it: session, when, what it carried.
struct Done {
    session: u64,
    from: i64,
    until: i64,
    carried: &'static [&'static str],
    returned: &'static [&'static str],
    shape: u64,
    pid: Option<u32>,
    declared: Option<(AttributionLevel, &'static str)>,
}

const fn done(session: u64, from: i64, until: i64, carried: &'static [&'static str]) -> Done {
    Done { session, from, until, carried, returned: &[], shape: 1, pid: None, declared: None }
}

struct Fakes<'a> {
    asked: &'a [Asked],
    done: &'a [Done],
}

fn tokens(values: &[&str]) -> Tokens {
    let mut tokens = Tokens::default();
    for value in values {
        tokens.add(value);
    }
    tokens
}

impl Clues for Fakes<'_> {
    fn sent(&self, request: usize) -> Tokens {
        tokens(self.asked[request].sent)
    }

    fn answered(&self, request: usize) -> Tokens {
        tokens(self.asked[request].answered)
    }

    fn carried(&self, work: usize) -> Tokens {
        tokens(self.done[work].carried)
    }

    fn returned(&self, work: usize) -> Tokens {
        tokens(self.done[work].returned)
    }
}

fn run(asked: &[Asked], done: &[Done]) -> Vec<Attribution> {
    let requests: Vec<Request> = asked
        .iter()
        .zip(1..)
        .map(|(asked, id)| Request {
            id: RequestId(id),
            started: Timestamp(asked.from),
            finished: (asked.until < i64::MAX).then_some(Timestamp(asked.until)),
            worker_pid: asked.pid,
            trace_id: (!asked.trace_id.is_empty()).then(|| asked.trace_id.to_owned()),
            route: asked.route.to_owned(),
        })
        .collect();
    let work: Vec<Work> = done
        .iter()
        .map(|done| Work {
            started: Timestamp(done.from),
            last_started: Timestamp(done.from),
            finished: (done.until < i64::MAX).then_some(Timestamp(done.until)),
            session: (done.session > 0).then_some(SessionId(done.session)),
            client_pid: done.pid,
            declared: done.declared.map(|(level, id)| (level, id.to_owned())),
            shapes: vec![done.shape],
        })
        .collect();
    attribute(&requests, &work, &Fakes { asked, done })
}

fn levels(found: &[Attribution]) -> Vec<(Option<u64>, AttributionLevel)> {
    found.iter().map(|found| (found.request.map(|id| id.0), found.level)).collect()
}

fn owners(found: &[Attribution]) -> Vec<Option<u64>> {
    found.iter().map(|found| found.request.map(|id| id.0)).collect()
}

use AttributionLevel::{ApplicationName, Comment, Exclusive, Inferred, Setting, Unattributed};

#[test]
fn one_request_in_flight_all_along_is_a_fact() {
    let check = |asked: &[Asked], done: Done, expected: (Option<u64>, AttributionLevel)| {
        assert_eq!(levels(&run(asked, &[done])), [expected]);
    };
    check(&[asked(10, 50, &[])], done(1, 20, 40, &[]), (Some(1), Exclusive));
    check(&[asked(10, i64::MAX, &[])], done(1, 20, i64::MAX, &[]), (Some(1), Exclusive));
    // Another one ended before, or began after.
    check(&[asked(0, 9, &[]), asked(10, 50, &[]), asked(60, 70, &[])], done(1, 20, 40, &[]), (Some(2), Exclusive));
    // The response ended before the work did: a guess.
    check(&[asked(10, 30, &[])], done(1, 20, 40, &[]), (Some(1), Inferred));
    // Another one came while it ran: a guess, with one candidate.
    check(&[asked(10, 50, &[]), asked(30, 60, &[])], done(1, 20, 40, &[]), (Some(1), Inferred));
    // It began before the request, or there was none.
    check(&[asked(10, 50, &[])], done(1, 5, 20, &[]), (None, Unattributed));
    check(&[], done(1, 5, 20, &[]), (None, Unattributed));
}

#[test]
fn processes_narrow_the_candidates_unless_a_pooler_hides_them() {
    let in_process = |from, until, pid| Asked { pid: Some(pid), ..asked(from, until, &[]) };
    let asked = [in_process(0, 100, 7), in_process(0, 100, 8)];
    let of = |pid| Done { pid: Some(pid), ..done(1, 10, 20, &[]) };
    assert_eq!(levels(&run(&asked, &[of(8)])), [(Some(2), Exclusive)]);
    assert_eq!(levels(&run(&asked, &[of(99)])), [(None, Inferred)]);
    // A request without a known process may be anyone's.
    let unknown = [in_process(0, 100, 7), Asked { pid: None, ..super::tests::asked(0, 100, &[]) }];
    assert_eq!(levels(&run(&unknown, &[of(7)])), [(None, Inferred)]);
}

#[test]
fn declarations_are_facts_when_they_name_a_known_request() {
    let traced = |from, until, trace_id| Asked { trace_id, ..asked(from, until, &[]) };
    let check = |asked: &[Asked], level, named, expected: (Option<u64>, AttributionLevel)| {
        let work = Done { declared: Some((level, named)), ..done(1, 20, 40, &[]) };
        assert_eq!(levels(&run(asked, &[work])), [expected]);
    };
    let two = [traced(0, 50, "aa"), traced(0, 50, "bb")];
    check(&two, Setting, "bb", (Some(2), Setting));
    check(&two, Comment, "aa", (Some(1), Comment));
    check(&two, ApplicationName, "aa", (Some(1), ApplicationName));
    // Work after the response still says whose it is.
    check(&[traced(0, 10, "aa"), traced(15, 50, "bb")], Comment, "aa", (Some(1), Comment));
    check(&two, Setting, "cc", (None, Inferred));
    // One trace of several requests: the one in flight.
    check(&[traced(0, 10, "aa"), traced(15, 50, "aa"), traced(15, 50, "bb")], Comment, "aa", (Some(2), Comment));
    check(&[traced(15, 50, "aa"), traced(15, 50, "aa")], Comment, "aa", (None, Inferred));
}

#[test]
fn identical_simultaneous_requests_stay_tied() {
    let asked = [asked(0, 100, &["7", "web-1"]), asked(1, 100, &["7", "web-1"])];
    let work =
        [done(1, 10, 20, &["7"]), done(2, 11, 21, &["7"]), done(1, 30, 40, &["web-1"]), done(2, 31, 41, &["web-1"])];
    for found in run(&asked, &work) {
        assert_eq!((found.request, found.level, found.confidence), (None, Inferred, 0.0));
        let confidences: Vec<f64> = found.candidates.iter().map(|candidate| candidate.confidence).collect();
        assert_eq!(confidences.len(), 2);
        assert!((confidences[0] - confidences[1]).abs() < TIE && confidences[0] < LEAST_CONFIDENCE, "{confidences:?}");
    }
}

#[test]
fn racing_requests_are_told_apart_by_one_value_and_the_session() {
    let asked = [asked(0, 100, &["7", "web-1"]), asked(1, 101, &["7", "app-2"])];
    let work = [
        done(1, 10, 20, &["7"]),
        done(2, 11, 21, &["7"]),
        done(1, 30, 40, &["7", "web-1"]),
        done(2, 31, 41, &["7", "app-2"]),
    ];
    let found = run(&asked, &work);
    assert_eq!(owners(&found), [Some(1), Some(2), Some(1), Some(2)]);
    assert!(found.iter().all(|found| found.confidence > 0.8 && found.candidates.len() == 2), "{found:?}");
    let crossed = [
        done(2, 10, 20, &["7"]),
        done(1, 11, 21, &["7"]),
        done(2, 30, 40, &["7", "web-1"]),
        done(1, 31, 41, &["7", "app-2"]),
    ];
    assert_eq!(owners(&run(&asked, &crossed)), [Some(1), Some(2), Some(1), Some(2)]);
}

#[test]
fn one_recognised_session_leaves_the_other_request_to_the_other() {
    let asked = [asked(0, 100, &["web-1"]), asked(0, 100, &["secret"])];
    let work = [done(1, 10, 30, &["web-1"]), done(2, 10, 30, &["unrelated"])];
    assert_eq!(owners(&run(&asked, &work)), [Some(1), Some(2)]);
}

#[test]
fn answers_that_repeat_results_speak_for_a_request() {
    let answered = |answered| Asked { answered, ..asked(0, 100, &["9"]) };
    let asked = [answered(&["alice@example.org", "4711"]), answered(&["bob@example.org", "4712"])];
    let work = [Done { returned: &["bob@example.org", "4712"], ..done(1, 10, 20, &["9"]) }];
    assert_eq!(owners(&run(&asked, &work)), [Some(2)]);
}

#[test]
fn a_value_that_both_sent_tells_nothing() {
    let asked = [asked(0, 100, &["common-value", "11"]), asked(0, 100, &["common-value", "12"])];
    assert_eq!(owners(&run(&asked, &[done(1, 10, 20, &["common-value"])])), [None]);
    assert_eq!(owners(&run(&asked, &[done(1, 10, 20, &["common-value", "12"])])), [Some(2)]);
}

#[test]
fn sql_is_expected_of_routes_that_were_seen_with_it() {
    let on = |from, until, route| Asked { route, ..asked(from, until, &[]) };
    let shaped = |from, until, shape| Done { shape, ..done(1, from, until, &[]) };
    let mut asked = Vec::new();
    let mut work = Vec::new();
    for round in 0..10 {
        let at = round * 100;
        asked.push(on(at, at + 20, "POST/orders"));
        work.push(shaped(at + 5, at + 10, 1));
        asked.push(on(at + 30, at + 50, "GET/health"));
        work.push(shaped(at + 35, at + 40, 2));
    }
    asked.push(on(10_000_000_000, 10_000_000_100, "POST/orders"));
    asked.push(on(10_000_000_000, 10_000_000_100, "GET/health"));
    work.push(Done { session: 2, ..shaped(10_000_000_010, 10_000_000_020, 1) });
    work.push(Done { session: 3, ..shaped(10_000_000_010, 10_000_000_020, 2) });
    assert_eq!(owners(&run(&asked, &work))[20..], [Some(21), Some(22)]);
}

#[test]
fn external_calls_are_told_by_their_values() {
    let asked = [asked(0, 100, &["order-17"]), asked(0, 100, &["order-18"])];
    let call = Done { session: 0, ..done(0, 10, 20, &["order-18"]) };
    assert_eq!(owners(&run(&asked, &[call])), [Some(2)]);
}

#[test]
fn tokens_come_from_targets_bodies_and_documents() {
    let check = |fill: &dyn Fn(&mut Tokens), expected: &[&str]| {
        let mut found = Tokens::default();
        fill(&mut found);
        assert_eq!(found, tokens(expected));
    };
    check(
        &|found| found.add_target("/users/42/Orders%20open?page=7&q=a+b+c&x=#f"),
        &["users", "42", "orders open", "7", "a b c"],
    );
    check(&|found| found.add_target("http://api.test/charges/ch_1"), &["charges", "ch_1"]);
    check(
        &|found| found.add_body("application/json", br#"{"a":[1,{"b":"deep"}],"c":true,"d":"xy","e":1.5}"#),
        &["1", "deep", "1.5"],
    );
    check(&|found| found.add_body("application/x-www-form-urlencoded", b"name=J%C3%B6rg&n=3"), &["Jörg", "3"]);
    check(&|found| found.add_body("text/plain", b"hello"), &[]);
    check(&|found| found.add_document(r#"{"id":"abc"}"#), &[r#"{"id":"abc"}"#, "abc"]);
}

#[test]
fn routes_leave_out_what_varies() {
    let check = |target: &str, expected: &str| assert_eq!(tokens::route("GET", target), expected);
    check("/", "GET");
    check("/users/42/orders?x=1", "GET/users/{}/orders");
    check("/v2/items/a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "GET/v2/items/{}");
    check("/products/administration-panel", "GET/products/administration-panel");
}

/// The shape of a wrong inference: the first statement of a failed payment of order 53, whose result has a status and an
/// amount that half of all orders have, beside a request for order 48 that answers with just those.
#[test]
fn what_is_common_in_the_log_does_not_outweigh_a_rare_number() {
    const COMMON: &[&str] = &["open", "0.1900"];
    let before = |number: i64| Asked { answered: COMMON, ..asked(number * 100, number * 100 + 50, &[]) };
    let mut requests: Vec<Asked> = (0..40).map(before).collect();
    let work_before = |number: i64| Done { returned: COMMON, ..done(3, number * 100 + 10, number * 100 + 20, &[]) };
    let mut work: Vec<Done> = (0..40).map(work_before).collect();
    requests.push(asked(10_000, 10_100, &["53"]));
    requests.push(Asked { answered: &["48", "open", "0.1900"], ..asked(10_000, 10_100, &["48"]) });
    work.push(Done { returned: &["53", "open", "0.1900"], ..done(1, 10_010, 10_020, &["53"]) });
    let found = run(&requests, &work);
    let last = found.last().expect("one");
    assert_eq!(last.request, Some(RequestId(41)), "{last:?}");
    assert!(last.confidence > 0.7, "{last:?}");
    // With nothing known of what is common, the long values would decide.
    let alone = run(&requests[40..], &work[40..]);
    assert_eq!(alone[0].request, Some(RequestId(2)), "{alone:?}");
}

/// A number that every request carries is as good as none.
#[test]
fn a_number_that_all_carry_decides_nothing() {
    let before = |number: i64| asked(number * 100, number * 100 + 50, &["7"]);
    let mut requests: Vec<Asked> = (0..40).map(before).collect();
    let work_before = |number: i64| done(3, number * 100 + 10, number * 100 + 20, &["7"]);
    let mut work: Vec<Done> = (0..40).map(work_before).collect();
    requests.push(asked(10_000, 10_100, &["7", "11"]));
    requests.push(asked(10_000, 10_100, &["12"]));
    work.push(done(1, 10_010, 10_020, &["7"]));
    let last = run(&requests, &work).pop().expect("one");
    let confidences: Vec<f64> = last.candidates.iter().map(|candidate| candidate.confidence).collect();
    assert!(confidences[0] - confidences[1] < 0.1, "{confidences:?}");
}

proptest! {
    /// Whatever the times: confidences are shares, and a named request is a candidate that was in flight.
    #[test]
    fn guesses_are_shares_of_what_was_in_flight(
        asked_at in proptest::collection::vec((0_i64..60, 0_i64..40, 0_usize..3), 0..8),
        done_at in proptest::collection::vec((0_u64..4, 0_i64..80, 0_i64..20, 0_usize..3), 0..12),
    ) {
        const VALUES: [&[&str]; 3] = [&["alpha"], &["beta"], &["alpha", "7"]];
        let requests: Vec<Asked> =
            asked_at.iter().map(|(from, length, value)| asked(*from, from + length, VALUES[*value])).collect();
        let work: Vec<Done> = done_at
            .iter()
            .map(|(session, from, length, value)| done(*session, *from, from + length, VALUES[*value]))
            .collect();
        for (found, work) in run(&requests, &work).iter().zip(&work) {
            let sum: f64 = found.candidates.iter().map(|candidate| candidate.confidence).sum();
            prop_assert!(sum <= 1.0 + 1e-9, "{found:?}");
            let in_flight = |id: RequestId| {
                let asked = &requests[id.0 as usize - 1];
                asked.from <= work.from && asked.until >= work.from
            };
            prop_assert!(found.request.is_none_or(in_flight), "{found:?}");
            prop_assert!(found.candidates.iter().all(|candidate| in_flight(candidate.request)), "{found:?}");
        }
    }
}

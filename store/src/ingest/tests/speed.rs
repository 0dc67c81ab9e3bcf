//! A large log: what takes time must grow with it, not with its square.

use std::time::{Duration, Instant};

use super::story::*;
use crate::event::Event;
use crate::ids::SessionId;
use crate::ingest::Tables;
use crate::ingest::tables::TransactionRow;
use crate::time::Timestamp;

/// How long each statement takes; four are running at any time.
const TAKES: i64 = 18;

/// Requests of which 20 are in flight at a time, each with two autocommitted writes on a session that it holds. The id of the
/// transaction that starts as number n, from 0, is 1000 + n.
fn busy_log(requests: i64) -> Tables {
    let mut story = Story::new();
    for session in 2..=20 {
        story.session(session);
    }
    let mut writes: Vec<(i64, i64)> = Vec::new();
    for index in 0..requests {
        let at = 1_000 + index * 10;
        let sent = format!(r#"{{"user_id":{},"device":"device-{index}"}}"#, index % 50);
        story.request(index as u64 + 1, at, at + 199, "/subscribe", &sent);
        writes.extend([(at + 21, index), (at + 106, index)]);
    }
    writes.sort_unstable();
    let mut ended = 0;
    for (number, (at, index)) in writes.iter().enumerate() {
        while writes[ended].0 + TAKES < at - 1 {
            ended += 1;
        }
        let id = number as u64 + 1;
        let before = format!("{0}:{0}:", 1_000 + ended);
        let values = [number.to_string(), format!("device-{index}")];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        story.autocommit(id, *at, &before, ("insert into accounts values ($1, $2, 0)", "INSERT 0 1"), &values);
        for event in story.events.iter_mut().rev().take(2) {
            let (session, finished) = match event {
                Event::Statement(statement) => (&mut statement.session, &mut statement.finished),
                Event::TransactionFinished(end) => (&mut end.session, &mut end.finished),
                _ => continue,
            };
            *session = SessionId(*index as u64 % 20 + 1);
            *finished = Timestamp(at + TAKES);
        }
        story.commit(999 + id, at + TAKES, vec![insert(ACCOUNTS, &format!("{number}\tdevice-{index}\t0"))]);
    }
    story.tables()
}

/// Whether a transaction's row names the request that carried its device.
fn is_right(tables: &Tables, row: &TransactionRow) -> bool {
    let device = row.request_id.map(|id| format!("device-{}\"]", id.0 - 1));
    let statement = &tables.statements[row.id.0 as usize - 1];
    device.is_some_and(|device| statement.parameters.ends_with(&device))
}

#[test]
fn a_busy_log_is_tied_together_in_time() {
    let started = Instant::now();
    let tables = busy_log(2_000);
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    let found = tables.transactions.iter().filter(|row| is_right(&tables, row)).count();
    assert!(found > 3_960, "{found} of 4,000 transactions have their request");
    let matched = tables.transactions.iter().filter(|row| row.xid.map(|xid| xid.0) == Some(row.id.0 + 999)).count();
    assert!(matched > 3_980, "{matched} of 4,000 transactions have their id");
    let linked = tables.row_changes.iter().filter(|row| row.statement_id.is_some()).count();
    assert_eq!(linked, matched);
}

/// `cargo test --release -- --ignored --nocapture a_hundred_thousand` prints how long it takes.
#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_statements() {
    let started = Instant::now();
    let tables = busy_log(50_000);
    println!("{} statements: {:?} with building the events", tables.statements.len(), started.elapsed());
}

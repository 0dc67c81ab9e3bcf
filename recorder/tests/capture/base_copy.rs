//! Base copy and change stream together give the table, whatever was written meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_postgres::error::SqlState;
use txray_recorder::capture::BaseState;
use txray_store::event::Event;

use super::fold::{base_rows, fold};
use super::harness::{Server, connect, oid_of, rows_now, troubles};

const TABLES: &str = "
CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL, balance numeric(12,2), at timestamptz DEFAULT now());
CREATE TABLE links (a int, b text, note text, PRIMARY KEY (b, a));
CREATE TABLE journal (entry text);
INSERT INTO accounts SELECT n, 'owner ' || n, n / 3.0 FROM generate_series(1, 60000) n;
INSERT INTO links SELECT n % 1000, E'tab\\t quote'' back\\\\slash ' || n, repeat('x', n % 50)
  FROM generate_series(1, 25000) n;
INSERT INTO journal SELECT 'old ' || n FROM generate_series(1, 3000) n;";

/// One writer's transaction number `n`.
fn transaction(writer: u64, n: u64) -> String {
    let id = (n * 7919 + writer * 104_729) % 70_000 + 1;
    let fresh = 100_000 + writer * 1_000_000 + n;
    match n % 7 {
        0 => format!("INSERT INTO accounts VALUES ({fresh}, 'new', 1)"),
        1 => format!("UPDATE accounts SET balance = balance + 1, owner = 'w{writer}' WHERE id = {id}"),
        2 => format!("DELETE FROM accounts WHERE id = {id}"),
        3 => format!("UPDATE accounts SET id = {} WHERE id = {id}", fresh + 500_000),
        4 => format!(
            "BEGIN; INSERT INTO journal VALUES ('w{writer} {n}'); UPDATE links SET note = 'n{n}' WHERE a = {}; COMMIT",
            n % 1000
        ),
        5 => format!("BEGIN; UPDATE accounts SET owner = 'lost' WHERE id = {id}; ROLLBACK"),
        _ => format!(
            "INSERT INTO links VALUES ({n}, 'w{writer}', NULL) ON CONFLICT DO NOTHING; DELETE FROM links WHERE a = {} AND b < 't'",
            n % 999
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equals_the_table_after_concurrent_writes() {
    let server = Server::logical();
    server.run(TABLES).await;
    let done = Arc::new(AtomicU64::new(0));
    let halt = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (config, done, halt) = (server.config(), Arc::clone(&done), Arc::clone(&halt));
            tokio::spawn(async move {
                let client = connect(&config).await;
                for n in 0.. {
                    if halt.load(Ordering::Relaxed) {
                        break;
                    }
                    match client.batch_execute(&transaction(writer, n)).await {
                        Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                        Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                            client.batch_execute("ROLLBACK").await.expect("a rollback");
                            continue;
                        }
                        Err(error) => panic!("{error:?}"),
                    };
                }
            })
        })
        .collect();
    let running = server.capture().await;
    assert!(running.capture.is_streaming());
    let at_start = done.load(Ordering::Relaxed);
    assert_eq!(running.capture.wait_base_complete().await, BaseState::Complete);
    let during = done.load(Ordering::Relaxed) - at_start;
    while done.load(Ordering::Relaxed) < at_start + during + 1000 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    halt.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no writer failed");
    }
    let events = running.stop().await;

    for table in ["accounts", "links", "journal"] {
        let (folded, now) = (fold(&events, table), rows_now(&server, table).await);
        assert_eq!(folded.len(), now.len(), "{table}: number of rows");
        let first_difference = folded.iter().zip(&now).find(|(folded, now)| folded != now);
        assert_eq!(first_difference, None, "{table}");
    }
    let (_, ranges) = base_rows(&events, oid_of(&events, "accounts"));
    assert!(ranges >= 5, "the large table was read in {ranges} ranges");
    assert!(during > 50, "only {during} transactions ran during the base copy: the test proves nothing");
    let ordinals: Vec<(u64, usize)> = events
        .iter()
        .filter_map(|event| match event {
            Event::BaseRows(base) if base.relation == oid_of(&events, "links") => {
                Some((base.first_ordinal, base.rows.len()))
            }
            _ => None,
        })
        .collect();
    assert!(ordinals.windows(2).all(|pair| pair[0].0 + pair[0].1 as u64 == pair[1].0), "{ordinals:?}");
    let expected = "RelationUntracked: updates and deletes of table \"public\".\"journal\"";
    assert!(troubles(&events).iter().all(|trouble| trouble.starts_with(expected)), "{:?}", troubles(&events));
    eprintln!("{during} transactions during the base copy of {ranges} ranges");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_tables_come_in_heap_order() {
    let server = Server::logical();
    server
        .run(
            "CREATE TABLE t (id int PRIMARY KEY, v text);
              INSERT INTO t SELECT 1000 - n, 'v' FROM generate_series(1, 500) n;
              CREATE TABLE nothing (id int PRIMARY KEY)",
        )
        .await;
    let running = server.capture().await;
    assert_eq!(running.capture.wait_base_complete().await, BaseState::Complete);
    let events = running.stop().await;
    let base = |table: &str| {
        let oid = oid_of(&events, table);
        let all = events.iter().filter_map(|event| match event {
            Event::BaseRows(base) if base.relation == oid => Some(base.rows.clone()),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    let expected: Vec<String> = (1..=500).map(|n| format!("{}\tv", 1000 - n)).collect();
    assert_eq!(base("t"), [expected]);
    assert_eq!(base("nothing"), [Vec::<String>::new()], "an empty table has a base copy with a snapshot too");
    assert_eq!(troubles(&events), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_shape_while_it_is_copied_is_copied_still() {
    let server = Server::logical();
    server
        .run(
            "CREATE TABLE t (id int PRIMARY KEY, v text, w text);
              INSERT INTO t SELECT n, 'v' || n, repeat('w', 100) FROM generate_series(1, 80000) n",
        )
        .await;
    let running = server.capture().await;
    let client = server.client().await;
    client.batch_execute("ALTER TABLE t DROP COLUMN w").await.expect("DDL");
    client.batch_execute("ALTER TABLE t RENAME TO renamed").await.expect("DDL");
    client
        .batch_execute("UPDATE renamed SET v = 'new' WHERE id % 100 = 0; DELETE FROM renamed WHERE id < 50")
        .await
        .expect("changes");
    assert_eq!(running.capture.wait_base_complete().await, BaseState::Complete);
    let events = running.stop().await;
    let oid = oid_of(&events, "t");
    let widths = events.iter().filter_map(|event| match event {
        Event::BaseRows(base) if base.relation == oid => Some((base.version, base.rows.clone())),
        _ => None,
    });
    let described: std::collections::HashMap<u32, usize> = events
        .iter()
        .filter_map(|event| match event {
            Event::RelationDescribed(relation) if relation.oid == oid => {
                Some((relation.version, relation.columns.len()))
            }
            _ => None,
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for (version, rows) in widths {
        for row in rows {
            let fields: Vec<&str> = row.split('\t').collect();
            assert_eq!(Some(&fields.len()), described.get(&version), "{row} of version {version}");
            assert!(ids.insert(fields[0].parse::<u32>().expect("an id")), "{} came twice", fields[0]);
        }
    }
    assert!(ids.len() > 79_900, "{} rows", ids.len());
    assert_eq!(troubles(&events), Vec::<String>::new());
}

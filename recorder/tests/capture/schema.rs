//! Schemas: facts, dumps, and tables that come and change while recording.

use txray_store::event::{ChangeOp, Event, GapKind, SchemaFlavour, SourceKind};

use super::fold::fold;
use super::harness::{Server, changes_of, descriptions, gaps, oid_of, rows_now, troubles};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_described_published_and_copied() {
    let server = Server::logical();
    let mut running = server.capture().await;
    running.capture.wait_base_complete().await;
    let client = server.client().await;
    client
        .batch_execute("CREATE TABLE late (id serial PRIMARY KEY, v text); INSERT INTO late (v) SELECT 'a' FROM generate_series(1, 10)")
        .await
        .expect("DDL");
    running
        .wait_for(
            "the new table's base copy",
            |event| matches!(event, Event::Gap(gap) if gap.kind == GapKind::RelationUntracked && gap.until.is_some()),
        )
        .await;
    client
        .batch_execute("UPDATE late SET v = 'b' WHERE id < 4; DELETE FROM late WHERE id = 10")
        .await
        .expect("changes");
    let events = running.stop().await;
    assert_eq!(fold(&events, "late"), rows_now(&server, "late").await);
    let id = &descriptions(&events, "late")[0].columns[0];
    assert_eq!(id.sequence.as_deref(), Some("public.late_id_seq"));
    assert!(id.default_expression.as_deref().is_some_and(|default| default.starts_with("nextval(")));
    let gap = gaps(&events).into_iter().find(|gap| gap.kind == GapKind::RelationUntracked).expect("a gap");
    assert_eq!(gap.relation, Some(oid_of(&events, "late")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_shape_is_described_before_the_rows_that_have_it() {
    let server = Server::logical();
    server.run("CREATE TABLE t (id int PRIMARY KEY, v text, gone int)").await;
    let running = server.capture().await;
    running.capture.wait_base_complete().await;
    server
        .run(
            "INSERT INTO t VALUES (1, 'a', 7);
              ALTER TABLE t ADD COLUMN extra int DEFAULT 5; INSERT INTO t VALUES (2, 'b', 8, 9);
              ALTER TABLE t DROP COLUMN gone; INSERT INTO t VALUES (3, 'c', 10);
              ALTER TABLE t RENAME COLUMN v TO w; INSERT INTO t VALUES (4, 'd', 11)",
        )
        .await;
    let events = running.stop().await;
    let oid = oid_of(&events, "t");
    let mut described = std::collections::HashMap::new();
    let mut seen = Vec::new();
    for event in &events {
        match event {
            Event::RelationDescribed(relation) if relation.oid == oid => {
                let names: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
                described.insert(relation.version, names);
            }
            Event::RowChanges(changes) => {
                for change in changes.changes.iter().filter(|change| change.op == ChangeOp::Insert) {
                    let names = described.get(&change.version).expect("the version is described before its rows");
                    seen.push((names.join(","), change.new.clone().expect("a row")));
                }
            }
            _ => {}
        }
    }
    let expected = [
        ("id,v,gone", "1\ta\t7"),
        ("id,v,gone,extra", "2\tb\t8\t9"),
        ("id,v,extra", "3\tc\t10"),
        ("id,w,extra", "4\td\t11"),
    ];
    assert_eq!(seen, expected.map(|(names, row)| (names.to_owned(), row.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_dumped_at_the_start_and_after_ddl() {
    let server = Server::logical();
    server
        .run("CREATE ROLE \"app owner\" LOGIN PASSWORD 'hush'; CREATE ROLE readers NOLOGIN; GRANT readers TO \"app owner\";
              ALTER ROLE \"app owner\" SET search_path TO public, pg_catalog;
              ALTER DATABASE postgres SET work_mem = '8MB';
              CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO \"app owner\"")
        .await;
    let mut running = server.capture().await;
    running.wait_for("a dump", |event| matches!(event, Event::SchemaDumped(_))).await;
    // Nobody tells capture of it.
    server.run("CREATE FUNCTION added_later() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    running
        .wait_for("a second dump", |event| matches!(event, Event::SchemaDumped(dumped) if dumped.version == 2))
        .await;
    let events = running.stop().await;
    let dumps: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::SchemaDumped(dumped) => Some(dumped),
            _ => None,
        })
        .collect();
    assert!(dumps.iter().all(|dump| dump.flavour == SchemaFlavour::BinaryUpgrade));
    assert!(
        dumps[0].sql.contains("binary_upgrade_set_next_heap_pg_class_oid") && dumps[0].sql.contains("CREATE TABLE")
    );
    assert_eq!(dumps.iter().map(|dump| dump.sql.contains("added_later")).collect::<Vec<_>>(), [false, true]);
    assert!(dumps.iter().all(|dump| !dump.sql.contains("CREATE PUBLICATION")));
    let roles = &dumps[0].roles_sql;
    for part in [
        "CREATE ROLE \"app owner\" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS;\n",
        "CREATE ROLE readers WITH ",
        "GRANT readers TO \"app owner\"",
        "ALTER ROLE \"app owner\" SET search_path TO public, pg_catalog",
    ] {
        assert!(roles.contains(part), "{part} is missing in {roles}");
    }
    assert!(!roles.contains("hush") && !roles.contains("PASSWORD"));
    let facts = events.iter().find_map(|event| match event {
        Event::SourceStarted(started) => match &started.kind {
            SourceKind::Postgres(facts) => Some(facts),
            _ => None,
        },
        _ => None,
    });
    let facts = facts.expect("facts");
    assert!(facts.version_number >= 140_000 && facts.system_identifier.is_some() && facts.started.is_some());
    assert_eq!((facts.database.as_str(), facts.wal_level.as_str()), ("postgres", "logical"));
    for (name, value) in [("server_encoding", "UTF8"), ("work_mem", "8MB"), ("lc_ctype", "C"), ("lc_collate", "C")] {
        let found = facts.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(found, Some(value), "{name} in {:?}", facts.settings);
    }
    assert_eq!(troubles(&events).iter().filter(|trouble| !trouble.contains("RelationUntracked")).count(), 0);
    assert_eq!(changes_of(&events, "t"), []);
}

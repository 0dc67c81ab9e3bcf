//! Every kind of value, table and transaction: what the trace holds is what the server shows, on each version.

use std::time::Instant;

use txray_replay::checkout::{Checkout, CheckoutOptions};
use txray_store::ids::SourceId;
use txray_store::query::VisibleSet;
use txray_store::time::Timestamp;

use super::harness::{DEADLINE, Server, connect, rows_now};
use super::traced::{Finished, Traced, number, sample};

const LOGICAL: &[(&str, &str)] = &[("wal_level", "logical"), ("max_prepared_transactions", "5")];

/// One value or more of each type: column type, and values as SQL.
const VALUES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false", "NULL"]),
    ("int2", &["-32768", "32767"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("float4", &["1e-45", "3.4028235e38", "'NaN'", "'-Infinity'", "0.1", "'-0'"]),
    ("float8", &["5e-324", "1.7976931348623157e308", "'NaN'", "'Infinity'", "0.1::float8 + 0.2", "'-0'"]),
    ("numeric", &["'NaN'", "'-Infinity'", "1e-30", "123456789012345678901234567890.0100", "0"]),
    ("numeric(10,2)", &["1.005"]),
    ("money", &["'-1234567.89'"]),
    ("text", &["''", "E'tab\\tline\\nback\\\\slash \\\\N'", "'ünïcödé 🦀'", "repeat('long', 5000)"]),
    ("varchar(5)", &["'ab'"]),
    ("char(5)", &["'ab'"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'a name'"]),
    ("bytea", &["''", "'\\x00ff5c0a'"]),
    ("date", &["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"]),
    ("time", &["'23:59:59.999999'", "'24:00'"]),
    ("timetz", &["'12:00+05:30'"]),
    ("timestamp", &["'infinity'", "'0001-01-01 BC'", "'2026-04-25 12:00:00.000001'"]),
    ("timestamptz", &["'-infinity'", "'294276-12-31 23:59:59+00'", "'2026-04-25 12:00:00+02'"]),
    ("interval", &["'1 year -2 mons 3 days -04:05:06.789'", "'-1 mon'", "'0'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"b\": 1,  \"a\": [null, \"\\t\"]}'"]),
    ("jsonb", &["'{\"b\": 1e3, \"a\": [null, \"\\u00e9\"]}'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a b=\"1\">&lt;</a>'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(3)", &["B'101'"]),
    ("varbit", &["B''", "B'10110'"]),
    ("tsvector", &["'a:1 fat:2A ''it''''s'':3'"]),
    ("tsquery", &["'fat & (rat:* | !cat)'"]),
    ("point", &["'(1.5,-2)'"]),
    ("line", &["'{1,-1,0}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("path", &["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),1.5>'"]),
    ("int4range", &["'empty'", "'[1,5]'", "'(,)'"]),
    ("tstzrange", &["'[2026-01-01 00:00+00,infinity)'"]),
    ("nummultirange", &["'{[1,2),(3,)}'", "'{}'"]),
    ("int4[]", &["'{}'", "'{{1,NULL},{3,4}}'", "'[0:1]={5,6}'"]),
    ("text[]", &["ARRAY['', 'NULL', NULL, 'a,b', 'q\"', E'\\\\', '{}']"]),
    ("mood", &["'a b'"]),
    ("mood[]", &["'{\"a b\",c}'"]),
    ("positive", &["7"]),
    ("pair", &["ROW(NULL, 'x \"y\"')", "ROW(1, '')"]),
    ("pair[]", &["ARRAY[ROW(1, 'a')::pair, NULL]"]),
    ("regclass", &["'pg_class'"]),
    ("oid", &["4294967295"]),
    ("pg_lsn", &["'0/16B3748'"]),
    ("xid8", &["'4294967297'"]),
];

/// The types of a server: one may be built without XML.
async fn types(server: &Server) -> Vec<(&'static str, &'static [&'static str])> {
    let xml = server.client().await.simple_query("SELECT '<a/>'::xml").await.is_ok();
    VALUES.iter().copied().filter(|(column, _)| xml || *column != "xml").collect()
}

fn inserts(types: &[(&str, &[&str])]) -> String {
    let row = |(number, (_, values)): (usize, &(&str, &[&str]))| {
        let one = |value: &&str| format!("INSERT INTO everything (c{number}) VALUES ({value});");
        values.iter().map(one).collect::<String>()
    };
    types.iter().enumerate().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_has_one_text_that_restores_it() {
    for server in Server::each(LOGICAL) {
        let types = types(&server).await;
        let columns: Vec<String> =
            types.iter().enumerate().map(|(number, (column, _))| format!("c{number} {column}")).collect();
        server
            .run(&format!(
                "ALTER DATABASE postgres SET DateStyle = 'German'; ALTER DATABASE postgres SET IntervalStyle = 'iso_8601';
                 ALTER DATABASE postgres SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE postgres SET bytea_output = 'escape';
                 ALTER DATABASE postgres SET extra_float_digits = -3;
                 CREATE TYPE mood AS ENUM ('a b', 'c'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
                 CREATE TYPE pair AS (a int, b text);
                 CREATE TABLE everything (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {})",
                columns.join(", ")
            ))
            .await;
        server.run(&inserts(&types)).await;
        let traced = Traced::complete(&server).await;
        traced.wait_for("a schema", |reader| number(reader, "SELECT count(*) FROM schemas") >= 1).await;
        server.run(&inserts(&types)).await;
        let finished = traced.finish().await;
        finished.ends_as("everything", &rows_now(&server, "everything").await);
        let count: usize = types.iter().map(|(_, values)| values.len()).sum();
        let twice =
            "SELECT count(*) FROM (SELECT regexp_replace(new_values, '^[0-9]+', '') AS row, list_sort(list(op)) AS ops
                     FROM row_changes GROUP BY row) WHERE ops = ['base', 'insert']";
        assert_eq!(number(&finished.reader, twice), count as u64, "the same text in base copy and stream");
        restores(&server, finished, "everything").await;
    }
}

/// A checkout of the last state shows what the server does.
async fn restores(server: &Server, finished: Finished, table: &str) {
    let expected = sample(&server.config(), table).await;
    let options = CheckoutOptions { binaries: Some(server.programs()), ..CheckoutOptions::default() };
    let checkout = tokio::task::block_in_place(|| {
        Checkout::create(&finished.reader, SourceId(0), &VisibleSet::everything(), Timestamp::now(), &options)
    });
    let checkout = checkout.expect("a checkout");
    assert_eq!(sample(&checkout.connection_config(), table).await.rows(), expected.rows());
    tokio::task::block_in_place(|| drop(checkout));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_table_and_change_ends_as_it_is() {
    for server in Server::each(LOGICAL) {
        let virtual_column =
            if server.major() >= 18 { ", shout text GENERATED ALWAYS AS (upper(v)) VIRTUAL" } else { "" };
        server
            .run(&format!(
                "CREATE TABLE parent (k int PRIMARY KEY, v text, big text); ALTER TABLE parent ALTER big SET STORAGE EXTERNAL;
                 CREATE TABLE child (k int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
                 CREATE TABLE audit (n bigserial PRIMARY KEY, what text);
                 CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                     $$BEGIN INSERT INTO audit (what) VALUES (TG_OP || ' ' || NEW.k); RETURN NULL; END$$;
                 CREATE TRIGGER note AFTER INSERT OR UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION note();
                 CREATE TABLE made (k int PRIMARY KEY, v text, twice int GENERATED ALWAYS AS (k * 2) STORED{virtual_column});
                 CREATE TABLE full_row (a int, b text); ALTER TABLE full_row REPLICA IDENTITY FULL;
                 CREATE TABLE appended (a int);
                 CREATE TABLE later (k int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
                 CREATE TABLE root (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
                 CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (100);
                 CREATE TABLE high PARTITION OF root FOR VALUES FROM (100) TO (200);
                 CREATE TABLE apart (k int PRIMARY KEY, v text);
                 INSERT INTO parent SELECT n, 'old', repeat('x', 9000) FROM generate_series(1, 20) n;
                 INSERT INTO child SELECT n, n FROM generate_series(1, 20) n;
                 INSERT INTO root SELECT n, 'old' FROM generate_series(0, 150, 10) n;
                 INSERT INTO full_row VALUES (1, 'x'), (1, 'x'), (2, 'y'); INSERT INTO apart VALUES (300, 'apart')"
            ))
            .await;
        let traced = Traced::complete(&server).await;
        let client = server.client().await;
        for sql in [
            // Unchanged TOAST values, also after their key changed, twice, and in one transaction.
            "UPDATE parent SET v = 'a' WHERE k = 1",
            "UPDATE parent SET k = 101 WHERE k = 1",
            "UPDATE parent SET v = 'b' WHERE k = 101",
            "BEGIN; UPDATE parent SET k = 102 WHERE k = 2; UPDATE parent SET k = 103, v = 'c' WHERE k = 102; COMMIT",
            "BEGIN; UPDATE parent SET k = 201 WHERE k = 3; UPDATE parent SET k = 3 WHERE k = 4; UPDATE parent SET k = 4 WHERE k = 201; COMMIT",
            "DELETE FROM parent WHERE k = 5",
            "INSERT INTO made (k, v) VALUES (1, 'x'), (2, 'y'); UPDATE made SET k = 3 WHERE k = 1",
            "UPDATE full_row SET b = 'z' WHERE a = 2; DELETE FROM full_row WHERE ctid = (SELECT min(ctid) FROM full_row)",
            "INSERT INTO appended VALUES (1), (1); INSERT INTO later VALUES (1, 'x')",
            // Rows that move between partitions; partitions that come and go.
            "UPDATE root SET k = k + 105 WHERE k < 50 AND k % 20 = 0; UPDATE root SET v = 'new'",
            "ALTER TABLE root DETACH PARTITION high; UPDATE high SET v = 'detached' WHERE k = 110",
            "ALTER TABLE root ATTACH PARTITION apart FOR VALUES FROM (300) TO (400); INSERT INTO root VALUES (301, 'attached')",
            // Subtransactions, of which some are undone.
            "BEGIN; INSERT INTO parent VALUES (500, 'kept'); SAVEPOINT a; INSERT INTO parent VALUES (501, 'lost'); UPDATE parent SET v = 'lost' WHERE k = 500;
             ROLLBACK TO a; INSERT INTO parent VALUES (502, 'kept'); SAVEPOINT b; DELETE FROM parent WHERE k = 6; RELEASE b; COMMIT",
            "BEGIN; DELETE FROM parent; ROLLBACK",
            "BEGIN; INSERT INTO parent VALUES (600, 'prepared'); PREPARE TRANSACTION 'one'",
            "BEGIN; UPDATE parent SET v = 'undone' WHERE k = 7; PREPARE TRANSACTION 'two'",
        ] {
            client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        let other = connect(&server.config()).await;
        other.batch_execute("COMMIT PREPARED 'one'").await.expect("a commit by another session");
        other.batch_execute("ROLLBACK PREPARED 'two'").await.expect("a rollback by another session");
        let before_truncate = [sample(&server.config(), "child").await, sample(&server.config(), "audit").await];
        client
            .batch_execute("TRUNCATE audit RESTART IDENTITY; INSERT INTO audit (what) VALUES ('first again')")
            .await
            .expect("a truncate");
        client
            .batch_execute("BEGIN; TRUNCATE parent CASCADE; INSERT INTO parent VALUES (1, 'anew', 'short'); COMMIT")
            .await
            .expect("a truncate");
        let finished = traced.finish().await;
        for sample in &before_truncate {
            finished.agrees(sample);
        }
        for table in ["parent", "child", "audit", "full_row", "appended", "later", "low", "high", "apart"] {
            finished.ends_as(table, &sample(&server.config(), table).await.rows());
        }
        let made = finished.rows("made", &VisibleSet::everything());
        let made: Vec<String> = made.iter().map(|row| row.split('\t').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(made, ["2 y", "3 x"]);
        let prepared = "SELECT count(*) FROM row_changes WHERE new_values LIKE '600%'";
        assert_eq!(number(&finished.reader, prepared), 1);
        assert_eq!(
            number(
                &finished.reader,
                "SELECT count(*) FROM row_changes WHERE new_values LIKE '%undone%' OR new_values LIKE '%lost%'"
            ),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shapes_that_change_in_mid_recording_are_followed() {
    for server in Server::each(LOGICAL) {
        server
            .run("CREATE TABLE t (k int PRIMARY KEY, v text, n int); INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2)")
            .await;
        let traced = Traced::complete(&server).await;
        let client = server.client().await;
        for sql in [
            "CREATE TABLE fresh (k int PRIMARY KEY, v text); INSERT INTO fresh VALUES (1, 'at once')",
            "ALTER TABLE t ADD COLUMN w text; INSERT INTO t VALUES (3, 'three', 3, 'w')",
            "ALTER TABLE t RENAME COLUMN v TO renamed; UPDATE t SET renamed = 'uno' WHERE k = 1",
            "ALTER TABLE t DROP COLUMN n; UPDATE t SET w = 'x' WHERE k = 2",
            "ALTER TABLE t ALTER COLUMN k TYPE bigint; UPDATE t SET w = 'y'",
            "ALTER TABLE t RENAME TO moved; INSERT INTO moved VALUES (4, 'four', 'z')",
            "CREATE TABLE gone (k int PRIMARY KEY); INSERT INTO gone VALUES (1); DROP TABLE gone",
            "CREATE TABLE copied AS SELECT * FROM moved; ALTER TABLE copied ADD PRIMARY KEY (k); UPDATE copied SET w = 'c'",
        ] {
            client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            traced.capture.ddl_seen();
        }
        let described =
            |table: &str| format!("SELECT count(*) FROM relations WHERE name = '{table}' AND tracking = 'full'");
        for table in ["fresh", "moved", "copied"] {
            traced.wait_for(table, |reader| number(reader, &described(table)) >= 1).await;
        }
        let published = "SELECT count(*) FROM pg_publication_tables WHERE tablename IN ('fresh', 'moved', 'copied')";
        let began = Instant::now();
        while client.query_one(published, &[]).await.expect("a count").get::<_, i64>(0) < 3 {
            assert!(began.elapsed() < DEADLINE, "they are not published");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        client
            .batch_execute(
                "INSERT INTO fresh VALUES (2, 'later'); UPDATE fresh SET v = v || '!'; DELETE FROM copied WHERE k = 1",
            )
            .await
            .expect("changes");
        let copied = |table: &'static str| {
            format!(
                "SELECT count(*) FROM gaps WHERE kind = 'relation untracked' AND until_time IS NOT NULL AND relation_id = (SELECT max(id) FROM relations WHERE name = '{table}')"
            )
        };
        for table in ["fresh", "copied"] {
            traced.wait_for(table, |reader| number(reader, &copied(table)) >= 1).await;
        }
        let finished = traced.finish().await;
        for table in ["fresh", "moved", "copied"] {
            finished.ends_as(table, &rows_now(&server, table).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_ids_go_on_across_their_wrap_around() {
    for mut server in Server::each(LOGICAL) {
        server.run("CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'before')").await;
        for database in ["postgres", "template1"] {
            connect(&server.config_of(database)).await.batch_execute("VACUUM FREEZE").await.expect("a vacuum");
        }
        server.set_next_xid(4_294_967_000);
        let traced = Traced::complete(&server).await;
        let client = server.client().await;
        let mut samples = Vec::new();
        for k in 1..=400 {
            client.execute("INSERT INTO t VALUES ($1, 'x')", &[&k]).await.expect("an insert");
            if k % 100 == 0 {
                samples.push(sample(&server.config(), "t").await);
            }
        }
        client.batch_execute("UPDATE t SET v = 'y' WHERE k < 10").await.expect("an update");
        let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.expect("an id");
        let last: u64 = row.get::<_, String>(0).parse().expect("a number");
        assert!(last > 1 << 32, "{last}");
        let finished = traced.finish().await;
        assert_eq!(number(&finished.reader, "SELECT count(DISTINCT xid) FROM commits"), 401);
        assert_eq!(
            number(&finished.reader, "SELECT (max(xid) > 4294967296 AND min(xid) < 4294967296)::INT FROM commits"),
            1
        );
        let order =
            "SELECT count(*) FROM (SELECT xid < lag(xid) OVER (ORDER BY commit_lsn) AS back FROM commits) WHERE back";
        assert_eq!(number(&finished.reader, order), 0);
        for sample in &samples {
            finished.agrees(sample);
        }
        finished.ends_as("t", &rows_now(&server, "t").await);
    }
}

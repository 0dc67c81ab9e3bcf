//! A restored database equals the one that its dump and rows were taken from.

use std::collections::BTreeMap;
use std::process::Command;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, NoTls};
use txray_replay::checkout::{Checkout, CheckoutOptions, Material, RecordedSchema};
use txray_replay::error::{ErrorClass, ReplayError};
use txray_replay::private_postgres::{PgBinaries, PgOptions, PrivatePostgres};
use txray_replay::recorded::Shapes;
use txray_store::event::{PostgresSource, RelationColumn, SchemaFlavour, SequenceValue};
use txray_store::ids::{Oid, SourceId};
use txray_store::model::{RelationInfo, VisibleRow};

const SCHEMA: &str = r#"
CREATE TYPE mood AS ENUM ('fine', 'so so');
CREATE TYPE point3 AS (x int, y int, z int);
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE SCHEMA "Odd Schema";
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO log (what) VALUES (TG_TABLE_NAME || '; -- Name: x; Type: INDEX'); RETURN NULL; END $$;
CREATE TABLE log (id bigserial PRIMARY KEY, what text);
CREATE TABLE people (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, gone int, mood mood DEFAULT 'fine',
  spot point3, pairs even[], at timestamptz DEFAULT now(), span interval, raw bytea, ratio float8, doc jsonb,
  shout text GENERATED ALWAYS AS (upper(name)) STORED);
ALTER TABLE people DROP COLUMN gone;
CREATE TABLE "Odd Schema"."Odd ""Table""" (id serial PRIMARY KEY, friend bigint REFERENCES people, note varchar(20));
CREATE TABLE parts (id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE VIEW grouped AS SELECT id, name, count(*) AS n FROM people GROUP BY id;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM people;
CREATE INDEX ON people (lower(name));
CREATE TRIGGER t AFTER INSERT ON people FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE people ENABLE ALWAYS TRIGGER t;
INSERT INTO people (name, mood, spot, pairs, at, span, raw, ratio, doc) VALUES
  (E'tab\there', 'so so', '(1,2,3)', '{2,NULL,4}', '2020-02-29 12:00:00.000001+05', '-1 year 2 days', '\xdeadbeef', 0.1, '{"a": "\\"}'),
  (E'back\\slash\nline', NULL, NULL, '{}', 'infinity', '0', '', 'NaN', NULL),
  ('', 'fine', '(,,)', NULL, '-infinity', NULL, NULL, '-Infinity', '[]');
INSERT INTO "Odd Schema"."Odd ""Table""" (friend, note) VALUES (1, 'x'), (NULL, NULL);
INSERT INTO parts VALUES (1, 'a'), (2, 'a');
"#;

const COLUMNS: &str = "SELECT c.oid, n.nspname, c.relname, a.attname, a.attnum, a.atttypid, format_type(a.atttypid, a.atttypmod), \
     coalesce(a.attnum = ANY (i.indkey), false), a.attnotnull, a.attgenerated = 's', \
     pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
     LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
     WHERE c.relkind = 'r' AND c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.oid, a.attnum";

/// The database that plays the recorded one.
struct Original {
    postgres: PrivatePostgres,
    client: Client,
}

async fn client(config: tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("it takes connections");
    tokio::spawn(connection);
    client
}

impl Original {
    async fn new(schema: &str) -> Self {
        let binaries = PgBinaries::find(None, None).expect("PostgreSQL is installed");
        let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(PgOptions::new(binaries)));
        let postgres = postgres.await.expect("no panic").expect("a server");
        let admin = client(postgres.connection_config("postgres")).await;
        admin.batch_execute("CREATE ROLE app LOGIN; CREATE ROLE idle; GRANT idle TO app").await.expect("roles");
        admin.batch_execute("CREATE DATABASE \"the app\" OWNER app").await.expect("a database");
        let mut config = postgres.connection_config("the app");
        client(config.clone()).await.batch_execute("GRANT ALL ON SCHEMA public TO app").await.expect("a grant");
        config.user("app");
        client(config).await.batch_execute(schema).await.expect("a schema");
        let client = client(postgres.connection_config("the app")).await;
        client.batch_execute("SET search_path = pg_catalog; SET extra_float_digits = 3").await.expect("settings");
        Original { postgres, client }
    }

    fn dump(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.postgres.options().binaries.program(program));
        command.args(arguments).arg("-U").arg("postgres").arg("-h").arg(self.postgres.socket_directory());
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    async fn material(&self, flavour: SchemaFlavour) -> Material {
        let mut dump = vec!["--schema-only", "the app"];
        let mut roles = vec!["--roles-only"];
        if flavour == SchemaFlavour::BinaryUpgrade {
            dump.push("--binary-upgrade");
            roles.push("--binary-upgrade");
        }
        let text = |query: &'static str| async { self.client.query_one(query, &[]).await.expect("valid").get(0) };
        let version: String = text("SHOW server_version_num").await;
        Material {
            server: PostgresSource {
                version_number: version.parse().expect("a number"),
                system_identifier: None,
                started: None,
                database: "the app".to_owned(),
                wal_level: "logical".to_owned(),
                in_recovery: false,
                settings: [
                    ("work_mem", "5MB"),
                    ("database:search_path", "public, \"Odd Schema\""),
                    ("search_path", "pg_catalog"),
                    ("data_directory", "/nowhere"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            },
            schema: RecordedSchema {
                flavour,
                sql: self.dump("pg_dump", &dump),
                roles_sql: self.dump("pg_dumpall", &roles),
            },
            shapes: Shapes::new(relations(&self.client).await),
            relations: relations(&self.client).await,
            sequences: vec![SequenceValue { name: "public.log_id_seq".to_owned(), last_value: 700, is_called: true }],
            users: vec!["app".to_owned()],
            warnings: Vec::new(),
        }
    }
}

async fn relations(client: &Client) -> Vec<RelationInfo> {
    let mut relations: Vec<RelationInfo> = Vec::new();
    for row in client.query(COLUMNS, &[]).await.expect("valid") {
        let oid = Oid(row.get(0));
        if relations.last().is_none_or(|last| last.oid != oid) {
            let (namespace, name, tracking) = (row.get(1), row.get(2), "full".to_owned());
            let columns = Vec::new();
            let redacted = Vec::new();
            relations.push(RelationInfo {
                source: SourceId(0),
                oid,
                version: 1,
                namespace,
                name,
                columns,
                tracking,
                redacted,
            });
        }
        relations.last_mut().expect("just pushed").columns.push(RelationColumn {
            name: row.get(3),
            attribute_number: row.get(4),
            type_oid: Oid(row.get(5)),
            type_name: row.get(6),
            key: row.get(7),
            not_null: row.get(8),
            generated: row.get(9),
            default_expression: None,
            sequence: row.get(10),
        });
    }
    relations
}

fn table(relation: &RelationInfo) -> String {
    format!("\"{}\".\"{}\"", relation.namespace, relation.name.replace('"', "\"\""))
}

async fn rows(client: &Client, relation: &RelationInfo) -> Vec<String> {
    let sql = format!("COPY (SELECT * FROM {}) TO STDOUT", table(relation));
    let chunks: Vec<Bytes> = client.copy_out(&sql).await.expect("valid").try_collect().await.expect("all rows");
    String::from_utf8(chunks.concat()).expect("UTF-8").lines().map(str::to_owned).collect()
}

async fn contents(client: &Client) -> BTreeMap<String, Vec<String>> {
    let mut contents = BTreeMap::new();
    for relation in relations(client).await {
        contents.insert(format!("{} {}", relation.oid, table(&relation)), rows(client, &relation).await);
    }
    contents
}

async fn restore(material: Material, rows: BTreeMap<String, Vec<String>>) -> Result<Checkout, ReplayError> {
    let work = move || {
        let mut source = |relation: &RelationInfo| {
            let texts = rows.get(&format!("{} {}", relation.oid, table(relation))).cloned().unwrap_or_default();
            Ok(texts.into_iter().map(|text| VisibleRow { version: 1, text }).collect())
        };
        Checkout::restore(&material, &mut source, &CheckoutOptions::default())
    };
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_has_the_same_rows_oids_and_settings() {
    let original = Original::new(SCHEMA).await;
    let expected = contents(&original.client).await;
    assert_eq!(expected.len(), 4);
    let material = original.material(SchemaFlavour::BinaryUpgrade).await;
    let checkout = restore(material, expected.clone()).await.expect("a checkout");
    let restored = client(checkout.connection_config()).await;
    let text = |query: &'static str| async { restored.query_one(query, &[]).await.expect("valid").get::<_, String>(0) };
    assert_eq!(text("SHOW search_path").await, "public, \"Odd Schema\"");
    assert_eq!(text("SHOW work_mem").await, "5MB");
    assert_eq!(text("SELECT tgenabled::text FROM pg_trigger WHERE tgname = 't'").await, "O");
    assert_eq!(text("SELECT (SELECT n FROM totals)::text").await, "3");
    assert_eq!(text("SELECT oid::text FROM pg_type WHERE typname = 'mood'").await, {
        let row = original.client.query_one("SELECT oid::text FROM pg_type WHERE typname = 'mood'", &[]).await;
        row.expect("valid").get::<_, String>(0)
    });
    restored.batch_execute("SET search_path = pg_catalog; SET extra_float_digits = 3").await.expect("settings");
    assert_eq!(contents(&restored).await, expected);

    let mut config = checkout.connection_config();
    config.user("app");
    let app = client(config).await;
    let insert = "INSERT INTO people (name) VALUES ('new') RETURNING id";
    assert_eq!(app.query_one(insert, &[]).await.expect("a row").get::<_, i64>(0), 4);
    let last: i64 = app.query_one("SELECT max(id) FROM log", &[]).await.expect("a row").get(0);
    assert_eq!(last, 701, "the trigger fires for the application, with the recorded sequence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_dump_restores_the_same_rows() {
    let original = Original::new(SCHEMA).await;
    let expected = contents(&original.client).await;
    let material = original.material(SchemaFlavour::Plain).await;
    let checkout = restore(material, expected.clone()).await.expect("a checkout");
    assert!(checkout.summary().warnings.iter().any(|warning| warning.contains("OIDs")));
    let restored = client(checkout.connection_config()).await;
    restored.batch_execute("SET search_path = pg_catalog; SET extra_float_digits = 3").await.expect("settings");
    let strip = |contents: BTreeMap<String, Vec<String>>| -> BTreeMap<String, Vec<String>> {
        contents.into_iter().map(|(name, rows)| (name.split_once(' ').expect("oid").1.to_owned(), rows)).collect()
    };
    assert_eq!(strip(contents(&restored).await), strip(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_restored_are_named_without_their_values() {
    let original = Original::new(SCHEMA).await;
    let material = original.material(SchemaFlavour::BinaryUpgrade).await;
    let good = contents(&original.client).await;
    let people = good.keys().find(|name| name.contains("people")).expect("recorded").clone();
    let odd = good.keys().find(|name| name.contains("Odd")).expect("recorded").clone();
    let with = |name: &str, rows: &[&str]| {
        let mut contents = good.clone();
        contents.insert(name.to_owned(), rows.iter().map(|row| (*row).to_owned()).collect());
        contents
    };
    let dangling = with(&odd, &["1\t987654\tsecret"]);
    let short = with(&odd, &["1\tsecret"]);
    let unseen = with(&people, &["1\tsecret\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\t\\U\t\\N"]);
    for (rows, expected) in
        [(dangling, "does not hold"), (short, "2 fields where the table has 3 columns"), (unseen, "never seen")]
    {
        let error = restore(material.clone(), rows).await.expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error}").contains("secret") && !format!("{error}").contains("987654"), "{error}");
        assert_eq!(error.class(), ErrorClass::Damaged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_extension_is_named() {
    let original = Original::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut material = original.material(SchemaFlavour::Plain).await;
    material.schema.sql.push_str("\nCREATE EXTENSION no_such_extension;\n");
    let error = restore(material, BTreeMap::new()).await.expect_err("no such extension");
    assert!(error.to_string().contains("no_such_extension"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("install")));
}

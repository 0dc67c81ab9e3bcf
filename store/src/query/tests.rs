//! Queries against tables filled by hand.

mod lineages;
mod lists;
mod positions;
mod recorded;
mod rows;
mod sql;
mod states;

use duckdb::Connection;

use crate::copy_text::key_hash;
use crate::schema::TABLES;

/// Tables of the schema, empty.
pub(super) fn empty() -> Connection {
    let connection = Connection::open_in_memory().expect("an in-memory database opens");
    for table in TABLES {
        connection.execute_batch(&format!("CREATE TABLE {} ({})", table.name, table.columns)).expect("valid schema");
    }
    connection
}

/// Runs statements that fill tables.
pub(crate) fn run(connection: &Connection, sql: &str) {
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{error}\n{sql}"));
}

/// A relation version with columns `name:type_name`, those of the key marked by `*`.
pub(super) fn relation(connection: &Connection, id: u32, version: u32, name: &str, columns: &[&str], identity: char) {
    let columns: Vec<serde_json::Value> = columns
        .iter()
        .map(|column| {
            let (name, number) = column.split_once('#').expect("columns are written name#number");
            serde_json::json!({
                "name": name.trim_start_matches('*'), "attribute_number": number.parse::<i16>().expect("a number"),
                "type_oid": 25, "type_name": "text", "key": name.starts_with('*'), "not_null": false,
                "generated": false, "default_expression": null, "sequence": null,
            })
        })
        .collect();
    let keys: Vec<&serde_json::Value> =
        columns.iter().filter(|column| column["key"] == true).map(|column| &column["name"]).collect();
    let (namespace, name) = name.split_once('.').unwrap_or(("public", name));
    connection
        .execute(
            "INSERT INTO relations VALUES (0, ?, ?, make_timestamp(0), ?, ?, ?, ?, ?, 'full')",
            duckdb::params![
                id,
                version,
                namespace,
                name,
                serde_json::to_string(&columns).expect("plain JSON"),
                serde_json::to_string(&keys).expect("plain JSON"),
                identity.to_string(),
            ],
        )
        .expect("a relation");
}

/// A row of `row_changes`.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    pub(super) relation: u32,
    pub(super) version: u32,
    pub(super) key: Option<String>,
    pub(super) op: &'static str,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
    pub(super) xid: u64,
    pub(super) lsn: u64,
    pub(super) ordinal: u64,
    pub(super) transaction: Option<u64>,
    pub(super) statement: Option<u64>,
    pub(super) snapshot: Option<String>,
}

impl Change {
    pub(super) fn insert(&self, connection: &Connection) {
        connection
            .execute(
                "INSERT INTO row_changes VALUES
                    (0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?::BIGINT), ?, ?, ?)",
                duckdb::params![
                    self.relation,
                    self.version,
                    self.key,
                    self.key.as_deref().map(key_hash),
                    self.op,
                    self.old,
                    self.new,
                    self.xid,
                    self.lsn,
                    self.ordinal,
                    self.lsn,
                    self.transaction,
                    self.statement,
                    self.snapshot,
                ],
            )
            .expect("a change");
    }
}

/// A change of table 1, `posts(*id, title, body)`.
pub(super) fn post(op: &'static str, key: &str, new: Option<&str>, xid: u64, lsn: u64) -> Change {
    Change {
        relation: 1,
        version: 1,
        key: Some(key.to_owned()),
        op,
        new: new.map(str::to_owned),
        xid,
        lsn,
        ..Change::default()
    }
}

/// A small recording: three requests, of which the second failed; a bypassing client; a base copy.
pub(crate) fn world() -> Connection {
    let connection = empty();
    relation(&connection, 1, 1, "posts", &["*id#1", "title#2", "body#3"], 'd');
    relation(&connection, 2, 1, "app.users", &["*id#1", "name#2"], 'd');
    let sql = include_str!("tests/world.sql")
        .replace("{hash_1}", &key_hash("1").to_string())
        .replace("{hash_2}", &key_hash("2").to_string());
    run(&connection, &sql);
    let base = |key: &str, row: &str, ordinal| Change {
        ordinal,
        snapshot: Some("100:100:".to_owned()),
        ..post("base", key, Some(row), 0, 0)
    };
    let changes = [
        base("1", "1\tone\tlong text", 0),
        base("2", "2\ttwo\tlong text", 1),
        Change { transaction: Some(1), statement: Some(2), ..post("update", "1", Some("1\tONE\t\\U"), 101, 1000) },
        // tied by its xid only
        Change { ordinal: 0, ..post("insert", "3", Some("3\tthree\t\\N"), 102, 1010) },
        // a client that bypassed the proxy
        post("update", "1", Some("1\tbypassed\tshort"), 103, 1020),
        Change { transaction: Some(4), statement: Some(6), ..post("delete", "2", None, 104, 1030) },
    ];
    for change in &changes {
        change.insert(&connection);
    }
    connection
}

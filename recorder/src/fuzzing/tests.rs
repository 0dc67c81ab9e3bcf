//! The corpora of `fuzz/`, and a short run of seeded mutations of them.

use std::path::PathBuf;

use bytes::Bytes;
use txray_store::fuzzing::mutation::{corpus, exercise, write_corpus};
use txray_store::fuzzing::put_piece;
use txray_store::ids::{Lsn, Oid};
use txray_store::time::Timestamp;

use super::{CLIENT, OBSERVE, OPENING, SERVER, STARTED, pg_wire, pgoutput};
use crate::pg::session::tests::script;
use crate::pg::wire::startup::{self, BackendKey, StartupMessage, StartupPacket};
use crate::pgoutput::{
    Begin, Column, Commit, Delete, Insert, Logical, Message, OldTuple, Origin, Relation, Truncate, Type, Update, Value,
};

fn directory(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target].iter().collect()
}

#[test]
fn sessions_from_the_corpus_and_mutations_of_them() {
    exercise(&corpus(&directory("pg_wire")), 1, 2_000, pg_wire);
}

#[test]
fn change_streams_from_the_corpus_and_mutations_of_them() {
    exercise(&corpus(&directory("pgoutput")), 2, 3_000, pgoutput);
}

fn part(input: &mut Vec<u8>, side: u8, bytes: &[u8]) {
    input.push(side);
    put_piece(input, bytes);
}

/// The scripts of the session's tests: runs of lines that are one side's.
fn scripts() -> Vec<Vec<String>> {
    let mut scripts = vec![Vec::new()];
    for text in [include_str!("../pg/session/tests/recording.rs"), include_str!("../pg/session/tests/asking.rs")] {
        for line in text.lines() {
            let line = line.trim().trim_start_matches('"').trim_end_matches(',').trim_end_matches('"');
            if line.starts_with("> ") || line.starts_with(">> ") || line.starts_with("< ") {
                scripts.last_mut().expect("one").push(line.to_owned());
            } else if scripts.last().is_some_and(|script| !script.is_empty()) {
                scripts.push(Vec::new());
            }
        }
    }
    scripts
}

fn sessions() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, script) in scripts().iter().enumerate() {
        let mode = if number % 2 == 0 { STARTED } else { STARTED | OBSERVE };
        let mut input = vec![mode, number as u8];
        for line in script {
            let (side, message) = line.split_once(' ').expect("a side and a message");
            let mut bytes = Vec::new();
            if side == "<" {
                bytes = script::server(message);
            } else {
                script::client(message, &mut bytes);
            }
            part(&mut input, if side == "<" { SERVER } else { CLIENT }, &bytes);
        }
        inputs.push(input);
    }
    inputs.extend([openings(), long_messages()]);
    inputs
}

fn openings() -> Vec<u8> {
    let parameters = vec![("user".to_owned(), "app".to_owned()), ("application_name".to_owned(), "x".to_owned())];
    let mut input = vec![0, 3];
    for packet in [
        StartupPacket::SslRequest,
        StartupPacket::GssEncRequest,
        StartupPacket::Cancel(BackendKey { process_id: 7, secret: vec![1; 32] }),
        StartupPacket::Startup(StartupMessage { major: 3, minor: 2, parameters }),
    ] {
        let mut bytes = Vec::new();
        startup::encode(&packet, &mut bytes);
        part(&mut input, OPENING, &bytes);
    }
    input
}

fn long_messages() -> Vec<u8> {
    let mut input = vec![STARTED | OBSERVE, 9];
    let value = "v".repeat(300);
    let client = |lines: &[&str]| {
        let mut bytes = Vec::new();
        for line in lines {
            script::client(line, &mut bytes);
        }
        bytes
    };
    part(&mut input, CLIENT, &client(&[&format!("Q select '{value}'")]));
    part(&mut input, SERVER, &script::server("T a"));
    part(&mut input, SERVER, &script::server(&format!("D {value}")));
    part(&mut input, SERVER, &script::server("C SELECT 1"));
    part(&mut input, SERVER, &script::server("Z I"));
    let bind = format!("B ||{value},1");
    part(&mut input, CLIENT, &client(&[&format!("P |select $1, '{value}'"), &bind, "D P", "E", "S"]));
    for line in ["1", "2", "T a", "D 1", "C SELECT 1", "Z I"] {
        part(&mut input, SERVER, &script::server(line));
    }
    input
}

fn streams() -> Vec<Vec<u8>> {
    let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
    let column = |name: &str, key| Column { key, name: name.to_owned(), type_oid: Oid(25), type_modifier: -1 };
    let relation = |identity| {
        Message::Relation(Relation {
            oid: Oid(7),
            namespace: "public".to_owned(),
            name: "t".to_owned(),
            replica_identity: identity,
            columns: vec![column("id", true), column("note", false)],
        })
    };
    let begin = |xid| Message::Begin(Begin { commit_lsn: Lsn(9), committed_at: Timestamp(5), xid });
    let commit = || Message::Commit(Commit { commit_lsn: Lsn(9), end_lsn: Lsn(10), committed_at: Timestamp(5) });
    let row = || vec![text("1"), text("a\tb\\")];
    let messages = [
        begin(3),
        relation('d'),
        Message::Insert(Insert { relation: Oid(7), new: row() }),
        Message::Update(Update { relation: Oid(7), old: None, new: vec![text("1"), Value::Unchanged] }),
        Message::Update(Update { relation: Oid(7), old: Some(OldTuple::Key(row())), new: row() }),
        commit(),
        begin(u32::MAX),
        Message::Origin(Origin { commit_lsn: Lsn(1), name: "o".to_owned() }),
        Message::Type(Type { oid: Oid(99), namespace: "public".to_owned(), name: "mood".to_owned() }),
        relation('f'),
        Message::Delete(Delete { relation: Oid(7), old: OldTuple::Full(row()) }),
        Message::Truncate(Truncate { cascade: true, restart_identity: false, relations: vec![Oid(7)] }),
        Message::Logical(Logical {
            transactional: true,
            lsn: Lsn(8),
            prefix: "txray".to_owned(),
            content: Bytes::from_static(b"12"),
        }),
        commit(),
    ];
    let mut whole = vec![0];
    for message in &messages {
        put_piece(&mut whole, &crate::pgoutput::encode::encode(message));
    }
    let mut many = vec![1];
    put_piece(&mut many, &crate::pgoutput::encode::encode(&relation('d')));
    for xid in 0..40 {
        for message in [begin(xid), Message::Insert(Insert { relation: Oid(7), new: row() }), commit()] {
            put_piece(&mut many, &crate::pgoutput::encode::encode(&message));
        }
    }
    vec![whole, many]
}

#[test]
#[ignore = "writes seeds into the corpora; for a new target, or when its input's form has changed"]
fn write_seeds() {
    write_corpus(&directory("pg_wire"), &sessions());
    write_corpus(&directory("pgoutput"), &streams());
}

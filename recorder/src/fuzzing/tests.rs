//! The corpora of `fuzz/`, and a short run of seeded mutations of them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use txray_store::fuzzing::mutation::{corpus, exercise, write_corpus};
use txray_store::fuzzing::put_piece;
use txray_store::ids::{Lsn, Oid};
use txray_store::time::Timestamp;

use super::{
    CLIENT, EXCHANGE, FORM, HELLO, HTTP, JSON, OBSERVE, OPENING, REQUESTS, RESPONSES, SERVER, SQL, STARTED, http_head,
    pg_wire, pgoutput, redaction,
};
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

#[test]
fn http_from_the_corpus_and_mutations_of_it() {
    exercise(&corpus(&directory("http_head")), 3, 3_000, http_head);
}

#[test]
fn redacted_input_from_the_corpus_and_mutations_of_it() {
    exercise(&corpus(&directory("redaction")), 4, 3_000, redaction);
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

/// What clients of HTTP send.
const SENT: [&str; 9] = [
    "GET /a?b=1 HTTP/1.1\r\nHost: x\r\nX-OdD: v\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
    "PUT /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nTrailer: X\r\n\r\n4;n=\"v\"\r\nWiki\r\n5\r\npedia\r\n0\r\nX: y\r\n\r\n",
    "POST /a HTTP/1.1\r\nContent-Length: 5, 5\r\nContent-Length: 6\r\n\r\nhello!",
    "POST http://u:p@api.test:81/a HTTP/1.1\r\nHost: api.test\r\nProxy-Connection: close\r\nproxy-authorization: Basic eA==\r\n\r\n",
    "\r\nGET http://api.test?x HTTP/1.0\n\n",
    "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n\x16\x03\x01",
    "GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// What servers of HTTP send.
const ANSWERED: [&str; 8] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nServer : odd\r\nX: a\r\n  b\r\n\r\nuntil the end",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x05hello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "SSH-2.0-odd\r\n\r\n",
];

fn http() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (number, sent) in SENT.iter().enumerate() {
        inputs.push([&[REQUESTS, number as u8], sent.as_bytes()].concat());
        for (other, answered) in ANSWERED.iter().enumerate().filter(|(other, _)| number < 2 || number == *other) {
            let mut input = vec![EXCHANGE, (other * 77) as u8];
            put_piece(&mut input, sent.as_bytes());
            input.extend_from_slice(answered.as_bytes());
            inputs.push(input);
        }
    }
    for (number, answered) in ANSWERED.iter().enumerate() {
        inputs.push([&[RESPONSES, number as u8], answered.as_bytes()].concat());
    }
    for (host, protocols) in [("api.test", &["h2", "http/1.1"][..]), ("127.0.0.1", &[])] {
        inputs.push([&[HELLO, 0], &hello(host, protocols)[..]].concat());
    }
    inputs
}

fn hello(host: &str, protocols: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let roots = rustls::RootCertStore::empty();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let host = host.to_owned().try_into().expect("a host");
    let mut bytes = Vec::new();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), host).expect("a connection");
    connection.write_tls(&mut bytes).expect("memory takes everything");
    bytes
}

/// Documents, forms, ends of statements and messages, by what the target takes them for.
fn secrets() -> Vec<Vec<u8>> {
    let inputs: [(u8, &[&str]); 4] = [
        (
            JSON,
            &[
                r#"{"user": {"email": "a\u0040b", "name": "x"}, "n": [1.5e3, -2, true, null], "password": "p"}"#,
                r#"{"items":[{"card":1,"n":1},{"card":"2","ssn":{"b":["x",true,{}]}}],"accessToken":"masked:0123456789abcdef"}"#,
                r#"[{"ssn":1},[[{"secret":{"a":[false,7]}}]],{"note":"the \"password\": x"}]"#,
                r#"{"user":[{"email":"a@b"},5],"ssn":"cut"#,
            ],
        ),
        (
            FORM,
            &[
                "user=ann&password=s3cr3t&email=a%40b+c&x&user%5Bpassword%5D=",
                "--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\ns3cr3t\r\n--B\r\nX: y; name=note\r\n\r\nhello\r\n--B--\r\n",
            ],
        ),
        (
            SQL,
            &[
                "AND id IN (1, 2) OR name LIKE 'x%' ORDER BY id LIMIT 1",
                "WHERE id = $1 RETURNING email, name AS \"n\"",
                "ON CONFLICT (id) DO UPDATE SET name = excluded.name || E'\\n' || $$x$$; SELECT U&'\\0041'",
                "UNION ALL (SELECT 1, CASE WHEN true THEN 'a' ELSE \"name\" END, x.* FROM users AS x) -- 'b\n/* c */",
            ],
        ),
        (
            HTTP,
            &[
                "POST /a?email=x&token=1#f HTTP/1.1\r\nCookie: a=b; email=c\r\nReferer: http://u:p@h/?sig=1\r\n\r\n{\"password\":\"p\"}",
                "HTTP/1.1 200 OK\nSet-Cookie: a=b; Path=/\nContent-Type: application/x-www-form-urlencoded\n\npassword=1",
            ],
        ),
    ];
    let texts = inputs.iter().flat_map(|(what, texts)| texts.iter().map(move |text| (*what, *text)));
    texts.map(|(what, text)| [&[what], text.as_bytes()].concat()).collect()
}

#[test]
#[ignore = "writes seeds into the corpora; for a new target, or when its input's form has changed"]
fn write_seeds() {
    write_corpus(&directory("pg_wire"), &sessions());
    write_corpus(&directory("pgoutput"), &streams());
    write_corpus(&directory("http_head"), &http());
    write_corpus(&directory("redaction"), &secrets());
}

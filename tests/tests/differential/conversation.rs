//! What a client says: how it begins, what it sends, where it waits, and how its bytes are cut.

use std::fmt::{Debug, Formatter};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::statements::{PLAIN, WITH_PARAMETERS};

/// One session from its first byte to its last.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) opening: Opening,
    pub(crate) steps: Vec<Step>,
    /// How many bytes go out at once, over and over; none: all that there is.
    pub(crate) pieces: Vec<usize>,
}

/// How a session begins.
#[derive(Clone)]
pub(crate) struct Opening {
    /// Requests for TLS, which neither side offers; each is answered by one byte. None for encryption by GSSAPI: a server may
    /// offer that, and the recorder never does.
    pub(crate) encryption: Vec<u32>,
    pub(crate) packet: Vec<u8>,
}

/// What is sent, and whether the client then waits for the answer.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) said: Said,
    pub(crate) waits: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Said {
    Query(String),
    Parse {
        name: &'static str,
        sql: String,
        types: Vec<u32>,
    },
    Bind {
        portal: &'static str,
        statement: &'static str,
        values: Vec<Option<String>>,
        formats: (u16, u16),
    },
    Describe {
        kind: u8,
        name: &'static str,
    },
    Execute {
        portal: &'static str,
        rows: u32,
    },
    Close {
        kind: u8,
        name: &'static str,
    },
    Flush,
    Sync,
    CopyData(Vec<u8>),
    CopyDone,
    CopyFail,
    Function {
        id: u32,
        arguments: Vec<Vec<u8>>,
    },
    Terminate,
    /// Anything at all.
    Bytes(Vec<u8>),
}

impl Debug for Opening {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?} {:?}", self.encryption, String::from_utf8_lossy(&self.packet))
    }
}

impl Debug for Step {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}{}", self.said, if self.waits { ", then wait" } else { "" })
    }
}

const SSL_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;

pub(crate) fn conversations() -> impl Strategy<Value = Conversation> {
    let pieces = prop_oneof![
        4 => Just(Vec::new()),
        1 => vec(1..8_usize, 1..4),
        1 => vec(1..200_usize, 1..6),
    ];
    (openings(), vec(steps(), 1..14), pieces).prop_map(|(opening, steps, pieces)| Conversation {
        opening,
        steps: steps.into_iter().flatten().collect(),
        pieces,
    })
}

fn openings() -> impl Strategy<Value = Opening> {
    let version = prop_oneof![12 => Just(0x3_0000_u32), 1 => Just(0x3_0002), 1 => Just(0x3_270f), 1 => Just(0x2_0000)];
    let parameters = prop_oneof![
        24 => Just(vec![]),
        1 => Just(vec![("application_name", "of a client"), ("client_encoding", "LATIN1")]),
        1 => Just(vec![("options", "-c statement_timeout=20000 -c default_transaction_isolation=serializable")]),
        1 => Just(vec![("options", "-c no_such_setting=1")]),
        1 => Just(vec![("_pq_.unheard_of", "1"), ("extra_float_digits", "3")]),
        1 => Just(vec![("database", "nowhere")]),
        1 => Just(vec![("user", "nobody")]),
        1 => Just(vec![("replication", "database")]),
        1 => Just(vec![("replication", "true")]),
        1 => Just(vec![("replication", "perhaps")]),
    ];
    let startup = (version, parameters).prop_map(|(version, parameters)| startup_packet(version, &parameters));
    let other = prop_oneof![
        Just(cancel_request()),
        Just(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        Just(vec![0, 0, 0, 4]),
        Just(vec![0, 0, 0, 0]),
        Just(vec![0, 0, 0, 9, 0, 3, 0, 0, b'u']),
        Just(vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        vec(any::<u8>(), 0..40),
    ];
    let encryption = prop_oneof![
        12 => Just(vec![]),
        1 => Just(vec![SSL_REQUEST]),
    ];
    (encryption, prop_oneof![20 => startup, 1 => other]).prop_map(|(encryption, packet)| Opening { encryption, packet })
}

fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    let fixed = [("user", "postgres"), ("database", "postgres")];
    let fixed = fixed.iter().filter(|(name, _)| !parameters.iter().any(|(other, _)| other == name));
    for (name, value) in fixed.chain(parameters) {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes(), body.as_slice()].concat()
}

fn cancel_request() -> Vec<u8> {
    // of no session that there is
    [16, CANCEL_REQUEST, 1, 1].iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// One step or a few that belong together.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        10 => (queries(), any::<bool>()).prop_map(|(sql, waits)| vec![Step { said: Said::Query(sql), waits }]),
        // as drivers do it
        6 => (preparing(), any::<bool>()).prop_map(|(said, waits)| {
            let said = said.into_iter().chain([Said::Sync]);
            let mut steps: Vec<_> = said.map(|said| Step { said, waits: false }).collect();
            if let Some(last) = steps.last_mut() {
                last.waits = waits;
            }
            steps
        }),
        4 => preparing().prop_map(|said| said.into_iter().map(|said| Step { said, waits: false }).collect()),
        // as nobody does it
        6 => (anything(), any::<bool>()).prop_map(|(said, waits)| vec![Step { said, waits }]),
        2 => copying().prop_map(|said| said.into_iter().map(|said| Step { said, waits: true }).collect()),
    ]
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 2 => Just("a"), 1 => Just("b"), 1 => Just("c")]
}

fn queries() -> impl Strategy<Value = String> {
    let one = || select(PLAIN).prop_map(str::to_owned);
    prop_oneof![
        5 => one(),
        1 => vec(one(), 2..4).prop_map(|several| several.join("; ")),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![queries(), select(WITH_PARAMETERS).prop_map(str::to_owned)]
}

fn values() -> impl Strategy<Value = Vec<Option<String>>> {
    let value = prop_oneof![
        4 => select(&["1", "3", "7", "44"][..]).prop_map(|text| Some(text.to_owned())),
        1 => Just(None),
        1 => Just(Some("{1,2}".to_owned())),
        1 => Just(Some("text".to_owned())),
        1 => Just(Some("long ".repeat(3000))),
    ];
    vec(value, 0..4)
}

fn bind() -> impl Strategy<Value = Said> {
    (name(), name(), values(), (prop_oneof![6 => Just(0_u16), 1 => Just(1), 1 => Just(7)], 0..2_u16))
        .prop_map(|(portal, statement, values, formats)| Said::Bind { portal, statement, values, formats })
}

/// Statement, portal, execution: each part may be missing.
fn preparing() -> impl Strategy<Value = Vec<Said>> {
    let values = |sql: &str| -> Vec<Option<String>> {
        let wanted = (1..=3).filter(|number| sql.contains(&format!("${number}"))).count();
        ["8", "2", "three"].iter().take(wanted).map(|text| Some((*text).to_owned())).collect()
    };
    let whole = (name(), name(), texts(), 0..2_u16, prop_oneof![3 => Just(0_u32), 1 => 1..4_u32], any::<[bool; 4]>())
        .prop_map(move |(statement, portal, sql, format, rows, [parsed, described, again, closed])| {
            let bound = Said::Bind { portal, statement, values: values(&sql), formats: (0, format) };
            let all = [
                (parsed || described).then_some(Said::Parse { name: statement, sql, types: Vec::new() }),
                (parsed && described).then_some(Said::Describe { kind: b'S', name: statement }),
                Some(bound),
                described.then_some(Said::Describe { kind: b'P', name: portal }),
                Some(Said::Execute { portal, rows }),
                (again && rows > 0).then_some(Said::Execute { portal, rows: 0 }),
                (closed && again).then_some(Said::Close { kind: b'S', name: statement }),
            ];
            all.into_iter().flatten().collect::<Vec<_>>()
        });
    prop_oneof![5 => whole, 1 => bind().prop_map(|said| vec![said])]
}

fn copying() -> impl Strategy<Value = Vec<Said>> {
    let rows = prop_oneof![
        4 => (500..600_u32).prop_map(|id| format!("{id}\t1\tcopied\n").into_bytes()),
        2 => (700..900_u32).prop_map(|id| format!("{id}\n").into_bytes()),
        1 => Just(b"1\t1\tthere is one\n".to_vec()),
        1 => Just(b"\\.\n".to_vec()),
        1 => Just(b"x\ty".to_vec()),
        1 => Just(Vec::new()),
    ];
    let sql = select(&["COPY t FROM STDIN", "COPY t (id) FROM STDIN WITH (FORMAT csv)"][..]);
    let end = prop_oneof![3 => Just(Said::CopyDone), 1 => Just(Said::CopyFail), 1 => Just(Said::Sync)];
    (sql, vec(rows, 0..4), end).prop_map(|(sql, rows, end)| {
        let rows = rows.into_iter().map(Said::CopyData);
        [Said::Query(sql.to_owned())].into_iter().chain(rows).chain([end]).collect()
    })
}

fn anything() -> impl Strategy<Value = Said> {
    let kind = || select(&[b'S', b'P', b'P', b'S', b'x'][..]);
    prop_oneof![
        3 => (name(), texts(), vec(prop_oneof![Just(0_u32), Just(23), Just(25), Just(999_999)], 0..3))
            .prop_map(|(name, sql, types)| Said::Parse { name, sql, types }),
        3 => bind(),
        2 => (kind(), name()).prop_map(|(kind, name)| Said::Describe { kind, name }),
        3 => (name(), 0..4_u32).prop_map(|(portal, rows)| Said::Execute { portal, rows }),
        2 => (kind(), name()).prop_map(|(kind, name)| Said::Close { kind, name }),
        2 => Just(Said::Flush),
        4 => Just(Said::Sync),
        1 => Just(Said::CopyData(b"2\t2\tout of place\n".to_vec())),
        1 => Just(Said::CopyDone),
        1 => Just(Said::CopyFail),
        1 => (prop_oneof![Just(1397_u32), Just(0), Just(1402)], vec(vec(any::<u8>(), 4), 0..3))
            .prop_map(|(id, arguments)| Said::Function { id, arguments }),
        1 => Just(Said::Terminate),
        1 => broken().prop_map(Said::Bytes),
    ]
}

/// Messages that there are none of, that are cut, or that lie about their length.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![b'Q', 0, 0, 0, 3]),
        Just(vec![b'Q', 0, 0, 0, 4]),
        Just(vec![b'Q', 0, 0, 0, 6, b'x', b'y']),
        Just(vec![b'Q', 0x7f, 0xff, 0xff, 0xff, b'S']),
        Just(vec![b'P', 0, 0, 0, 5, 0]),
        Just(vec![b'B', 0, 0, 0, 8, 0, 0, 0, 9]),
        Just(vec![b'B', 0, 0, 0, 12, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        Just(vec![b'S', 0, 0, 0, 5, 0]),
        Just(vec![b'z', 0, 0, 0, 4]),
        Just(vec![0, 0, 0, 4]),
        vec(any::<u8>(), 1..30),
    ]
}

//! Who says what, in which order and in which pieces, and how it ends.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::messages::{Message, TARGETS, URLS, garbage, odd_request, odd_response, request, response};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        if self == Side::Client { Side::Server } else { Side::Client }
    }
}

/// One step. The next comes when the other side has heard all of it.
#[derive(Clone)]
pub(crate) enum Step {
    /// Each side sends these pieces, at once.
    Pass { client: Vec<Vec<u8>>, server: Vec<Vec<u8>> },
    /// A side ends what it sends.
    End(Side),
    /// A side closes its connection.
    Close(Side),
    /// A side breaks it off.
    Reset(Side),
}

/// A conversation.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) steps: Vec<Step>,
    /// How many requests it holds, where that is beyond doubt.
    pub(crate) requests: Option<usize>,
}

/// Which proxy it is held through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// The one before the application: any conversation.
    Reverse,
    /// The outbound one, to a parent proxy, whose requests stay as they are. It takes one call after another, each when its head is
    /// whole and it knows where the call leads: so heads are sent as a whole, requests follow responses, and only the last response may
    /// be anything.
    Egress,
}

/// A request with its answer.
#[derive(Debug, Clone)]
struct Exchange {
    request: Message,
    response: Message,
    order: Order,
    /// Where the two are cut into steps.
    cuts: (Vec<Index>, Vec<Index>),
}

impl Exchange {
    /// Whether both messages are as they should be, and the response is one to this request.
    fn is_plain(&self) -> bool {
        self.request.plain && self.response.plain && self.request.method == self.response.method
    }
}

/// When a response comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Behind its request.
    Behind,
    /// Behind later requests.
    Late,
    /// Before the request's last piece.
    Early,
    /// At the same time.
    AtOnce,
    /// Before its request.
    Before,
}

/// How a conversation ends.
#[derive(Debug, Clone)]
struct Ending {
    /// Where all is cut off, if it is.
    cut: Option<Index>,
    /// Whether the client ends its side as soon as it has said all.
    client_early: bool,
    /// The same of the server.
    server_early: bool,
    /// Who ends first.
    first: Side,
    how: fn(Side) -> Step,
}

fn exchange(through: Through) -> BoxedStrategy<Exchange> {
    let targets = if through == Through::Reverse { TARGETS } else { URLS };
    let plain = request(targets).prop_flat_map(|request| (Just(request.clone()), response(request.method)));
    let cuts = || (vec(any::<Index>(), 0..4), vec(any::<Index>(), 0..4));
    if through == Through::Egress {
        let parts = (plain, cuts());
        return parts
            .prop_map(|((request, response), cuts)| Exchange { request, response, order: Order::Behind, cuts })
            .boxed();
    }
    let odd = (
        prop_oneof![8 => odd_request(), 4 => request(targets), 1 => garbage()],
        prop_oneof![8 => odd_response(), 4 => response("GET"), 1 => garbage()],
    );
    let order = prop_oneof![
        8 => Just(Order::Behind),
        3 => Just(Order::Late),
        1 => Just(Order::Early),
        1 => Just(Order::AtOnce),
        1 => Just(Order::Before),
    ];
    (prop_oneof![plain, odd], order, cuts())
        .prop_map(|((request, response), order, cuts)| Exchange { request, response, order, cuts })
        .boxed()
}

/// The last one of a connection of the outbound proxy.
fn last_call() -> impl Strategy<Value = Exchange> {
    (exchange(Through::Egress), proptest::option::of(prop_oneof![4 => odd_response(), 1 => garbage()])).prop_map(
        |(exchange, odd)| match odd {
            Some(response) => Exchange { response, ..exchange },
            None => exchange,
        },
    )
}

fn ending() -> impl Strategy<Value = Ending> {
    let how = prop_oneof![
        Just(Step::End as fn(Side) -> Step),
        Just(Step::Close as fn(Side) -> Step),
        Just(Step::Reset as fn(Side) -> Step)
    ];
    let first = prop_oneof![Just(Side::Client), Just(Side::Server)];
    (proptest::option::weighted(0.4, any::<Index>()), prop::bool::weighted(0.2), prop::bool::weighted(0.2), first, how)
        .prop_map(|(cut, client_early, server_early, first, how)| Ending {
            cut,
            client_early,
            server_early,
            first,
            how,
        })
}

/// Conversations through a proxy.
pub(crate) fn conversations(through: Through) -> impl Strategy<Value = Conversation> {
    let exchanges = if through == Through::Reverse {
        vec(exchange(through), 0..6).boxed()
    } else {
        let calls = (vec(exchange(through), 0..5), last_call());
        calls
            .prop_map(|(mut calls, last)| {
                calls.push(last);
                calls
            })
            .boxed()
    };
    (exchanges, vec(any::<Index>(), 0..6), ending())
        .prop_map(move |(exchanges, writes, ending)| compose(&exchanges, &writes, &ending, through))
}

/// What is said in one step.
#[derive(Debug, Default, Clone)]
struct Said {
    client: Vec<u8>,
    server: Vec<u8>,
}

fn compose(exchanges: &[Exchange], writes: &[Index], ending: &Ending, through: Through) -> Conversation {
    let mut said = order(exchanges, through);
    let orderly = exchanges.iter().all(|e| e.is_plain() && matches!(e.order, Order::Behind | Order::Late));
    let total: usize = said.iter().map(|step| step.client.len() + step.server.len()).sum();
    if let Some(cut) = &ending.cut {
        let behind = match exchanges.last().filter(|_| through == Through::Egress) {
            Some(last) => last.response.bytes.len(),
            None => total,
        };
        cut_off(&mut said, total - behind + cut.index(behind + 1));
    }
    if through == Through::Reverse {
        held_back(&mut said);
    }
    said.retain(|step| !step.client.is_empty() || !step.server.is_empty());
    let requests = (orderly && ending.cut.is_none()).then_some(exchanges.len());
    // What follows a response is no call's: the outbound proxy does not wait for it once the client has ended its side.
    let client_early =
        ending.client_early && (through == Through::Reverse || exchanges.iter().all(|e| e.response.plain));
    let last = |of: fn(&Said) -> bool| said.iter().rposition(of);
    let (client_last, server_last) = (last(|step| !step.client.is_empty()), last(|step| !step.server.is_empty()));
    // Nor does it make a call to a server that has ended its side.
    let server_early = ending.server_early && (through == Through::Reverse || server_last > client_last);
    let mut steps = Vec::new();
    let mut ended = Vec::new();
    for (number, step) in said.iter().enumerate() {
        steps.push(Step::Pass { client: pieces(&step.client, writes), server: pieces(&step.server, writes) });
        for (side, early, last) in
            [(Side::Client, client_early, client_last), (Side::Server, server_early, server_last)]
        {
            if early && last == Some(number) {
                steps.push(Step::End(side));
                ended.push(side);
            }
        }
    }
    if ended.len() < 2 {
        let first = if ended.contains(&ending.first) { ending.first.other() } else { ending.first };
        // Between calls, the outbound proxy ends both sides when one of them has ended: no breaking off follows.
        let over = through == Through::Egress && !ended.is_empty();
        let step = if over { Step::Close(first) } else { (ending.how)(first) };
        let orderly = !matches!(step, Step::Reset(_));
        steps.push(step);
        if orderly && !ended.contains(&first.other()) {
            steps.push(Step::Close(first.other()));
        }
    }
    Conversation { steps, requests }
}

/// The steps of exchanges, in order.
fn order(exchanges: &[Exchange], through: Through) -> Vec<Said> {
    let mut said = Vec::new();
    let mut late = Vec::new();
    let client = |bytes: Vec<u8>| Said { client: bytes, server: Vec::new() };
    let server = |bytes: Vec<u8>| Said { client: Vec::new(), server: bytes };
    for exchange in exchanges {
        let whole = if through == Through::Egress { exchange.request.head_bytes } else { 0 };
        let sends = cut(&exchange.request.bytes, &exchange.cuts.0, whole);
        let answers = cut(&exchange.response.bytes, &exchange.cuts.1, 0);
        let behind = answers.iter().cloned().map(server);
        match exchange.order {
            Order::Behind => {
                said.extend(sends.into_iter().map(client));
                said.append(&mut late);
                said.extend(behind);
            }
            Order::Late => {
                said.extend(sends.into_iter().map(client));
                late.extend(behind);
            }
            Order::Early => {
                said.append(&mut late);
                let (last, first) = sends.split_last().expect("a cut leaves a piece");
                said.extend(first.iter().cloned().map(client));
                said.extend(behind);
                said.push(client(last.clone()));
            }
            Order::AtOnce => {
                said.append(&mut late);
                for number in 0..sends.len().max(answers.len()) {
                    let of = |pieces: &[Vec<u8>]| pieces.get(number).cloned().unwrap_or_default();
                    said.push(Said { client: of(&sends), server: of(&answers) });
                }
            }
            Order::Before => {
                said.append(&mut late);
                said.extend(behind);
                said.extend(sends.into_iter().map(client));
            }
        }
    }
    said.append(&mut late);
    said
}

/// Cuts bytes, of which so many stay together at the beginning.
fn cut(bytes: &[u8], places: &[Index], whole: usize) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = places.iter().map(|place| whole + place.index(bytes.len() - whole + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        pieces.push(bytes[from..place].to_vec());
        from = place;
    }
    pieces.push(bytes[from..].to_vec());
    pieces
}

/// The writes of a step: cut at the same places, seen from its start.
fn pieces(bytes: &[u8], writes: &[Index]) -> Vec<Vec<u8>> {
    let mut pieces = cut(bytes, writes, 0);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Leaves so many bytes of all.
fn cut_off(said: &mut [Said], mut left: usize) {
    for step in said {
        for bytes in [&mut step.client, &mut step.server] {
            bytes.truncate(left);
            left -= bytes.len();
        }
    }
}

/// The first bytes of a client that may be those of HTTP/2 wait for the rest, and so does a line end that may begin the empty line of
/// a head, which the added header stands before. So no step of the client ends there; neither does what it says in all.
fn held_back(said: &mut [Said]) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut before: Vec<u8> = Vec::new();
    let mut carried: Vec<u8> = Vec::new();
    for step in said.iter_mut() {
        if step.client.is_empty() {
            continue;
        }
        carried.append(&mut step.client);
        let so_far = [&before[..], &carried].concat();
        if so_far.ends_with(b"\n\r") || PREFACE.starts_with(&so_far) {
            continue;
        }
        before = so_far;
        before.drain(..before.len().saturating_sub(PREFACE.len()));
        std::mem::swap(&mut step.client, &mut carried);
    }
    // An application that speaks first begins as HTTP/2's do: whether it is one, its client's first bytes tell.
    let first = said.iter_mut().find(|step| !step.client.is_empty() || !step.server.is_empty());
    if let Some(first) = first.filter(|first| first.client.is_empty() && first.server[0] == 0) {
        first.server[0] = b'0';
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |pieces: &[Vec<u8>]| {
            let pieces = pieces.iter().map(|piece| {
                let shown = String::from_utf8_lossy(&piece[..piece.len().min(400)]).into_owned();
                if piece.len() > 400 { format!("{shown}… ({} bytes)", piece.len()) } else { shown }
            });
            pieces.collect::<Vec<_>>()
        };
        match self {
            Step::Pass { client, server } => write!(f, "Pass {:?} | {:?}", text(client), text(server)),
            Step::End(side) => write!(f, "End {side:?}"),
            Step::Close(side) => write!(f, "Close {side:?}"),
            Step::Reset(side) => write!(f, "Reset {side:?}"),
        }
    }
}

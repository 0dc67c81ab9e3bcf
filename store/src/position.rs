//! Positions: points of a trace that can be travelled to, and their one grammar.
//!
//! ```text
//! position = "@" anchor ["^"]
//! anchor   = "start" | "end"
//!          | RFC 3339 time with offset          2026-04-25T14:32:00Z
//!          | "-" (count unit)+                  -5m, -1h30m, before the end; units d, h, m, s
//!          | "lsn:" LSN                         lsn:0/16B3748
//!          | "xid:" number                      xid:742
//!          | "req:" (number | the client's own X-Request-Id)
//!          | "txn:" number | "stmt:" number | "call:" number
//! ```
//!
//! A trailing `^` means just before. This module only reads and writes the notation; what a position means in a given
//! trace is resolved by the reader.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::ids::{CallId, Lsn, RequestId, StatementId, TransactionId, Xid};
use crate::time::Timestamp;

/// A point of a trace: an anchor, and which side of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// What the position is tied to.
    pub anchor: Anchor,
    /// Which side of the anchor.
    pub side: Side,
}

/// Which side of an anchor a position lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Side {
    /// At the anchor, its effects included.
    #[default]
    At,
    /// Just before the anchor, its effects left out: written with a trailing `^`.
    Before,
}

/// What a position is tied to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// The beginning of the trace: the first state that can be restored.
    Start,
    /// The end of the trace.
    End,
    /// A wall time.
    Time(Timestamp),
    /// So long before the end of the trace.
    BeforeEnd(Duration),
    /// A commit's position in the write-ahead log: a state in commit order, which no session need have seen.
    Lsn(Lsn),
    /// A transaction by PostgreSQL's id.
    Xid(Xid),
    /// A request.
    Request(RequestRef),
    /// A transaction.
    Transaction(TransactionId),
    /// A statement.
    Statement(StatementId),
    /// An external call.
    Call(CallId),
}

/// How a request is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestRef {
    /// By its number in the trace. A name of digits only is always taken as a number.
    Id(RequestId),
    /// By the client's own name for it, its `X-Request-Id`.
    External(String),
}

/// Text that is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a position: {problem}")]
pub struct ParsePositionError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The grammar in one line, for hints.
const FORMS: &str = "positions are written @start, @end, @2026-04-25T14:32:00Z, @-5m (before the end), @lsn:0/16B3748, \
                     @xid:742, @req:ID, @txn:ID, @stmt:ID or @call:ID; a trailing ^ means just before";

impl ParsePositionError {
    /// The grammar by example.
    pub fn hint(&self) -> String {
        FORMS.to_owned()
    }
}

impl Position {
    /// At an anchor.
    pub fn at(anchor: Anchor) -> Self {
        Position { anchor, side: Side::At }
    }

    /// Just before an anchor.
    pub fn before(anchor: Anchor) -> Self {
        Position { anchor, side: Side::Before }
    }
}

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |problem: String| ParsePositionError { text: text.to_owned(), problem };
        let rest = text.strip_prefix('@').ok_or_else(|| error("it does not begin with @".into()))?;
        let (anchor, side) = match rest.strip_suffix('^') {
            Some(anchor) => (anchor, Side::Before),
            None => (rest, Side::At),
        };
        Ok(Position { anchor: parse_anchor(anchor).map_err(error)?, side })
    }
}

fn parse_anchor(text: &str) -> Result<Anchor, String> {
    match text {
        "" => return Err("nothing follows the @".into()),
        "start" => return Ok(Anchor::Start),
        "end" => return Ok(Anchor::End),
        _ => {}
    }
    if let Some(duration) = text.strip_prefix('-') {
        return parse_duration(duration).map(Anchor::BeforeEnd);
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return parse_time(text).map(Anchor::Time);
    }
    let Some((kind, id)) = text.split_once(':') else {
        return Err(format!("\"{text}\" is neither start, end, a time nor KIND:ID"));
    };
    match kind {
        "lsn" => parse_id(id).map(Anchor::Lsn),
        "xid" => parse_id(id).map(Anchor::Xid),
        "req" => parse_request(id).map(Anchor::Request),
        "txn" => parse_id(id).map(Anchor::Transaction),
        "stmt" => parse_id(id).map(Anchor::Statement),
        "call" => parse_id(id).map(Anchor::Call),
        _ => Err(format!("\"{kind}\" is not one of lsn, xid, req, txn, stmt and call")),
    }
}

fn parse_id<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn parse_request(text: &str) -> Result<RequestRef, String> {
    if text.is_empty() {
        return Err("the request's id is missing".into());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a request's id has no blanks".into());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Ok(RequestRef::Id(RequestId(number)));
    }
    Ok(RequestRef::External(text.to_owned()))
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse::<jiff::Timestamp>().map(|time| Timestamp(time.as_microsecond())).map_err(|_| {
        if text.parse::<jiff::civil::DateTime>().is_ok() {
            format!("the time has no offset (write {text}Z for UTC)")
        } else {
            "it is not a time such as 2026-04-25T14:32:00Z".into()
        }
    })
}

/// Units of a duration with their seconds, longest first.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || "a duration is numbers with units d, h, m or s, such as 5m or 1h30m".to_owned();
    let mut seconds: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(problem());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(problem)?;
        let count: u64 = rest[..digits].parse().map_err(|_| problem())?;
        let unit = rest[digits..].chars().next().ok_or_else(problem)?;
        let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(problem)?;
        seconds = count.checked_mul(scale).and_then(|part| seconds.checked_add(part)).ok_or("it is too long")?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    Ok(Duration::from_secs(seconds))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.anchor.fmt(f)?;
        match self.side {
            Side::At => Ok(()),
            Side::Before => f.write_str("^"),
        }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anchor::Start => f.write_str("@start"),
            Anchor::End => f.write_str("@end"),
            Anchor::Time(time) => write!(f, "@{time}"),
            Anchor::BeforeEnd(duration) => write_duration(f, duration.as_secs()),
            Anchor::Lsn(lsn) => write!(f, "@lsn:{lsn}"),
            Anchor::Xid(xid) => write!(f, "@xid:{xid}"),
            Anchor::Request(RequestRef::Id(id)) => write!(f, "@req:{id}"),
            Anchor::Request(RequestRef::External(name)) => write!(f, "@req:{name}"),
            Anchor::Transaction(id) => write!(f, "@txn:{id}"),
            Anchor::Statement(id) => write!(f, "@stmt:{id}"),
            Anchor::Call(id) => write!(f, "@call:{id}"),
        }
    }
}

fn write_duration(f: &mut fmt::Formatter<'_>, mut seconds: u64) -> fmt::Result {
    f.write_str("@-")?;
    if seconds == 0 {
        return f.write_str("0s");
    }
    for (name, scale) in UNITS {
        if seconds >= scale {
            write!(f, "{}{name}", seconds / scale)?;
            seconds %= scale;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_form() {
        let check = |text: &str, anchor: Anchor| {
            assert_eq!(text.parse(), Ok(Position::at(anchor.clone())), "{text}");
            assert_eq!(format!("{text}^").parse(), Ok(Position::before(anchor)), "{text}^");
        };
        let external = |name: &str| Anchor::Request(RequestRef::External(name.into()));
        check("@start", Anchor::Start);
        check("@end", Anchor::End);
        check("@2026-04-25T14:32:00Z", Anchor::Time(Timestamp(1_777_127_520_000_000)));
        check("@2026-04-25T16:32:00.000001+02:00", Anchor::Time(Timestamp(1_777_127_520_000_001)));
        check("@-5m", Anchor::BeforeEnd(Duration::from_mins(5)));
        check("@-1d2h3m4s", Anchor::BeforeEnd(Duration::from_secs(93_784)));
        check("@lsn:0/16B3748", Anchor::Lsn(Lsn(0x16B_3748)));
        check("@xid:742", Anchor::Xid(Xid(742)));
        check("@req:12", Anchor::Request(RequestRef::Id(RequestId(12))));
        check("@req:load-000123", external("load-000123"));
        check("@req:99999999999999999999", external("99999999999999999999"));
        check("@req:a:b^c", external("a:b^c"));
        check("@txn:3", Anchor::Transaction(TransactionId(3)));
        check("@stmt:4", Anchor::Statement(StatementId(4)));
        check("@call:5", Anchor::Call(CallId(5)));
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<Position>().expect_err(text);
            assert!(error.to_string().contains(part), "{error}");
            assert!(error.hint().contains("@lsn:0/16B3748"));
        };
        check("", "begin with @");
        check("end", "begin with @");
        check("@", "nothing follows");
        check("@^", "nothing follows");
        check("@begin", "neither start");
        check("@2026-04-25T14:32:00", "write 2026-04-25T14:32:00Z for UTC");
        check("@2026-13-25T14:32:00Z", "not a time");
        check("@-", "units d, h, m or s");
        check("@-5", "units d, h, m or s");
        check("@-5w", "units d, h, m or s");
        check("@-99999999999999999d", "too long");
        check("@lsn:16B3748", "log sequence number");
        check("@stmt:four", "statement id");
        check("@req:", "missing");
        check("@req:a b", "no blanks");
        check("@row:4", "\"row\" is not one of");
    }

    fn anchor() -> impl Strategy<Value = Anchor> {
        prop_oneof![
            Just(Anchor::Start),
            Just(Anchor::End),
            (0..253_000_000_000_000_000_i64).prop_map(|at| Anchor::Time(Timestamp(at))),
            any::<u64>().prop_map(|seconds| Anchor::BeforeEnd(Duration::from_secs(seconds))),
            any::<u64>().prop_map(|lsn| Anchor::Lsn(Lsn(lsn))),
            any::<u64>().prop_map(|xid| Anchor::Xid(Xid(xid))),
            any::<u64>().prop_map(|id| Anchor::Request(RequestRef::Id(RequestId(id)))),
            "[a-zA-Z][a-zA-Z0-9:/_-]{0,20}".prop_map(|name| Anchor::Request(RequestRef::External(name))),
            any::<u64>().prop_map(|id| Anchor::Transaction(TransactionId(id))),
            any::<u64>().prop_map(|id| Anchor::Statement(StatementId(id))),
            any::<u64>().prop_map(|id| Anchor::Call(CallId(id))),
        ]
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(anchor in anchor(), before: bool) {
            let position = Position { anchor, side: if before { Side::Before } else { Side::At } };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn never_panics(text in "@?.{0,30}") {
            let _ = text.parse::<Position>();
        }
    }
}

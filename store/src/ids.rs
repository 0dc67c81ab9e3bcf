//! Identifiers: one type per meaning, so that a transaction id can never be taken for a statement's.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a valid {what}")]
pub struct ParseIdError {
    /// What was expected, in words.
    pub what: &'static str,
    /// The offending text.
    pub text: String,
}

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self).map_err(|_| ParseIdError { what: $what, text: text.to_owned() })
            }
        }
    };
}

numeric_id!(
    /// A request, numbered from 1 within its trace.
    RequestId, u64, "request id"
);
numeric_id!(
    /// A PostgreSQL session (one client connection through the proxy), numbered from 1 within its trace.
    SessionId, u64, "session id"
);
numeric_id!(
    /// A PostgreSQL transaction as the proxy saw it, numbered from 1 within its trace. Not PostgreSQL's own
    /// id: see [`Xid`].
    TransactionId, u64, "transaction id"
);
numeric_id!(
    /// An executed statement, numbered from 1 within its trace.
    StatementId, u64, "statement id"
);
numeric_id!(
    /// An external call (one outbound HTTP exchange), numbered from 1 within its trace.
    CallId, u64, "call id"
);
numeric_id!(
    /// A database server or HTTP listener that was recorded, numbered from 0 in the order given to the recorder.
    SourceId, u16, "source id"
);
numeric_id!(
    /// PostgreSQL's 64-bit transaction id (`xid8`): epoch and 32-bit id, so it never wraps around.
    Xid, u64, "transaction id (xid)"
);
numeric_id!(
    /// PostgreSQL's object identifier.
    Oid, u32, "object id"
);

impl Xid {
    /// Widens a 32-bit id of the replication stream by its signed distance to a recent 64-bit one.
    ///
    /// Source: `TransactionIdPrecedes` compares 32-bit ids modulo 2^32, so ids within 2^31 of a reference are unambiguous.
    pub fn widen(narrow: u32, reference: Xid) -> Xid {
        let distance = narrow.wrapping_sub(reference.0 as u32) as i32;
        Xid(reference.0.wrapping_add_signed(i64::from(distance)))
    }
}

/// A byte position in PostgreSQL's write-ahead log, written `0/16B3748`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdError { what: "log sequence number (such as 0/16B3748)", text: text.to_owned() };
        let (high, low) = text.split_once('/').ok_or_else(error)?;
        let half = |part: &str| u32::from_str_radix(part, 16).map_err(|_| error());
        Ok(Lsn((u64::from(half(high)?) << 32) | u64::from(half(low)?)))
    }
}

/// Hands out the numbers of one trace. Shared by every part of a recorder; lock-free.
#[derive(Debug, Default)]
pub struct IdSource {
    requests: AtomicU64,
    sessions: AtomicU64,
    transactions: AtomicU64,
    statements: AtomicU64,
    calls: AtomicU64,
}

impl IdSource {
    /// The next request's id.
    pub fn request(&self) -> RequestId {
        RequestId(next(&self.requests))
    }

    /// The next session's id.
    pub fn session(&self) -> SessionId {
        SessionId(next(&self.sessions))
    }

    /// The next transaction's id.
    pub fn transaction(&self) -> TransactionId {
        TransactionId(next(&self.transactions))
    }

    /// The next statement's id.
    pub fn statement(&self) -> StatementId {
        StatementId(next(&self.statements))
    }

    /// The next external call's id.
    pub fn call(&self) -> CallId {
        CallId(next(&self.calls))
    }
}

fn next(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_what_it_writes() {
        for (text, value) in [("0/16B3748", 0x16B_3748), ("1/0", 1 << 32), ("FFFFFFFF/FFFFFFFF", u64::MAX)] {
            assert_eq!(text.parse(), Ok(Lsn(value)));
            assert_eq!(Lsn(value).to_string(), text);
        }
        for text in ["", "0", "0/", "/0", "G/0", "0/0/0", "100000000/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn narrow_xids_widen_across_the_epoch_border() {
        let check = |narrow: u32, reference: u64, wide: u64| {
            assert_eq!(Xid::widen(narrow, Xid(reference)), Xid(wide));
        };
        check(742, 740, 742);
        check(5, (1 << 32) - 3, (1 << 32) + 5);
        check(0xFFFF_FFFE, (1 << 32) + 3, (1 << 32) - 2);
        check(3, 7 << 32, (7 << 32) + 3);
    }
}

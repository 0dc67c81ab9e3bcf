//! What can be told of SQL without parsing it: comments, statement borders, the first keyword, transaction control.
//!
//! A scanner, not a parser: it never fails, on any text, and where SQL is not valid it gives the answer that does least
//! harm. It assumes `standard_conforming_strings = on`.
//!
//! Source: `scan.l` of PostgreSQL for tokens, `psqlscan.l` for statement borders within `BEGIN ATOMIC` bodies.

mod comment;
mod control;
mod fingerprint;
mod masking;
mod relation;
mod scan;
mod statement;

pub(crate) use comment::percent_decoded;
pub use comment::sqlcommenter;
pub use control::{TransactionControl, TransactionModes, transaction_control};
pub use fingerprint::{fingerprint, normalized};
pub use masking::mask_secrets;
pub use relation::{RelationName, target_relation};
pub use scan::{Token, TokenKind, Tokens, tokens};
pub use statement::{locks_rows, statements, takes_snapshot, verb};

#[cfg(test)]
mod tests;

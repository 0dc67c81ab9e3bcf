//! A recorded request, run again.
//!
//! From the bottom up: [`private_postgres`] runs a PostgreSQL of its own, on which everything else of this crate stands.

pub mod private_postgres;

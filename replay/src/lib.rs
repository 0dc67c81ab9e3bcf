//! A recorded request, run again.
//!
//! From the bottom up: [`private_postgres`] runs a PostgreSQL of its own; [`checkout`] restores a recorded database in it;
//! [`recorded`] reads a request and what ran beside it; [`plan`] says what must be so before each of its statements;
//! [`ghosts`] makes other transactions happen again; [`compare`] tells what differs; [`engine`] runs all of it; [`report`] is
//! what it found.

pub mod checkout;
pub mod compare;
pub mod engine;
pub mod error;
pub mod ghosts;
pub mod plan;
pub mod private_postgres;
pub mod recorded;
pub mod report;

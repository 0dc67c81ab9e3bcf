//! A recorded request, run again.
//!
//! From the bottom up: [`private_postgres`] runs a PostgreSQL of its own; [`checkout`] restores a recorded database in it.

pub mod checkout;
pub mod compare;
pub mod error;
pub mod ghosts;
pub mod plan;
pub mod private_postgres;
pub mod recorded;

//! A stage for end-to-end tests: a private PostgreSQL, the fixtures, `txray record` in front of them, and the load
//! driver, all as processes with the arguments that a user would type.

pub mod compat;
pub mod fault;
pub mod kill;
pub mod load;
pub mod overload;
mod program;
mod stage;

pub use program::{Finished, Program, binary, free_port, http_get, run, txray, variable};
pub use stage::{DATABASE, Recorded, Stage, database_server, database_server_of, postgres_18};

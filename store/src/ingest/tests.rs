//! Whole logs, told as small stories, against the rows that they give.

mod changes;
mod exact;
mod identities;
mod origins;
mod rows;
mod speed;
pub(crate) mod story;

//! Whole logs, told as small stories, against the rows that they give.

mod changes;
mod identities;
mod origins;
mod rows;
mod speed;
mod story;

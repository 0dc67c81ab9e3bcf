//! Sessions played from scripts: what each side sends, and what is recorded and asked.

mod anything;
mod asking;
mod recording;
pub(crate) mod script;

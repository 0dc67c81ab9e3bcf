//! `txray show @…`: one thing with everything around it.

use std::io::Write;

use txray_store::position::Position;

use super::args::ShowOptions;
use super::failure::{Failure, Outcome};
use super::{locate, story};
use crate::output::print_record;

pub(super) fn run(options: &ShowOptions, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let reader = locate::open(&options.read.trace)?;
    let position: Position = options.position.parse()?;
    let resolved = reader.resolve(&position)?;
    let format = options.read.output;
    if let Some(id) = resolved.call {
        if let Some(call) = reader.call(id)? {
            print_record(&serde_json::to_value(&call)?, format, out, |out| story::call(&call, out))?;
        }
    } else if let Some(id) = resolved.statement {
        if let Some(statement) = reader.statement(id)? {
            print_record(&serde_json::to_value(&statement)?, format, out, |out| story::statement(&statement, out))?;
        }
    } else if let Some(id) = resolved.transaction {
        if let Some(transaction) = reader.transaction(id)? {
            print_record(&serde_json::to_value(&transaction)?, format, out, |out| {
                story::transaction(&transaction, out)
            })?;
        }
    } else if let Some(id) = resolved.request {
        if let Some(request) = reader.request(id)? {
            print_record(&serde_json::to_value(&request)?, format, out, |out| story::request(&request, out))?;
        }
    } else {
        return Err(Failure::usage(format!("{position} names a moment, not a thing to show"))
            .hint("show takes @req:ID, @txn:ID, @stmt:ID or @call:ID; list around a moment with txray ls requests --since")
            .into());
    }
    Ok(Outcome::Done)
}

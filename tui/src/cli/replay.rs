//! `txray checkout` and `txray replay`.

use std::io::Write;

use super::args::{CheckoutOptions, ReplayOptions};
use super::failure::{Failure, Outcome};

pub(super) fn checkout(_options: &CheckoutOptions, _out: &mut dyn Write) -> anyhow::Result<Outcome> {
    Err(Failure::incomplete("not here yet").into())
}

pub(super) fn run(_options: ReplayOptions, _out: &mut dyn Write) -> anyhow::Result<Outcome> {
    Err(Failure::incomplete("not here yet").into())
}

//! Recording: what stands on the borders of an application and tells events of what passes.
//!
//! Everything here forwards first and watches beside: no request, statement or connection fails, waits or answers
//! differently because it was recorded. `ARCHITECTURE.md` in the repository's root shows how the parts stand together.

pub mod capture;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod pg;
pub mod pgoutput;
pub mod recorder;
pub mod redaction;
mod seldom;

//! Where answers come from. The UI knows only this trait; the trace's reader and the tests' memory implement it.

use super::message::{Answer, Problem, Query};

/// Stops the query that is running, from any thread; does nothing when none runs.
pub(crate) type Interrupter = Box<dyn Fn() + Send + Sync>;

/// Answers queries, one at a time, on the thread that owns it.
pub(crate) trait DataSource: Send {
    /// Answers a query; blocks.
    fn answer(&mut self, query: &Query) -> Result<Answer, Problem>;

    /// A way to stop a running query from another thread.
    fn interrupter(&self) -> Interrupter;
}

impl DataSource for Box<dyn DataSource> {
    fn answer(&mut self, query: &Query) -> Result<Answer, Problem> {
        self.as_mut().answer(query)
    }

    fn interrupter(&self) -> Interrupter {
        self.as_ref().interrupter()
    }
}

//! When a snapshot from elsewhere would bound what a statement saw.
//!
//! A question that was sent after a statement's response arrived gives an upper bound of what the statement saw, whichever
//! session it is put on. Where many sessions are asked, that of another comes soon enough; otherwise the side connection of
//! change capture takes a sample, so that nothing more is put on the application's sessions than the lower bound.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;
use txray_store::time::Timestamp;

/// What the proxy tells the sampler of one server.
#[derive(Debug, Default)]
pub struct SnapshotDemand {
    /// When the last response that wants an upper bound arrived.
    answered: AtomicI64,
    /// When the last question was put on a session.
    asked: AtomicI64,
    wake: Notify,
}

impl SnapshotDemand {
    /// A statement's response arrived: a snapshot asked for from now on bounds what it saw.
    pub fn answered(&self, at: Timestamp) {
        self.answered.fetch_max(at.0, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// A session is asked.
    pub fn asked(&self, at: Timestamp) {
        self.asked.fetch_max(at.0, Ordering::Relaxed);
    }

    /// The last response, when no question was put after it.
    pub fn unmet(&self) -> Option<Timestamp> {
        let answered = self.answered.load(Ordering::Relaxed);
        (answered >= self.asked.load(Ordering::Relaxed) && answered > 0).then_some(Timestamp(answered))
    }

    /// Waits until a response arrives, or has arrived since this was last waited for. Cancel safe.
    pub async fn wanted(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_behind_the_last_response_meets_the_demand() {
        let demand = SnapshotDemand::default();
        assert_eq!(demand.unmet(), None, "nothing was answered yet");
        demand.answered(Timestamp(10));
        assert_eq!(demand.unmet(), Some(Timestamp(10)));
        demand.asked(Timestamp(10));
        assert_eq!(demand.unmet(), Some(Timestamp(10)), "it may have been sent before the response came");
        demand.asked(Timestamp(11));
        assert_eq!(demand.unmet(), None);
        demand.answered(Timestamp(9));
        assert_eq!(demand.unmet(), None, "times of several sessions come in any order");
    }
}

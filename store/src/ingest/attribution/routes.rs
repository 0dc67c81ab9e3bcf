//! Which routes run which SQL.

use std::collections::HashMap;

use super::{Request, Work};

/// How much one sight of a shape anywhere counts for a route that was never seen with it.
const SMOOTHING: f64 = 2.0;
/// A route speaks for or against a request by at most this much.
const MOST_AGAINST: f64 = -4.0;

/// How often each shape of statement was seen with each route, by work whose request is known.
#[derive(Debug, Default)]
pub(super) struct Routes<'a> {
    seen: HashMap<(&'a str, u64), f64>,
    of_route: HashMap<&'a str, f64>,
    of_shape: HashMap<u64, f64>,
    total: f64,
}

impl<'a> Routes<'a> {
    /// Counts work of a request that is known with this confidence.
    pub(super) fn learn(&mut self, request: &'a Request, work: &Work, confidence: f64) {
        for shape in &work.shapes {
            *self.seen.entry((&request.route, *shape)).or_default() += confidence;
            *self.of_route.entry(&request.route).or_default() += confidence;
            *self.of_shape.entry(*shape).or_default() += confidence;
            self.total += confidence;
        }
    }

    /// How much more likely this work is on the request's route than anywhere, as a logarithm. 0 for a route of which
    /// nothing is known, and where the SQL is new.
    pub(super) fn affinity(&self, request: &Request, work: &Work) -> f64 {
        let known = self.of_route.get(request.route.as_str()).copied().unwrap_or(0.0);
        if known == 0.0 || work.shapes.is_empty() {
            return 0.0;
        }
        let each = work.shapes.iter().map(|shape| {
            let share = self.of_shape.get(shape).copied().unwrap_or(0.0) / self.total;
            if share == 0.0 {
                return 0.0;
            }
            let seen = self.seen.get(&(request.route.as_str(), *shape)).copied().unwrap_or(0.0);
            (((seen + SMOOTHING * share) / (known + SMOOTHING)) / share).ln()
        });
        (each.sum::<f64>() / work.shapes.len() as f64).clamp(MOST_AGAINST, -MOST_AGAINST)
    }
}

//! Puts together what a run found. Pure.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use txray_store::ids::{StatementId, Xid};

use super::alignment::is_drivers;
use super::answers::CallState;
use super::conductor::{Counts, StepOutcome};
use super::exchange::Answered;
use crate::compare::{Aspect, BodySide, Comparison, Divergence, Place, ResponseSide, StatementSide, compare_response};
use crate::ghosts::Injection;
use crate::plan::{Plan, Step};
use crate::recorded::Recorded;
use crate::report::{CallReport, Counters, Injected, ReplayReport, ResponseReport, StepOrigin, StepReport, Verdict};

/// What a run found.
pub(super) struct Findings<'a> {
    pub(super) recorded: &'a Recorded,
    pub(super) plan: &'a Plan,
    pub(super) outcomes: Vec<StepOutcome>,
    pub(super) counts: &'a Counts,
    pub(super) calls: &'a CallState,
    pub(super) comparison: &'a mut Comparison,
    pub(super) answered: Answered,
    /// Transactions whose changes could not be applied.
    pub(super) failed: Vec<Xid>,
    pub(super) notes: Vec<String>,
    pub(super) request_ms: u64,
}

/// Compares the response and writes the report.
pub(super) fn assemble(mut findings: Findings<'_>) -> ReplayReport {
    let steps = steps(&findings);
    for step in steps.iter().filter(|step| step.replayed.is_none() && step.origin != StepOrigin::Driver) {
        note_missing(findings.comparison, &steps, step);
    }
    let calls = calls(&mut findings);
    let response = response(&mut findings);
    if !findings.failed.is_empty() {
        let xids: Vec<String> = findings.failed.iter().map(ToString::to_string).collect();
        findings.notes.push(format!(
            "transactions {} could not be injected: the application's own locks were in the way",
            xids.join(", ")
        ));
    }
    if steps.iter().any(|step| step.origin == StepOrigin::Adopted) {
        let note = "steps marked + were not attributed to the request when it was recorded, but it makes them";
        findings.notes.push(note.to_owned());
    }
    let counters = counters(&findings, &steps, &calls);
    let summary = &findings.recorded.request.summary;
    let verdict = match findings.comparison.divergences.first() {
        None => Verdict::Faithful,
        Some(first) => Verdict::Diverged { first: first.clone(), all: findings.comparison.divergences.clone() },
    };
    ReplayReport {
        request: summary.id,
        method: summary.method.clone(),
        target: summary.target.clone(),
        verdict,
        counters,
        steps,
        calls,
        response,
        notes: findings.notes,
        kept: None,
        restore_ms: 0,
        request_ms: findings.request_ms,
    }
}

fn steps(findings: &Findings<'_>) -> Vec<StepReport> {
    let statements = &findings.recorded.statements;
    let optional =
        |step: &Step| findings.plan.transactions.iter().any(|one| one.id == step.transaction && one.optional);
    let rows = findings.plan.steps.iter().zip(statements).zip(&findings.outcomes);
    let rows = rows.filter(|((step, _), outcome)| outcome.replayed.is_some() || !optional(step));
    let report = rows.map(|((step, statement), outcome)| StepReport {
        statement: step.statement,
        transaction: step.transaction,
        sql: statement.summary.sql.clone(),
        snapshot: step.snapshot.as_ref().map(ToString::to_string),
        exact: step.exact,
        injected: outcome
            .injected
            .iter()
            .map(|(xid, how)| Injected {
                xid: *xid,
                request: findings.recorded.neighbours.get(xid).and_then(|one| one.request),
                how: *how,
            })
            .collect(),
        held: outcome.held.len() as u64,
        recorded: StatementSide::recorded(statement).outcome(),
        replayed: outcome.replayed.as_ref().map(StatementSide::outcome),
        alike: outcome.alike,
        origin: match (is_drivers(&statement.summary.sql), optional(step)) {
            (true, _) => StepOrigin::Driver,
            (false, true) => StepOrigin::Adopted,
            (false, false) => StepOrigin::Request,
        },
    });
    report.collect()
}

/// Notes a step that did not come, before whatever differed at later ones.
fn note_missing(comparison: &mut Comparison, steps: &[StepReport], missing: &StepReport) {
    let place_of = |id: StatementId| steps.iter().position(|step| step.statement == id);
    let own = place_of(missing.statement);
    let at = comparison.divergences.iter().position(|one| match one.place {
        Place::Statement(id) => place_of(id) > own,
        Place::Response => true,
        _ => false,
    });
    let divergence = Divergence {
        place: Place::Statement(missing.statement),
        aspect: Aspect::Missing,
        recorded: Some(missing.recorded.clone()),
        replayed: None,
    };
    let at = at.unwrap_or(comparison.divergences.len());
    comparison.divergences.insert(at, divergence);
}

fn calls(findings: &mut Findings<'_>) -> Vec<CallReport> {
    let mut reports = Vec::new();
    for call in &findings.recorded.request.calls {
        let answered = findings.calls.answered.iter().find(|one| one.id == call.id);
        let text = format!("{} {}", call.method, call.url);
        let live = findings.calls.passed > 0;
        if answered.is_none() && !live {
            findings.comparison.diverge(Place::Call(call.id), Aspect::Missing, Some(&text), None);
        }
        reports.push(CallReport {
            call: call.id,
            method: call.method.clone(),
            url: call.url.clone(),
            made: answered.is_some(),
            alike: answered.is_some_and(|one| one.alike),
        });
    }
    reports
}

fn response(findings: &mut Findings<'_>) -> ResponseReport {
    let request = &findings.recorded.request;
    let recorded = ResponseSide {
        status: request.summary.status,
        headers: request.response_headers.clone(),
        body: BodySide::from(&request.response_body),
    };
    let (replayed, failure) = match &findings.answered {
        Answered::Response(response) => (Some(response), None),
        Answered::Broken(reason) => (None, Some(reason.clone())),
        Answered::TimedOut => (None, Some("the application did not answer in time".to_owned())),
    };
    let alike = match replayed {
        Some(replayed) => compare_response(findings.comparison, &recorded, replayed),
        None if recorded.status.is_none() => true,
        None => {
            let status = recorded.status.map(|status| status.to_string());
            findings.comparison.diverge(Place::Response, Aspect::Missing, status.as_deref(), None);
            false
        }
    };
    let status = replayed.and_then(|one| one.status);
    ResponseReport { recorded: recorded.status, replayed: status, failure, alike }
}

fn counters(findings: &Findings<'_>, steps: &[StepReport], calls: &[CallReport]) -> Counters {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let expected = || steps.iter().filter(|step| step.origin != StepOrigin::Driver);
    let injected: BTreeSet<Xid> = steps
        .iter()
        .flat_map(|step| &step.injected)
        .filter(|one| one.how != Injection::Failed)
        .map(|one| one.xid)
        .collect();
    let waited = steps.iter().flat_map(|step| &step.injected).filter(|one| one.how == Injection::WaitedFor).count();
    let tally = findings.comparison.tally;
    Counters {
        steps: expected().count() as u64,
        matched: expected().filter(|step| step.alike).count() as u64,
        calls: calls.len() as u64,
        calls_matched: calls.iter().filter(|call| call.alike).count() as u64,
        injected: injected.len() as u64,
        waited_for: waited as u64,
        ghosts: steps.iter().map(|step| step.held).sum(),
        injected_failures: count(&findings.counts.injected_failures),
        reordered: tally.reordered,
        renamed: tally.renamed,
        masked: tally.masked,
        refused_calls: findings.calls.refused,
        passed_calls: findings.calls.passed,
        driver_statements: count(&findings.counts.driver),
        background: count(&findings.counts.background),
    }
}

//! What must hold after a kill.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::clients::{Notes, Unit, read_mark};
use super::{KillReport, SYNC_INTERVAL};
use crate::program::txray;

/// What one trace showed.
#[derive(Debug, Default)]
pub(super) struct TraceCheck {
    statements: u64,
    missing: u64,
    oldest_missing: Duration,
    stream_lag: Duration,
    sealed: bool,
    violations: Vec<String>,
}

impl TraceCheck {
    pub(super) fn add_to(self, report: &mut KillReport) {
        report.statements += self.statements;
        report.missing += self.missing;
        report.oldest_missing = report.oldest_missing.max(self.oldest_missing);
        report.longest_stream_lag = report.longest_stream_lag.max(self.stream_lag);
        report.sealed += u32::from(self.sealed);
        report.violations.extend(self.violations);
    }
}

/// What was acknowledged is in the database, once; what else is there was in flight; nobody saw an error while the recorder
/// lived.
pub(super) fn database(
    round: u32,
    notes: &Notes,
    rows: &HashMap<(Unit, u32), u32>,
    killed: SystemTime,
    report: &mut KillReport,
) {
    let mut violated = |what: String| report.violations.push(format!("round {round}: {what}"));
    for error in &notes.errors {
        violated(format!("a client saw an error of the server: {error}"));
    }
    for (unit, broken) in &notes.in_flight {
        if *broken < killed {
            violated(format!("{unit:?} lost its connection before the kill"));
        }
    }
    let mut expected = HashSet::new();
    for (unit, count, _) in &notes.acknowledged {
        for row in 0..*count {
            expected.insert((*unit, row));
            if !rows.contains_key(&(*unit, row)) {
                violated(format!("{unit:?} was acknowledged and row {row} of it is not in the database"));
            }
        }
    }
    let in_flight: HashSet<Unit> = notes.in_flight.iter().map(|(unit, _)| *unit).collect();
    for ((unit, row), times) in rows {
        if *times != 1 {
            violated(format!("row {row} of {unit:?} is in the database {times} times"));
        }
        if !expected.contains(&(*unit, *row)) && !in_flight.contains(unit) {
            violated(format!("row {row} of {unit:?} is in the database and nobody sent it in this round"));
        }
    }
    let committed: HashSet<Unit> = rows.keys().map(|(unit, _)| *unit).collect();
    report.acknowledged += notes.acknowledged.len() as u64;
    report.in_flight += in_flight.len() as u64;
    report.in_flight_committed += in_flight.intersection(&committed).count() as u64;
}

/// The trace opens, says that its recorder died, and has what is older than the sync interval.
pub(super) fn trace(
    round: u32,
    trace: &Path,
    notes: &Notes,
    killed: SystemTime,
    seal: bool,
) -> anyhow::Result<TraceCheck> {
    const STATEMENTS: &str = "SELECT unnest(regexp_extract_all(text || coalesce(parameters, ''), 'u\\d+-\\d+-\\d+'))
        FROM statements JOIN sql_texts ON sql_texts.id = sql_id WHERE verb = 'INSERT' AND sqlstate IS NULL";
    const CHANGES: &str = "SELECT regexp_extract(new_values, 'u\\d+-\\d+-\\d+') FROM row_changes
        WHERE new_values LIKE '%u%-%-%'";
    const DEATHS: &str = "SELECT count(*) FROM gaps WHERE reason LIKE '%ended without finishing%'";
    let mut check = TraceCheck::default();
    let statements = marks(trace, STATEMENTS).context("the trace does not open")?;
    check.statements = statements.len() as u64;
    let age = |at: SystemTime| killed.duration_since(at).unwrap_or_default();
    for (unit, count, at) in &notes.acknowledged {
        if (0..*count).all(|row| statements.contains(&(*unit, row))) {
            continue;
        }
        check.missing += 1;
        check.oldest_missing = check.oldest_missing.max(age(*at));
        if age(*at) > SYNC_INTERVAL {
            let age = age(*at).as_millis();
            check
                .violations
                .push(format!("round {round}: {unit:?}, acknowledged {age} ms before the kill, is missing"));
        }
    }
    let changes = marks(trace, CHANGES)?;
    check.row_changes(round, notes, &changes, age);
    if lines(trace, DEATHS)? != ["1"] {
        check.violations.push(format!("round {round}: the trace does not say that its recorder died"));
    }
    if seal {
        let directory = trace.to_str().context("UTF-8")?;
        txray(["seal", "--trace", directory])?.expect(0).context("sealing failed")?;
        txray(["verify", "--trace", directory])?.expect(0).context("verification failed")?;
        if marks(trace, STATEMENTS)? != statements || marks(trace, CHANGES)? != changes {
            check.violations.push(format!("round {round}: sealing changed what the trace holds"));
        }
        check.sealed = true;
    }
    Ok(check)
}

impl TraceCheck {
    /// The change stream is a prefix: of each client, there is no change behind one that is missing.
    fn row_changes(
        &mut self,
        round: u32,
        notes: &Notes,
        changes: &BTreeSet<(Unit, u32)>,
        age: impl Fn(SystemTime) -> Duration,
    ) {
        let mut first_missing: HashMap<u32, u64> = HashMap::new();
        for (unit, count, at) in &notes.acknowledged {
            let complete = (0..*count).all(|row| changes.contains(&(*unit, row)));
            let (client, number) = *unit;
            if !complete {
                first_missing.entry(client).or_insert(number);
                self.stream_lag = self.stream_lag.max(age(*at));
            } else if let Some(missing) = first_missing.get(&client) {
                let what = format!("client {client}: the changes of {number} are there and those of {missing} are not");
                self.violations.push(format!("round {round}: {what}"));
            }
        }
    }
}

fn marks(trace: &Path, query: &str) -> anyhow::Result<BTreeSet<(Unit, u32)>> {
    lines(trace, query)?.iter().map(|line| read_mark(line).with_context(|| format!("\"{line}\" is no mark"))).collect()
}

/// The single column of a query's answer.
fn lines(trace: &Path, query: &str) -> anyhow::Result<Vec<String>> {
    let directory = trace.to_str().context("UTF-8")?;
    let answer = txray(["sql", query, "-o", "csv", "-n", "0", "--trace", directory])?.expect(0)?;
    Ok(answer.lines().skip(1).map(str::to_owned).collect())
}

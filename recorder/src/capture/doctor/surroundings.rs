//! This machine: programs and disk.

use super::Finding;
use super::facts::Facts;
use super::server::bytes_text;

/// Below this a disk is about to be full, whatever the database.
const FREE_BYTES_MIN: u64 = 1 << 30;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![pg_dump(facts)];
    findings.extend(disk(facts));
    findings
}

fn pg_dump(facts: &Facts) -> Finding {
    let check = "pg_dump";
    let major = facts.source.version_number / 10_000;
    if let Some(path) = &facts.here.pg_dump {
        return Finding::ok(check, format!("\"{}\"", path.display()));
    }
    let meaning = "the schema is not recorded, so states cannot be restored";
    Finding::problem(check, format!("no pg_dump of version {major} or later was found"), meaning)
        .mended_by(format!("apt-get install postgresql-client-{major}    # or --pg-bin DIR with PostgreSQL's programs"))
}

/// The base copy takes about the database's size, less its indexes; what is recorded afterwards comes on top.
fn disk(facts: &Facts) -> Vec<Finding> {
    let check = "disk";
    let size = facts.settings.database_bytes;
    let mut findings = Vec::new();
    if let Some(size) = size {
        findings.push(Finding::ok("base copy", format!("the database has {}, indexes included", bytes_text(size))));
    }
    let Some(free) = facts.here.free_bytes else { return findings };
    let directory = facts.here.directory.display();
    let found = format!("{} are free in \"{directory}\"", bytes_text(free));
    let needed = size.unwrap_or_default();
    findings.push(if free < needed || free < FREE_BYTES_MIN {
        let meaning = "a trace begins with a copy of every row: when the disk is full, what cannot be written is a gap";
        Finding::problem(check, found, meaning).mended_by("txray record --out DIR    # on a larger disk")
    } else if free < needed.saturating_mul(2) {
        let meaning = "the base copy fits, but what is recorded after it may fill the disk";
        Finding::note(check, found, meaning).mended_by("txray record --out DIR    # on a larger disk")
    } else {
        Finding::ok(check, found)
    });
    findings
}

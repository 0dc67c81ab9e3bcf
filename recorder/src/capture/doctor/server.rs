//! The server, its settings and the role.

use super::super::catalogue::quote_identifier;
use super::super::error::Obstacle;
use super::super::server::obstacles;
use super::Finding;
use super::facts::{Facts, Room};

/// Newest major version that the recorder is tested with.
const NEWEST_TESTED: u32 = 18;

/// How long the recorder lets one of its own transactions of the base copy last; see `connection::Purpose`.
const BASE_COPY_SECONDS: u64 = 15 * 60;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = version(facts);
    findings.extend(capture(facts));
    findings.extend(room(facts));
    findings.push(functions(facts));
    findings.extend(settings(facts));
    findings.extend(leftovers(facts));
    findings.extend(open_transactions(facts));
    findings
}

fn version(facts: &Facts) -> Vec<Finding> {
    let major = facts.source.version_number / 10_000;
    if major > NEWEST_TESTED {
        let meaning = format!("versions up to {NEWEST_TESTED} are tested; this one may differ");
        return vec![Finding::note("version", format!("PostgreSQL {major}"), meaning)];
    }
    vec![Finding::ok("version", format!("PostgreSQL {major}"))]
}

/// Sessions of its own that the recorder keeps for each database: catalogue, DDL, snapshots, and the change stream.
const LASTING_SESSIONS: i64 = 4;

/// With those that it opens for a while: the copies of the base and of a new table, the dump of the schema, each with a watch.
const MOST_SESSIONS: i64 = 10;

/// Whether there is room for the recorder's own sessions beside the application's.
fn room(facts: &Facts) -> Vec<Finding> {
    let Room { most, used, most_of_role, used_by_role } = facts.room;
    let role = &facts.abilities.role;
    let check = "connections";
    let limits = [
        (
            Some(most),
            used,
            "the server".to_owned(),
            format!("ALTER SYSTEM SET max_connections = {}; -- then restart PostgreSQL", used + 100),
        ),
        (
            most_of_role,
            used_by_role,
            format!("role \"{role}\""),
            format!("ALTER ROLE {} CONNECTION LIMIT {};", quote_identifier(role), used_by_role + 100),
        ),
    ];
    let mut findings = Vec::new();
    for (most, used, whose, command) in limits {
        let Some(most) = most else { continue };
        let free = (most - used).max(0);
        let found = format!("{whose} may have {free} sessions more, of {most}");
        let needs = format!(
            "the recorder has {LASTING_SESSIONS} sessions of its own, and up to {MOST_SESSIONS} while it copies tables or dumps the schema"
        );
        if free < LASTING_SESSIONS {
            let meaning = format!("{needs}: rows are not captured, or the application is refused one of its sessions");
            findings.push(Finding::problem(check, found, meaning).mended_by(command));
        } else if free < MOST_SESSIONS {
            let meaning = format!("{needs}: the application may be refused one of its sessions");
            findings.push(Finding::note(check, found, meaning).mended_by(command));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            check,
            format!("there is room for the recorder's {LASTING_SESSIONS} to {MOST_SESSIONS} sessions"),
        ));
    }
    findings
}

/// What keeps row changes from being captured, and what was looked at to know that nothing does.
fn capture(facts: &Facts) -> Vec<Finding> {
    let source = &facts.source;
    let abilities = &facts.abilities;
    let found = obstacles(source, abilities, false);
    let mut findings: Vec<Finding> = found.iter().map(|obstacle| obstacle_finding(obstacle, facts)).collect();
    let fine = [
        ("wal_level", format!("wal_level is \"{}\"", source.wal_level)),
        ("standby", "the server is a primary".to_owned()),
        ("replication role", format!("role \"{}\" may replicate", abilities.role)),
        ("publications", format!("role \"{}\" may create publications", abilities.role)),
        ("replication slots", format!("{} of {} replication slots are in use", abilities.slots_used, abilities.slots)),
        ("walsenders", format!("{} of {} walsenders are in use", abilities.senders_used, abilities.senders)),
        ("synchronous standbys", "commits would not wait for the recorder".to_owned()),
    ];
    for (check, text) in fine {
        if findings.iter().all(|finding| finding.check != check) {
            findings.push(Finding::ok(check, text));
        }
    }
    findings
}

fn obstacle_finding(obstacle: &Obstacle, facts: &Facts) -> Finding {
    let quoted = quote_identifier;
    let (check, command) = match obstacle {
        Obstacle::WalLevel(_) => {
            ("wal_level", Some("ALTER SYSTEM SET wal_level = 'logical'; -- then restart PostgreSQL".to_owned()))
        }
        Obstacle::Replication(role) => ("replication role", Some(format!("ALTER ROLE {} REPLICATION;", quoted(role)))),
        Obstacle::CreatePublication { role, database } => {
            ("publications", Some(format!("GRANT CREATE ON DATABASE {} TO {};", quoted(database), quoted(role))))
        }
        Obstacle::NoFreeSlot(slots) => (
            "replication slots",
            Some(format!("ALTER SYSTEM SET max_replication_slots = {}; -- then restart PostgreSQL", slots + 5)),
        ),
        Obstacle::NoFreeWalSender(senders) => (
            "walsenders",
            Some(format!("ALTER SYSTEM SET max_wal_senders = {}; -- then restart PostgreSQL", senders + 5)),
        ),
        Obstacle::SynchronousStandby(_) => (
            "synchronous standbys",
            Some(
                "ALTER SYSTEM SET synchronous_standby_names = 'NAMES OF THE STANDBYS'; SELECT pg_reload_conf();"
                    .to_owned(),
            ),
        ),
        _ => (unmended_check(obstacle), None),
    };
    let meaning = match obstacle {
        Obstacle::Standby => {
            "requests and statements are recorded; rows, and what can be restored from them, are not. Snapshots are not asked \
             for: a standby's do not list transactions in progress"
        }
        _ => "requests and statements are recorded; rows, and what can be restored from them, are not",
    };
    let text = obstacle.to_string();
    let found = text.strip_prefix("row changes are not captured: ").unwrap_or(&text);
    let finding = Finding::problem(check, found, format!("{meaning}; {}", obstacle.hint()));
    match command {
        Some(command) if !facts.source.in_recovery => finding.mended_by(command),
        _ => finding,
    }
}

/// What was looked at, where no command mends what was found.
fn unmended_check(obstacle: &Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Standby => "standby",
        Obstacle::Version(_) => "version",
        // The others come up only when capture is attached.
        _ => "capture",
    }
}

fn functions(facts: &Facts) -> Finding {
    let forbidden = &facts.role.forbidden_functions;
    let check = "snapshot functions";
    if forbidden.is_empty() {
        return Finding::ok(check, "the functions that tell snapshots may be called");
    }
    let names = forbidden.join(", ");
    let meaning = "statements are recorded without the snapshots that they saw, so replays cannot restore it";
    let role = quote_identifier(&facts.abilities.role);
    Finding::problem(check, format!("role \"{}\" may not call {names}", facts.abilities.role), meaning)
        .mended_by(format!("GRANT EXECUTE ON FUNCTION {names} TO {role};"))
}

fn settings(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings;
    let mut findings = Vec::new();
    let role = quote_identifier(&facts.abilities.role);
    let seconds = settings.transaction_timeout.as_secs_f64();
    if !settings.transaction_timeout.is_zero() && settings.transaction_timeout.as_secs() < BASE_COPY_SECONDS {
        let meaning =
            "the server ends transactions of the base copy after that, so rows of large tables may be missing";
        findings.push(
            Finding::problem("timeouts", format!("transaction_timeout is {seconds} s"), meaning)
                .mended_by(format!("ALTER ROLE {role} SET transaction_timeout = 0;")),
        );
    }
    let own = [
        ("statement_timeout", settings.statement_timeout),
        ("idle_in_transaction_session_timeout", settings.idle_in_transaction_timeout),
    ];
    for (name, value) in own.into_iter().filter(|(_, value)| !value.is_zero()) {
        let found = format!("{name} is {} s", value.as_secs_f64());
        let through = facts.connection.pooler.is_some();
        findings.push(if through {
            let meaning = "the recorder sets its own for its sessions, but a pooler may not pass them on: the base copy may be cut off";
            Finding::note("timeouts", found, meaning).mended_by(format!("ALTER ROLE {role} SET {name} = 0;"))
        } else {
            Finding::ok("timeouts", format!("{found}; the recorder's own sessions have their own"))
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok("timeouts", "no timeout would cut the base copy off"));
    }
    if settings.read_only {
        let meaning = "snapshots are not asked for on sessions that are read-only by default: were they deferrable, too, asking would wait";
        findings.push(
            Finding::note("read-only default", "default_transaction_read_only is on", meaning)
                .mended_by(format!("ALTER ROLE {role} SET default_transaction_read_only = off;")),
        );
    }
    if settings.encoding == "SQL_ASCII" {
        let meaning = "bytes that are not UTF-8 are replaced in recorded rows; a database's encoding cannot be changed";
        findings.push(Finding::note("encoding", "the database's encoding is SQL_ASCII", meaning));
    }
    findings
}

/// What other recorders left behind.
fn leftovers(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for slot in &facts.slots {
        let kept = slot.kept_bytes.map_or_else(String::new, |bytes| format!(", and keeps {}", bytes_text(bytes)));
        let finding = if slot.active {
            let found = format!("slot \"{}\" is in use", slot.name);
            Finding::note("other recorders", found, "another recorder captures changes here at present")
        } else {
            let found = format!("slot \"{}\" is left over{kept} of write-ahead log", slot.name);
            let meaning = "the server keeps everything since; drop it unless a recorder is to come back to it";
            let literal = slot.name.replace('\'', "''");
            Finding::note("leftovers", found, meaning)
                .mended_by(format!("SELECT pg_drop_replication_slot('{literal}');"))
        };
        findings.push(finding);
    }
    for publication in &facts.publications {
        let name = &publication.name;
        findings.push(if publication.in_use {
            let found = format!("publication \"{name}\" is in use");
            Finding::note("other recorders", found, "another recorder captures changes here at present")
        } else {
            let found = format!("publication \"{name}\" is left over");
            let meaning = "a table in it that loses its primary key refuses updates; one that a killed recorder made for itself \
                           is dropped by the next recording";
            Finding::note("leftovers", found, meaning)
                .mended_by(format!("DROP PUBLICATION {};", quote_identifier(name)))
        });
    }
    for directory in &facts.here.left_over {
        let found = format!("directory \"{}\" of a recorder that was killed is left over", directory.display());
        let meaning =
            "it holds certificates that nobody reads any more; the next recording of an application removes it";
        findings.push(Finding::note("leftovers", found, meaning).mended_by(format!("rm -r '{}'", directory.display())));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("leftovers", "no recorder left anything behind"));
    }
    findings
}

/// What the creation of a slot would wait for.
fn open_transactions(facts: &Facts) -> Vec<Finding> {
    let meaning = "the creation of a replication slot waits for it, for a minute at most; then rows are not captured";
    let mut findings = Vec::new();
    for open in &facts.open_transactions {
        let found = format!(
            "a transaction of \"{}\" ({}, process {}, {}) has been open for {} s",
            open.user,
            if open.application.is_empty() { "no application name" } else { &open.application },
            open.pid,
            open.state,
            open.age.as_secs()
        );
        findings.push(
            Finding::problem("open transactions", found, meaning)
                .mended_by(format!("SELECT pg_terminate_backend({});", open.pid)),
        );
    }
    for prepared in &facts.prepared_transactions {
        let found = format!(
            "transaction '{}' in database \"{}\" has been prepared for {} s",
            prepared.name,
            prepared.database,
            prepared.age.as_secs()
        );
        let name = prepared.name.replace('\'', "''");
        findings.push(
            Finding::problem("prepared transactions", found, meaning)
                .mended_by(format!("ROLLBACK PREPARED '{name}'; -- or COMMIT PREPARED, in that database")),
        );
    }
    if !facts.role.reads_activity {
        let found = format!("role \"{}\" does not see what other roles' sessions do", facts.abilities.role);
        let meaning = "whether a transaction that is open would hold the creation of a slot up cannot be told";
        let role = quote_identifier(&facts.abilities.role);
        findings.push(
            Finding::note("open transactions", found, meaning).mended_by(format!("GRANT pg_read_all_stats TO {role};")),
        );
    } else if findings.is_empty() {
        findings.push(Finding::ok("open transactions", "no transaction has been open for long"));
    }
    findings
}

/// Bytes as people read them.
pub(super) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

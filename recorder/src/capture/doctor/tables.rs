//! The tables: what of each would be captured.

use txray_store::event::Tracking;

use super::super::catalogue::quote_identifier;
use super::Finding;
use super::facts::{Facts, Table};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.tables.iter().flat_map(|table| of_table(table, facts)).collect();
    let whole = facts.tables.iter().filter(|table| table.relation.tracking() == Tracking::Full).count();
    let roots = match facts.partition_roots {
        0 => String::new(),
        1 => "; the changes of one partitioned table are captured in its partitions".to_owned(),
        roots => format!("; the changes of {roots} partitioned tables are captured in their partitions"),
    };
    if facts.tables.is_empty() {
        findings.push(Finding::note("tables", "there are no tables", "those that are created later are captured, too"));
    } else {
        let found = format!("{whole} of {} tables are captured whole{roots}", facts.tables.len());
        findings.push(Finding::ok("tables", found));
    }
    findings
}

fn of_table(table: &Table, facts: &Facts) -> Vec<Finding> {
    let name = table.relation.qualified();
    let mut findings = Vec::new();
    match table.relation.tracking() {
        Tracking::Full => {}
        Tracking::InsertsOnly => {
            let meaning = "inserted rows are captured; updates and deletes are not, so states cannot be restored beyond the first \
                           of them";
            findings.push(
                Finding::problem("identity", format!("nothing identifies the rows of table {name}"), meaning)
                    .mended_by(identity_command(table)),
            );
        }
        Tracking::None => findings.push(untracked(table, facts)),
    }
    if table.hides_rows && table.relation.kind == 'r' {
        let role = quote_identifier(&facts.abilities.role);
        let meaning = "the base copy refuses to copy a part of a table: rows from before the recording are missing";
        findings.push(
            Finding::problem("row security", format!("row security hides rows of table {name} from the role"), meaning)
                .mended_by(format!("ALTER ROLE {role} BYPASSRLS;")),
        );
    }
    findings
}

/// The command that gives the rows of a table an identity, at the least cost to the application.
fn identity_command(table: &Table) -> String {
    let name = table.relation.qualified();
    if table.has_primary_key {
        return format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT;");
    }
    match &table.candidate_index {
        Some(index) => format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};", quote_identifier(index)),
        None => format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"),
    }
}

fn untracked(table: &Table, facts: &Facts) -> Finding {
    let relation = &table.relation;
    let name = relation.qualified();
    let role = quote_identifier(&facts.abilities.role);
    let reason = relation.untracked_reason().unwrap_or_default();
    let found = reason.split(';').next().unwrap_or(&reason).to_owned();
    let meaning = "no change of its rows is captured, and no state of it can be restored";
    if relation.kind != 'r' {
        return Finding::note("tables", found, meaning);
    }
    let (check, command) = if relation.persistence != 'p' {
        ("unlogged tables", format!("ALTER TABLE {name} SET LOGGED;"))
    } else if !relation.owned {
        ("ownership", format!("GRANT {} TO {role};", quote_identifier(&table.owner)))
    } else {
        ("read privilege", format!("GRANT SELECT ON TABLE {name} TO {role};"))
    };
    Finding::problem(check, found, meaning).mended_by(command)
}

//! Recorded reads, and what each should have given.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use txray_store::reader::Reader;
use txray_store::snapshot::PgSnapshot;

use crate::versions::{Row, Seen, Versions, rows};
use crate::workload::{self, SHAPES};

/// A read of the workload as the trace has it.
pub(crate) struct Read {
    pub(crate) id: u64,
    transaction: u64,
    pub(crate) sql: String,
    pub(crate) parameters: Vec<Option<String>>,
    pub(crate) rows: Vec<Row>,
    pub(crate) snapshot: PgSnapshot,
    pub(crate) upper: Option<PgSnapshot>,
    pub(crate) source: String,
    pub(crate) exact: bool,
    pub(crate) isolation: String,
    own_work_lost: bool,
}

/// How a read compares with the versions.
pub(crate) enum Verdict {
    Same,
    /// The rows that the versions give instead.
    Different(Vec<Row>),
    OwnWorkLost,
}

/// Every successful read of the workload.
pub(crate) fn load(reader: &Reader) -> anyhow::Result<Vec<Read>> {
    let loaded = rows(
        reader,
        "WITH lost AS (
             SELECT s.id FROM statements s JOIN statements w ON w.transaction_id = s.transaction_id AND w.id < s.id
             JOIN transactions t ON t.id = s.transaction_id
             WHERE w.verb IN ('INSERT', 'UPDATE', 'DELETE') AND t.outcome <> 'committed')
         SELECT s.id, s.transaction_id, q.text, s.parameters, s.result_rows, s.snapshot, s.snapshot_upper, s.snapshot_source,
                s.exact, t.isolation, s.id IN (SELECT id FROM lost)
         FROM statements s JOIN sql_texts q ON q.id = s.sql_id JOIN transactions t ON t.id = s.transaction_id
         WHERE s.verb = 'SELECT' AND s.sqlstate IS NULL AND s.command_tag IS NOT NULL
         ORDER BY s.id",
    )?;
    let mut reads = Vec::new();
    for fields in &loaded {
        let text = |place: usize| fields[place].clone().with_context(|| format!("no value at {place}"));
        let sql = text(2)?;
        if shape_of(&sql).is_none() {
            continue;
        }
        let exact = text(8)? == "true";
        let snapshot = match &fields[5] {
            Some(snapshot) => snapshot.parse()?,
            None if exact => bail!("statement {} is exact without a snapshot", text(0)?),
            None => "1:1:".parse()?,
        };
        reads.push(Read {
            id: text(0)?.parse()?,
            transaction: text(1)?.parse()?,
            parameters: serde_json::from_str(&text(3)?)?,
            rows: serde_json::from_str(&text(4)?)?,
            snapshot,
            upper: fields[6].as_ref().map(|upper| upper.parse()).transpose()?,
            source: text(7)?,
            exact,
            isolation: text(9)?,
            own_work_lost: text(10)? == "true",
            sql,
        });
    }
    Ok(reads)
}

/// The shape behind a text: literals of the simple protocol stand for parameters.
fn shape_of(sql: &str) -> Option<(&'static str, &'static str)> {
    SHAPES.iter().copied().find(|(_, text)| *text == sql || *text == workload::parameterised(sql))
}

impl Read {
    pub(crate) fn shape_name(&self) -> String {
        let name = shape_of(&self.sql).map_or("unknown", |(name, _)| name);
        format!("{name} ({})", self.source)
    }

    /// Whether a transaction may have become visible while it ran.
    pub(crate) fn has_bracket(&self) -> bool {
        self.isolation == "read committed" && self.upper.as_ref() != Some(&self.snapshot)
    }

    /// Computes the read anew from the versions that its snapshot shows.
    pub(crate) fn verify(&self, versions: &Versions) -> anyhow::Result<Verdict> {
        if self.own_work_lost {
            return Ok(Verdict::OwnWorkLost);
        }
        let mut computed = self.compute(versions)?;
        let mut recorded = self.rows.clone();
        computed.sort();
        recorded.sort();
        Ok(if computed == recorded { Verdict::Same } else { Verdict::Different(computed) })
    }

    fn argument(&self, place: usize) -> anyhow::Result<String> {
        let literals = workload::literals(&self.sql);
        let given = self.parameters.get(place).cloned().flatten();
        given.or_else(|| literals.get(place).cloned()).context("a parameter")
    }

    fn compute(&self, versions: &Versions) -> anyhow::Result<Vec<Row>> {
        let seen = Seen { snapshot: &self.snapshot, transaction: self.transaction, statement: self.id };
        let (name, _) = shape_of(&self.sql).context("a known shape")?;
        let accounts = || versions.rows("accounts", &seen);
        let entries = || versions.rows("entries", &seen);
        let pick =
            |row: &Row, columns: &[usize]| -> Row { columns.iter().map(|column| row[*column].clone()).collect() };
        Ok(match name {
            "point" => {
                versions.row("accounts", &self.argument(0)?, &seen).map(|row| pick(row, &[2])).into_iter().collect()
            }
            "list" => {
                let ids: BTreeSet<String> = (0..3).map(|place| self.argument(place)).collect::<anyhow::Result<_>>()?;
                ids.iter().filter_map(|id| versions.row("accounts", id, &seen)).map(|row| pick(row, &[0, 2])).collect()
            }
            "array" => {
                let text = self.argument(0)?;
                let ids: BTreeSet<&str> = text.trim_matches(['{', '}']).split(',').collect();
                ids.iter()
                    .filter_map(|id| versions.row("accounts", id, &seen))
                    .map(|row| pick(row, &[0, 1, 2]))
                    .collect()
            }
            "range" => {
                let (low, high): (i64, i64) = (self.argument(0)?.parse()?, self.argument(1)?.parse()?);
                accounts().filter(|row| (low..=high).contains(&int(row, 0))).map(|row| pick(row, &[0, 2])).collect()
            }
            "join" => {
                let id = self.argument(0)?;
                let account = versions.row("accounts", &id, &seen);
                let of_it: Vec<&Row> = versions.rows_with("entries", &id, &seen).collect();
                let joined = |account: &Row| -> Vec<Row> {
                    let both =
                        |entry: &&Row| [&account[0], &account[2], &entry[0], &entry[2]].map(Clone::clone).to_vec();
                    of_it.iter().map(both).collect()
                };
                account.map(joined).unwrap_or_default()
            }
            "left join" => {
                let branch = self.argument(0)?;
                let of_branch = accounts().filter(|row| row[3].as_ref() == Some(&branch));
                let mut joined = Vec::new();
                for account in of_branch {
                    let id = account[0].clone().context("a key")?;
                    let large = versions.rows_with("entries", &id, &seen).filter(|entry| int(entry, 2) > 80);
                    let mut amounts: Vec<Option<String>> = large.map(|entry| entry[2].clone()).collect();
                    if amounts.is_empty() {
                        amounts.push(None);
                    }
                    joined.extend(amounts.into_iter().map(|amount| vec![account[0].clone(), amount]));
                }
                joined
            }
            "sum of one" => {
                let id = self.argument(0)?;
                let amounts: Vec<i64> = versions.rows_with("entries", &id, &seen).map(|row| int(row, 2)).collect();
                vec![vec![Some(amounts.len().to_string()), Some(amounts.iter().sum::<i64>().to_string())]]
            }
            "sum of all" => {
                let balances: Vec<i64> = accounts().map(|row| int(row, 2)).collect();
                vec![vec![Some(balances.len().to_string()), Some(balances.iter().sum::<i64>().to_string())]]
            }
            "groups" => {
                let mut groups: BTreeMap<String, (usize, i64)> = BTreeMap::new();
                for row in accounts() {
                    let group = groups.entry(row[3].clone().context("a branch")?).or_default();
                    group.0 += 1;
                    group.1 += int(row, 2);
                }
                let printed = |(branch, (count, sum)): (String, (usize, i64))| {
                    vec![Some(branch), Some(count.to_string()), Some(sum.to_string())]
                };
                groups.into_iter().map(printed).collect()
            }
            "latest" => {
                let mut found: Vec<&Row> = entries().collect();
                found.sort_by_key(|row| std::cmp::Reverse(int(row, 0)));
                found.into_iter().take(5).map(|row| pick(row, &[0, 1, 2])).collect()
            }
            other => bail!("no such shape: {other}"),
        })
    }
}

fn int(row: &Row, column: usize) -> i64 {
    row[column].as_ref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

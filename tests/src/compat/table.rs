//! The table of clients × behaviours.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Cell;
use super::catalogue::Client;

/// Rows in the catalogue's order, one column a server version.
#[derive(Debug)]
pub struct Table {
    rows: Vec<(String, String)>,
    versions: Vec<u32>,
    cells: BTreeMap<(String, String, u32), Cell>,
}

impl Table {
    pub(super) fn new(clients: &[Client], versions: &[u32]) -> Self {
        let rows = clients
            .iter()
            .flat_map(|client| client.behaviours.iter().map(|behaviour| (client.name.clone(), behaviour.name.clone())));
        Table { rows: rows.collect(), versions: versions.to_vec(), cells: BTreeMap::new() }
    }

    pub(super) fn set(&mut self, client: &str, behaviour: &str, version: u32, cell: Cell) {
        self.cells.insert((client.to_owned(), behaviour.to_owned(), version), cell);
    }

    /// How many cells are not equal and not skipped; a cell that was never filled counts.
    pub fn differences(&self) -> usize {
        let cells = self.rows.len() * self.versions.len();
        cells - self.count(|cell| !matches!(cell, Cell::Differs(_)))
    }

    /// How many cells are equal.
    pub fn equal(&self) -> usize {
        self.count(|cell| matches!(cell, Cell::Equal(_)))
    }

    /// How many were not run.
    pub fn skipped(&self) -> usize {
        self.count(|cell| matches!(cell, Cell::Skipped(_)))
    }

    fn count(&self, wanted: impl Fn(&Cell) -> bool) -> usize {
        self.cells.values().filter(|cell| wanted(cell)).count()
    }

    /// The figures in one line.
    pub fn summary(&self) -> String {
        format!(
            "{} behaviours of {} clients: {} equal, {} different, {} skipped",
            self.rows.len(),
            self.rows.iter().map(|(client, _)| client).collect::<std::collections::BTreeSet<_>>().len(),
            self.equal(),
            self.differences(),
            self.skipped()
        )
    }

    /// As Markdown, which reads well in a terminal too.
    pub fn markdown(&self) -> String {
        let mut lines = vec![["client".to_owned(), "behaviour".to_owned()].to_vec()];
        lines[0].extend(self.versions.iter().map(|version| format!("PostgreSQL {version}")));
        let mut previous = "";
        for (client, behaviour) in &self.rows {
            let shown = if client == previous { "" } else { client };
            let mut line = vec![shown.to_owned(), behaviour.clone()];
            line.extend(self.versions.iter().map(|version| {
                let key = (client.clone(), behaviour.clone(), *version);
                self.cells.get(&key).map_or_else(|| "not run".to_owned(), cell_text).replace('|', "\\|")
            }));
            lines.push(line);
            previous = client;
        }
        render(&lines)
    }
}

/// Pads cells so that columns stand below each other.
fn render(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if at == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

pub(super) fn cell_text(cell: &Cell) -> String {
    match cell {
        Cell::Equal(statements) => format!("ok ({statements})"),
        Cell::Differs(why) => format!("DIFFERS: {}", why.lines().next().unwrap_or_default()),
        Cell::Skipped(why) => format!("skipped: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_not_filled_counts_as_different() {
        let mut table = Table {
            rows: vec![("psql".into(), "copy".into()), ("psql".into(), "errors".into())],
            versions: vec![15, 18],
            cells: BTreeMap::new(),
        };
        table.set("psql", "copy", 15, Cell::Equal(7));
        table.set("psql", "copy", 18, Cell::Skipped("not here".into()));
        table.set("psql", "errors", 15, Cell::Differs("stdout\nmore".into()));
        assert_eq!((table.equal(), table.skipped(), table.differences()), (1, 1, 2));
        assert_eq!(
            table.markdown(),
            "\
| client | behaviour | PostgreSQL 15   | PostgreSQL 18     |
|--------|-----------|-----------------|-------------------|
| psql   | copy      | ok (7)          | skipped: not here |
|        | errors    | DIFFERS: stdout | not run           |
"
        );
        assert_eq!(table.summary(), "2 behaviours of 1 clients: 1 equal, 2 different, 1 skipped");
    }
}

//! `txray record` before one database, and what its trace holds afterwards.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::catalogue::{Behaviour, Connection};
use super::servers::ServerPair;
use crate::program::{Program, binary, txray};

/// A recorder that runs.
pub(super) struct Recorder {
    program: Program,
    /// Where it listens: PGHOST and PGPORT.
    pub(super) endpoint: (String, u16),
}

impl Recorder {
    /// Starts it before a database and waits until it records into `work/trace.txray`.
    pub(super) fn start(
        pair: &ServerPair,
        database: &str,
        connection: Connection,
        work: &Path,
    ) -> anyhow::Result<Self> {
        let socket = work.join("socket");
        std::fs::create_dir_all(&socket)?;
        let certificate = &pair.certificate;
        let (listen, url) = match connection {
            Connection::Plain => {
                ("127.0.0.1:0".to_owned(), format!("{}?sslmode=disable", pair.recorded.url(database)?))
            }
            Connection::Tls => {
                let tls = format!("sslmode=verify-full&sslrootcert={}", certificate.root().display());
                ("127.0.0.1:0".to_owned(), format!("{}?{tls}", pair.recorded.url(database)?))
            }
            Connection::Unix => (socket.display().to_string(), pair.recorded.socket_url(database)),
        };
        let mut command = Command::new(binary("txray")?);
        command.args(["record", "--pg", &format!("{listen}={url}"), "--out", "trace.txray", "--pg-bin"]);
        command.arg(pair.programs.directory());
        if connection == Connection::Tls {
            command.arg("--pg-tls-cert").arg(certificate.file()).arg("--pg-tls-key").arg(certificate.key_file());
        }
        // configuration of whoever runs this stays out of it
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.starts_with("TXRAY_") {
                command.env_remove(name);
            }
        }
        let mut program = Program::start("txray record", command.current_dir(work))?;
        let line = program.wait_for_line("PostgreSQL: ")?;
        program.wait_for_line("recording")?;
        let endpoint = if connection == Connection::Unix {
            (socket.display().to_string(), 5432)
        } else {
            let listen = line.split_whitespace().find_map(|word| word.strip_prefix("127.0.0.1:"));
            let port = listen.and_then(|port| port.parse().ok()).with_context(|| format!("no port in: {line}"))?;
            ("127.0.0.1".to_owned(), port)
        };
        Ok(Recorder { program, endpoint })
    }

    /// Ends it as Ctrl-C would, and gives what it said.
    pub(super) fn finish(mut self) -> anyhow::Result<String> {
        let code = self.program.stop(Signal::SIGINT)?;
        let said = self.program.output();
        if code != 0 {
            bail!("txray record ended with {code}:\n{said}");
        }
        Ok(said)
    }
}

/// The number of statements in a trace, or why it does not count as a recording of the behaviour.
pub(super) fn recorded(trace: &Path, behaviour: &Behaviour) -> anyhow::Result<Result<u64, String>> {
    let wanted: Vec<String> = behaviour
        .recorded
        .iter()
        .map(|text| format!("(SELECT count(*) FROM sql_texts WHERE contains(text, '{}'))", text.replace('\'', "''")))
        .collect();
    let query = format!(
        "SELECT (SELECT count(*) FROM statements) AS statements, (SELECT count(*) FROM sessions) AS sessions, \
         (SELECT string_agg(kind || ': ' || reason, '; ') FROM gaps \
           WHERE kind IN ('undecodable', 'overload', 'storage_failed')) AS gaps, [{}] AS wanted",
        wanted.join(", ")
    );
    let trace = trace.to_str().context("a UTF-8 path")?;
    let rows = txray(["sql", &query, "-o", "json", "--trace", trace])?.json()?;
    let row = rows.get(0).context("one row")?;
    Ok(judge(row, behaviour))
}

/// Looks at the one row of the query above.
fn judge(row: &Value, behaviour: &Behaviour) -> Result<u64, String> {
    let statements = number(&row["statements"]);
    let sessions = number(&row["sessions"]);
    let gaps = row["gaps"].as_str().unwrap_or_default();
    match (behaviour.replication, gaps.contains("replication")) {
        (true, false) => return Err("no gap says that a replication stream was passed through".to_owned()),
        (false, _) if !gaps.is_empty() => return Err(format!("not recorded: {gaps}")),
        (false, _) if sessions == 0 => return Err("no session was recorded".to_owned()),
        (true, true) | (false, _) => {}
    }
    if statements < behaviour.statements {
        return Err(format!("only {statements} of at least {} statements were recorded", behaviour.statements));
    }
    let listed = row["wanted"].as_array().cloned().unwrap_or_else(|| {
        // a list may come as text
        let text = row["wanted"].as_str().unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
    });
    if listed.len() != behaviour.recorded.len() {
        return Err(format!("the trace answered for {} of {} texts", listed.len(), behaviour.recorded.len()));
    }
    match behaviour.recorded.iter().zip(&listed).find(|(_, count)| number(count) == 0) {
        Some((text, _)) => Err(format!("no recorded statement contains \"{text}\"")),
        None => Ok(statements),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn behaviour(text: &str) -> Behaviour {
        toml::from_str(&format!("name = 'a'\nrun = 'true'\n{text}")).unwrap()
    }

    #[test]
    fn a_pipe_that_recorded_nothing_does_not_count() {
        let row = |statements: u64, gaps: &str, wanted: &[u64]| json!({"statements": statements, "sessions": statements.min(1), "gaps": gaps, "wanted": wanted});
        let plain = behaviour("statements = 2\nrecorded = ['SELECT 1']");
        assert_eq!(judge(&row(2, "", &[1]), &plain), Ok(2));
        for poor in
            [row(0, "", &[1]), row(1, "", &[1]), row(2, "", &[0]), row(2, "undecodable: x", &[1]), row(2, "", &[])]
        {
            assert!(judge(&poor, &plain).is_err(), "{poor}");
        }
        let replication = behaviour("statements = 0\nreplication = true");
        assert_eq!(judge(&row(0, "undecodable: a replication connection", &[]), &replication), Ok(0));
        assert!(judge(&row(0, "", &[]), &replication).is_err());
    }
}

//! `tests/compat/CLIENT/client.toml`: what a client is made to do.

use std::path::Path;

use anyhow::{Context, bail};
use regex::bytes::Regex;
use serde::Deserialize;

use super::Options;

/// A client library or program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Client {
    /// Its directory's name.
    #[serde(skip)]
    pub(super) name: String,
    /// Place among the table's rows.
    order: u32,
    /// Script of `tests/compat/setup` that installs it.
    pub(super) setup: Option<String>,
    #[serde(rename = "behaviour")]
    pub(super) behaviours: Vec<Behaviour>,
}

/// One thing that a client does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Behaviour {
    pub(super) name: String,
    /// Shell command, run in an empty directory with the connection in the environment.
    pub(super) run: String,
    /// The exit code it must end with.
    #[serde(default)]
    pub(super) exit: i32,
    /// Parts of SQL texts that the trace must hold.
    #[serde(default)]
    pub(super) recorded: Vec<String>,
    /// At least so many statements must be in the trace.
    #[serde(default = "one")]
    pub(super) statements: u64,
    /// Streams of replication are passed through, noted by a gap, and not decoded.
    #[serde(default)]
    pub(super) replication: bool,
    /// How the client connects, and the recorder to the server.
    #[serde(default)]
    pub(super) connection: Connection,
    /// What differs from run to run by nature.
    #[serde(default)]
    pub(super) unequal: Vec<Unequal>,
    /// Why the database that it leaves differs from run to run.
    pub(super) database_differs: Option<String>,
    /// Server versions it does not run against, with the reason.
    #[serde(default)]
    pub(super) skip: Vec<Skip>,
    #[serde(default = "two_minutes")]
    pub(super) timeout_s: u64,
}

/// How a client connects, directly as through the recorder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Connection {
    /// TCP in plaintext.
    #[default]
    Plain,
    /// TCP with TLS, the certificate verified on each way; recorder and server show the same one.
    Tls,
    /// Unix sockets.
    Unix,
}

/// Text of output that is replaced before outputs are compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unequal {
    #[serde(deserialize_with = "pattern")]
    pub(super) pattern: Regex,
    pub(super) with: String,
    /// Why it cannot be equal; for readers.
    #[serde(rename = "why")]
    _why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Skip {
    server: u32,
    why: String,
}

fn one() -> u64 {
    1
}

fn two_minutes() -> u64 {
    120
}

fn pattern<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Regex, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text).map_err(serde::de::Error::custom)
}

impl Behaviour {
    /// Why it does not run against a version.
    pub(super) fn skipped_on(&self, version: u32) -> Option<&String> {
        self.skip.iter().find(|skip| skip.server == version).map(|skip| &skip.why)
    }
}

/// Reads every client in the table's order, without what the options leave out.
pub(super) fn read(directory: &Path, options: &Options) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for entry in directory.read_dir().with_context(|| format!("could not list {}", directory.display()))? {
        let entry = entry?;
        let file = entry.path().join("client.toml");
        let name = entry.file_name().to_string_lossy().into_owned();
        if !file.exists() || options.client.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
        let mut client: Client = toml::from_str(&text).with_context(|| format!("could not read {}", file.display()))?;
        client.name = name;
        check(&client)?;
        if !options.behaviours.is_empty() {
            let wanted = |name: &str| options.behaviours.iter().any(|part| name.contains(part.as_str()));
            client.behaviours.retain(|behaviour| wanted(&behaviour.name));
        }
        clients.push(client);
    }
    clients.retain(|client| !client.behaviours.is_empty());
    clients.sort_by_key(|client| (client.order, client.name.clone()));
    Ok(clients)
}

/// Names become database and directory names.
fn check(client: &Client) -> anyhow::Result<()> {
    for (at, behaviour) in client.behaviours.iter().enumerate() {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if behaviour.name.is_empty() || !behaviour.name.bytes().all(plain) {
            bail!("behaviour \"{}\" of {}: use lower case, digits and hyphens", behaviour.name, client.name);
        }
        if client.behaviours[..at].iter().any(|other| other.name == behaviour.name) {
            bail!("behaviour \"{}\" of {} is there twice", behaviour.name, client.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_of_the_repository_can_be_read() {
        let clients = read(&super::super::root().join("tests/compat"), &Options::default()).unwrap();
        assert!(clients.iter().any(|client| client.name == "psql"));
        assert!(clients.iter().flat_map(|client| &client.behaviours).all(|behaviour| !behaviour.run.is_empty()));
    }

    #[test]
    fn options_narrow_it() {
        let options = Options { client: Some("psql".into()), behaviours: vec!["cop".into()], ..Options::default() };
        let clients = read(&super::super::root().join("tests/compat"), &options).unwrap();
        assert_eq!(clients.len(), 1);
        assert!(clients[0].behaviours.iter().all(|behaviour| behaviour.name.contains("cop")));
    }
}

//! The database's address as users give it, and as the application gets it: with the proxy's address in its place.

use std::fmt;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::pg::sockets::ListenAddr;
use crate::pg::tls::{ServerTls, TLS_PARAMETERS, TlsError, TlsSettings};
use crate::pg::upstream::{Database, Upstream};

/// Query parameters that say where the server is.
const ADDRESS_PARAMETERS: [&str; 3] = ["host", "hostaddr", "port"];

/// Query parameters that [`Config`] knows; others are the application's driver's own and stay in its URL.
const KNOWN_PARAMETERS: [&str; 8] =
    ["host", "hostaddr", "port", "user", "password", "dbname", "options", "connect_timeout"];

/// A PostgreSQL connection string: a URL (`postgres://…`, also with a driver as in `postgresql+asyncpg://…`), or libpq's
/// `key=value` words. Holds credentials: its `Debug` and [`DatabaseUrl::describe`] leave them out.
#[derive(Clone)]
pub struct DatabaseUrl {
    text: String,
    config: Config,
    /// Query parameters, or all words, decoded.
    parameters: Vec<(String, String)>,
}

/// Text that is not a connection string. Leaves out the text, which may hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the database's address is not a PostgreSQL connection string: {reason}")]
pub struct ParseDatabaseUrlError {
    /// Why not.
    pub reason: String,
}

impl FromStr for DatabaseUrl {
    type Err = ParseDatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| ParseDatabaseUrlError { reason: reason.to_owned() };
        let malformed = || error("a part of it is malformed");
        let (config, parameters) = if let Some((scheme, rest)) = text.split_once("://") {
            let plain = scheme.split('+').next().unwrap_or(scheme);
            if plain != "postgres" && plain != "postgresql" {
                return Err(error("the URL does not begin with postgres://"));
            }
            let (base, pairs) = split_query(rest);
            let decoded = pairs.iter().map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decoded(name)?, decoded(value)?))
            });
            let decoded = decoded.collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
            (for_driver(base, &pairs).parse::<Config>(), decoded)
        } else {
            let words = split_words(text).ok_or_else(malformed)?;
            (as_words(words.iter().filter(|(name, _)| KNOWN_PARAMETERS.contains(&&**name))).parse(), words)
        };
        // The driver's message quotes values.
        let mut config = config.map_err(|_| malformed())?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host("localhost");
        }
        if config.get_hosts().len() > 1 || config.get_hostaddrs().len() > 1 {
            return Err(error("it names several servers; name one, or record each with an option of its own"));
        }
        // The driver gets connections that are secured already: see `database`.
        config.ssl_mode(SslMode::Disable);
        Ok(DatabaseUrl { text: text.to_owned(), config, parameters })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.describe())
    }
}

impl DatabaseUrl {
    /// As the driver understands it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Server and database, without credentials: `127.0.0.1:5432/orders`, `/run/postgresql:5432/orders`.
    pub fn describe(&self) -> String {
        let host = match (self.config.get_hosts().first(), self.config.get_hostaddrs().first()) {
            (Some(Host::Tcp(host)), _) if host.contains(':') => format!("[{host}]"),
            (Some(Host::Tcp(host)), _) => host.clone(),
            (Some(Host::Unix(directory)), _) => directory.display().to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        match self.config.get_dbname() {
            Some(database) => format!("{host}:{port}/{database}"),
            None => format!("{host}:{port}"),
        }
    }

    /// The server's address, for the proxy.
    pub fn upstream(&self) -> Upstream {
        Upstream::from_config(&self.config).unwrap_or(Upstream::Tcp { host: "localhost".to_owned(), port: 5432 })
    }

    /// The database with its connections secured as the string says, and the environment (`PGSSLMODE` and its kin) where it says
    /// nothing; likewise the password (`PGPASSWORD`). Reads the files that are named.
    pub fn database(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Database, TlsError> {
        let mut config = self.config.clone();
        if let (None, Some(password)) = (config.get_password(), environment("PGPASSWORD")) {
            config.password(password);
        }
        let settings = TlsSettings::read(|name| self.parameter(name), environment)?;
        let host = match (self.config.get_hosts().first(), self.config.get_hostaddrs().first()) {
            (Some(Host::Tcp(host)), _) => host.clone(),
            (None, Some(address)) => address.to_string(),
            // A Unix socket knows no TLS.
            (Some(Host::Unix(_)), _) | (None, None) => return Ok(config.into()),
        };
        Ok(Database::new(config, ServerTls::load(settings, &host)?))
    }

    /// The last value of a parameter. `ssl`, which drivers have, stands for `sslmode`.
    fn parameter(&self, name: &str) -> Option<String> {
        let last = |name| self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = match (name, last(name), last("ssl")) {
            ("sslmode", None, Some("true" | "1")) => Some("require"),
            ("sslmode", None, Some("false" | "0")) => Some("disable"),
            ("sslmode", None, other) => other,
            (_, value, _) => value,
        };
        value.map(str::to_owned)
    }

    /// The connection string that the application gets: everything as given, but the proxy's address, and no TLS, which ends at the
    /// recorder.
    pub fn through(&self, proxy: impl Into<ListenAddr>) -> String {
        let proxy = &proxy.into();
        let Some((scheme, rest)) = self.text.split_once("://") else { return self.words_as_url(proxy) };
        let (base, parameters) = split_query(rest);
        let (authority, path) = base.split_at(base.find('/').unwrap_or(base.len()));
        let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        let (server, mut query) = server_part(proxy);
        query.extend(parameters.into_iter().filter(|pair| is_applications(name_of(pair))).map(str::to_owned));
        query.extend(self.plaintext());
        // A URL without a server needs its slash for what follows.
        let path = if server.is_empty() && path.is_empty() { "/" } else { path };
        let question = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{user}{server}{path}{question}{}", query.join("&"))
    }

    /// What keeps a driver that was told of TLS from asking the proxy for it. One that was not told may not know the word.
    fn plaintext(&self) -> Option<String> {
        self.parameters.iter().any(|(name, _)| name == "sslmode").then(|| "sslmode=disable".to_owned())
    }

    /// `key=value` words as a URL.
    fn words_as_url(&self, proxy: &ListenAddr) -> String {
        let password = self.config.get_password().map(|password| format!(":{}", encoded(password))).unwrap_or_default();
        let user = self.config.get_user().map(|user| format!("{}{password}@", encoded(user.as_bytes())));
        let user = user.unwrap_or_default();
        let (server, mut query) = server_part(proxy);
        let own = self
            .parameters
            .iter()
            .filter(|(name, _)| is_applications(name) && !["user", "password", "dbname"].contains(&name.as_str()));
        query.extend(own.map(|(name, value)| format!("{name}={}", encoded(value.as_bytes()))));
        query.extend(self.plaintext());
        let database = self.config.get_dbname().map(|name| encoded(name.as_bytes())).unwrap_or_default();
        let question = if query.is_empty() { "" } else { "?" };
        format!("postgres://{user}{server}/{database}{question}{}", query.join("&"))
    }

    /// Environment variables by which libpq and its kin find the proxy: name, and value or none to unset it. None of them says
    /// anything about TLS.
    pub fn environment(&self, proxy: impl Into<ListenAddr>) -> Vec<(&'static str, Option<String>)> {
        let proxy = &proxy.into();
        let (host, port) = host_and_port(proxy);
        let mut variables = vec![
            ("DATABASE_URL", Some(self.through(proxy.clone()))),
            ("PGHOST", Some(host)),
            ("PGPORT", Some(port.to_string())),
            // Either would lead past the proxy.
            ("PGHOSTADDR", None),
            ("PGSERVICE", None),
        ];
        if let Some(user) = self.config.get_user() {
            variables.push(("PGUSER", Some(user.to_owned())));
        }
        if let Some(database) = self.config.get_dbname() {
            variables.push(("PGDATABASE", Some(database.to_owned())));
        }
        if let Some(password) = self.config.get_password() {
            variables.push(("PGPASSWORD", Some(String::from_utf8_lossy(password).into_owned())));
        }
        variables
    }
}

/// The URL as `Config` reads it like libpq does: parameters that name the server stand in for the authority's, those that it
/// does not know are left out.
fn for_driver(base: &str, parameters: &[&str]) -> String {
    let (authority, path) = base.split_at(base.find('/').unwrap_or(base.len()));
    let (user, server) = match authority.rsplit_once('@') {
        Some((user, server)) => (format!("{user}@"), server),
        None => (String::new(), authority),
    };
    let given = |name| parameters.iter().any(|pair| name_of(pair) == name);
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (server, None),
    };
    let mut query: Vec<String> =
        parameters.iter().filter(|pair| KNOWN_PARAMETERS.contains(&name_of(pair))).map(ToString::to_string).collect();
    let replaced = given("host") || given("hostaddr");
    if !host.is_empty() && !replaced && given("port") {
        // The driver adds a default port for a host without one, and would then have two.
        query.insert(0, format!("host={host}"));
    } else if !replaced {
        return format!("postgres://{user}{server}{path}?{}", query.join("&"));
    }
    if let Some(port) = port.filter(|_| !given("port")) {
        query.push(format!("port={port}"));
    }
    format!("postgres://{user}{path}?{}", query.join("&"))
}

/// Host and port as libpq takes them: for a Unix socket its directory, and the number in its name.
fn host_and_port(proxy: &ListenAddr) -> (String, u16) {
    match proxy {
        ListenAddr::Tcp(address) => (address.ip().to_string(), address.port()),
        ListenAddr::Unix(path) => {
            let port = path.extension().and_then(|number| number.to_str()?.parse().ok()).unwrap_or(5432);
            (path.parent().unwrap_or(path).display().to_string(), port)
        }
    }
}

/// The proxy's address in a URL: authority and query parameters.
fn server_part(proxy: &ListenAddr) -> (String, Vec<String>) {
    match proxy {
        ListenAddr::Tcp(address) => (address.to_string(), Vec::new()),
        ListenAddr::Unix(_) => {
            let (host, port) = host_and_port(proxy);
            (String::new(), vec![format!("host={}", encoded(host.as_bytes())), format!("port={port}")])
        }
    }
}

fn split_query(rest: &str) -> (&str, Vec<&str>) {
    match rest.split_once('?') {
        Some((base, query)) => (base, query.split('&').filter(|pair| !pair.is_empty()).collect()),
        None => (rest, Vec::new()),
    }
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

/// Whether a parameter is the application's own: neither the server's address nor how to secure a connection to it.
fn is_applications(name: &str) -> bool {
    !ADDRESS_PARAMETERS.contains(&name) && !TLS_PARAMETERS.contains(&name) && name != "channel_binding"
}

/// libpq's `key=value` words (manual, "Keyword/Value Connection Strings"). None when they are malformed.
fn split_words(text: &str) -> Option<Vec<(String, String)>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let (value, after) = word_value(after.trim_start())?;
        words.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Some(words)
}

/// A value at the beginning of `text`, and what follows it.
fn word_value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            _ if !quoted && character.is_whitespace() => return Some((value, &text[at..])),
            _ => value.push(character),
        }
    }
    (!quoted).then_some((value, ""))
}

fn as_words<'a>(words: impl Iterator<Item = &'a (String, String)>) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    words.map(|(name, value)| format!("{name}='{}'", quoted(value))).collect::<Vec<_>>().join(" ")
}

/// Undoes percent-encoding. None when it is malformed, or gives no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes everything but unreserved characters (RFC 3986, section 2.3).
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> ListenAddr {
        "127.0.0.1:6432".parse().unwrap()
    }

    /// libpq would try one after the other. Everything here speaks of one server, so that the application is not sent to another
    /// than it meant.
    #[test]
    fn several_servers_are_refused() {
        for text in ["postgres://a,b:5433/app", "host=a,b dbname=app", "host=a hostaddr=127.0.0.1,::1"] {
            let error = text.parse::<DatabaseUrl>().expect_err(text);
            assert!(error.reason.contains("several servers"), "{text}: {error}");
        }
    }

    #[test]
    fn the_application_gets_everything_but_the_address() {
        let check = |text: &str, described: &str, through: &str| {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.describe(), described, "{text}");
            assert_eq!(url.through(proxy()), through, "{text}");
        };
        check("postgres://db/app", "db:5432/app", "postgres://127.0.0.1:6432/app");
        check("postgres://u:p%40ss@db:5433/app", "db:5433/app", "postgres://u:p%40ss@127.0.0.1:6432/app");
        check(
            "postgresql://u@/app?host=/run/postgresql&application_name=x",
            "/run/postgresql:5432/app",
            "postgresql://u@127.0.0.1:6432/app?application_name=x",
        );
        check(
            "postgresql+asyncpg://u@db/app?pool_size=5&port=5434&sslmode=verify-full",
            "db:5434/app",
            "postgresql+asyncpg://u@127.0.0.1:6432/app?pool_size=5&sslmode=disable",
        );
        check("postgres://u@db:5433/app?host=other", "other:5433/app", "postgres://u@127.0.0.1:6432/app");
        check("postgres://u@db:5433/app?port=6", "db:6/app", "postgres://u@127.0.0.1:6432/app");
        check("postgres://%2Frun%2Fpg/app", "/run/pg:5432/app", "postgres://127.0.0.1:6432/app");
        check("postgres://u@[::1]:5/a", "[::1]:5/a", "postgres://u@127.0.0.1:6432/a");
        check("postgres://", "localhost:5432", "postgres://127.0.0.1:6432");
        check(
            "host=db port=5433 user=u password='p @s' dbname=app",
            "db:5433/app",
            "postgres://u:p%20%40s@127.0.0.1:6432/app",
        );
        check(
            "postgres://u@db/app?sslmode=verify-full&sslrootcert=%2Fca.pem&sslnegotiation=direct&options=-c%20a=b",
            "db:5432/app",
            "postgres://u@127.0.0.1:6432/app?options=-c%20a=b&sslmode=disable",
        );
        check("postgresql+asyncpg://u@db/app?ssl=require", "db:5432/app", "postgresql+asyncpg://u@127.0.0.1:6432/app");
        check(
            r"host = db user='o\'neil' password=a\ b sslrootcert=/ca.pem sslmode=allow application_name='my app'",
            "db:5432",
            "postgres://o%27neil:a%20b@127.0.0.1:6432/?application_name=my%20app&sslmode=disable",
        );
    }

    #[test]
    fn a_unix_socket_is_named_by_directory_and_port() {
        let proxy: ListenAddr = "/run/txray/.s.PGSQL.6432".parse().unwrap();
        let check = |text: &str, through: &str| {
            let url: DatabaseUrl = text.parse().unwrap();
            let found = url.through(proxy.clone());
            assert_eq!(found, through);
            assert_eq!(found.parse::<DatabaseUrl>().unwrap().upstream().to_string(), "/run/txray/.s.PGSQL.6432");
        };
        check("postgres://u:p@db/app?a=b", "postgres://u:p@/app?host=%2Frun%2Ftxray&port=6432&a=b");
        check("postgres://db", "postgres:///?host=%2Frun%2Ftxray&port=6432");
        check("host=db user=u", "postgres://u@/?host=%2Frun%2Ftxray&port=6432");
        let variables = "postgres://db/app".parse::<DatabaseUrl>().unwrap().environment(proxy);
        assert!(variables.contains(&("PGHOST", Some("/run/txray".to_owned()))));
        assert!(variables.contains(&("PGPORT", Some("6432".to_owned()))));
    }

    #[test]
    fn what_is_no_connection_string_is_refused_without_quoting_it() {
        let words = [
            "s3cr3t",
            "password='s3cr3t",
            "host=db password=s3cr3t\\",
            "a s3cr3t=b",
            "postgres://db?password=s3cr3t%2",
        ];
        for text in ["mysql://u:s3cr3t@db/app", "postgres://u:s3cr3t@db:port/app"].into_iter().chain(words) {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
        let url: DatabaseUrl = "postgres://u:s3cr3t@db/app".parse().unwrap();
        assert!(!format!("{url:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_password_is_the_strings_own_and_then_the_environments() {
        let check = |text: &str, expected: &str| {
            let url: DatabaseUrl = text.parse().unwrap();
            let database = url.database(|name| (name == "PGPASSWORD").then(|| "environment".to_owned())).unwrap();
            assert_eq!(database.config().get_password(), Some(expected.as_bytes()), "{text}");
        };
        check("postgres://u:own@db?sslmode=disable", "own");
        check("postgres://u@db?sslmode=disable", "environment");
        check("postgres:///a?host=%2Frun%2Fpg", "environment");
    }

    #[test]
    fn tls_is_as_the_string_says_and_then_the_environment() {
        let check = |text: &str, environment: &[(&str, &str)], expected: Result<&str, &str>| {
            let url: DatabaseUrl = text.parse().unwrap();
            let variable = |name: &str| {
                let found = environment.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = url.database(variable).map(|database| database.tls().mode().to_string());
            let found = found.map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text} {environment:?}");
        };
        check("postgres://db", &[], Ok("prefer"));
        check("host=db", &[("PGSSLMODE", "require")], Ok("require"));
        check("host=db sslmode=allow", &[("PGSSLMODE", "require")], Ok("allow"));
        check("postgres://db?ssl=true", &[], Ok("require"));
        check("postgres://db?ssl=true&sslmode=disable", &[], Ok("disable"));
        // As with libpq, a Unix socket knows no TLS.
        check("postgres:///a?host=%2Frun%2Fpg&sslmode=require", &[], Ok("disable"));
        let expected = "sslmode is none of disable, allow, prefer, require, verify-ca or verify-full";
        check("postgres://db?sslmode=always", &[], Err(expected));
        check(
            "postgres://db?sslmode=require&sslrootcert=system",
            &[],
            Err("sslmode require is too weak for sslrootcert=system"),
        );
        check("postgres://db?sslnegotiation=direct", &[], Err("sslmode prefer is too weak for sslnegotiation=direct"));
        check("postgres://db?sslnegotiation=direct&sslmode=require", &[], Ok("require"));
        check(
            "postgres://db?sslmode=verify-ca",
            &[("HOME", "/nonexistent")],
            Err("sslmode verify-ca needs root certificates, and there are none: \
                 \"/nonexistent/.postgresql/root.crt\" does not exist"),
        );
        check(
            "postgres://db?sslmode=verify-full&sslrootcert=%2Fnonexistent",
            &[],
            Err("could not read the root certificates \"/nonexistent\""),
        );
        check("postgres://db?sslkey=/k", &[], Err("sslkey is given without sslcert"));
        check(
            "postgres://db?sslcrl=/c",
            &[],
            Err("sslcrl cannot be kept: the recorder does not read revocation lists"),
        );
        check(
            "postgres://db",
            &[("PGCHANNELBINDING", "require")],
            Err("channel_binding=require cannot be kept: the recorder stands between client and server"),
        );
    }

    #[test]
    fn libpq_finds_the_proxy() {
        let url: DatabaseUrl = "postgres://u:p%40@db:5433/app".parse().unwrap();
        let variables = url.environment(proxy());
        let value = |name| variables.iter().find(|(other, _)| *other == name).and_then(|(_, value)| value.as_deref());
        assert_eq!(value("DATABASE_URL"), Some("postgres://u:p%40@127.0.0.1:6432/app"));
        assert_eq!((value("PGHOST"), value("PGPORT")), (Some("127.0.0.1"), Some("6432")));
        assert_eq!((value("PGUSER"), value("PGPASSWORD"), value("PGDATABASE")), (Some("u"), Some("p@"), Some("app")));
        assert!(variables.contains(&("PGHOSTADDR", None)) && variables.contains(&("PGSERVICE", None)));
        assert!(variables.iter().all(|(name, _)| !name.starts_with("PGSSL")), "other databases may need TLS");
    }
}

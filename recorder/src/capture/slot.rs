//! A replication slot that outlives connections and recordings, on request.
//!
//! It makes the server keep its write-ahead log until the recorder has received it: a lost connection leaves no gap, and
//! the next recording goes on where the last one ended. So its lag is watched, and beyond a limit the recorder lets go.

use std::fmt;

use tokio_postgres::Client;
use txray_store::ids::Lsn;

use super::error::{CaptureError, Obstacle};

/// Longest name: PostgreSQL's limit is 63 bytes, and publications and further slots are named after it.
const NAME_BYTES: usize = 54;

/// A durable slot as the user asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableSlot {
    name: String,
    /// How many bytes of write-ahead log it may hold back before the recorder lets go of it; no limit when not given.
    pub lag_limit: Option<u64>,
}

/// A name that PostgreSQL would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no name for a replication slot: up to {NAME_BYTES} lower-case letters, digits and underscores, no digit first"
)]
pub struct InvalidSlotName(pub String);

impl DurableSlot {
    /// The slot of the database of that number: a slot serves one database.
    pub(crate) fn for_database(&self, index: usize) -> Self {
        let name = if index == 0 { self.name.clone() } else { format!("{}_{}", self.name, index + 1) };
        DurableSlot { name, lag_limit: self.lag_limit }
    }

    /// A slot of that name.
    pub fn new(name: &str, lag_limit: Option<u64>) -> Result<Self, InvalidSlotName> {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        if !starts || name.len() > NAME_BYTES || !name.bytes().all(valid) {
            return Err(InvalidSlotName(name.to_owned()));
        }
        Ok(DurableSlot { name: name.to_owned(), lag_limit })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no size: a number with B, kB, MB, GB, KiB, MiB or GiB, such as 512MiB")]
pub struct InvalidByteSize(pub String);

/// Reads a size such as `1GiB`; a number alone counts bytes.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidByteSize> {
    let invalid = || InvalidByteSize(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| invalid())?;
    let unit = match text[digits..].trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(invalid()),
    };
    number.checked_mul(unit).ok_or_else(invalid)
}

/// How a durable slot stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    /// Its name.
    pub name: String,
    /// Whether an earlier recording had left it.
    pub resumed: bool,
    /// Bytes of write-ahead log that the server keeps for it, as last seen.
    pub lag_bytes: u64,
    /// Whether the recorder let go of it.
    pub dropped: bool,
}

impl fmt::Display for SlotStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.lag_bytes as f64 / f64::from(1 << 20);
        if self.dropped {
            write!(f, "\"{}\" was dropped: it held back too much write-ahead log", self.name)
        } else {
            write!(f, "\"{}\" holds back {mebibytes:.1} MiB of write-ahead log", self.name)
        }
    }
}

/// What the server says of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none of that name.
    Absent,
    /// The stream can go on.
    Usable {
        /// Where it goes on.
        confirmed: Lsn,
        /// Bytes of write-ahead log that are kept for it.
        lag_bytes: u64,
    },
    /// The server gave it up, and with it what was not received.
    Invalidated,
}

/// Looks at a slot of this database.
pub(super) async fn look(client: &Client, name: &str) -> Result<Found, CaptureError> {
    let attempt = "look at the replication slot";
    let query = |source| CaptureError::Query { attempt, source };
    let rows = client
        .query(
            "SELECT database = current_database() AND plugin = 'pgoutput' AND NOT temporary, active,
                    coalesce(wal_status, '') = 'lost' OR restart_lsn IS NULL,
                    confirmed_flush_lsn::text,
                    greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0)::int8
             FROM pg_replication_slots WHERE slot_name = $1",
            &[&name],
        )
        .await
        .map_err(query)?;
    let Some(row) = rows.first() else { return Ok(Found::Absent) };
    let ours: Option<bool> = row.try_get(0).map_err(query)?;
    if ours != Some(true) {
        return Err(Obstacle::ForeignSlot(name.to_owned()).into());
    }
    if row.try_get(1).map_err(query)? {
        return Err(Obstacle::SlotInUse(name.to_owned()).into());
    }
    if row.try_get(2).map_err(query)? {
        return Ok(Found::Invalidated);
    }
    let confirmed: Option<String> = row.try_get(3).map_err(query)?;
    let confirmed = confirmed.and_then(|text| text.parse().ok()).ok_or(CaptureError::Answer { attempt })?;
    let lag: Option<i64> = row.try_get(4).map_err(query)?;
    Ok(Found::Usable { confirmed, lag_bytes: lag.unwrap_or(0) as u64 })
}

/// Bytes of write-ahead log that the server keeps for a slot, whoever uses it; none when it is gone.
pub(super) async fn lag(client: &Client, name: &str) -> Result<Option<u64>, CaptureError> {
    let query = |source| CaptureError::Query { attempt: "read the replication slot's lag", source };
    let sql = "SELECT greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn), 0)::int8
               FROM pg_replication_slots WHERE slot_name = $1";
    let row = client.query_opt(sql, &[&name]).await.map_err(query)?;
    let lag: Option<i64> = row.map(|row| row.try_get(0)).transpose().map_err(query)?.flatten();
    Ok(lag.map(|lag| lag as u64))
}

/// Drops a slot; one that is gone already counts as dropped.
pub(super) async fn drop_slot(client: &Client, name: &str) -> Result<(), CaptureError> {
    let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1";
    let dropped = client.execute(sql, &[&name]).await;
    dropped.map(drop).map_err(|source| CaptureError::Query { attempt: "drop the replication slot", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(parse_bytes(text).ok(), bytes, "{text}");
        check("0", Some(0));
        check("512MiB", Some(512 << 20));
        check("1 gib", Some(1 << 30));
        check("3kB", Some(3_000));
        for text in ["", "MiB", "-1", "1TB", "1.5GiB", "99999999999999999999", "99999999999GiB"] {
            check(text, None);
        }
    }

    #[test]
    fn names_are_those_that_postgresql_takes() {
        for name in ["orders", "a", "_1", &"x".repeat(54)] {
            assert_eq!(DurableSlot::new(name, None).expect("a name").name(), name);
        }
        for name in ["", "1a", "Orders", "a-b", "a b", "ö", &"x".repeat(55)] {
            assert_eq!(DurableSlot::new(name, None), Err(InvalidSlotName(name.to_owned())));
        }
    }
}

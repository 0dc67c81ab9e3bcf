//! Decoder of `pgoutput`, the message format of PostgreSQL's logical replication: bytes in, values out, no IO.
//!
//! Protocol version 1 without binary values or streamed transactions, which is what change capture asks for. One struct
//! per message. Decoding is total: a message that is cut off, has an unknown kind or carries bytes beyond its end is an
//! error, never a panic.
//!
//! Source: PostgreSQL manual, "Logical Replication Message Formats"; `src/backend/replication/logical/proto.c`.

use bytes::Bytes;
use txray_store::ids::{Lsn, Oid};
use txray_store::time::Timestamp;

mod cursor;
pub(crate) mod encode;

use cursor::Cursor;

/// Why a message could not be decoded. Never carries values of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before its last field.
    #[error("message ends within its {field}")]
    Truncated {
        /// The field being read.
        field: &'static str,
    },
    /// The first byte names no message of protocol version 1.
    #[error("unknown message kind 0x{0:02x}")]
    UnknownKind(u8),
    /// A field holds a value that the protocol does not know.
    #[error("unexpected byte 0x{byte:02x} as {field}")]
    Unexpected {
        /// The field.
        field: &'static str,
        /// What it held.
        byte: u8,
    },
    /// The message goes on after its last field.
    #[error("{0} bytes follow the message's end")]
    Trailing(usize),
}

/// A `pgoutput` message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A committed transaction's changes begin.
    Begin(Begin),
    /// A transaction's changes end.
    Commit(Commit),
    /// Where a transaction that was itself replicated came from.
    Origin(Origin),
    /// A relation's shape, sent before the first change of it and after its shape changed.
    Relation(Relation),
    /// A data type's name.
    Type(Type),
    /// A new row.
    Insert(Insert),
    /// A row's new version.
    Update(Update),
    /// A row's end.
    Delete(Delete),
    /// The end of every row of some relations.
    Truncate(Truncate),
    /// `pg_logical_emit_message`.
    Logical(Logical),
}

/// See [`Message::Begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Position of the transaction's commit record.
    pub commit_lsn: Lsn,
    /// When it committed.
    pub committed_at: Timestamp,
    /// Lower half of its transaction id.
    pub xid: u32,
}

/// See [`Message::Commit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Position of the commit record.
    pub commit_lsn: Lsn,
    /// Position after it.
    pub end_lsn: Lsn,
    /// When the transaction committed.
    pub committed_at: Timestamp,
}

/// See [`Message::Origin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Position of the commit on the server of origin.
    pub commit_lsn: Lsn,
    /// Name of the origin.
    pub name: String,
}

/// See [`Message::Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Schema; `pg_catalog` comes as the empty string.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `relreplident`.
    pub replica_identity: char,
    /// Replicated columns in the order of the tuples' values.
    pub columns: Vec<Column>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Whether it is part of the replica identity; true for all under REPLICA IDENTITY FULL.
    pub key: bool,
    /// Name.
    pub name: String,
    /// Type.
    pub type_oid: Oid,
    /// `atttypmod`.
    pub type_modifier: i32,
}

/// See [`Message::Type`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.oid`.
    pub oid: Oid,
    /// Schema; `pg_catalog` comes as the empty string.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A value of a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// An out-of-line (TOAST) value that the change left as it was.
    Unchanged,
    /// PostgreSQL's text output, in the session's client encoding.
    Text(Bytes),
    /// PostgreSQL's binary output.
    Binary(Bytes),
}

/// Values in the order of [`Relation::columns`].
pub type Tuple = Vec<Value>;

/// What a change tells of the row before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTuple {
    /// The key columns; every other value is [`Value::Null`].
    Key(Tuple),
    /// Every column, under REPLICA IDENTITY FULL.
    Full(Tuple),
}

/// See [`Message::Insert`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The relation.
    pub relation: Oid,
    /// The new row.
    pub new: Tuple,
}

/// See [`Message::Update`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The relation.
    pub relation: Oid,
    /// The old row, when its key changed or under REPLICA IDENTITY FULL.
    pub old: Option<OldTuple>,
    /// The new row.
    pub new: Tuple,
}

/// See [`Message::Delete`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The relation.
    pub relation: Oid,
    /// The old row.
    pub old: OldTuple,
}

/// See [`Message::Truncate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// Whether CASCADE was given.
    pub cascade: bool,
    /// Whether RESTART IDENTITY was given.
    pub restart_identity: bool,
    /// The relations.
    pub relations: Vec<Oid>,
}

/// See [`Message::Logical`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logical {
    /// Whether it belongs to a transaction; others are sent at once.
    pub transactional: bool,
    /// Its position.
    pub lsn: Lsn,
    /// What it is about, chosen by its sender.
    pub prefix: String,
    /// Its content.
    pub content: Bytes,
}

/// Decodes one message: the payload of one XLogData.
pub fn decode(data: Bytes) -> Result<Message, DecodeError> {
    let mut cursor = Cursor::new(data);
    let message = match cursor.byte("kind")? {
        b'B' => Message::Begin(Begin {
            commit_lsn: cursor.lsn("commit position")?,
            committed_at: cursor.time("commit time")?,
            xid: cursor.int32("transaction id")? as u32,
        }),
        b'C' => {
            cursor.byte("flags")?;
            Message::Commit(Commit {
                commit_lsn: cursor.lsn("commit position")?,
                end_lsn: cursor.lsn("end position")?,
                committed_at: cursor.time("commit time")?,
            })
        }
        b'O' => {
            Message::Origin(Origin { commit_lsn: cursor.lsn("commit position")?, name: cursor.string("origin name")? })
        }
        b'R' => Message::Relation(relation(&mut cursor)?),
        b'Y' => Message::Type(Type {
            oid: cursor.oid("type id")?,
            namespace: cursor.string("namespace")?,
            name: cursor.string("type name")?,
        }),
        b'I' => {
            let relation = cursor.oid("relation id")?;
            cursor.expect(b'N', "tuple kind")?;
            Message::Insert(Insert { relation, new: tuple(&mut cursor)? })
        }
        b'U' => Message::Update(update(&mut cursor)?),
        b'D' => Message::Delete(delete(&mut cursor)?),
        b'T' => Message::Truncate(truncate(&mut cursor)?),
        b'M' => Message::Logical(logical(&mut cursor)?),
        kind => return Err(DecodeError::UnknownKind(kind)),
    };
    match cursor.remaining() {
        0 => Ok(message),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn relation(cursor: &mut Cursor) -> Result<Relation, DecodeError> {
    let oid = cursor.oid("relation id")?;
    let namespace = cursor.string("namespace")?;
    let name = cursor.string("relation name")?;
    let replica_identity = char::from(cursor.byte("replica identity")?);
    let count = cursor.count("column count")?;
    // The announced count is not trusted for the allocation: a column takes at least 10 bytes.
    let mut columns = Vec::with_capacity(count.min(cursor.remaining() / 10));
    for _ in 0..count {
        columns.push(Column {
            key: cursor.byte("column flags")? & 1 != 0,
            name: cursor.string("column name")?,
            type_oid: cursor.oid("column type")?,
            type_modifier: cursor.int32("type modifier")?,
        });
    }
    Ok(Relation { oid, namespace, name, replica_identity, columns })
}

fn tuple(cursor: &mut Cursor) -> Result<Tuple, DecodeError> {
    let count = cursor.count("value count")?;
    let mut values = Vec::with_capacity(count.min(cursor.remaining()));
    for _ in 0..count {
        values.push(match cursor.byte("value kind")? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => Value::Text(cursor.sized("value")?),
            b'b' => Value::Binary(cursor.sized("value")?),
            byte => return Err(DecodeError::Unexpected { field: "value kind", byte }),
        });
    }
    Ok(values)
}

fn update(cursor: &mut Cursor) -> Result<Update, DecodeError> {
    let relation = cursor.oid("relation id")?;
    let old = match cursor.byte("tuple kind")? {
        b'K' => Some(OldTuple::Key(tuple(cursor)?)),
        b'O' => Some(OldTuple::Full(tuple(cursor)?)),
        b'N' => return Ok(Update { relation, old: None, new: tuple(cursor)? }),
        byte => return Err(DecodeError::Unexpected { field: "tuple kind", byte }),
    };
    cursor.expect(b'N', "tuple kind")?;
    Ok(Update { relation, old, new: tuple(cursor)? })
}

fn delete(cursor: &mut Cursor) -> Result<Delete, DecodeError> {
    let relation = cursor.oid("relation id")?;
    let old = match cursor.byte("tuple kind")? {
        b'K' => OldTuple::Key(tuple(cursor)?),
        b'O' => OldTuple::Full(tuple(cursor)?),
        byte => return Err(DecodeError::Unexpected { field: "tuple kind", byte }),
    };
    Ok(Delete { relation, old })
}

fn truncate(cursor: &mut Cursor) -> Result<Truncate, DecodeError> {
    let count = cursor.int32("relation count")?;
    let flags = cursor.byte("truncate flags")?;
    let count = usize::try_from(count).unwrap_or(0);
    let mut relations = Vec::with_capacity(count.min(cursor.remaining() / 4));
    for _ in 0..count {
        relations.push(cursor.oid("relation id")?);
    }
    Ok(Truncate { cascade: flags & 1 != 0, restart_identity: flags & 2 != 0, relations })
}

fn logical(cursor: &mut Cursor) -> Result<Logical, DecodeError> {
    Ok(Logical {
        transactional: cursor.byte("message flags")? & 1 != 0,
        lsn: cursor.lsn("message position")?,
        prefix: cursor.string("message prefix")?,
        content: cursor.sized("message content")?,
    })
}

#[cfg(test)]
mod tests;

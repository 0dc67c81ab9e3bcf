//! Writes messages as the server does, for the tests of what reads them.

use bytes::{BufMut, Bytes, BytesMut};
use txray_store::time::Timestamp;

use super::{Message, OldTuple, Tuple, Value};

/// Bytes of `message` as `pgoutput` sends them.
pub(crate) fn encode(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    match message {
        Message::Begin(begin) => {
            out.put_u8(b'B');
            out.put_u64(begin.commit_lsn.0);
            put_time(&mut out, begin.committed_at);
            out.put_u32(begin.xid);
        }
        Message::Commit(commit) => {
            out.put_slice(b"C\0");
            out.put_u64(commit.commit_lsn.0);
            out.put_u64(commit.end_lsn.0);
            put_time(&mut out, commit.committed_at);
        }
        Message::Origin(origin) => {
            out.put_u8(b'O');
            out.put_u64(origin.commit_lsn.0);
            put_text(&mut out, &origin.name);
        }
        Message::Relation(relation) => {
            out.put_u8(b'R');
            out.put_u32(relation.oid.0);
            put_text(&mut out, &relation.namespace);
            put_text(&mut out, &relation.name);
            out.put_u8(relation.replica_identity as u8);
            out.put_u16(relation.columns.len() as u16);
            for column in &relation.columns {
                out.put_u8(u8::from(column.key));
                put_text(&mut out, &column.name);
                out.put_u32(column.type_oid.0);
                out.put_i32(column.type_modifier);
            }
        }
        Message::Type(named) => {
            out.put_u8(b'Y');
            out.put_u32(named.oid.0);
            put_text(&mut out, &named.namespace);
            put_text(&mut out, &named.name);
        }
        Message::Insert(insert) => {
            out.put_u8(b'I');
            out.put_u32(insert.relation.0);
            put_tuple(&mut out, b'N', &insert.new);
        }
        Message::Update(update) => {
            out.put_u8(b'U');
            out.put_u32(update.relation.0);
            if let Some(old) = &update.old {
                put_old(&mut out, old);
            }
            put_tuple(&mut out, b'N', &update.new);
        }
        Message::Delete(delete) => {
            out.put_u8(b'D');
            out.put_u32(delete.relation.0);
            put_old(&mut out, &delete.old);
        }
        Message::Truncate(truncate) => {
            out.put_u8(b'T');
            out.put_u32(truncate.relations.len() as u32);
            out.put_u8(u8::from(truncate.cascade) | u8::from(truncate.restart_identity) << 1);
            for relation in &truncate.relations {
                out.put_u32(relation.0);
            }
        }
        Message::Logical(logical) => {
            out.put_u8(b'M');
            out.put_u8(u8::from(logical.transactional));
            out.put_u64(logical.lsn.0);
            put_text(&mut out, &logical.prefix);
            put_sized(&mut out, &logical.content);
        }
    }
    out.freeze()
}

fn put_time(out: &mut BytesMut, time: Timestamp) {
    out.put_i64(time.0.saturating_sub(Timestamp::from_postgres(0).0));
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn put_old(out: &mut BytesMut, old: &OldTuple) {
    match old {
        OldTuple::Key(values) => put_tuple(out, b'K', values),
        OldTuple::Full(values) => put_tuple(out, b'O', values),
    }
}

fn put_tuple(out: &mut BytesMut, kind: u8, values: &Tuple) {
    out.put_u8(kind);
    out.put_u16(values.len() as u16);
    for value in values {
        match value {
            Value::Null => out.put_u8(b'n'),
            Value::Unchanged => out.put_u8(b'u'),
            Value::Text(bytes) => {
                out.put_u8(b't');
                put_sized(out, bytes);
            }
            Value::Binary(bytes) => {
                out.put_u8(b'b');
                put_sized(out, bytes);
            }
        }
    }
}

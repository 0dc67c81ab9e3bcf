//! Single messages: what is decoded can be written, and reads back as it was.

use txray_store::event::PgError;

use crate::pg::wire::backend::{self, Backend};
use crate::pg::wire::frontend;
use crate::pg::wire::server_error::ErrorFields;
use crate::pg::wire::startup;
use crate::pg::wire::{framing, rows};

/// A message of the client, whole.
pub(super) fn of_client(kind: u8, payload: &[u8]) {
    let _ = frontend::decode_prefix(kind, payload);
    let Ok(message) = frontend::decode(kind, payload) else { return };
    let mut bytes = Vec::new();
    frontend::encode(&message, &mut bytes);
    let whole = framing::split_whole(&bytes).expect("a message").expect("a whole one");
    assert!(whole.rest.is_empty() && whole.kind == kind, "one message of the same kind");
    assert_eq!(frontend::decode(kind, whole.payload).as_ref(), Ok(&message), "a client's message reads back");
}

/// A message of the server, whole.
pub(super) fn of_server(kind: u8, payload: &[u8]) {
    let _ = ErrorFields::decode_prefix(payload).to_error();
    match backend::decode(kind, payload) {
        Ok(Backend::DataRow(row)) => of_row(row),
        Ok(Backend::RowDescription(columns)) => {
            let mut bytes = Vec::new();
            rows::encode_description(&columns, &mut bytes);
            assert_eq!(rows::decode_description(&bytes), Ok(columns), "a description reads back");
        }
        Ok(Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields)) => {
            let mut bytes = Vec::new();
            fields.encode(&mut bytes);
            assert_eq!(ErrorFields::decode(&bytes).as_ref(), Ok(&fields), "an error's fields read back");
            of_error(&fields.to_error());
        }
        Ok(_) | Err(_) => {}
    }
}

fn of_row(row: &[u8]) {
    let Ok(values) = rows::decode_row(row) else { return };
    let mut bytes = Vec::new();
    rows::encode_row(values.iter().copied(), &mut bytes);
    assert_eq!(bytes, row, "a row is written as it was");
    let owned = rows::decode_row_owned(row).expect("the same row");
    assert!(owned.iter().map(Option::as_deref).eq(values), "the same values");
}

fn of_error(error: &PgError) {
    let mut bytes = Vec::new();
    crate::pg::wire::server_error::encode_error(error, &mut bytes);
    let whole = framing::split_whole(&bytes).expect("a message").expect("a whole one");
    let fields = ErrorFields::decode(whole.payload).expect("our own");
    assert_eq!(fields.to_error(), *error, "an error reads back");
}

/// A packet of the client's opening.
pub(super) fn of_opening(packet: &[u8]) {
    let announced = startup::packet_bytes(packet);
    let Ok(decoded) = startup::decode(packet) else { return };
    assert!(packet.len() < 8 || packet.len() > startup::STARTUP_BYTES_MAX || announced == Ok(Some(packet.len())));
    let mut bytes = Vec::new();
    startup::encode(&decoded, &mut bytes);
    // What is not UTF-8 was replaced by something longer, and may not fit any more.
    assert_eq!(startup::decode(&bytes), Ok(decoded), "a packet reads back");
}

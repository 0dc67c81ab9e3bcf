//! Messages that the server sends.

use txray_store::ids::Oid;

use super::cursor::Cursor;
use super::rows::{self, ColumnDescription};
use super::server_error::ErrorFields;
use super::startup::BackendKey;
use super::{WireError, encode};

/// Message types whose payload is never looked at: COPY data.
pub const SKIPPED_KINDS: &[u8] = b"d";

/// State of a session as ReadyForQuery gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    InBlock,
    /// In a transaction block that failed.
    Failed,
}

/// Authentication requests, as far as the proxy tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// Authentication succeeded.
    Ok,
    /// SASL is required; the mechanisms offered.
    Sasl(Vec<&'a [u8]>),
    /// Any other request: code and data.
    Other(u32, &'a [u8]),
}

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend<'a> {
    /// Authentication request.
    Authentication(Authentication<'a>),
    /// What a cancel request must show.
    BackendKeyData(BackendKey),
    /// A setting that the server reports.
    ParameterStatus {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The server supports less than was asked for.
    NegotiateProtocolVersion {
        /// Newest minor version it supports.
        minor: u32,
        /// Options it does not know.
        unknown_options: Vec<&'a [u8]>,
    },
    /// The session waits for the next batch.
    ReadyForQuery(TransactionStatus),
    /// Columns of the rows that follow, or that Execute will return.
    RowDescription(Vec<ColumnDescription<'a>>),
    /// Parameter types of a prepared statement.
    ParameterDescription(Vec<Oid>),
    /// A row, not decoded.
    DataRow(&'a [u8]),
    /// A command ended.
    CommandComplete {
        /// Its tag.
        tag: &'a [u8],
    },
    /// The query string was empty.
    EmptyQueryResponse,
    /// An error.
    ErrorResponse(ErrorFields<'a>),
    /// A notice.
    NoticeResponse(ErrorFields<'a>),
    /// A notification of LISTEN.
    NotificationResponse,
    /// Parse succeeded.
    ParseComplete,
    /// Bind succeeded.
    BindComplete,
    /// Close succeeded.
    CloseComplete,
    /// Execute reached its limit of rows.
    PortalSuspended,
    /// The statement returns no rows.
    NoData,
    /// The server waits for COPY data.
    CopyInResponse,
    /// The server sends COPY data.
    CopyOutResponse,
    /// Both send COPY data (replication).
    CopyBothResponse,
    /// COPY's output is complete.
    CopyDone,
    /// Result of a fast-path call; none is NULL.
    FunctionCallResponse(Option<&'a [u8]>),
}

/// Decodes a message. COPY data has no variant: it is never looked at.
pub fn decode(kind: u8, payload: &[u8]) -> Result<Backend<'_>, WireError> {
    let mut cursor = Cursor::new(payload);
    let message = match kind {
        b'D' => return Ok(Backend::DataRow(payload)),
        b'T' => return rows::decode_description(payload).map(Backend::RowDescription),
        b'E' => return ErrorFields::decode(payload).map(Backend::ErrorResponse),
        b'N' => return ErrorFields::decode(payload).map(Backend::NoticeResponse),
        b'R' => return decode_authentication(cursor).map(Backend::Authentication),
        b'G' | b'H' | b'W' => return decode_copy_response(kind, cursor),
        b'K' => {
            let process_id = cursor.uint32()?;
            return Ok(Backend::BackendKeyData(BackendKey { process_id, secret: cursor.rest().to_vec() }));
        }
        b'S' => Backend::ParameterStatus { name: cursor.text()?, value: cursor.text()? },
        b'v' => {
            let minor = cursor.uint32()?;
            let count = cursor.uint32()?;
            let unknown_options = (0..count).map(|_| cursor.text()).collect::<Result<_, _>>()?;
            Backend::NegotiateProtocolVersion { minor, unknown_options }
        }
        b'Z' => Backend::ReadyForQuery(status(cursor.byte()?)?),
        b't' => {
            let count = cursor.count()?;
            Backend::ParameterDescription((0..count).map(|_| cursor.uint32().map(Oid)).collect::<Result<_, _>>()?)
        }
        b'C' => Backend::CommandComplete { tag: cursor.text()? },
        b'I' => Backend::EmptyQueryResponse,
        b'A' => {
            cursor.uint32()?;
            cursor.text()?;
            cursor.text()?;
            Backend::NotificationResponse
        }
        b'1' => Backend::ParseComplete,
        b'2' => Backend::BindComplete,
        b'3' => Backend::CloseComplete,
        b's' => Backend::PortalSuspended,
        b'n' => Backend::NoData,
        b'c' => Backend::CopyDone,
        b'V' => Backend::FunctionCallResponse(cursor.value()?),
        _ => return Err(WireError::UnknownMessage { kind }),
    };
    cursor.end()?;
    Ok(message)
}

fn status(byte: u8) -> Result<TransactionStatus, WireError> {
    match byte {
        b'I' => Ok(TransactionStatus::Idle),
        b'T' => Ok(TransactionStatus::InBlock),
        b'E' => Ok(TransactionStatus::Failed),
        _ => Err(WireError::InvalidField { field: "transaction status" }),
    }
}

fn decode_authentication(mut cursor: Cursor<'_>) -> Result<Authentication<'_>, WireError> {
    match cursor.uint32()? {
        0 => cursor.end().map(|()| Authentication::Ok),
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match cursor.text()? {
                    [] => break,
                    name => mechanisms.push(name),
                }
            }
            cursor.end()?;
            Ok(Authentication::Sasl(mechanisms))
        }
        code => Ok(Authentication::Other(code, cursor.rest())),
    }
}

fn decode_copy_response(kind: u8, mut cursor: Cursor<'_>) -> Result<Backend<'static>, WireError> {
    cursor.byte()?;
    for _ in 0..cursor.count()? {
        rows::format(cursor.int16()?)?;
    }
    cursor.end()?;
    Ok(match kind {
        b'G' => Backend::CopyInResponse,
        b'H' => Backend::CopyOutResponse,
        _ => Backend::CopyBothResponse,
    })
}

/// Appends a ReadyForQuery message.
pub fn encode_ready(status: TransactionStatus, out: &mut Vec<u8>) {
    let byte = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::InBlock => b'T',
        TransactionStatus::Failed => b'E',
    };
    encode::message(out, b'Z', |out| out.push(byte));
}

/// Appends an AuthenticationSASL message that offers `mechanisms`.
pub fn encode_sasl<'a>(mechanisms: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    encode::message(out, b'R', |out| {
        encode::uint32(out, 10);
        for mechanism in mechanisms {
            encode::text(out, mechanism);
        }
        out.push(0);
    });
}

//! Messages that the client sends.

use txray_store::event::Format;
use txray_store::ids::Oid;

use super::cursor::Cursor;
use super::rows::{format, format_code};
use super::{WireError, encode, framing};

/// Message types whose payload is never looked at: COPY data, and anything that may be a password.
pub const SKIPPED_KINDS: &[u8] = b"dp";

/// Longest message of the kinds that hold little (`PQ_SMALL_MESSAGE_LIMIT`).
const SMALL_MESSAGE_BYTES_MAX: u32 = 10_000;

/// Whether a server that has read these bytes, the beginning of a message, waits for the rest of it: what it takes for no message it
/// answers at once.
pub fn is_awaited(beginning: &[u8]) -> bool {
    let Some(kind) = beginning.first() else { return true };
    let longest = match kind {
        b'Q' | b'F' | b'B' | b'P' | b'd' => framing::MESSAGE_BYTES_MAX,
        b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => SMALL_MESSAGE_BYTES_MAX,
        _ => return false,
    };
    let length =
        beginning.get(1..framing::HEADER_BYTES).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    length.is_none_or(|length| (4..=longest).contains(&length))
}

/// What Describe and Close name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// A value of Bind or FunctionCall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Its bytes, or the first of them; none is NULL.
    pub value: Option<&'a [u8]>,
    /// Length of the whole value in bytes.
    pub total_bytes: usize,
}

/// Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal that is made.
    pub portal: &'a [u8],
    /// The prepared statement it is made from.
    pub statement: &'a [u8],
    /// Formats of the parameters: none, one for all, or one each.
    pub parameter_formats: Vec<Format>,
    /// Parameters.
    pub parameters: Vec<Argument<'a>>,
    /// Formats of the result columns: none, one for all, or one each.
    pub result_formats: Vec<Format>,
}

/// FunctionCall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// The function.
    pub function: Oid,
    /// Formats of the arguments: none, one for all, or one each.
    pub argument_formats: Vec<Format>,
    /// Arguments.
    pub arguments: Vec<Argument<'a>>,
    /// Format of the result.
    pub result_format: Format,
}

/// A message of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// Simple query.
    Query {
        /// SQL, in the client's encoding.
        sql: &'a [u8],
    },
    /// Makes a prepared statement.
    Parse {
        /// Its name; empty for the unnamed one.
        name: &'a [u8],
        /// SQL, in the client's encoding.
        sql: &'a [u8],
        /// Types the client declares; 0 leaves one to the server.
        parameter_types: Vec<Oid>,
    },
    /// Makes a portal.
    Bind(Bind<'a>),
    /// Asks for a description.
    Describe {
        /// Of what.
        target: Target,
        /// Its name.
        name: &'a [u8],
    },
    /// Runs a portal.
    Execute {
        /// Its name.
        portal: &'a [u8],
        /// Most rows to return; 0 for all.
        max_rows: u32,
    },
    /// Closes a prepared statement or portal.
    Close {
        /// Which of them.
        target: Target,
        /// Its name.
        name: &'a [u8],
    },
    /// Ends a batch.
    Sync,
    /// Asks for what was answered so far.
    Flush,
    /// Fast-path call.
    FunctionCall(FunctionCall<'a>),
    /// COPY's input is complete.
    CopyDone,
    /// COPY's input is broken off.
    CopyFail,
    /// Ends the session.
    Terminate,
}

/// Decodes a message. COPY data and passwords have no variant: they are never looked at.
pub fn decode(kind: u8, payload: &[u8]) -> Result<Frontend<'_>, WireError> {
    let mut cursor = Cursor::new(payload);
    let message = match kind {
        b'Q' => Frontend::Query { sql: cursor.text()? },
        b'P' => Frontend::Parse {
            name: cursor.text()?,
            sql: cursor.text()?,
            parameter_types: list(&mut cursor, |cursor| cursor.uint32().map(Oid))?,
        },
        b'B' => Frontend::Bind(decode_bind(&mut cursor)?),
        b'D' | b'C' => {
            let target = match cursor.byte()? {
                b'S' => Target::Statement,
                b'P' => Target::Portal,
                _ => return Err(WireError::InvalidField { field: "describe or close target" }),
            };
            let name = cursor.text()?;
            if kind == b'D' { Frontend::Describe { target, name } } else { Frontend::Close { target, name } }
        }
        b'E' => Frontend::Execute { portal: cursor.text()?, max_rows: cursor.uint32()? },
        b'S' => Frontend::Sync,
        b'H' => Frontend::Flush,
        b'F' => Frontend::FunctionCall(decode_call(&mut cursor)?),
        b'c' => Frontend::CopyDone,
        b'f' => {
            cursor.text()?;
            Frontend::CopyFail
        }
        b'X' => Frontend::Terminate,
        _ => return Err(WireError::UnknownMessage { kind }),
    };
    cursor.end()?;
    Ok(message)
}

/// Decodes what the prefix of a long message tells. Only messages that can be long in practice are understood.
pub fn decode_prefix(kind: u8, prefix: &[u8]) -> Result<Frontend<'_>, WireError> {
    let mut cursor = Cursor::new(prefix);
    let rest = |cursor: &Cursor<'_>| {
        let rest = cursor.rest();
        rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())
    };
    match kind {
        b'Q' => {
            let end = rest(&cursor);
            Ok(Frontend::Query { sql: cursor.take(end)? })
        }
        b'P' => {
            let name = cursor.text()?;
            let end = rest(&cursor);
            Ok(Frontend::Parse { name, sql: cursor.take(end)?, parameter_types: Vec::new() })
        }
        b'B' => {
            let (portal, statement) = (cursor.text()?, cursor.text()?);
            let parameter_formats = list(&mut cursor, |cursor| format(cursor.int16()?))?;
            let parameters = arguments_prefix(&mut cursor)?;
            Ok(Frontend::Bind(Bind { portal, statement, parameter_formats, parameters, result_formats: Vec::new() }))
        }
        b'F' => {
            let function = Oid(cursor.uint32()?);
            let argument_formats = list(&mut cursor, |cursor| format(cursor.int16()?))?;
            let arguments = arguments_prefix(&mut cursor)?;
            let result_format = Format::Text;
            Ok(Frontend::FunctionCall(FunctionCall { function, argument_formats, arguments, result_format }))
        }
        _ => Err(WireError::UnknownMessage { kind }),
    }
}

fn list<'a, T>(
    cursor: &mut Cursor<'a>,
    mut item: impl FnMut(&mut Cursor<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = cursor.count()?;
    let mut items = Vec::with_capacity(count.min(cursor.rest().len()));
    for _ in 0..count {
        items.push(item(cursor)?);
    }
    Ok(items)
}

fn argument<'a>(cursor: &mut Cursor<'a>) -> Result<Argument<'a>, WireError> {
    let value = cursor.value()?;
    Ok(Argument { value, total_bytes: value.map_or(0, <[u8]>::len) })
}

/// Arguments up to where the prefix ends; the last one may be cut short.
fn arguments_prefix<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Argument<'a>>, WireError> {
    let count = cursor.count()?;
    let mut arguments = Vec::new();
    for _ in 0..count {
        let Ok(length) = cursor.int32() else { break };
        let Ok(total_bytes) = usize::try_from(length) else {
            arguments.push(Argument { value: None, total_bytes: 0 });
            continue;
        };
        let here = total_bytes.min(cursor.rest().len());
        arguments.push(Argument { value: Some(cursor.take(here)?), total_bytes });
    }
    Ok(arguments)
}

fn decode_bind<'a>(cursor: &mut Cursor<'a>) -> Result<Bind<'a>, WireError> {
    Ok(Bind {
        portal: cursor.text()?,
        statement: cursor.text()?,
        parameter_formats: list(cursor, |cursor| format(cursor.int16()?))?,
        parameters: list(cursor, argument)?,
        result_formats: list(cursor, |cursor| format(cursor.int16()?))?,
    })
}

fn decode_call<'a>(cursor: &mut Cursor<'a>) -> Result<FunctionCall<'a>, WireError> {
    Ok(FunctionCall {
        function: Oid(cursor.uint32()?),
        argument_formats: list(cursor, |cursor| format(cursor.int16()?))?,
        arguments: list(cursor, argument)?,
        result_format: format(cursor.int16()?)?,
    })
}

/// Appends the message's bytes.
pub fn encode(message: &Frontend<'_>, out: &mut Vec<u8>) {
    let kind = match message {
        Frontend::Query { .. } => b'Q',
        Frontend::Parse { .. } => b'P',
        Frontend::Bind(_) => b'B',
        Frontend::Describe { .. } => b'D',
        Frontend::Execute { .. } => b'E',
        Frontend::Close { .. } => b'C',
        Frontend::Sync => b'S',
        Frontend::Flush => b'H',
        Frontend::FunctionCall(_) => b'F',
        Frontend::CopyDone => b'c',
        Frontend::CopyFail => b'f',
        Frontend::Terminate => b'X',
    };
    encode::message(out, kind, |out| encode_payload(message, out));
}

fn encode_payload(message: &Frontend<'_>, out: &mut Vec<u8>) {
    match message {
        Frontend::Query { sql } => encode::text(out, sql),
        Frontend::Parse { name, sql, parameter_types } => {
            encode::text(out, name);
            encode::text(out, sql);
            encode::count(out, parameter_types.len());
            for oid in parameter_types {
                encode::uint32(out, oid.0);
            }
        }
        Frontend::Bind(bind) => {
            encode::text(out, bind.portal);
            encode::text(out, bind.statement);
            encode_formats(&bind.parameter_formats, out);
            encode_arguments(&bind.parameters, out);
            encode_formats(&bind.result_formats, out);
        }
        Frontend::Describe { target, name } | Frontend::Close { target, name } => {
            out.push(if *target == Target::Statement { b'S' } else { b'P' });
            encode::text(out, name);
        }
        Frontend::Execute { portal, max_rows } => {
            encode::text(out, portal);
            encode::uint32(out, *max_rows);
        }
        Frontend::FunctionCall(call) => {
            encode::uint32(out, call.function.0);
            encode_formats(&call.argument_formats, out);
            encode_arguments(&call.arguments, out);
            encode::count(out, usize::from(format_code(call.result_format)));
        }
        Frontend::CopyFail => out.push(0),
        Frontend::Sync | Frontend::Flush | Frontend::CopyDone | Frontend::Terminate => {}
    }
}

fn encode_formats(formats: &[Format], out: &mut Vec<u8>) {
    encode::count(out, formats.len());
    for format in formats {
        encode::count(out, usize::from(format_code(*format)));
    }
}

fn encode_arguments(arguments: &[Argument<'_>], out: &mut Vec<u8>) {
    encode::count(out, arguments.len());
    for argument in arguments {
        encode::value(out, argument.value);
    }
}

//! Any message reads back as it was written, any chunks give the same messages, and no bytes make a decoder panic.

use proptest::prelude::*;
use txray_store::event::Format;
use txray_store::ids::Oid;

use super::framing::{Content, FrameLimits, Framer, split_whole};
use super::frontend::{Argument, Bind, Frontend, FunctionCall, Target};
use super::long_bind::LongBind;
use super::rows::ColumnDescription;
use super::server_error::ErrorFields;
use super::startup::{self, BackendKey, StartupMessage, StartupPacket};
use super::{backend, encode, frontend, rows};

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(1_u8..=255, 0..24)
}

fn values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..6)
}

fn formats() -> impl Strategy<Value = Vec<Format>> {
    prop::collection::vec(prop_oneof![Just(Format::Text), Just(Format::Binary)], 0..4)
}

fn arguments(values: &[Option<Vec<u8>>]) -> Vec<Argument<'_>> {
    values
        .iter()
        .map(|value| Argument { value: value.as_deref(), total_bytes: value.as_ref().map_or(0, Vec::len) })
        .collect()
}

fn check_frontend(message: &Frontend<'_>) {
    let mut bytes = Vec::new();
    frontend::encode(message, &mut bytes);
    let whole = split_whole(&bytes).expect("valid").expect("whole");
    assert!(whole.rest.is_empty());
    assert_eq!(frontend::decode(whole.kind, whole.payload).as_ref(), Ok(message));
}

/// The messages that a framer cuts out of chunks: type and payload, or type and length where the payload was not kept.
fn cut(chunks: &[&[u8]], limits: FrameLimits) -> Vec<(u8, usize, Vec<u8>)> {
    let mut framer = Framer::new(limits, b"d");
    let mut messages = Vec::new();
    for chunk in chunks {
        let mut at = 0;
        while let Some(piece) = framer.next(&chunk[at..]).expect("valid") {
            at += piece.consumed;
            match piece.content {
                Content::Whole(payload) => messages.push((piece.kind, payload.len(), payload.to_vec())),
                Content::Skipped { total_bytes } => messages.push((piece.kind, total_bytes, Vec::new())),
                Content::Long { total_bytes, ended: Some(prefix), .. } => {
                    messages.push((piece.kind, total_bytes, prefix.to_vec()));
                }
                Content::Long { ended: None, .. } | Content::Partial => {}
            }
        }
        assert_eq!(at, chunk.len());
    }
    assert!(framer.at_border());
    messages
}

proptest! {
    #[test]
    fn client_messages_read_back(
        (name, sql, other) in (text(), text(), text()),
        (values, value_formats, result_formats) in (values(), formats(), formats()),
        types in prop::collection::vec(any::<u32>().prop_map(Oid), 0..5),
        number in any::<u32>(),
        portal in any::<bool>(),
    ) {
        let target = if portal { Target::Portal } else { Target::Statement };
        let arguments = arguments(&values);
        for message in [
            Frontend::Query { sql: &sql },
            Frontend::Parse { name: &name, sql: &sql, parameter_types: types },
            Frontend::Bind(Bind {
                portal: &other,
                statement: &name,
                parameter_formats: value_formats.clone(),
                parameters: arguments.clone(),
                result_formats,
            }),
            Frontend::Describe { target, name: &name },
            Frontend::Close { target, name: &name },
            Frontend::Execute { portal: &name, max_rows: number },
            Frontend::FunctionCall(FunctionCall {
                function: Oid(number),
                argument_formats: value_formats,
                arguments,
                result_format: Format::Binary,
            }),
            Frontend::Sync,
            Frontend::Flush,
            Frontend::CopyDone,
            Frontend::CopyFail,
            Frontend::Terminate,
        ] {
            check_frontend(&message);
        }
    }

    #[test]
    fn rows_and_descriptions_read_back(values in values(), name in text(), oid in any::<u32>(), number in any::<i16>()) {
        let mut row = Vec::new();
        rows::encode_row(values.iter().map(Option::as_deref), &mut row);
        prop_assert_eq!(rows::decode_row_owned(&row), Ok(values.clone()));
        prop_assert_eq!(rows::decode_row(&row), Ok(values.iter().map(Option::as_deref).collect()));
        let column = ColumnDescription {
            name: &name,
            table_oid: Oid(oid),
            attribute_number: number,
            type_oid: Oid(oid ^ 1),
            type_bytes: number,
            type_modifier: -1,
            format: Format::Binary,
        };
        let columns = vec![column; 3];
        let mut description = Vec::new();
        rows::encode_description(&columns, &mut description);
        prop_assert_eq!(rows::decode_description(&description), Ok(columns));
    }

    #[test]
    fn errors_read_back(fields in prop::collection::vec((1_u8..=255, text()), 0..8)) {
        let fields = ErrorFields { fields: fields.iter().map(|(code, value)| (*code, &value[..])).collect() };
        let mut payload = Vec::new();
        fields.encode(&mut payload);
        prop_assert_eq!(ErrorFields::decode(&payload), Ok(fields.clone()));
        prop_assert_eq!(ErrorFields::decode_prefix(&payload), fields);
    }

    #[test]
    fn startup_packets_read_back(
        parameters in prop::collection::vec(("[a-z_]{1,12}", "[ -~]{0,20}"), 0..5),
        process_id in any::<u32>(),
        secret in prop::collection::vec(any::<u8>(), 4..=256),
        minor in prop_oneof![Just(0_u16), Just(2)],
    ) {
        for packet in [
            StartupPacket::SslRequest,
            StartupPacket::GssEncRequest,
            StartupPacket::Cancel(BackendKey { process_id, secret }),
            StartupPacket::Startup(StartupMessage { major: 3, minor, parameters }),
        ] {
            let mut bytes = Vec::new();
            startup::encode(&packet, &mut bytes);
            prop_assert_eq!(startup::packet_bytes(&bytes), Ok(Some(bytes.len())));
            prop_assert_eq!(startup::decode(&bytes), Ok(packet));
        }
    }

    #[test]
    fn chunks_do_not_matter(
        messages in prop::collection::vec((prop::sample::select(b"QDdEZ".to_vec()), 0_usize..80), 1..12),
        cuts in prop::collection::vec(1_usize..30, 1..12),
    ) {
        let limits = FrameLimits { whole_bytes: 40, prefix_bytes: 16 };
        let mut bytes = Vec::new();
        for (kind, length) in &messages {
            encode::message(&mut bytes, *kind, |out| out.extend((0..*length).map(|byte| byte as u8)));
        }
        let mut chunks = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        let expected: Vec<_> = messages
            .iter()
            .map(|(kind, length)| {
                let kept = if *kind == b'd' { 0 } else if *length > 40 { 16 } else { *length };
                (*kind, *length, (0..kept).map(|byte| byte as u8).collect())
            })
            .collect();
        prop_assert_eq!(cut(&chunks, limits), expected.clone());
        prop_assert_eq!(cut(&[&bytes], limits), expected);
    }

    #[test]
    fn the_prefix_of_a_long_message_tells_its_beginning(values in values(), keep in 0_usize..200) {
        let message = Frontend::Bind(Bind {
            portal: b"p",
            statement: b"s",
            parameter_formats: vec![Format::Binary],
            parameters: arguments(&values),
            result_formats: vec![Format::Text],
        });
        let mut bytes = Vec::new();
        frontend::encode(&message, &mut bytes);
        let payload = &bytes[5..];
        if let Ok(Frontend::Bind(bind)) = frontend::decode_prefix(b'B', &payload[..keep.min(payload.len())]) {
            prop_assert!(bind.parameters.len() <= values.len());
            for (read, written) in bind.parameters.iter().zip(&values) {
                prop_assert_eq!(read.total_bytes, written.as_ref().map_or(0, Vec::len));
                prop_assert_eq!(read.value.is_some(), written.is_some());
                prop_assert!(written.as_deref().unwrap_or_default().starts_with(read.value.unwrap_or_default()));
            }
        }
    }

    #[test]
    fn long_binds_are_shortened_whatever_the_chunks(
        (values, value_formats, result_formats) in (values(), formats(), formats()),
        (value_limit, budget, chunk) in (0_usize..40, 0_usize..100, 1_usize..30),
    ) {
        let written = Bind {
            portal: b"p",
            statement: b"s",
            parameter_formats: value_formats,
            parameters: arguments(&values),
            result_formats,
        };
        let mut bytes = Vec::new();
        frontend::encode(&Frontend::Bind(written.clone()), &mut bytes);
        let mut reader = LongBind::new(value_limit, budget);
        bytes[5..].chunks(chunk).for_each(|part| reader.feed(part));
        let read = reader.finish().expect("valid");
        prop_assert_eq!(&read.parameter_formats, &written.parameter_formats);
        prop_assert_eq!(&read.result_formats, &written.result_formats);
        prop_assert_eq!(read.parameters.len(), written.parameters.len());
        let mut left = budget;
        for (read, written) in read.parameters.iter().zip(&written.parameters) {
            let kept = written.total_bytes.min(value_limit).min(left);
            left -= kept;
            prop_assert_eq!(read.total_bytes, written.total_bytes);
            prop_assert_eq!(read.value, written.value.map(|value| &value[..kept]));
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(kind in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = frontend::decode(kind, &bytes);
        let _ = frontend::decode_prefix(kind, &bytes);
        let _ = backend::decode(kind, &bytes);
        let _ = rows::decode_row(&bytes);
        let _ = startup::decode(&bytes);
        let _ = ErrorFields::decode_prefix(&bytes);
        let _ = split_whole(&bytes);
        let mut bind = LongBind::new(8, 64);
        bind.feed(&bytes);
        let _ = bind.finish();
        let mut framer = Framer::new(FrameLimits::default(), b"");
        let mut at = 0;
        while let Ok(Some(piece)) = framer.next(&bytes[at..]) {
            at += piece.consumed;
        }
    }
}

#[test]
fn lengths_that_no_message_has_are_refused() {
    for length in [[0, 0, 0, 0], [0, 0, 0, 3], [0x80, 0, 0, 4], [0x40, 0, 0, 0]] {
        let mut bytes = vec![b'Q'];
        bytes.extend(length);
        assert!(split_whole(&bytes).is_err(), "{length:?}");
        assert!(Framer::new(FrameLimits::default(), b"").next(&bytes).is_err(), "{length:?}");
    }
    assert!(startup::packet_bytes(&[0, 0, 0, 7]).is_err());
    assert!(startup::packet_bytes(&[0, 0, 0x40, 0]).is_err());
    assert_eq!(startup::packet_bytes(&[0, 0]), Ok(None));
}

#[test]
fn replication_is_told_by_its_parameter() {
    for (value, expected) in
        [("true", true), ("database", true), ("1", true), ("off", false), ("0", false), ("", false)]
    {
        let parameters = vec![("replication".to_owned(), value.to_owned())];
        assert_eq!(StartupMessage { major: 3, minor: 0, parameters }.is_replication(), expected, "{value:?}");
    }
}

#[test]
fn the_rest_of_what_is_no_message_is_not_waited_for() {
    for begun in [&b""[..], b"Q", b"Q\0\0", b"Q\x3f\xff\xff\xfe", b"P\0\0\0\x05", b"S", b"E\0\0\x27\x10"] {
        assert!(frontend::is_awaited(begun), "{begun:?}");
    }
    for begun in [
        &b"\0"[..],
        b"z",
        b"p\0\0\0\x08abc",
        b"Q\0\0\0\x03",
        b"Q\x3f\xff\xff\xff",
        b"S\0\0\x27\x11",
        b"B\xff\xff\xff\xff",
    ] {
        assert!(!frontend::is_awaited(begun), "{begun:?}");
    }
}

use bytes::Bytes;
use proptest::prelude::*;

use super::encode::encode;
use super::*;

fn text() -> impl Strategy<Value = String> {
    "[a-zé_ \"]{0,12}"
}

fn lsn() -> impl Strategy<Value = Lsn> {
    any::<u64>().prop_map(Lsn)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-(1_i64 << 50)..1_i64 << 50).prop_map(Timestamp)
}

fn oid() -> impl Strategy<Value = Oid> {
    any::<u32>().prop_map(Oid)
}

fn tuple_values() -> impl Strategy<Value = Tuple> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let value = prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        bytes().prop_map(Value::Text),
        bytes().prop_map(Value::Binary)
    ];
    prop::collection::vec(value, 0..6)
}

fn old_tuple() -> impl Strategy<Value = OldTuple> {
    prop_oneof![tuple_values().prop_map(OldTuple::Key), tuple_values().prop_map(OldTuple::Full)]
}

fn relation_message() -> impl Strategy<Value = Message> {
    let column = (any::<bool>(), text(), oid(), any::<i32>()).prop_map(|(key, name, type_oid, type_modifier)| Column {
        key,
        name,
        type_oid,
        type_modifier,
    });
    let identity = prop_oneof![Just('d'), Just('n'), Just('f'), Just('i')];
    (oid(), text(), text(), identity, prop::collection::vec(column, 0..5)).prop_map(
        |(oid, namespace, name, replica_identity, columns)| {
            Message::Relation(Relation { oid, namespace, name, replica_identity, columns })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (lsn(), time(), any::<u32>()).prop_map(|(commit_lsn, committed_at, xid)| Message::Begin(Begin {
            commit_lsn,
            committed_at,
            xid
        })),
        (lsn(), lsn(), time()).prop_map(|(commit_lsn, end_lsn, committed_at)| Message::Commit(Commit {
            commit_lsn,
            end_lsn,
            committed_at
        })),
        (lsn(), text()).prop_map(|(commit_lsn, name)| Message::Origin(Origin { commit_lsn, name })),
        relation_message(),
        (oid(), text(), text()).prop_map(|(oid, namespace, name)| Message::Type(Type { oid, namespace, name })),
        (oid(), tuple_values()).prop_map(|(relation, new)| Message::Insert(Insert { relation, new })),
        (oid(), prop::option::of(old_tuple()), tuple_values())
            .prop_map(|(relation, old, new)| Message::Update(Update { relation, old, new })),
        (oid(), old_tuple()).prop_map(|(relation, old)| Message::Delete(Delete { relation, old })),
        (any::<bool>(), any::<bool>(), prop::collection::vec(oid(), 0..4)).prop_map(
            |(cascade, restart_identity, relations)| Message::Truncate(Truncate {
                cascade,
                restart_identity,
                relations
            })
        ),
        (any::<bool>(), lsn(), text(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(
            |(transactional, lsn, prefix, content)| Message::Logical(Logical {
                transactional,
                lsn,
                prefix,
                content: content.into()
            })
        ),
    ]
}

proptest! {
    #[test]
    fn reads_what_the_server_writes(message in message()) {
        prop_assert_eq!(decode(encode(&message)), Ok(message));
    }

    #[test]
    fn every_proper_prefix_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
        let whole = encode(&message);
        let cut = cut.index(whole.len());
        prop_assert!(decode(whole.slice(..cut)).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        kind in prop::sample::select(b"BCORYIUDTM?".to_vec()),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut data = vec![kind];
        data.extend(rest);
        let _ = decode(data.into());
    }
}

#[test]
fn reads_messages_of_a_server() {
    let check = |hex: &str, expected: Message| {
        let bytes: Vec<u8> =
            hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
        assert_eq!(decode(bytes.into()), Ok(expected));
    };
    check(
        "42 00 00 00 00 01 6b 37 48 00 00 00 00 00 00 00 01 00 00 02 e6",
        Message::Begin(Begin { commit_lsn: Lsn(0x16B_3748), committed_at: Timestamp::from_postgres(1), xid: 742 }),
    );
    check(
        "55 00 00 40 01 4e 00 03 74 00 00 00 01 31 75 6e",
        Message::Update(Update {
            relation: Oid(0x4001),
            old: None,
            new: vec![Value::Text(Bytes::from_static(b"1")), Value::Unchanged, Value::Null],
        }),
    );
    check(
        "54 00 00 00 01 02 00 00 40 01",
        Message::Truncate(Truncate { cascade: false, restart_identity: true, relations: vec![Oid(0x4001)] }),
    );
}

#[test]
fn says_what_is_wrong() {
    let check = |bytes: &'static [u8], expected: DecodeError| {
        assert_eq!(decode(Bytes::from_static(bytes)), Err(expected));
    };
    check(b"", DecodeError::Truncated { field: "kind" });
    check(b"S", DecodeError::UnknownKind(b'S'));
    check(b"I\0\0\0\x01X", DecodeError::Unexpected { field: "tuple kind", byte: b'X' });
    check(b"I\0\0\0\x01N\0\x01?", DecodeError::Unexpected { field: "value kind", byte: b'?' });
    check(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff", DecodeError::Truncated { field: "value" });
    check(b"Y\0\0\0\x01\0\0more", DecodeError::Trailing(4));
}

use std::sync::mpsc::Receiver;

use super::*;
use crate::capture::catalogue::Key;
use txray_store::event::RelationTraits;

fn column(name: &str, number: i16, type_oid: u32, generated: bool) -> RelationColumn {
    RelationColumn {
        name: name.to_owned(),
        attribute_number: number,
        type_oid: Oid(type_oid),
        type_name: "integer".to_owned(),
        key: number == 1,
        not_null: number == 1,
        generated,
        default_expression: None,
        sequence: None,
    }
}

fn relation(columns: Vec<RelationColumn>) -> Relation {
    Relation {
        oid: Oid(16_384),
        namespace: "public".to_owned(),
        name: "t".to_owned(),
        kind: 'r',
        persistence: 'p',
        replica_identity: 'd',
        owned: true,
        readable: true,
        key: Some(Key { index: Oid(16_400), columns: vec![1], pageable: true }),
        columns,
        traits: RelationTraits::default(),
    }
}

fn announced(columns: &[(&str, u32, bool)]) -> pgoutput::Relation {
    let column = |(name, type_oid, key): &(&str, u32, bool)| pgoutput::Column {
        key: *key,
        name: (*name).to_owned(),
        type_oid: Oid(*type_oid),
        type_modifier: -1,
    };
    pgoutput::Relation {
        oid: Oid(16_384),
        namespace: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity: 'd',
        columns: columns.iter().map(column).collect(),
    }
}

fn registry() -> (Registry, Receiver<Event>) {
    let (sink, receiver) = EventSink::in_memory();
    (Registry::new(SourceId(0), sink), receiver)
}

#[test]
fn only_a_new_shape_is_a_new_version() {
    let (mut registry, receiver) = registry();
    let mut shape = relation(vec![column("id", 1, 23, false)]);
    for (at, expected) in [(1, 1), (2, 1)] {
        assert_eq!(registry.describe(&shape, Timestamp(at)).version, expected);
    }
    shape.columns.push(column("v", 2, 25, false));
    assert_eq!(registry.describe(&shape, Timestamp(3)).version, 2);
    shape.columns.pop();
    assert_eq!(registry.describe(&shape, Timestamp(4)).version, 3);
    let versions: Vec<(u32, i64)> = receiver
        .try_iter()
        .map(|event| match event {
            Event::RelationDescribed(described) => (described.version, described.at.0),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(versions, [(1, 1), (2, 3), (3, 4)]);
}

#[test]
fn the_stream_finds_the_version_that_it_announces() {
    let (mut registry, _receiver) = registry();
    let (id, v, w) = (column("id", 1, 23, false), column("v", 2, 25, false), column("w", 4, 25, false));
    let generated = column("g", 3, 23, true);
    registry.describe(&relation(vec![id.clone(), v.clone()]), Timestamp(1));
    registry.describe(&relation(vec![id.clone(), v.clone(), generated.clone()]), Timestamp(2));
    registry.describe(&relation(vec![id, v, generated, w]), Timestamp(3));
    let check = |columns: &[(&str, u32, bool)], expected: Option<(u32, Vec<usize>, usize)>| {
        let layout = registry.layout_of(&announced(columns));
        assert_eq!(layout.map(|layout| (layout.version, layout.positions, layout.width)), expected, "{columns:?}");
    };
    let (id, v, g, w) = (("id", 23, true), ("v", 25, false), ("g", 23, false), ("w", 25, false));
    check(&[id, v, w], Some((3, vec![0, 1, 3], 4)));
    check(&[id, v, g, w], Some((3, vec![0, 1, 2, 3], 4)));
    check(&[id, v], Some((2, vec![0, 1], 3)));
    check(&[id], None);
    check(&[v, id], None);
    check(&[id, ("v", 23, false)], None);
    check(&[id, ("v", 25, true)], None);
    check(&[id, v, w, ("x", 25, false)], None);
}

#[test]
fn an_unknown_shape_is_described_from_the_stream() {
    let (mut registry, receiver) = registry();
    let mut v = column("v", 5, 25, false);
    v.default_expression = Some("'x'::text".to_owned());
    registry.describe(&relation(vec![column("id", 1, 23, false), v]), Timestamp(1));
    let layout = registry
        .describe_announced(&announced(&[("id", 23, true), ("gone", 20, false), ("v", 25, false)]), Timestamp(2));
    assert_eq!(layout, Layout { version: 2, positions: vec![0, 1, 2], width: 3 });
    let described: Vec<_> = receiver
        .try_iter()
        .filter_map(|event| match event {
            Event::RelationDescribed(described) => Some(described),
            _ => None,
        })
        .collect();
    // What the stream told of, and then again what the catalogue has now.
    let [catalogue, described, again] = described.as_slice() else { panic!("{described:?}") };
    assert_eq!((catalogue.version, described.version, again.version), (1, 2, 3));
    assert_eq!(again.columns, catalogue.columns);
    let columns: Vec<_> = described
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.attribute_number, column.type_name.as_str()))
        .collect();
    assert_eq!(columns, [("id", 1, "integer"), ("gone", 2, "type 20"), ("v", 5, "integer")]);
    assert_eq!(described.columns[2].default_expression.as_deref(), Some("'x'::text"));
}

#[test]
fn values_that_alter_table_made_are_a_gap() {
    let (id, mut v) = (column("id", 1, 23, false), column("v", 2, 25, false));
    let check = |next: Vec<RelationColumn>, expected: Option<&str>| {
        let (mut registry, receiver) = registry();
        registry.describe(&relation(vec![column("id", 1, 23, false), column("v", 2, 25, false)]), Timestamp(1));
        registry.describe(&relation(next), Timestamp(2));
        let reason = receiver.try_iter().find_map(|event| match event {
            Event::Gap(gap) => Some(gap.reason),
            _ => None,
        });
        assert_eq!(reason.is_some(), expected.is_some(), "{reason:?}");
        assert!(reason.unwrap_or_default().ends_with(expected.unwrap_or_default()));
    };
    let mut added = column("w", 3, 25, false);
    check(vec![id.clone()], None);
    check(vec![id.clone(), v.clone(), added.clone()], None);
    added.default_expression = Some("now()".to_owned());
    check(vec![id.clone(), v.clone(), added], Some("no new value of \"w\""));
    v.type_name = "bigint".to_owned();
    check(vec![id, v], Some("no new value of \"v\""));
}

//! Body of the fuzz target for the change stream: decoder, descriptions of relations, and assembler.

use txray_store::copy_text;
use txray_store::event::Event;
use txray_store::fuzzing::Instructions;
use txray_store::ids::{Oid, SourceId, Xid};
use txray_store::sink::EventSink;
use txray_store::time::Timestamp;

use super::assembler::Assembler;
use super::registry::Registry;
use crate::pgoutput::{self, Message};

/// Messages of one input: more would tell nothing new.
const MESSAGES_MAX: usize = 256;

/// A stream's messages as pieces: none panics, what is decoded reads back as it was written, and each transaction's
/// changes are numbered without a hole, with a value for each column. The first byte sets how near the transaction ids are to
/// the end of their epoch.
pub fn pgoutput(input: &[u8]) {
    let mut input = Instructions::new(input);
    let recent = match input.byte() % 3 {
        0 => 3,
        1 => u64::from(u32::MAX) - 2,
        _ => (7 << 32) + 12,
    };
    let (sink, described) = EventSink::in_memory_of(4 * MESSAGES_MAX);
    let mut registry = Registry::new(SourceId(1), sink);
    let mut assembler = Assembler::new(SourceId(1), Xid(recent));
    let mut events = Vec::new();
    for _ in 0..MESSAGES_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(message) = pgoutput::decode(input.piece().to_vec().into()) else { continue };
        let bytes = pgoutput::encode::encode(&message);
        assert_eq!(pgoutput::decode(bytes).as_ref(), Ok(&message), "a message reads back as it was");
        if let Message::Relation(announced) = &message {
            let known = registry.layout_of(announced);
            let layout = known.unwrap_or_else(|| registry.describe_announced(announced, Timestamp(1)));
            assert!(layout.positions.iter().all(|position| *position < layout.width), "columns have a place");
            assembler.lay_out(announced.oid, layout);
        }
        // The stream ends at an error; here it goes on, which must do no harm.
        let _ = assembler.take(message, Timestamp(2), &mut events);
    }
    let widths = described.try_iter().filter_map(|event| match event {
        Event::RelationDescribed(relation) => Some(((relation.oid, relation.version), relation.columns.len())),
        _ => None,
    });
    check_events(&events, &widths.collect());
}

/// Changes are numbered without a hole, a commit counts them, and each row has a value for each column.
fn check_events(events: &[Event], widths: &std::collections::HashMap<(Oid, u32), usize>) {
    let mut next = 0;
    for event in events {
        match event {
            Event::RowChanges(changes) => {
                if changes.first_ordinal == 0 {
                    next = 0;
                }
                assert_eq!(changes.first_ordinal, next, "ordinals follow each other");
                next += changes.changes.len() as u64;
                for change in &changes.changes {
                    let width = widths.get(&(change.relation, change.version)).copied();
                    for row in change.old.iter().chain(&change.new) {
                        let fields = copy_text::split(row).expect("COPY text").len();
                        assert!(width.is_some_and(|width| fields == width.max(1)), "a value for each column");
                    }
                }
            }
            Event::CommitSeen(commit) => {
                assert_eq!(commit.change_count, next, "a commit counts its changes");
                next = 0;
            }
            _ => {}
        }
    }
}

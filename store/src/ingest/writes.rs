//! What each statement wrote, as its text and command tag tell.

use std::collections::{BTreeMap, HashMap};

use super::collect::{Log, Transaction};
use super::relations::Relations;
use crate::event::{ChangeOp, Protocol, Statement, Tracking};
use crate::ids::{Oid, SourceId, TransactionId};
use crate::sql_lexer::{
    RelationName, TokenKind, TransactionControl, target_relation, tokens, transaction_control, verb,
};

/// A set of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Ops(u8);

impl Ops {
    pub(super) const INSERT: Ops = Ops(1);
    pub(super) const UPDATE: Ops = Ops(2);
    pub(super) const DELETE: Ops = Ops(4);
    const TRUNCATE: Ops = Ops(8);
    const UPSERT: Ops = Ops(1 | 2);
    const MERGE: Ops = Ops(1 | 2 | 4);

    /// Whether an operation is among them.
    pub(super) fn contains(self, op: ChangeOp) -> bool {
        self.meets(match op {
            ChangeOp::Insert => Ops::INSERT,
            ChangeOp::Update => Ops::UPDATE,
            ChangeOp::Delete => Ops::DELETE,
            ChangeOp::Truncate => Ops::TRUNCATE,
        })
    }

    fn meets(self, other: Ops) -> bool {
        self.0 & other.0 != 0
    }
}

/// Changes that the stream should hold for a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) ops: Ops,
    /// The relations that its target may be; none when the name is not known (a view, a partitioned parent).
    pub(super) relations: Option<Vec<Oid>>,
    /// How many, by the command tag.
    pub(super) count: u64,
}

impl Expected {
    /// Whether a change is one of those that the command tag counts.
    pub(super) fn fits(&self, relation: Oid, op: ChangeOp) -> bool {
        self.ops.contains(op) && self.relations.as_ref().is_none_or(|oids| oids.contains(&relation))
    }
}

/// What a statement wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that the stream could show.
    Nothing,
    /// Perhaps something: it calls a function or a procedure, or writes in a common table expression.
    Perhaps,
    /// Rows.
    Rows(Expected),
}

/// A statement that wrote, or may have: its position in the log, and what.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) statement: usize,
    pub(super) effect: Effect,
}

/// The writes of each transaction, in order; what savepoints took back is left out.
pub(super) struct Writes {
    of: BTreeMap<TransactionId, Vec<Write>>,
}

impl Writes {
    /// Reads the log's statements.
    pub(super) fn new(log: &Log, relations: &Relations<'_>) -> Self {
        let mut texts = Texts::default();
        let mut of = BTreeMap::new();
        for (id, transaction) in &log.transactions {
            let writes = transaction_writes(log, transaction, relations, &mut texts);
            if !writes.is_empty() {
                of.insert(*id, writes);
            }
        }
        Writes { of }
    }

    /// A transaction's writes.
    pub(super) fn of(&self, id: TransactionId) -> &[Write] {
        self.of.get(&id).map_or(&[], Vec::as_slice)
    }
}

fn transaction_writes<'a>(
    log: &'a Log,
    transaction: &Transaction,
    relations: &Relations<'_>,
    texts: &mut Texts<'a>,
) -> Vec<Write> {
    let mut writes: Vec<Write> = Vec::new();
    // Savepoints in force, each with the number of writes before it.
    let mut savepoints: Vec<(String, usize)> = Vec::new();
    for index in &transaction.statements {
        let statement = &log.statements[*index];
        if statement.error.is_some() {
            continue;
        }
        let text = texts.of(&statement.sql);
        match &text.control {
            Some(TransactionControl::Savepoint { name }) => savepoints.push((name.clone(), writes.len())),
            Some(TransactionControl::RollbackTo { savepoint }) => {
                if let Some(place) = savepoints.iter().rposition(|(name, _)| name == savepoint) {
                    writes.truncate(savepoints[place].1);
                    savepoints.truncate(place + 1);
                }
            }
            Some(TransactionControl::Release { savepoint }) => {
                if let Some(place) = savepoints.iter().rposition(|(name, _)| name == savepoint) {
                    savepoints.truncate(place);
                }
            }
            Some(_) => {}
            None => {
                let effect = effect(statement, &text, log.source_of(statement.session), relations);
                if effect != Effect::Nothing {
                    writes.push(Write { statement: *index, effect });
                }
            }
        }
    }
    writes
}

/// What a text says, scanned once per distinct text.
#[derive(Debug, Clone, Default)]
struct Text {
    control: Option<TransactionControl>,
    verb: String,
    target: Option<RelationName>,
    upsert: bool,
    may_write: bool,
}

#[derive(Default)]
struct Texts<'a> {
    known: HashMap<&'a str, std::rc::Rc<Text>>,
}

impl<'a> Texts<'a> {
    fn of(&mut self, sql: &'a str) -> std::rc::Rc<Text> {
        std::rc::Rc::clone(self.known.entry(sql).or_insert_with(|| std::rc::Rc::new(read(sql))))
    }
}

fn read(sql: &str) -> Text {
    let verb = verb(sql);
    let words: Vec<_> = tokens(sql).filter(|token| !token.is_blank()).collect();
    let mut upsert = false;
    let mut nested_write = false;
    let mut calls = false;
    for pair in words.windows(3) {
        upsert |= pair[0].is_word(sql, "do") && pair[1].is_word(sql, "update");
        nested_write |= pair[0].is_symbol(sql, '(')
            && ["insert", "update", "delete", "merge"].iter().any(|write| pair[1].is_word(sql, write));
        calls |= pair[1].is_symbol(sql, '(') && is_function(pair[0].kind, pair[0].text(sql));
    }
    Text {
        control: transaction_control(sql),
        target: target_relation(sql),
        upsert,
        may_write: nested_write || matches!(verb.as_str(), "CALL" | "DO" | "EXECUTE") || (verb == "SELECT" && calls),
        verb,
    }
}

/// Keywords before a parenthesis, and functions that nearly every query uses: they write nothing.
const HARMLESS: &str = "
    in values exists any all some and or not on using as over filter select from where having by when then else case with
    materialized lateral join union except intersect set row array cast distinct limit offset varchar numeric decimal char
    timestamp interval
    count sum min max avg coalesce nullif greatest least now lower upper length trim substring substr replace concat
    round abs floor ceil date_trunc date_part extract to_char to_timestamp age array_agg string_agg json_agg jsonb_agg
    json_build_object jsonb_build_object to_json to_jsonb row_to_json unnest generate_series row_number rank bool_or
    bool_and random gen_random_uuid md5 current_setting pg_sleep version current_database current_schema
";

/// Whether a word before a parenthesis names a function that may write.
fn is_function(kind: TokenKind, word: &str) -> bool {
    match kind {
        TokenKind::Word => !HARMLESS.split_whitespace().any(|known| word.eq_ignore_ascii_case(known)),
        TokenKind::QuotedIdentifier => true,
        _ => false,
    }
}

fn effect(statement: &Statement, text: &Text, source: SourceId, relations: &Relations<'_>) -> Effect {
    if statement.protocol == Protocol::FastPath {
        return Effect::Nothing;
    }
    let tag = statement.command_tag.as_deref().unwrap_or_default();
    let mut words = tag.split(' ');
    let command = words.next().unwrap_or_default();
    let count = words.next_back().and_then(|count| count.parse::<u64>().ok());
    let (ops, count) = match command {
        "INSERT" => (if text.upsert { Ops::UPSERT } else { Ops::INSERT }, count),
        "UPDATE" => (Ops::UPDATE, count),
        "DELETE" => (Ops::DELETE, count),
        "MERGE" => (Ops::MERGE, count),
        "COPY" if text.target.is_some() => (Ops::INSERT, count),
        "TRUNCATE" => (Ops::TRUNCATE, Some(1)),
        _ if text.may_write => return Effect::Perhaps,
        _ => return Effect::Nothing,
    };
    // A command with a writing common table expression writes more than its tag counts.
    let nested = text.may_write && text.verb != "EXECUTE";
    match count {
        Some(0) if !nested => Effect::Nothing,
        Some(count) if !nested => expected(ops, count, text, source, relations),
        _ => Effect::Perhaps,
    }
}

fn expected(ops: Ops, count: u64, text: &Text, source: SourceId, relations: &Relations<'_>) -> Effect {
    let named = text.target.as_ref().map_or_else(Vec::new, |name| relations.named(source, name));
    let tracking = |oid: &Oid| relations.latest(source, *oid).map(|found| found.relation.tracking);
    if named.iter().any(|oid| tracking(oid) == Some(Tracking::InsertsOnly)) {
        match (ops.meets(Ops(1 | 8)), ops.meets(Ops(2 | 4))) {
            (false, _) => return Effect::Nothing,
            (true, true) => return Effect::Perhaps,
            (true, false) => {}
        }
    }
    let shown = named.iter().all(|oid| tracking(oid) != Some(Tracking::None));
    let relations = (shown && !named.is_empty()).then_some(named);
    Effect::Rows(Expected { ops, relations, count })
}

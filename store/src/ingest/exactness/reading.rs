//! What a statement may read, from its text.
//!
//! Whatever is not understood may read anything. Names are not resolved here: a bare name may be a relation of that name in any
//! schema, a view, or a common table expression.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Delete, Expr, FromTable, Ident, Insert, Join, JoinConstraint, JoinOperator, ObjectName, OnInsert, Query, Select,
    SelectItem, SetExpr, Statement, TableAlias, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind,
    Visit, Visitor, With, visit_relations,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::allowed::{folded, parts, pure_name, reads_nothing};
use crate::sql_lexer::{RelationName, tokens};

/// Longer texts are not parsed: expressions nest as deep as they are long.
const MOST_TOKENS: usize = 2_000;
/// Nor are texts whose brackets nest deeper: the parser recurses with them, and tries each in FROM in two ways.
const MOST_NESTED: usize = 16;
/// Stack of the thread that parses. The parser takes over 100 kB a level without optimization, and gives up at 50 levels.
const STACK_BYTES: usize = 32 << 20;

/// What a statement may read.
#[derive(Debug)]
pub(super) enum Reading {
    /// Anything.
    Anything,
    /// The rows of relations by these names.
    Relations(Box<Relations>),
}

/// A statement that reads what it names.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// Every relation that it reads, once for each mention.
    pub(super) read: Vec<RelationName>,
    /// The relation that it writes.
    pub(super) written: Option<RelationName>,
    /// The last two parts of dotted names: of a table its columns, unless a function is called that way.
    pub(super) dotted: HashSet<(String, String)>,
    /// What columns of its relations are qualified with.
    pub(super) tables: HashSet<String>,
    /// Names that the statement itself gives to columns.
    pub(super) given: HashSet<String>,
    /// The outermost FROM with what its rows must satisfy.
    pub(super) from: Vec<Source>,
    /// The conjuncts of the outermost WHERE.
    pub(super) conditions: Vec<Expr>,
    /// The whole query, when it may be computed: a SELECT that locks no rows.
    pub(super) query: Option<Box<Query>>,
}

/// An item of FROM.
#[derive(Debug)]
pub(super) struct Source {
    /// The relation.
    pub(super) relation: RelationName,
    /// What its columns are qualified with.
    pub(super) alias: String,
    /// Whether rows of what stands before it stay when none of its rows fits.
    pub(super) optional: bool,
    /// The conjuncts of its ON.
    pub(super) on: Vec<Expr>,
}

/// Reads one statement's text, on a thread of its own: what an application sends must not exhaust the stack of ours.
pub(super) fn read(sql: &str) -> Reading {
    if is_intricate(sql) {
        return Reading::Anything;
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || parse(sql));
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or(Reading::Anything)
    })
}

/// Whether a text is too long or too deep to be parsed.
fn is_intricate(sql: &str) -> bool {
    let (mut count, mut depth) = (0, 0_usize);
    tokens(sql).any(|token| {
        count += 1;
        match &sql[token.span] {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        count > MOST_TOKENS || depth > MOST_NESTED
    })
}

fn parse(sql: &str) -> Reading {
    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql);
    match parsed.as_deref() {
        Ok([statement]) => relations(statement).map_or(Reading::Anything, |found| Reading::Relations(Box::new(found))),
        _ => Reading::Anything,
    }
}

fn relations(statement: &Statement) -> Option<Relations> {
    let mut survey = Survey::default();
    if statement.visit(&mut survey).is_break() {
        return None;
    }
    let mut mentions = survey.relations;
    for function in &survey.functions {
        let place = mentions.iter().position(|name| name == function)?;
        mentions.remove(place);
    }
    let mut found = Relations { dotted: survey.dotted, given: survey.given, ..Relations::default() };
    let mut written = None;
    match statement {
        Statement::Query(query) => outline(query, survey.locks, &mut found),
        Statement::Insert(insert) => {
            let (target, conflicts) = insert_target(insert)?;
            if !conflicts {
                let place = mentions.iter().position(|name| *name == target)?;
                mentions.remove(place);
            }
            written = Some(target);
        }
        Statement::Update(update) => written = Some(outline_update(update, &mut found)?),
        Statement::Delete(delete) => written = Some(outline_delete(delete, &mut found)?),
        _ => return None,
    }
    let expressions = &survey.expressions;
    let is_expression = |name: &RelationName| name.schema.is_none() && expressions.contains(&name.name);
    // A command writes a relation of that name, whatever its common table expressions are called.
    if written.as_ref().is_some_and(is_expression) {
        return None;
    }
    found.tables = survey.tables.into_iter().filter(|(name, _)| !is_expression(name)).map(|(_, alias)| alias).collect();
    // What stands for a common table expression is no relation, so its FROM gives no conditions on one.
    if found.from.iter().any(|source| is_expression(&source.relation)) {
        found.from.clear();
        found.query = None;
    }
    found.read = mentions.into_iter().filter(|name| !is_expression(name)).collect();
    found.written = written;
    Some(found)
}

/// Whether each mention of a common table expression's name means it: not so before its definition, where the same name is a
/// relation's.
fn means_itself(with: &With) -> bool {
    let names: Vec<String> = with.cte_tables.iter().map(|expression| folded(&expression.alias.name)).collect();
    let distinct: HashSet<&String> = names.iter().collect();
    let early = with.cte_tables.iter().enumerate().any(|(place, expression)| {
        let met = visit_relations(&expression.query, |name| {
            let bare = relation_name(name).filter(|name| name.schema.is_none());
            step(bare.is_none_or(|name| !names[place..].contains(&name.name)))
        });
        met.is_break()
    });
    distinct.len() == names.len() && (with.recursive || !early)
}

/// Gathers what a statement names, and stops at whatever may read anything.
#[derive(Default)]
struct Survey {
    relations: Vec<RelationName>,
    /// Mentions in FROM with what their columns are qualified with.
    tables: Vec<(RelationName, String)>,
    /// Functions in FROM, which are visited as relations too.
    functions: Vec<RelationName>,
    dotted: HashSet<(String, String)>,
    given: HashSet<String>,
    /// Names of common table expressions.
    expressions: HashSet<String>,
    locks: bool,
    statements: usize,
    depth: usize,
}

impl Survey {
    fn give_alias(&mut self, alias: Option<&TableAlias>) {
        if let Some(alias) = alias {
            self.given.extend(alias.columns.iter().map(|column| folded(&column.name)));
        }
    }
}

fn step(goes_on: bool) -> ControlFlow<()> {
    if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

impl Visitor for Survey {
    type Break = ();

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
        // A statement within another is a common table expression that writes.
        self.statements += 1;
        step(self.statements == 1)
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.locks |= !query.locks.is_empty();
        self.depth += 1;
        if let Some(with) = &query.with {
            // Further in, its names would be known in a part of the statement only.
            if self.depth > 1 || !means_itself(with) {
                return ControlFlow::Break(());
            }
            for expression in &with.cte_tables {
                self.expressions.insert(folded(&expression.alias.name));
                self.give_alias(Some(&expression.alias));
            }
        }
        let plain = query.for_clause.is_none()
            && query.settings.is_none()
            && query.format_clause.is_none()
            && query.pipe_operators.is_empty();
        step(plain && !matches!(*query.body, SetExpr::Table(_)))
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.given.insert(folded(alias));
            }
        }
        step(select.into.is_none() && select.lateral_views.is_empty() && select.connect_by.is_empty())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation_name(relation);
        let known = name.is_some();
        self.relations.extend(name);
        step(known)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, alias, args, version: None, json_path: None, sample: None, .. } => {
                self.give_alias(alias.as_ref());
                let Some(relation) = relation_name(name) else { return ControlFlow::Break(()) };
                if args.is_some() {
                    // A function in FROM names its own columns.
                    self.given.extend(alias.as_ref().map(|alias| folded(&alias.name)));
                    self.given.extend(pure_name(name));
                    self.functions.push(relation);
                    return step(pure_name(name).is_some());
                }
                let alias = alias.as_ref().map_or_else(|| relation.name.clone(), |alias| folded(&alias.name));
                self.tables.push((relation, alias));
                ControlFlow::Continue(())
            }
            TableFactor::Derived { alias, sample: None, .. } => {
                self.give_alias(alias.as_ref());
                ControlFlow::Continue(())
            }
            TableFactor::UNNEST { alias, .. } => {
                self.give_alias(alias.as_ref());
                self.given.extend(alias.as_ref().map(|alias| folded(&alias.name)));
                ControlFlow::Continue(())
            }
            TableFactor::NestedJoin { alias: None, .. } => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(names) = expr
            && let [.., qualifier, name] = names.as_slice()
        {
            self.dotted.insert((folded(qualifier), folded(name)));
        }
        step(reads_nothing(expr))
    }
}

fn relation_name(name: &ObjectName) -> Option<RelationName> {
    let mut parts = parts(name)?;
    match parts.len() {
        1 => Some(RelationName { schema: None, name: parts.pop()? }),
        2 => Some(RelationName { name: parts.pop()?, schema: parts.pop() }),
        _ => None,
    }
}

/// The target, and whether the statement looks for rows in it.
fn insert_target(insert: &Insert) -> Option<(RelationName, bool)> {
    let TableObject::TableName(name) = &insert.table else { return None };
    if !insert.assignments.is_empty() || insert.partitioned.is_some() {
        return None;
    }
    let conflicts = match &insert.on {
        None => false,
        Some(OnInsert::OnConflict(_)) => true,
        Some(_) => return None,
    };
    Some((relation_name(name)?, conflicts))
}

fn outline(query: &Query, locks: bool, found: &mut Relations) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    found.conditions = conjuncts(select.selection.as_ref());
    found.from = sources(&select.from).unwrap_or_default();
    let computable = !locks && query.with.is_none() && !found.from.is_empty();
    found.query = computable.then(|| Box::new(query.clone()));
}

fn outline_update(update: &Update, found: &mut Relations) -> Option<RelationName> {
    if update.limit.is_some() || !update.order_by.is_empty() || !update.table.joins.is_empty() {
        return None;
    }
    let mut from = vec![update.table.clone()];
    match &update.from {
        None => {}
        Some(UpdateTableFromKind::AfterSet(tables)) => from.extend(tables.iter().cloned()),
        Some(UpdateTableFromKind::BeforeSet(_)) => return None,
    }
    outline_write(&from, update.selection.as_ref(), found)
}

fn outline_delete(delete: &Delete, found: &mut Relations) -> Option<RelationName> {
    let FromTable::WithFromKeyword(from) = &delete.from else { return None };
    if delete.limit.is_some() || !delete.order_by.is_empty() || !delete.tables.is_empty() || from.len() != 1 {
        return None;
    }
    let mut from = from.clone();
    from.extend(delete.using.iter().flatten().cloned());
    outline_write(&from, delete.selection.as_ref(), found)
}

fn outline_write(from: &[TableWithJoins], selection: Option<&Expr>, found: &mut Relations) -> Option<RelationName> {
    let TableFactor::Table { name, args: None, .. } = &from.first()?.relation else { return None };
    found.conditions = conjuncts(selection);
    found.from = sources(from).unwrap_or_default();
    relation_name(name)
}

/// FROM as a list; none where it holds more than relations and inner and left joins.
fn sources(from: &[TableWithJoins]) -> Option<Vec<Source>> {
    let mut sources = Vec::new();
    for tables in from {
        sources.push(source(&tables.relation, false, Vec::new())?);
        for join in &tables.joins {
            sources.push(joined(join)?);
        }
        // A left join to the left of a comma binds tighter than the comma: the order of the list is still that of the joins.
    }
    Some(sources)
}

fn joined(join: &Join) -> Option<Source> {
    use JoinOperator as J;
    let (optional, constraint) = match &join.join_operator {
        J::Join(constraint) | J::Inner(constraint) | J::CrossJoin(constraint) => (false, constraint),
        J::Left(constraint) | J::LeftOuter(constraint) => (true, constraint),
        _ => return None,
    };
    let on = match constraint {
        JoinConstraint::On(expr) => conjuncts(Some(expr)),
        JoinConstraint::None => Vec::new(),
        _ => return None,
    };
    source(&join.relation, optional, on)
}

fn source(factor: &TableFactor, optional: bool, on: Vec<Expr>) -> Option<Source> {
    let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
    if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
        return None;
    }
    let relation = relation_name(name)?;
    let named = |ident: &Ident| folded(ident);
    let alias = alias.as_ref().map_or_else(|| relation.name.clone(), |alias| named(&alias.name));
    Some(Source { relation, alias, optional, on })
}

/// The parts of a condition that must all hold.
pub(super) fn conjuncts(condition: Option<&Expr>) -> Vec<Expr> {
    use sqlparser::ast::BinaryOperator;
    let mut parts = Vec::new();
    let mut open: Vec<&Expr> = condition.into_iter().collect();
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Nested(inner) => open.push(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => open.extend([&**right, &**left]),
            other => parts.push(other.clone()),
        }
    }
    parts
}

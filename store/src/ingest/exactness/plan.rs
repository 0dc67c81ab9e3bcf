//! How a query is computed.

use std::rc::Rc;

use sqlparser::ast::SelectItemQualifiedWildcardKind as Qualified;
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, OrderByKind, OrderBySort, Query, Select, SelectItem, SetExpr,
};

use super::aggregate::Item;
use super::allowed::parts;
use super::expression::{Node, Scope};
use super::reading::Source;
use super::value::{Class, Value};

/// A query that can be computed.
#[derive(Debug)]
pub(super) struct Plan {
    /// For each item of FROM, how it joins those before it.
    pub(super) joins: Vec<JoinStep>,
    /// What the joined rows must satisfy.
    pub(super) filter: Vec<Node>,
    /// What is printed.
    pub(super) output: Output,
    /// DISTINCT.
    pub(super) distinct: bool,
    /// LIMIT and OFFSET with the order in which they count.
    pub(super) cut: Option<Cut>,
}

/// How one item of FROM joins those before it.
#[derive(Debug)]
pub(super) struct JoinStep {
    /// Whether rows before it stay when none of its rows fits.
    pub(super) optional: bool,
    /// Conditions on this item alone.
    pub(super) alone: Vec<Node>,
    /// All conditions of the join.
    pub(super) conditions: Vec<Node>,
}

/// What is printed.
#[derive(Debug)]
pub(super) enum Output {
    /// These for each row.
    Rows(Vec<Node>),
    /// These for each group.
    Groups {
        /// GROUP BY.
        keys: Vec<Node>,
        /// The SELECT list.
        items: Vec<Item>,
    },
}

/// LIMIT and OFFSET.
#[derive(Debug)]
pub(super) struct Cut {
    /// Expressions with whether they descend.
    pub(super) order: Vec<(Node, bool)>,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
}

impl Plan {
    /// The plan of a query over these items of FROM; none where its result is not certain.
    pub(super) fn new(scope: &Scope<'_>, sources: &[Source], query: &Query) -> Option<Plan> {
        let SetExpr::Select(select) = query.body.as_ref() else { return None };
        let plain = select.having.is_none()
            && select.qualify.is_none()
            && select.top.is_none()
            && select.prewhere.is_none()
            && query.fetch.is_none()
            && select.named_window.is_empty();
        if !plain {
            return None;
        }
        let filter: Vec<Node> = super::reading::conjuncts(select.selection.as_ref())
            .iter()
            .map(|expr| scope.condition(expr))
            .collect::<Option<_>>()?;
        let joins = sources.iter().enumerate().map(|(place, source)| join_step(scope, place, source, &filter));
        let joins = joins.collect::<Option<Vec<_>>>()?;
        let distinct = match &select.distinct {
            None | Some(Distinct::All) => false,
            Some(Distinct::Distinct) => true,
            Some(_) => return None,
        };
        let output = output(scope, select)?;
        let cut = cut(scope, query)?;
        // What DISTINCT or a group leaves is not ordered by columns of single rows, and equal values may print differently.
        let rows = matches!(output, Output::Rows(_));
        if cut.is_some() && (distinct || !rows) || distinct && !is_comparable(scope, &output) {
            return None;
        }
        Some(Plan { joins, filter, output, distinct, cut })
    }
}

fn join_step(scope: &Scope<'_>, place: usize, source: &Source, filter: &[Node]) -> Option<JoinStep> {
    let mut conditions: Vec<Node> = source.on.iter().map(|expr| scope.condition(expr)).collect::<Option<_>>()?;
    let mentioned = |node: &Node| {
        let mut found = Vec::new();
        node.mentions(&mut found);
        found
    };
    if conditions.iter().any(|node| mentioned(node).iter().any(|table| *table > place)) {
        return None;
    }
    if !source.optional {
        // WHERE holds for every row of an inner join, so the sooner it is asked the better.
        let early = filter.iter().filter(|node| mentioned(node).iter().max() == Some(&place));
        conditions.extend(early.cloned());
    }
    let is_alone = |node: &&Node| mentioned(node).iter().all(|table| *table == place);
    let alone = conditions.iter().filter(is_alone).cloned().collect();
    Some(JoinStep { optional: source.optional, alone, conditions })
}

fn output(scope: &Scope<'_>, select: &Select) -> Option<Output> {
    let GroupByExpr::Expressions(keys, modifiers) = &select.group_by else { return None };
    if !modifiers.is_empty() {
        return None;
    }
    let exprs = || {
        select.projection.iter().map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        })
    };
    let grouped = !keys.is_empty() || exprs().flatten().any(Item::is_grouped);
    if grouped {
        let nodes = keys.iter().map(|key| scope.node(key)).collect::<Option<Vec<_>>>()?;
        if nodes.iter().any(|node| !matches!(node, Node::Column(..))) {
            return None;
        }
        let items = exprs().map(|expr| Item::new(scope, keys, expr?)).collect::<Option<_>>()?;
        return Some(Output::Groups { keys: nodes, items });
    }
    let mut nodes = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => nodes.push(scope.node(expr)?),
            SelectItem::Wildcard(_) => (0..scope.tables.len()).for_each(|place| every_column(scope, place, &mut nodes)),
            SelectItem::QualifiedWildcard(Qualified::ObjectName(name), _) => {
                let name = parts(name)?;
                let [alias] = name.as_slice() else { return None };
                let place = scope.tables.iter().position(|table| table.alias == *alias)?;
                every_column(scope, place, &mut nodes);
            }
            _ => return None,
        }
    }
    Some(Output::Rows(nodes))
}

fn every_column(scope: &Scope<'_>, place: usize, nodes: &mut Vec<Node>) {
    nodes.extend((0..scope.tables[place].columns.len()).map(|column| Node::Column(place, column)));
}

/// Whether values that print differently are different.
fn is_comparable(scope: &Scope<'_>, output: &Output) -> bool {
    let Output::Rows(nodes) = output else { return true };
    nodes.iter().all(|node| matches!(scope.class(node), Some(Class::Bool | Class::Text | Class::Uuid | Class::Date)))
}

/// The outer None: not certain. The inner one: there is no LIMIT.
#[expect(clippy::option_option, reason = "two different absences, told apart in one place")]
fn cut(scope: &Scope<'_>, query: &Query) -> Option<Option<Cut>> {
    let (limit, offset) = match &query.limit_clause {
        None => return Some(None),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => (limit, offset),
        Some(_) => return None,
    };
    let number = |expr: &Expr| match scope.node(expr)? {
        Node::Constant(value @ Value::Number(_)) => value.printed().ok()??.parse::<usize>().ok(),
        Node::Literal(text) => text.parse().ok(),
        _ => None,
    };
    let limit = match limit {
        None => None,
        Some(expr) => Some(number(expr)?),
    };
    let offset = match offset {
        None => 0,
        Some(offset) => number(&offset.value)?,
    };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let given: Vec<String> = select
        .projection
        .iter()
        .filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(super::allowed::folded(alias)),
            _ => None,
        })
        .collect();
    let mut order = Vec::new();
    if let Some(by) = &query.order_by {
        let OrderByKind::Expressions(exprs) = &by.kind else { return None };
        for by in exprs {
            let descending = match &by.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(OrderBySort::Using(_)) => return None,
            };
            // A name that the SELECT list gives comes before a column's.
            if given
                .iter()
                .any(|alias| matches!(&by.expr, Expr::Identifier(name) if super::allowed::folded(name) == *alias))
            {
                return None;
            }
            let node = scope.node(&by.expr)?;
            if by.options.nulls_first.is_some() || !matches!(node, Node::Column(..)) {
                return None;
            }
            order.push((node, descending));
        }
    }
    Some(Some(Cut { order, limit, offset }))
}

/// The columns of each item of FROM.
pub(super) type Columns = Rc<[(String, Class)]>;

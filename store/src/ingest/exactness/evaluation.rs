//! A query's result, computed from row versions.
//!
//! Only what is certain to give what PostgreSQL gives is computed: selections, projections and inner and left joins by known
//! comparisons, GROUP BY, count, sum, min, max, DISTINCT, and ORDER BY with LIMIT over numbers.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::aggregate::Item;
use super::expression::{Joined, Node, Test, Truth};
use super::history::{History, Row, Sight};
use super::plan::{Cut, Output, Plan};
use super::value::{Comparison, NotKnown, Value};

/// A result row as PostgreSQL prints it.
pub(super) type Printed = Vec<Option<String>>;

/// A relation of the query with its history.
pub(super) struct Side {
    pub(super) history: Rc<History>,
}

/// Rows that may still be looked at.
pub(super) struct Budget(pub(super) Cell<u64>);

impl Budget {
    fn spend(&self, rows: usize) -> Result<(), NotKnown> {
        let left = self.0.get().checked_sub(rows as u64 + 1).ok_or(NotKnown)?;
        self.0.set(left);
        Ok(())
    }
}

/// The rows that the plan gives for what a statement sees, in no particular order.
pub(super) fn run(plan: &Plan, sides: &[Side], sight: &Sight<'_>, budget: &Budget) -> Result<Vec<Printed>, NotKnown> {
    let mut joined: Vec<Vec<Option<Row>>> = vec![Vec::new()];
    for (place, side) in sides.iter().enumerate() {
        joined = join(plan, place, side, sight, joined, budget)?;
    }
    let mut kept = Vec::with_capacity(joined.len());
    for row in joined {
        if all(&plan.filter, &view(&row))? {
            kept.push(row);
        }
    }
    let mut results = match &plan.output {
        Output::Rows(nodes) => each_row(plan, nodes, &kept)?,
        Output::Groups { keys, items } => groups(keys, items, &kept)?,
    };
    if plan.distinct {
        let mut seen = HashSet::new();
        results.retain(|(printed, _)| seen.insert(printed.clone()));
    }
    cut(plan.cut.as_ref(), results)
}

fn view(row: &[Option<Row>]) -> Vec<Option<&[Value]>> {
    row.iter().map(Option::as_deref).collect()
}

fn all(conditions: &[Node], row: &Joined<'_>) -> Result<bool, NotKnown> {
    let mut unclear = false;
    for condition in conditions {
        match condition.truth(row) {
            Truth::True => {}
            Truth::False | Truth::Null => return Ok(false),
            Truth::Maybe => unclear = true,
        }
    }
    if unclear { Err(NotKnown) } else { Ok(true) }
}

/// Adds an item of FROM to the rows so far.
fn join(
    plan: &Plan,
    place: usize,
    side: &Side,
    sight: &Sight<'_>,
    so_far: Vec<Vec<Option<Row>>>,
    budget: &Budget,
) -> Result<Vec<Vec<Option<Row>>>, NotKnown> {
    let conditions = &plan.joins[place].conditions;
    let alone = &plan.joins[place].alone;
    let rows = candidates(alone, place, side, sight, budget)?;
    let mut fitting = Vec::new();
    for row in rows {
        let mut single: Vec<Option<&[Value]>> = vec![None; place];
        single.push(Some(&row));
        if all(alone, &single)? {
            fitting.push(row);
        }
    }
    let equal = conditions.iter().find_map(|condition| equality(condition, place));
    let index = equal.map(|(column, _)| indexed(&fitting, column)).transpose()?;
    let mut joined = Vec::new();
    for row in so_far {
        let partners: Vec<&Row> = match (&index, equal) {
            (Some(index), Some((_, other))) => match other.value(&view(&row)) {
                Value::Null => Vec::new(),
                value => index.get(&value.identity().ok_or(NotKnown)?).into_iter().flatten().copied().collect(),
            },
            _ => fitting.iter().collect(),
        };
        budget.spend(partners.len())?;
        let mut found = false;
        for partner in partners {
            let mut longer = row.clone();
            longer.push(Some(Rc::clone(partner)));
            if all(conditions, &view(&longer))? {
                found = true;
                joined.push(longer);
            }
        }
        if plan.joins[place].optional && !found {
            let mut longer = row;
            longer.push(None);
            joined.push(longer);
        }
    }
    Ok(joined)
}

/// Rows of one relation that may fit: by key where the conditions name the keys, else all.
fn candidates(
    alone: &[Node],
    place: usize,
    side: &Side,
    sight: &Sight<'_>,
    budget: &Budget,
) -> Result<Vec<Row>, NotKnown> {
    if let [column] = side.history.key.as_slice()
        && let Some(keys) = alone.iter().find_map(|node| named_values(node, place, *column))
    {
        let mut keys: Vec<String> = keys
            .iter()
            .filter_map(|value| value.printed().ok().flatten())
            .map(|text| crate::copy_text::escape(&text).into_owned())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        budget.spend(keys.len())?;
        return Ok(keys.iter().filter_map(|key| side.history.row(key, sight)).cloned().collect());
    }
    budget.spend(side.history.key_count())?;
    Ok(side.history.rows(sight).cloned().collect())
}

/// The values that a column must have one of. Numbers only as integers: a `numeric` key may be printed with zeros.
fn named_values(node: &Node, place: usize, column: usize) -> Option<Vec<Value>> {
    let is_column = |node: &Node| matches!(node, Node::Column(table, at) if *table == place && *at == column);
    let plain = |value: &Value| match value {
        Value::Number(number) => number.is_integer(),
        Value::Text(_) | Value::Bool(_) | Value::Null => true,
        Value::Opaque(_) | Value::Unknown => false,
    };
    let values = match node {
        Node::Compare(left, Test::Equal, right) => match (&**left, &**right) {
            (subject, Node::Constant(value)) | (Node::Constant(value), subject) if is_column(subject) => {
                vec![value.clone()]
            }
            _ => return None,
        },
        Node::OneOf(subject, values) if is_column(subject) => values.clone(),
        _ => return None,
    };
    values.iter().all(plain).then_some(values)
}

/// An equality between a column of this item of FROM and something that stands before it.
fn equality(node: &Node, place: usize) -> Option<(usize, &Node)> {
    let Node::Compare(left, Test::Equal, right) = node else { return None };
    let before = |node: &Node| {
        let mut mentioned = Vec::new();
        node.mentions(&mut mentioned);
        !mentioned.is_empty() && mentioned.iter().all(|table| *table < place)
    };
    match (&**left, &**right) {
        (Node::Column(table, column), other) | (other, Node::Column(table, column))
            if *table == place && before(other) =>
        {
            Some((*column, other))
        }
        _ => None,
    }
}

fn indexed(rows: &[Row], column: usize) -> Result<HashMap<String, Vec<&Row>>, NotKnown> {
    let mut index: HashMap<String, Vec<&Row>> = HashMap::new();
    for row in rows {
        match row.get(column) {
            Some(Value::Null) => {}
            Some(value) => index.entry(value.identity().ok_or(NotKnown)?).or_default().push(row),
            None => return Err(NotKnown),
        }
    }
    Ok(index)
}

/// A result row with what it is ordered by.
type Sorted = (Printed, Vec<Value>);

/// The values of a group's keys, and its rows.
type Group<'a> = (Vec<Value>, Vec<Vec<Option<&'a [Value]>>>);

fn each_row(plan: &Plan, nodes: &[Node], rows: &[Vec<Option<Row>>]) -> Result<Vec<Sorted>, NotKnown> {
    let order: &[(Node, bool)] = plan.cut.as_ref().map_or(&[], |cut| &cut.order);
    rows.iter()
        .map(|row| {
            let row = view(row);
            let printed = nodes.iter().map(|node| node.value(&row).printed()).collect::<Result<_, _>>()?;
            Ok((printed, order.iter().map(|(node, _)| node.value(&row)).collect()))
        })
        .collect()
}

fn groups(keys: &[Node], items: &[Item], rows: &[Vec<Option<Row>>]) -> Result<Vec<Sorted>, NotKnown> {
    let mut groups: BTreeMap<Printed, Group<'_>> = BTreeMap::new();
    if keys.is_empty() {
        groups.insert(Vec::new(), (Vec::new(), Vec::new()));
    }
    for row in rows {
        let row = view(row);
        let values: Vec<Value> = keys.iter().map(|key| key.value(&row)).collect();
        let identity = values
            .iter()
            .map(|value| match value {
                Value::Null => Ok(None),
                value => value.identity().map(Some).ok_or(NotKnown),
            })
            .collect::<Result<Printed, _>>()?;
        groups.entry(identity).or_insert_with(|| (values, Vec::new())).1.push(row);
    }
    groups
        .values()
        .map(|(values, rows)| {
            let printed = items.iter().map(|item| item.value(values, rows)?.printed()).collect::<Result<_, _>>()?;
            Ok((printed, Vec::new()))
        })
        .collect()
}

/// What LIMIT and OFFSET leave. Which of several rows that are equal in order come first is not known.
fn cut(cut: Option<&Cut>, mut rows: Vec<Sorted>) -> Result<Vec<Printed>, NotKnown> {
    let Some(cut) = cut else { return Ok(rows.into_iter().map(|(printed, _)| printed).collect()) };
    let mut unclear = false;
    rows.sort_by(|(_, left), (_, right)| {
        let directions = cut.order.iter().map(|(_, descending)| *descending);
        for ((left, right), descending) in left.iter().zip(right).zip(directions) {
            let order = match (left, right) {
                (Value::Null, Value::Null) => Ordering::Equal,
                // NULL counts as larger than everything else.
                (Value::Null, _) => Ordering::Greater,
                (_, Value::Null) => Ordering::Less,
                (left, right) => {
                    if let Some(Comparison::Ordered(order)) = left.compare(right) {
                        order
                    } else {
                        unclear = true;
                        Ordering::Equal
                    }
                }
            };
            let order = if descending { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    });
    let end = cut.offset.saturating_add(cut.limit.unwrap_or(usize::MAX)).min(rows.len());
    let start = cut.offset.min(end);
    for border in [start, end] {
        if border > 0 && border < rows.len() && same_place(&rows[border - 1], &rows[border]) {
            unclear = true;
        }
    }
    if unclear {
        return Err(NotKnown);
    }
    Ok(rows.drain(start..end).map(|(printed, _)| printed).collect())
}

fn same_place((_, left): &Sorted, (_, right): &Sorted) -> bool {
    left.iter().zip(right).all(|(left, right)| match (left, right) {
        (Value::Null, Value::Null) => true,
        (left, right) => left.compare(right) == Some(Comparison::Ordered(Ordering::Equal)),
    })
}

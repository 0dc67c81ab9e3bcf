//! Aggregates, as far as their result is known for certain.

use std::cmp::Ordering;
use std::collections::HashSet;

use sqlparser::ast::{
    DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ValueWithSpan,
};

use super::allowed::pure_function;
use super::expression::{Joined, Node, Scope, Truth, plain_argument};
use super::value::{Class, Comparison, Decimal, NotKnown, Value};

/// An item of the SELECT list of a grouped query.
#[derive(Debug)]
pub(super) enum Item {
    /// The group's key of that number.
    Key(usize),
    /// An aggregate.
    Aggregate(Aggregate),
    /// A constant in place of NULL.
    OrElse(Box<Item>, Value),
    /// A cast that keeps the digits.
    Integer(Box<Item>),
}

/// An aggregate over the rows of a group.
#[derive(Debug)]
pub(super) struct Aggregate {
    kind: Kind,
    /// None for `count(*)`.
    argument: Option<Node>,
    distinct: bool,
    filter: Option<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Count,
    Sum,
    Min,
    Max,
}

impl Item {
    /// An item's meaning; none where it is not certain. `keys` are the expressions of GROUP BY.
    pub(super) fn new(scope: &Scope<'_>, keys: &[Expr], expr: &Expr) -> Option<Item> {
        if let Some(place) = keys.iter().position(|key| key == expr) {
            return Some(Item::Key(place));
        }
        match expr {
            Expr::Nested(inner) => Item::new(scope, keys, inner),
            Expr::Cast {
                expr,
                data_type: DataType::BigInt(None) | DataType::Int8(None) | DataType::Int(None) | DataType::Integer(None),
                ..
            } => Some(Item::Integer(Box::new(Item::new(scope, keys, expr)?))),
            Expr::Function(function) => match pure_function(function)?.as_str() {
                "coalesce" => {
                    let FunctionArguments::List(list) = &function.args else { return None };
                    let [first, second] = list.args.as_slice() else { return None };
                    let Expr::Value(ValueWithSpan { .. }) = plain_argument(second)? else { return None };
                    let Node::Constant(value @ Value::Number(_)) = scope.node(plain_argument(second)?)? else {
                        return None;
                    };
                    Some(Item::OrElse(Box::new(Item::new(scope, keys, plain_argument(first)?)?), value))
                }
                name => aggregate(scope, name, function).map(Item::Aggregate),
            },
            _ => None,
        }
    }

    /// Whether the expression makes a query a grouped one.
    pub(super) fn is_grouped(expr: &Expr) -> bool {
        match expr {
            Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => Item::is_grouped(inner),
            Expr::Function(function) => match pure_function(function).as_deref() {
                Some("count" | "sum" | "min" | "max") => true,
                Some("coalesce") => match &function.args {
                    FunctionArguments::List(list) => list.args.iter().filter_map(plain_argument).any(Item::is_grouped),
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        }
    }

    /// Its value for a group: the values of its keys, and its rows.
    pub(super) fn value(&self, keys: &[Value], rows: &[Vec<Option<&[Value]>>]) -> Result<Value, NotKnown> {
        match self {
            Item::Key(place) => Ok(keys[*place].clone()),
            Item::Aggregate(aggregate) => aggregate.value(rows),
            Item::OrElse(item, other) => match item.value(keys, rows)? {
                Value::Null => Ok(other.clone()),
                value => Ok(value),
            },
            Item::Integer(item) => match item.value(keys, rows)? {
                Value::Number(number) if !number.is_integer() => Err(NotKnown),
                value @ (Value::Number(_) | Value::Null) => Ok(value),
                _ => Err(NotKnown),
            },
        }
    }
}

fn aggregate(scope: &Scope<'_>, name: &str, function: &Function) -> Option<Aggregate> {
    let kind = match name {
        "count" => Kind::Count,
        "sum" => Kind::Sum,
        "min" => Kind::Min,
        "max" => Kind::Max,
        _ => return None,
    };
    if function.over.is_some() || !function.within_group.is_empty() || function.null_treatment.is_some() {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let [argument] = list.args.as_slice() else { return None };
    let argument = match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if kind == Kind::Count => None,
        other => Some(scope.node(plain_argument(other)?)?),
    };
    let class = argument.as_ref().map(|node| scope.class(node));
    let numbers = class == Some(Some(Class::Number));
    let filter = match &function.filter {
        Some(filter) => Some(scope.condition(filter)?),
        None => None,
    };
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let known = list.clauses.is_empty() && (kind == Kind::Count || numbers);
    known.then_some(Aggregate { kind, argument, distinct, filter })
}

impl Aggregate {
    fn value(&self, rows: &[Vec<Option<&[Value]>>]) -> Result<Value, NotKnown> {
        let mut values = Vec::new();
        let mut count = 0_i128;
        for row in rows {
            let row: &Joined<'_> = row;
            match self.filter.as_ref().map_or(Truth::True, |filter| filter.truth(row)) {
                Truth::True => {}
                Truth::False | Truth::Null => continue,
                Truth::Maybe => return Err(NotKnown),
            }
            match self.argument.as_ref().map(|argument| argument.value(row)) {
                None => count += 1,
                Some(Value::Null) => {}
                Some(Value::Unknown) => return Err(NotKnown),
                Some(value) => {
                    count += 1;
                    values.push(value);
                }
            }
        }
        if self.distinct {
            let mut seen = HashSet::new();
            for value in &values {
                seen.insert(value.identity().ok_or(NotKnown)?);
            }
            if self.kind != Kind::Count {
                return Err(NotKnown);
            }
            count = seen.len() as i128;
        }
        match self.kind {
            Kind::Count => Ok(Value::Number(Decimal::integer(count))),
            Kind::Sum => sum(&values),
            Kind::Min => extreme(&values, Ordering::Less),
            Kind::Max => extreme(&values, Ordering::Greater),
        }
    }
}

fn sum(values: &[Value]) -> Result<Value, NotKnown> {
    let mut total: Option<Decimal> = None;
    for value in values {
        let Value::Number(number) = value else { return Err(NotKnown) };
        total = Some(match total {
            None => *number,
            Some(total) => total.plus(*number).ok_or(NotKnown)?,
        });
    }
    Ok(total.map_or(Value::Null, Value::Number))
}

/// Of numbers that are equal and print differently (1.0 and 1.00) it is not known which one PostgreSQL keeps.
fn extreme(values: &[Value], wanted: Ordering) -> Result<Value, NotKnown> {
    let mut best: Option<&Value> = None;
    for value in values {
        let Some(known) = best else {
            best = Some(value);
            continue;
        };
        match value.compare(known) {
            Some(Comparison::Ordered(order)) if order == wanted => best = Some(value),
            Some(Comparison::Ordered(Ordering::Equal)) if value.printed()? != known.printed()? => return Err(NotKnown),
            Some(Comparison::Ordered(_)) => {}
            _ => return Err(NotKnown),
        }
    }
    Ok(best.cloned().unwrap_or(Value::Null))
}

//! Expressions over rows, as far as what PostgreSQL makes of them is known for certain.

use std::cmp::Ordering;
use std::rc::Rc;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, InTarget,
};
use sqlparser::ast::{UnaryOperator, Value as Literal};

use super::allowed::{folded, pure_function};
use super::value::{Class, Comparison, Decimal, NotKnown, Value};

/// A relation of FROM, as expressions see it.
#[derive(Debug)]
pub(super) struct Table {
    /// What its columns are qualified with.
    pub(super) alias: String,
    /// Its columns in order.
    pub(super) columns: Rc<[(String, Class)]>,
}

/// A row with one entry for each item of FROM; none where an outer join found nothing.
pub(super) type Joined<'a> = [Option<&'a [Value]>];

/// A parameter of the statement.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    /// Of a known type.
    Typed(Value),
    /// Written as text; its type is that of what it is compared with.
    Untyped(String),
    /// An array of a known type, without NULLs.
    Array(Vec<Value>),
    /// An array written as text.
    UntypedArray(Vec<String>),
    /// Not understood, or kept in part only.
    Unclear,
}

/// Where names and parameters get their meaning.
pub(super) struct Scope<'a> {
    pub(super) tables: &'a [Table],
    pub(super) arguments: &'a [Argument],
}

/// An expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A column: the item of FROM and the column's place.
    Column(usize, usize),
    /// A constant.
    Constant(Value),
    /// A literal whose type depends on what stands beside it.
    Literal(String),
    /// A comparison that gives true for these outcomes.
    Compare(Box<Node>, Test, Box<Node>),
    /// Whether it equals one of the values.
    OneOf(Box<Node>, Vec<Value>),
    /// IS NULL.
    IsNull(Box<Node>),
    /// All of them.
    And(Box<Node>, Box<Node>),
    /// One of them.
    Or(Box<Node>, Box<Node>),
    /// The opposite.
    Not(Box<Node>),
    /// The first that is not NULL.
    Coalesce(Vec<Node>),
}

/// What a comparison asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    fn of(op: &BinaryOperator) -> Option<Test> {
        Some(match op {
            BinaryOperator::Eq => Test::Equal,
            BinaryOperator::NotEq => Test::NotEqual,
            BinaryOperator::Lt => Test::Less,
            BinaryOperator::LtEq => Test::LessOrEqual,
            BinaryOperator::Gt => Test::Greater,
            BinaryOperator::GtEq => Test::GreaterOrEqual,
            _ => return None,
        })
    }

    fn holds(self, comparison: Comparison) -> Option<bool> {
        let Comparison::Ordered(order) = comparison else {
            return match self {
                Test::Equal => Some(false),
                Test::NotEqual => Some(true),
                _ => None,
            };
        };
        Some(match self {
            Test::Equal => order == Ordering::Equal,
            Test::NotEqual => order != Ordering::Equal,
            Test::Less => order == Ordering::Less,
            Test::LessOrEqual => order != Ordering::Greater,
            Test::Greater => order == Ordering::Greater,
            Test::GreaterOrEqual => order != Ordering::Less,
        })
    }
}

impl Scope<'_> {
    /// The expression's meaning; none where it is not certain.
    pub(super) fn node(&self, expr: &Expr) -> Option<Node> {
        Some(match expr {
            Expr::Nested(inner) => self.node(inner)?,
            Expr::Identifier(name) => self.column(&folded(name))?,
            Expr::CompoundIdentifier(names) => self.qualified(names)?,
            Expr::Value(value) => self.literal(&value.value)?,
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => negated(&self.node(expr)?)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Node::Not(Box::new(self.condition(expr)?)),
            Expr::Cast { expr, data_type, .. } => self.cast(expr, data_type)?,
            Expr::IsNull(inner) => Node::IsNull(Box::new(self.node(inner)?)),
            Expr::IsNotNull(inner) => Node::Not(Box::new(Node::IsNull(Box::new(self.node(inner)?)))),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                Node::And(Box::new(self.condition(left)?), Box::new(self.condition(right)?))
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                Node::Or(Box::new(self.condition(left)?), Box::new(self.condition(right)?))
            }
            Expr::BinaryOp { left, op, right } => self.compare(self.node(left)?, Test::of(op)?, self.node(right)?)?,
            Expr::Between { expr, negated, low, high } => {
                let low = self.compare(self.node(expr)?, Test::GreaterOrEqual, self.node(low)?)?;
                let high = self.compare(self.node(expr)?, Test::LessOrEqual, self.node(high)?)?;
                optionally_not(Node::And(Box::new(low), Box::new(high)), *negated)
            }
            Expr::In { expr, target: InTarget::List(list), negated, .. } => {
                let subject = self.node(expr)?;
                let class = self.class(&subject)?;
                let values = list.iter().map(|item| constant(self.node(item)?, class)).collect::<Option<_>>()?;
                optionally_not(Node::OneOf(Box::new(subject), values), *negated)
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                let subject = self.node(left)?;
                let values = self.array(right, self.class(&subject)?)?;
                Node::OneOf(Box::new(subject), values)
            }
            Expr::Function(function) if pure_function(function).as_deref() == Some("coalesce") => {
                let FunctionArguments::List(list) = &function.args else { return None };
                let nodes = list.args.iter().map(|argument| self.node(plain_argument(argument)?));
                Node::Coalesce(nodes.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// A condition: a comparison, or a boolean column.
    pub(super) fn condition(&self, expr: &Expr) -> Option<Node> {
        let node = self.node(expr)?;
        let boolean = match &node {
            Node::Column(table, column) => self.tables[*table].columns[*column].1 == Class::Bool,
            Node::Constant(value) => matches!(value, Value::Bool(_) | Value::Null),
            Node::Literal(_) | Node::Coalesce(_) => false,
            _ => true,
        };
        boolean.then_some(node)
    }

    fn column(&self, name: &str) -> Option<Node> {
        let mut found = self.tables.iter().enumerate().flat_map(|(table, of)| {
            let columns = of.columns.iter().enumerate().filter(|(_, (column, _))| column == name);
            columns.map(move |(place, _)| Node::Column(table, place))
        });
        let only = found.next()?;
        found.next().is_none().then_some(only)
    }

    fn qualified(&self, names: &[Ident]) -> Option<Node> {
        let [alias, column] = names else { return None };
        let (alias, column) = (folded(alias), folded(column));
        let mut tables = self.tables.iter().enumerate().filter(|(_, table)| table.alias == alias);
        let (place, table) = tables.next()?;
        let column = table.columns.iter().position(|(name, _)| *name == column)?;
        tables.next().is_none().then_some(Node::Column(place, column))
    }

    fn literal(&self, literal: &Literal) -> Option<Node> {
        Some(match literal {
            Literal::Number(text, false) => Node::Constant(Value::Number(Decimal::parse(text)?)),
            // With standard_conforming_strings off a backslash would mean something.
            Literal::SingleQuotedString(text) if !text.contains('\\') => Node::Literal(text.clone()),
            Literal::Boolean(value) => Node::Constant(Value::Bool(*value)),
            Literal::Null => Node::Constant(Value::Null),
            Literal::Placeholder(name) => match self.argument(name)? {
                Argument::Typed(value) => Node::Constant(value.clone()),
                Argument::Untyped(text) => Node::Literal(text.clone()),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn argument(&self, placeholder: &str) -> Option<&Argument> {
        let number: usize = placeholder.strip_prefix('$')?.parse().ok()?;
        self.arguments.get(number.checked_sub(1)?)
    }

    fn array(&self, expr: &Expr, class: Class) -> Option<Vec<Value>> {
        match expr {
            Expr::Nested(inner) => self.array(inner, class),
            Expr::Cast { expr, .. } => self.array(expr, class),
            Expr::Array(array) => array.elem.iter().map(|item| constant(self.node(item)?, class)).collect(),
            Expr::Value(value) => match &value.value {
                Literal::Placeholder(name) => match self.argument(name)? {
                    Argument::Array(values) => Some(values.clone()),
                    Argument::UntypedArray(texts) => texts.iter().map(|text| class.value(text)).collect(),
                    _ => None,
                },
                Literal::SingleQuotedString(text) => {
                    array_elements(text)?.iter().map(|text| class.value(text)).collect()
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// A cast of a literal or parameter to a type whose values are written as they are printed. What it may change (a length, a
    /// scale) is not followed.
    fn cast(&self, expr: &Expr, data_type: &DataType) -> Option<Node> {
        use DataType as T;
        let class = match data_type {
            T::SmallInt(None)
            | T::Int2(None)
            | T::Int(None)
            | T::Int4(None)
            | T::Integer(None)
            | T::BigInt(None)
            | T::Int8(None) => Class::Number,
            T::Text | T::Varchar(None) | T::CharacterVarying(None) => Class::Text,
            T::Uuid => Class::Uuid,
            T::Date => Class::Date,
            T::Bool | T::Boolean => Class::Bool,
            _ => return None,
        };
        let value = match self.node(expr)? {
            Node::Literal(text) => class.value(&text)?,
            Node::Constant(value) => value,
            _ => return None,
        };
        let fits = match (&value, class) {
            (Value::Number(number), Class::Number) => number.is_integer(),
            (Value::Null, _)
            | (Value::Bool(_), Class::Bool)
            | (Value::Text(_), Class::Text | Class::Uuid | Class::Date) => true,
            _ => false,
        };
        fits.then_some(Node::Constant(value))
    }

    /// The class of what a node gives; none for a literal.
    pub(super) fn class(&self, node: &Node) -> Option<Class> {
        match node {
            Node::Column(table, column) => Some(self.tables[*table].columns[*column].1),
            Node::Constant(Value::Bool(_)) => Some(Class::Bool),
            Node::Constant(Value::Number(_)) => Some(Class::Number),
            Node::Constant(Value::Text(_)) => Some(Class::Text),
            _ => None,
        }
    }

    fn compare(&self, left: Node, test: Test, right: Node) -> Option<Node> {
        let (left, right) = match (self.class(&left), self.class(&right)) {
            (Some(class), None) => (left, Node::Constant(constant(right, class)?)),
            (None, Some(class)) => (Node::Constant(constant(left, class)?), right),
            (Some(_), Some(_)) => (left, right),
            (None, None) => return None,
        };
        Some(Node::Compare(Box::new(left), test, Box::new(right)))
    }
}

/// A constant as a value of the class of what it is compared with.
fn constant(node: Node, class: Class) -> Option<Value> {
    match node {
        Node::Literal(text) if class != Class::Opaque => class.value(&text),
        Node::Constant(value) => Some(value),
        _ => None,
    }
}

fn optionally_not(node: Node, negated: bool) -> Node {
    if negated { Node::Not(Box::new(node)) } else { node }
}

fn negated(node: &Node) -> Option<Node> {
    let Node::Constant(value @ Value::Number(_)) = node else { return None };
    let text = value.printed().ok().flatten()?;
    Some(Node::Constant(Value::Number(Decimal::parse(&format!("-{text}"))?)))
}

/// The expression of an argument without a name.
pub(super) fn plain_argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The elements of a one-dimensional array in text form; none when one is NULL, quoted or escaped.
pub(super) fn array_elements(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let plain = |element: &str| {
        !element.is_empty()
            && !element.eq_ignore_ascii_case("null")
            && !element.contains(['"', '\\', '{', '}'])
            && element.trim() == element
    };
    inner.split(',').map(|element| plain(element).then(|| element.to_owned())).collect()
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Null,
    /// It depends on what is not known.
    Maybe,
}

impl Node {
    /// Its value for a row.
    pub(super) fn value(&self, row: &Joined<'_>) -> Value {
        match self {
            Node::Column(table, column) => match row.get(*table) {
                Some(Some(values)) => values.get(*column).cloned().unwrap_or(Value::Unknown),
                Some(None) => Value::Null,
                None => Value::Unknown,
            },
            Node::Constant(value) => value.clone(),
            Node::Literal(text) => Value::Text(text.as_str().into()),
            Node::Coalesce(nodes) => {
                let values = nodes.iter().map(|node| node.value(row));
                values.into_iter().find(|value| !matches!(value, Value::Null)).unwrap_or(Value::Null)
            }
            condition => match condition.truth(row) {
                Truth::True => Value::Bool(true),
                Truth::False => Value::Bool(false),
                Truth::Null => Value::Null,
                Truth::Maybe => Value::Unknown,
            },
        }
    }

    /// Whether it holds for a row.
    pub(super) fn truth(&self, row: &Joined<'_>) -> Truth {
        match self {
            Node::And(left, right) => match (left.truth(row), right.truth(row)) {
                (Truth::False, _) | (_, Truth::False) => Truth::False,
                (Truth::Maybe, _) | (_, Truth::Maybe) => Truth::Maybe,
                (Truth::Null, _) | (_, Truth::Null) => Truth::Null,
                (Truth::True, Truth::True) => Truth::True,
            },
            Node::Or(left, right) => match (left.truth(row), right.truth(row)) {
                (Truth::True, _) | (_, Truth::True) => Truth::True,
                (Truth::Maybe, _) | (_, Truth::Maybe) => Truth::Maybe,
                (Truth::Null, _) | (_, Truth::Null) => Truth::Null,
                (Truth::False, Truth::False) => Truth::False,
            },
            Node::Not(inner) => match inner.truth(row) {
                Truth::True => Truth::False,
                Truth::False => Truth::True,
                other => other,
            },
            Node::IsNull(inner) => match inner.value(row) {
                Value::Null => Truth::True,
                Value::Unknown => Truth::Maybe,
                _ => Truth::False,
            },
            Node::Compare(left, test, right) => compared(&left.value(row), *test, &right.value(row)),
            Node::OneOf(subject, values) => {
                let subject = subject.value(row);
                values.iter().map(|value| compared(&subject, Test::Equal, value)).fold(Truth::False, either)
            }
            Node::Column(..) | Node::Constant(_) | Node::Literal(_) | Node::Coalesce(_) => match self.value(row) {
                Value::Bool(true) => Truth::True,
                Value::Bool(false) => Truth::False,
                Value::Null => Truth::Null,
                _ => Truth::Maybe,
            },
        }
    }

    /// Adds the items of FROM that it mentions.
    pub(super) fn mentions(&self, found: &mut Vec<usize>) {
        match self {
            Node::Column(table, _) => found.push(*table),
            Node::Constant(_) | Node::Literal(_) => {}
            Node::Compare(left, _, right) | Node::And(left, right) | Node::Or(left, right) => {
                left.mentions(found);
                right.mentions(found);
            }
            Node::OneOf(inner, _) | Node::IsNull(inner) | Node::Not(inner) => inner.mentions(found),
            Node::Coalesce(nodes) => nodes.iter().for_each(|node| node.mentions(found)),
        }
    }
}

fn either(left: Truth, right: Truth) -> Truth {
    match (left, right) {
        (Truth::True, _) | (_, Truth::True) => Truth::True,
        (Truth::Maybe, _) | (_, Truth::Maybe) => Truth::Maybe,
        (Truth::Null, _) | (_, Truth::Null) => Truth::Null,
        (Truth::False, Truth::False) => Truth::False,
    }
}

fn compared(left: &Value, test: Test, right: &Value) -> Truth {
    if matches!(left, Value::Null) || matches!(right, Value::Null) {
        return Truth::Null;
    }
    match left.compare(right).and_then(|comparison| test.holds(comparison)) {
        Some(true) => Truth::True,
        Some(false) => Truth::False,
        None => Truth::Maybe,
    }
}

impl From<Truth> for Result<bool, NotKnown> {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Ok(true),
            Truth::False | Truth::Null => Ok(false),
            Truth::Maybe => Err(NotKnown),
        }
    }
}

//! Values as far as they can be compared for certain.
//!
//! Two texts of a value may differ and yet be equal (1.0 and 1.00, texts under a collation that ignores case). Only types whose
//! equality is known here are compared; of all others a value is known by its text, for printing.

use std::cmp::Ordering;
use std::rc::Rc;

use crate::copy_text::CopyField;
use crate::ids::Oid;

/// How values of a type compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `boolean`.
    Bool,
    /// `smallint`, `integer`, `bigint`, `oid`, `numeric`.
    Number,
    /// `text` and `varchar` under a deterministic collation.
    Text,
    /// `uuid`.
    Uuid,
    /// `date`.
    Date,
    /// Any other.
    Opaque,
}

impl Class {
    /// That of a built-in type. Types of the user's are opaque: an equality of their own may hide behind them.
    pub(super) fn of(type_oid: Oid) -> Class {
        match type_oid.0 {
            16 => Class::Bool,
            20 | 21 | 23 | 26 | 1700 => Class::Number,
            25 | 1043 => Class::Text,
            2950 => Class::Uuid,
            1082 => Class::Date,
            _ => Class::Opaque,
        }
    }

    /// That of the elements of a built-in array type.
    pub(super) fn of_elements(type_oid: Oid) -> Class {
        match type_oid.0 {
            1000 => Class::Bool,
            1005 | 1007 | 1016 | 1028 | 1231 => Class::Number,
            1009 | 1015 => Class::Text,
            2951 => Class::Uuid,
            1182 => Class::Date,
            _ => Class::Opaque,
        }
    }

    /// A value that PostgreSQL printed, or that a client wrote: none when its text is not that which PostgreSQL would print.
    pub(super) fn value(self, text: &str) -> Option<Value> {
        match self {
            Class::Bool => match text {
                "t" | "true" | "TRUE" | "on" => Some(Value::Bool(true)),
                "f" | "false" | "FALSE" | "off" => Some(Value::Bool(false)),
                _ => None,
            },
            Class::Number => Decimal::parse(text).map(Value::Number),
            Class::Text => Some(Value::Text(text.into())),
            Class::Uuid => is_canonical_uuid(text).then(|| Value::Text(text.into())),
            Class::Date => is_canonical_date(text).then(|| Value::Text(text.into())),
            Class::Opaque => Some(Value::Opaque(text.into())),
        }
    }

    /// A field of a row.
    pub(super) fn field(self, field: &CopyField) -> Value {
        match field {
            CopyField::Null => Value::Null,
            CopyField::Unchanged => Value::Unknown,
            // NaN and infinity, dates before Christ: known by their text only.
            CopyField::Text(text) => self.value(text).unwrap_or_else(|| Value::Opaque(text.as_str().into())),
        }
    }
}

fn is_canonical_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn is_canonical_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number without NaN or infinity.
    Number(Decimal),
    /// A text, or another value that equals only its like.
    Text(Rc<str>),
    /// Known by its text, not comparable.
    Opaque(Rc<str>),
    /// Not in the trace.
    Unknown,
}

impl Value {
    /// As PostgreSQL prints it; none for NULL. Err for a value that is not known.
    pub(super) fn printed(&self) -> Result<Option<String>, NotKnown> {
        Ok(Some(match self {
            Value::Null => return Ok(None),
            Value::Unknown => return Err(NotKnown),
            Value::Bool(true) => "t".to_owned(),
            Value::Bool(false) => "f".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) | Value::Opaque(text) => text.to_string(),
        }))
    }

    /// How it compares with another that is not NULL; none where that cannot be told. Texts are equal or not, without order:
    /// that would need the collation.
    pub(super) fn compare(&self, other: &Value) -> Option<Comparison> {
        match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => Some(Comparison::Ordered(left.cmp(right))),
            (Value::Number(left), Value::Number(right)) => left.compare(right).map(Comparison::Ordered),
            (Value::Text(left), Value::Text(right)) if left == right => Some(Comparison::Ordered(Ordering::Equal)),
            (Value::Text(_), Value::Text(_)) => Some(Comparison::Different),
            _ => None,
        }
    }

    /// A text that is the same for equal values of one class; none where equality cannot be told, or for NULL.
    pub(super) fn identity(&self) -> Option<String> {
        match self {
            Value::Bool(_) | Value::Text(_) => self.printed().ok().flatten(),
            Value::Number(number) => Some(number.reduced().to_string()),
            Value::Null | Value::Opaque(_) | Value::Unknown => None,
        }
    }
}

/// Two values beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// In order.
    Ordered(Ordering),
    /// Not equal; which comes first is not known.
    Different,
}

/// Something that the trace does not hold, or that is not understood, would be needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotKnown;

/// A decimal number with its scale, as `numeric` keeps it; integers have scale 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    units: i128,
    scale: u32,
}

/// More digits than this are not computed with.
const MOST_DIGITS: usize = 30;

impl Decimal {
    pub(super) fn integer(number: i128) -> Self {
        Decimal { units: number, scale: 0 }
    }

    /// Digits with an optional sign and point.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let pointed = digits.len() != whole.len();
        if whole.is_empty() || pointed == fraction.is_empty() || !plain(whole) || !plain(fraction) {
            return None;
        }
        if whole.len() + fraction.len() > MOST_DIGITS {
            return None;
        }
        let units: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = fraction.len() as u32;
        Some(Decimal { units: if text.starts_with('-') { -units } else { units }, scale })
    }

    /// Whether it has no digits behind the point.
    pub(super) fn is_integer(self) -> bool {
        self.scale == 0
    }

    fn at_scale(self, scale: u32) -> Option<i128> {
        10_i128.checked_pow(scale.checked_sub(self.scale)?)?.checked_mul(self.units)
    }

    /// The sum, at the larger scale.
    pub(super) fn plus(self, other: Decimal) -> Option<Decimal> {
        let scale = self.scale.max(other.scale);
        Some(Decimal { units: self.at_scale(scale)?.checked_add(other.at_scale(scale)?)?, scale })
    }

    fn compare(&self, other: &Decimal) -> Option<Ordering> {
        let scale = self.scale.max(other.scale);
        Some(self.at_scale(scale)?.cmp(&other.at_scale(scale)?))
    }

    /// Without zeros at its end behind the point.
    fn reduced(mut self) -> Decimal {
        while self.scale > 0 && self.units % 10 == 0 {
            self.units /= 10;
            self.scale -= 1;
        }
        self
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.units.unsigned_abs().to_string();
        let scale = self.scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let sign = if self.units < 0 { "-" } else { "" };
        if scale == 0 { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{fraction}") }
    }
}

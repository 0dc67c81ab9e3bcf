//! What an expression may hold without reading tables of its own accord.
//!
//! A name that stands here is taken to be PostgreSQL's own: `pg_catalog` comes first in every search path that does not
//! name it elsewhere. Functions that read settings, clocks or random numbers are no readers of tables.

use sqlparser::ast::{BinaryOperator, DataType, Expr, Function, Ident, ObjectName, UnaryOperator};

const FUNCTIONS: &str = "
    count sum min max avg bool_and bool_or every array_agg string_agg json_agg jsonb_agg json_object_agg jsonb_object_agg
    stddev variance row_number rank dense_rank lag lead first_value last_value ntile
    coalesce nullif greatest least lower upper length char_length octet_length trim btrim ltrim rtrim substr substring
    replace concat concat_ws left right lpad rpad reverse repeat split_part strpos position starts_with initcap format
    md5 sha256 encode decode round abs floor ceil ceiling trunc mod power sqrt sign div width_bucket
    now clock_timestamp statement_timestamp transaction_timestamp current_timestamp current_date current_time localtime
    localtimestamp date_trunc date_part extract age to_char to_date to_timestamp to_number make_date make_interval
    make_timestamp make_timestamptz random gen_random_uuid generate_series unnest cardinality array_length array_position
    array_append array_remove array_to_string string_to_array array_upper array_lower
    json_build_object jsonb_build_object json_build_array jsonb_build_array to_json to_jsonb row_to_json
    jsonb_array_elements jsonb_array_elements_text json_array_elements json_array_elements_text jsonb_array_length
    json_array_length jsonb_extract_path_text json_extract_path_text jsonb_set jsonb_typeof json_typeof
    jsonb_object_keys json_object_keys jsonb_strip_nulls
    version current_database current_schema current_user session_user user pg_backend_pid pg_sleep hashtext nextval currval lastval
";

/// An identifier as PostgreSQL folds it.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The parts of a name, folded; none when one of them is not a plain identifier.
pub(super) fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| part.as_ident().map(folded)).collect()
}

/// The function's name when it is one of PostgreSQL's that read no table.
pub(super) fn pure_function(function: &Function) -> Option<String> {
    pure_name(&function.name)
}

/// The same for a function in FROM.
pub(super) fn pure_name(name: &ObjectName) -> Option<String> {
    let parts = parts(name)?;
    let name = match parts.as_slice() {
        [name] => name,
        [schema, name] if schema == "pg_catalog" => name,
        _ => return None,
    };
    is_pure(name).then(|| name.clone())
}

/// Whether a function of this name reads no table.
pub(super) fn is_pure(name: &str) -> bool {
    FUNCTIONS.split_whitespace().any(|known| known == name)
}

/// Whether a node of an expression, leaving its children aside, reads no table. Subqueries do so by their FROM, which is seen
/// by itself.
pub(super) fn reads_nothing(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::In { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::AtTimeZone { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Overlay { .. }
        | Expr::Nested(_)
        | Expr::Value(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::Tuple(_)
        | Expr::Array(_)
        | Expr::Interval(_)
        | Expr::Wildcard(_) => true,
        Expr::TypedString(typed) => plain_type(&typed.data_type),
        Expr::Cast { data_type, .. } => plain_type(data_type),
        Expr::BinaryOp { op, .. } | Expr::AnyOp { compare_op: op, .. } | Expr::AllOp { compare_op: op, .. } => {
            known_operator(op)
        }
        Expr::UnaryOp { op, .. } => matches!(op, UnaryOperator::Not | UnaryOperator::Minus | UnaryOperator::Plus),
        Expr::Function(function) => pure_function(function).is_some(),
        _ => false,
    }
}

fn known_operator(op: &BinaryOperator) -> bool {
    use BinaryOperator as Op;
    matches!(
        op,
        Op::Plus
            | Op::Minus
            | Op::Multiply
            | Op::Divide
            | Op::Modulo
            | Op::StringConcat
            | Op::Gt
            | Op::Lt
            | Op::GtEq
            | Op::LtEq
            | Op::Eq
            | Op::NotEq
            | Op::And
            | Op::Or
            | Op::BitwiseAnd
            | Op::BitwiseOr
            | Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch
            | Op::PGOverlap
            | Op::Arrow
            | Op::LongArrow
            | Op::HashArrow
            | Op::HashLongArrow
            | Op::AtArrow
            | Op::ArrowAt
            | Op::Question
    )
}

/// Types whose input neither looks into the catalogue (as `regclass` does) nor checks constraints (as a domain does).
fn plain_type(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(element, _)) => plain_type(element),
        T::Character(_)
        | T::Char(_)
        | T::CharacterVarying(_)
        | T::CharVarying(_)
        | T::Varchar(_)
        | T::Uuid
        | T::Bytea
        | T::Numeric(_)
        | T::Decimal(_)
        | T::Dec(_)
        | T::Float(_)
        | T::SmallInt(_)
        | T::Int2(_)
        | T::Int(_)
        | T::Int4(_)
        | T::Int8(_)
        | T::Integer(_)
        | T::BigInt(_)
        | T::Real
        | T::Float4
        | T::Float8
        | T::Double(_)
        | T::DoublePrecision
        | T::Bool
        | T::Boolean
        | T::Date
        | T::Time(..)
        | T::Timestamp(..)
        | T::TimestampNtz(_)
        | T::Interval { .. }
        | T::JSON
        | T::JSONB
        | T::Text => true,
        _ => false,
    }
}

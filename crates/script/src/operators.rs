//! The operators of the rule language with SQL's unknown: what is missing makes the result missing.

use std::cmp::Ordering;

use crate::value::Value;

/// `+ - * / % **`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

/// `== != < <= > >=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Arith {
    pub fn of(symbol: &str) -> Option<Arith> {
        Some(match symbol {
            "+" => Arith::Add,
            "-" => Arith::Sub,
            "*" => Arith::Mul,
            "/" => Arith::Div,
            "%" => Arith::Rem,
            "**" => Arith::Pow,
            _ => return None,
        })
    }

    pub fn of_floats(self, left: f64, right: f64) -> f64 {
        match self {
            Arith::Add => left + right,
            Arith::Sub => left - right,
            Arith::Mul => left * right,
            Arith::Div => left / right,
            Arith::Rem => left % right,
            Arith::Pow => libm::pow(left, right),
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Arith::Add => "+",
            Arith::Sub => "-",
            Arith::Mul => "*",
            Arith::Div => "/",
            Arith::Rem => "%",
            Arith::Pow => "**",
        }
    }
}

impl Compare {
    pub fn of(symbol: &str) -> Option<Compare> {
        Some(match symbol {
            "==" => Compare::Equal,
            "!=" => Compare::NotEqual,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            ">" => Compare::Greater,
            ">=" => Compare::GreaterOrEqual,
            _ => return None,
        })
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Compare::Equal => "==",
            Compare::NotEqual => "!=",
            Compare::Less => "<",
            Compare::LessOrEqual => "<=",
            Compare::Greater => ">",
            Compare::GreaterOrEqual => ">=",
        }
    }

    /// Whether the operator needs an order, which only numbers and texts have.
    pub fn is_ordering(self) -> bool {
        !matches!(self, Compare::Equal | Compare::NotEqual)
    }

    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Compare::Equal => order.is_eq(),
            Compare::NotEqual => order.is_ne(),
            Compare::Less => order.is_lt(),
            Compare::LessOrEqual => order.is_le(),
            Compare::Greater => order.is_gt(),
            Compare::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A comparison; missing where a side is missing.
///
/// # Errors
/// The sides are of kinds that cannot be compared.
pub(crate) fn compare(op: Compare, left: &Value, right: &Value) -> Result<Value, String> {
    let order = match (left, right) {
        (Value::Nothing, _) | (_, Value::Nothing) => return Ok(Value::Nothing),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            left.number().zip(right.number()).and_then(|(left, right)| left.partial_cmp(&right))
        }
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) if !op.is_ordering() => Some(left.cmp(right)),
        (Value::List(_), Value::List(_)) | (Value::Map(_), Value::Map(_)) if !op.is_ordering() => {
            Some(if left == right { Ordering::Equal } else { Ordering::Less })
        }
        _ => return Err(format!("`{}` cannot compare {} with {}", op.symbol(), left.kind(), right.kind())),
    };
    Ok(order.map_or(Value::Nothing, |order| Value::Bool(op.holds(order))))
}

/// Arithmetic. Whole numbers stay whole while they fit 64 bits, `/` is true division, and a result that is not finite is
/// missing.
///
/// # Errors
/// The operator does not take values of these kinds.
pub(crate) fn arith(op: Arith, left: &Value, right: &Value) -> Result<Value, String> {
    match (left, right) {
        (Value::Nothing, _) | (_, Value::Nothing) => return Ok(Value::Nothing),
        (Value::Int(left), Value::Int(right)) => {
            if let Some(whole) = whole(op, *left, *right) {
                return Ok(Value::Int(whole));
            }
        }
        (Value::List(left), Value::List(right)) if op == Arith::Add => {
            let joined: Vec<Value> = left.iter().chain(right.iter()).cloned().collect();
            return Value::list(joined).bounded();
        }
        (Value::Text(_), _) | (_, Value::Text(_)) if op == Arith::Add => {
            return Value::text(left.print() + right.print().as_str()).bounded();
        }
        _ => {}
    }
    let Some((left, right)) = left.number().zip(right.number()) else {
        return Err(format!("`{}` cannot calculate with {} and {}", op.symbol(), left.kind(), right.kind()));
    };
    Ok(Value::float(op.of_floats(left, right)))
}

fn whole(op: Arith, left: i64, right: i64) -> Option<i64> {
    match op {
        Arith::Add => left.checked_add(right),
        Arith::Sub => left.checked_sub(right),
        Arith::Mul => left.checked_mul(right),
        Arith::Rem => left.checked_rem(right),
        Arith::Pow => u32::try_from(right).ok().and_then(|power| left.checked_pow(power)),
        Arith::Div => None,
    }
}

pub(crate) fn negate(value: &Value) -> Result<Value, String> {
    match value {
        Value::Nothing => Ok(Value::Nothing),
        Value::Int(whole) => Ok(whole.checked_neg().map_or(Value::float(-(*whole as f64)), Value::Int)),
        Value::Float(number) => Ok(Value::Float(-number)),
        other => Err(format!("`-` needs a number, not {}", other.kind())),
    }
}

/// `item in holder`
pub(crate) fn contains(holder: &Value, item: &Value) -> Result<Value, String> {
    match (holder, item) {
        (Value::Nothing, _) | (_, Value::Nothing) => Ok(Value::Nothing),
        (Value::List(items), _) => {
            let same = |candidate: &Value| matches!(compare(Compare::Equal, candidate, item), Ok(Value::Bool(true)));
            Ok(Value::Bool(items.iter().any(same)))
        }
        (Value::Text(text), Value::Text(part)) => Ok(Value::Bool(text.contains(part.as_str()))),
        (Value::Map(entries), Value::Text(name)) => Ok(Value::Bool(entries.contains_key(name.as_str()))),
        _ => Err(format!("`in` cannot look for {} in {}", item.kind(), holder.kind())),
    }
}

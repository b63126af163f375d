//! The values a script computes with, and its operators with SQL's unknown: `Nothing` is missing or unknown.
//!
//! Invariant: every `Float` is finite; what would not be is `Nothing`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use smol_str::SmolStr;

use super::evidence::Reading;
use super::functions::Arg;
use super::host::limits;
use selfheal_model::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Nothing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(SmolStr),
    List(Held<Vec<Data>>),
    Map(Held<BTreeMap<SmolStr, Data>>),
}

/// A list or map, shared, with how much is in it and how deep: bounded, so that comparing, printing and dropping are.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    inside: Arc<T>,
    size: usize,
    depth: usize,
}

impl<T> Held<T> {
    fn of(inside: T, items: impl Fn(&T) -> Vec<&Data>) -> Held<T> {
        let (mut size, mut depth) = (1_usize, 1_usize);
        for item in items(&inside) {
            size = size.saturating_add(item.size());
            depth = depth.max(1 + item.depth());
        }
        Held { inside: Arc::new(inside), size, depth }
    }
}

impl<T: PartialEq> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.inside == other.inside
    }
}

impl<T> std::ops::Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inside
    }
}

/// `+ - * / % **`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

/// `== != < <= > >=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
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

    /// Whether it asks for an order, which only numbers and texts have.
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

impl Data {
    /// A float, or nothing where it is not finite.
    pub fn float(number: f64) -> Data {
        if number.is_finite() { Data::Float(number) } else { Data::Nothing }
    }

    pub fn text(text: impl AsRef<str>) -> Data {
        Data::Text(SmolStr::new(text))
    }

    pub fn list(items: Vec<Data>) -> Data {
        Data::List(Held::of(items, |items| items.iter().collect()))
    }

    pub fn map(entries: BTreeMap<SmolStr, Data>) -> Data {
        Data::Map(Held::of(entries, |entries| entries.values().collect()))
    }

    /// How much is in it, all levels together.
    fn size(&self) -> usize {
        const BYTES_PER_ITEM: usize = 16;
        match self {
            Data::Text(text) => 1 + text.len() / BYTES_PER_ITEM,
            Data::List(items) => items.size,
            Data::Map(entries) => entries.size,
            _ => 1,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Data::List(items) => items.depth,
            Data::Map(entries) => entries.depth,
            _ => 0,
        }
    }

    /// What its type is called in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Data::Nothing => "nothing",
            Data::Bool(_) => "true or false",
            Data::Int(_) | Data::Float(_) => "a number",
            Data::Text(_) => "a text",
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Data::Int(whole) => Some(*whole as f64),
            Data::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_arg(&self) -> Arg<'_> {
        match self {
            Data::Nothing => Arg::Nothing,
            Data::Int(whole) => Arg::Number(*whole as f64),
            Data::Float(number) => Arg::Number(*number),
            Data::Text(text) => Arg::Text(text),
            other => Arg::Other(other.kind()),
        }
    }

    /// `None` is unknown.
    pub fn truth(&self) -> Result<Option<bool>, String> {
        match self {
            Data::Bool(value) => Ok(Some(*value)),
            Data::Nothing => Ok(None),
            other => Err(format!("needs true or false, not {}", other.kind())),
        }
    }

    /// A member of a map; whatever is not there is missing.
    pub fn member(&self, name: &str) -> Result<Data, String> {
        match self {
            Data::Map(entries) => Ok(entries.get(name).cloned().unwrap_or(Data::Nothing)),
            Data::Nothing => Ok(Data::Nothing),
            other => Err(format!("`.{name}` needs a map, not {}", other.kind())),
        }
    }

    /// An element of a list (negative counts from its end) or an entry of a map.
    pub fn index(&self, index: &Data) -> Result<Data, String> {
        match (self, index) {
            (Data::Nothing, _) | (_, Data::Nothing) => Ok(Data::Nothing),
            (Data::Map(_), Data::Text(name)) => self.member(name),
            (Data::List(items), Data::Int(at)) => {
                let from_end = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { at.saturating_add(from_end) } else { *at };
                Ok(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned().unwrap_or(Data::Nothing))
            }
            (holder, index) => Err(format!("`[…]` takes no element {} out of {}", index.kind(), holder.kind())),
        }
    }

    /// How much of a script's operations making or going through this costs, so that time and memory are bounded too.
    pub fn weight(&self) -> u64 {
        const ITEMS_PER_OPERATION: usize = 8;
        (self.size() / ITEMS_PER_OPERATION) as u64
    }

    /// Refuses what is larger than a script may make.
    pub fn bounded(self) -> Result<Data, String> {
        let refuse = |what: &str, length: usize, most: usize| {
            Err(format!("the script makes {what}: {length}; at most {most} are allowed"))
        };
        match &self {
            Data::Text(text) if text.len() > limits::TEXT_BYTES => {
                refuse("a text of bytes", text.len(), limits::TEXT_BYTES)
            }
            Data::List(items) if items.len() > limits::LIST_ITEMS => {
                refuse("a list of items", items.len(), limits::LIST_ITEMS)
            }
            Data::Map(entries) if entries.len() > limits::MAP_ENTRIES => {
                refuse("a map of entries", entries.len(), limits::MAP_ENTRIES)
            }
            data if data.size() > limits::VALUE_ITEMS => refuse("a value of items", data.size(), limits::VALUE_ITEMS),
            data if data.depth() > limits::VALUE_DEPTH => {
                refuse("a value of levels", data.depth(), limits::VALUE_DEPTH)
            }
            _ => Ok(self),
        }
    }

    /// As a text: whole numbers without `.0`, texts without quotes.
    pub fn print(&self) -> String {
        match self {
            Data::Nothing => String::new(),
            Data::Bool(value) => value.to_string(),
            Data::Int(whole) => whole.to_string(),
            Data::Float(number) => format!("{number}"),
            Data::Text(text) => text.to_string(),
            Data::List(items) => {
                let items: Vec<String> = items.iter().map(Data::print).collect();
                format!("[{}]", items.join(", "))
            }
            Data::Map(entries) => {
                let mut text = String::from("{");
                for (index, (name, value)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    let _ = write!(text, "{comma}{name}: {}", value.print());
                }
                text + "}"
            }
        }
    }

    /// A JSON value as script data; `null` is missing.
    pub fn from_json(value: &Value) -> Data {
        match value {
            Value::Null => Data::Nothing,
            Value::Bool(value) => Data::Bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Data::Int(whole),
                (None, Some(number)) => Data::float(number),
                (None, None) => Data::Nothing,
            },
            Value::String(text) => Data::text(text),
            Value::Array(items) => Data::list(items.iter().map(Data::from_json).collect()),
            Value::Object(entries) => {
                Data::map(entries.iter().map(|(k, v)| (SmolStr::new(k), Data::from_json(v))).collect())
            }
        }
    }
}

impl From<Reading> for Data {
    fn from(reading: Reading) -> Data {
        match reading {
            Reading::Missing => Data::Nothing,
            Reading::Number(number) => Data::float(number),
            Reading::Bool(value) => Data::Bool(value),
            Reading::Text(text) => Data::Text(text),
            Reading::Json(value) => Data::from_json(&value),
        }
    }
}

/// `a < b` and its kin: unknown when either side is; an error when the sides cannot be compared.
pub(super) fn compare(op: Compare, left: &Data, right: &Data) -> Result<Data, String> {
    let order = match (left, right) {
        (Data::Nothing, _) | (_, Data::Nothing) => return Ok(Data::Nothing),
        (Data::Int(left), Data::Int(right)) => Some(left.cmp(right)),
        (Data::Int(_) | Data::Float(_), Data::Int(_) | Data::Float(_)) => {
            left.number().zip(right.number()).and_then(|(left, right)| left.partial_cmp(&right))
        }
        (Data::Text(left), Data::Text(right)) => Some(left.cmp(right)),
        (Data::Bool(left), Data::Bool(right)) if !op.is_ordering() => Some(left.cmp(right)),
        (Data::List(_), Data::List(_)) | (Data::Map(_), Data::Map(_)) if !op.is_ordering() => {
            Some(if left == right { Ordering::Equal } else { Ordering::Less })
        }
        _ => return Err(format!("`{}` cannot compare {} with {}", op.symbol(), left.kind(), right.kind())),
    };
    Ok(order.map_or(Data::Nothing, |order| Data::Bool(op.holds(order))))
}

/// Arithmetic: whole numbers stay whole while they fit, `/` is true division, nothing not finite.
pub(super) fn arith(op: Arith, left: &Data, right: &Data) -> Result<Data, String> {
    match (left, right) {
        (Data::Nothing, _) | (_, Data::Nothing) => return Ok(Data::Nothing),
        (Data::Int(left), Data::Int(right)) => {
            if let Some(whole) = whole(op, *left, *right) {
                return Ok(Data::Int(whole));
            }
        }
        (Data::List(left), Data::List(right)) if op == Arith::Add => {
            let joined: Vec<Data> = left.iter().chain(right.iter()).cloned().collect();
            return Data::list(joined).bounded();
        }
        (Data::Text(_), _) | (_, Data::Text(_)) if op == Arith::Add => {
            return Data::text(left.print() + right.print().as_str()).bounded();
        }
        _ => {}
    }
    let Some((left, right)) = left.number().zip(right.number()) else {
        return Err(format!("`{}` cannot calculate with {} and {}", op.symbol(), left.kind(), right.kind()));
    };
    Ok(Data::float(op.of_floats(left, right)))
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

pub(super) fn negate(value: &Data) -> Result<Data, String> {
    match value {
        Data::Nothing => Ok(Data::Nothing),
        Data::Int(whole) => Ok(whole.checked_neg().map_or(Data::float(-(*whole as f64)), Data::Int)),
        Data::Float(number) => Ok(Data::Float(-number)),
        other => Err(format!("`-` needs a number, not {}", other.kind())),
    }
}

/// `item in holder`
pub(super) fn contains(holder: &Data, item: &Data) -> Result<Data, String> {
    match (holder, item) {
        (Data::Nothing, _) | (_, Data::Nothing) => Ok(Data::Nothing),
        (Data::List(items), _) => {
            let same = |candidate: &Data| matches!(compare(Compare::Equal, candidate, item), Ok(Data::Bool(true)));
            Ok(Data::Bool(items.iter().any(same)))
        }
        (Data::Text(text), Data::Text(part)) => Ok(Data::Bool(text.contains(part.as_str()))),
        (Data::Map(entries), Data::Text(name)) => Ok(Data::Bool(entries.contains_key(name.as_str()))),
        _ => Err(format!("`in` cannot look for {} in {}", item.kind(), holder.kind())),
    }
}

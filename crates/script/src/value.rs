//! The values a script computes with, and its operators with SQL's unknown: `Nothing` is missing or unknown.
//!
//! Invariant: every `Float` is finite; what would not be is `Nothing`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::evidence::Reading;
use crate::limits;
use crate::read::Arg;
use selfheal_model::Value as Json;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Nothing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(SmolStr),
    List(Counted<Vec<Value>>),
    Map(Counted<BTreeMap<SmolStr, Value>>),
}

/// A list or map, shared, with how much is in it and how deep: bounded, so that comparing, printing and dropping are.
#[derive(Clone, Debug)]
pub(crate) struct Counted<T> {
    inside: Arc<T>,
    size: usize,
    depth: usize,
}

impl<T> Counted<T> {
    fn of(inside: T, items: impl Fn(&T) -> Vec<&Value>) -> Counted<T> {
        let (mut size, mut depth) = (1_usize, 1_usize);
        for item in items(&inside) {
            size = size.saturating_add(item.size());
            depth = depth.max(1 + item.depth());
        }
        Counted { inside: Arc::new(inside), size, depth }
    }
}

impl<T: Clone> Counted<T> {
    /// The holder for a change in place, and what the copy costs in operations where the holder is shared.
    fn unshared(&mut self, cost: &mut u64) -> &mut T {
        if Arc::strong_count(&self.inside) > 1 {
            *cost += (self.size / ITEMS_PER_OPERATION) as u64;
        }
        Arc::make_mut(&mut self.inside)
    }

    /// Corrects the counts after an item of `before` items became `after`.
    fn recount(&mut self, before: usize, after: &Counts) {
        self.size = self.size.saturating_sub(before).saturating_add(after.size);
        self.depth = self.depth.max(1 + after.depth);
    }
}

/// How much a value holds, and how deep.
struct Counts {
    size: usize,
    depth: usize,
}

/// Items that are copied or compared for one operation.
const ITEMS_PER_OPERATION: usize = 8;

impl<T: PartialEq> PartialEq for Counted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.inside == other.inside
    }
}

impl<T> std::ops::Deref for Counted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inside
    }
}

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

impl Value {
    /// A float, or nothing where it is not finite.
    pub fn float(number: f64) -> Value {
        if number.is_finite() { Value::Float(number) } else { Value::Nothing }
    }

    pub fn text(text: impl AsRef<str>) -> Value {
        Value::Text(SmolStr::new(text))
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Counted::of(items, |items| items.iter().collect()))
    }

    pub fn map(entries: BTreeMap<SmolStr, Value>) -> Value {
        Value::Map(Counted::of(entries, |entries| entries.values().collect()))
    }

    /// How much is in it, all levels together.
    fn size(&self) -> usize {
        const BYTES_PER_ITEM: usize = 16;
        match self {
            Value::Text(text) => 1 + text.len() / BYTES_PER_ITEM,
            Value::List(items) => items.size,
            Value::Map(entries) => entries.size,
            _ => 1,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(items) => items.depth,
            Value::Map(entries) => entries.depth,
            _ => 0,
        }
    }

    /// What its type is called in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Nothing => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(whole) => Some(*whole as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_arg(&self) -> Arg<'_> {
        match self {
            Value::Nothing => Arg::Nothing,
            Value::Int(whole) => Arg::Number(*whole as f64),
            Value::Float(number) => Arg::Number(*number),
            Value::Text(text) => Arg::Text(text),
            other => Arg::Other(other.kind()),
        }
    }

    /// `None` is unknown.
    pub fn truth(&self) -> Result<Option<bool>, String> {
        match self {
            Value::Bool(value) => Ok(Some(*value)),
            Value::Nothing => Ok(None),
            other => Err(format!("needs true or false, not {}", other.kind())),
        }
    }

    /// A member of a map; whatever is not there is missing.
    pub fn member(&self, name: &str) -> Result<Value, String> {
        match self {
            Value::Map(entries) => Ok(entries.get(name).cloned().unwrap_or(Value::Nothing)),
            Value::Nothing => Ok(Value::Nothing),
            other => Err(format!("`.{name}` needs a map, not {}", other.kind())),
        }
    }

    /// An element of a list (negative counts from its end) or an entry of a map.
    pub fn index(&self, index: &Value) -> Result<Value, String> {
        match (self, index) {
            (Value::Nothing, _) | (_, Value::Nothing) => Ok(Value::Nothing),
            (Value::Map(_), Value::Text(name)) => self.member(name),
            (Value::List(items), Value::Int(at)) => {
                let from_end = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { at.saturating_add(from_end) } else { *at };
                Ok(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned().unwrap_or(Value::Nothing))
            }
            (holder, index) => Err(format!("`[…]` takes no element {} out of {}", index.kind(), holder.kind())),
        }
    }

    fn counts(&self) -> Counts {
        Counts { size: self.size(), depth: self.depth() }
    }

    /// Changes what lies at a path of names and indexes below this value. `cost` grows by the operations that copying
    /// takes where a list or map on the way is shared. An entry of a map that does not exist is missing before the
    /// change.
    ///
    /// # Errors
    /// There is no such element, or `change` failed.
    pub fn change_at<R>(
        &mut self,
        path: &[Value],
        cost: &mut u64,
        change: impl FnOnce(&mut Value, &mut u64) -> Result<R, String>,
    ) -> Result<R, String> {
        let Some((first, rest)) = path.split_first() else { return change(self, cost) };
        match (self, first) {
            (Value::Map(entries), Value::Text(name)) => {
                let exists = entries.contains_key(name.as_str());
                let item = entries.unshared(cost).entry(name.clone()).or_insert(Value::Nothing);
                let before = if exists { item.size() } else { 0 };
                let outcome = item.change_at(rest, cost, change);
                let after = item.counts();
                entries.recount(before, &after);
                outcome
            }
            (Value::List(items), Value::Int(at)) => {
                let length = items.len();
                let from_end = i64::try_from(length).unwrap_or(i64::MAX);
                let found = usize::try_from(if *at < 0 { at.saturating_add(from_end) } else { *at }).ok();
                let Some(item) = found.and_then(|found| items.unshared(cost).get_mut(found)) else {
                    return Err(format!("there is no element {at} in a list of {length}"));
                };
                let before = item.size();
                let outcome = item.change_at(rest, cost, change);
                let after = item.counts();
                items.recount(before, &after);
                outcome
            }
            (holder, index) => Err(format!("there is no element {} in {}", index.print(), holder.kind())),
        }
    }

    /// Adds an item to the end of a list.
    pub fn push(&mut self, item: Value, cost: &mut u64) -> Result<(), String> {
        let Value::List(items) = self else { return Err(format!("`push` needs a list, not {}", self.kind())) };
        let counts = item.counts();
        items.unshared(cost).push(item);
        items.recount(0, &counts);
        Ok(())
    }

    /// Takes the last item out of a list; missing where the list is empty.
    pub fn pop(&mut self, cost: &mut u64) -> Result<Value, String> {
        let Value::List(items) = self else { return Err(format!("`pop` needs a list, not {}", self.kind())) };
        let Some(item) = items.unshared(cost).pop() else { return Ok(Value::Nothing) };
        items.recount(item.size(), &Counts { size: 0, depth: 0 });
        Ok(item)
    }

    /// How much of a script's operations making or going through this costs, so that time and memory are bounded too.
    pub fn weight(&self) -> u64 {
        (self.size() / ITEMS_PER_OPERATION) as u64
    }

    /// Refuses a value that is larger than a script may make.
    pub fn bounded(self) -> Result<Value, String> {
        self.check_bounds()?;
        Ok(self)
    }

    /// # Errors
    /// The value is larger than a script may make.
    pub fn check_bounds(&self) -> Result<(), String> {
        let refuse = |what: &str, length: usize, most: usize| {
            Err(format!("the script makes {what}: {length}; at most {most} are allowed"))
        };
        match self {
            Value::Text(text) if text.len() > limits::TEXT_BYTES => {
                refuse("a text of bytes", text.len(), limits::TEXT_BYTES)
            }
            Value::List(items) if items.len() > limits::LIST_ITEMS => {
                refuse("a list of items", items.len(), limits::LIST_ITEMS)
            }
            Value::Map(entries) if entries.len() > limits::MAP_ENTRIES => {
                refuse("a map of entries", entries.len(), limits::MAP_ENTRIES)
            }
            value if value.size() > limits::VALUE_ITEMS => {
                refuse("a value of items", value.size(), limits::VALUE_ITEMS)
            }
            value if value.depth() > limits::VALUE_DEPTH => {
                refuse("a value of levels", value.depth(), limits::VALUE_DEPTH)
            }
            _ => Ok(()),
        }
    }

    /// As a text: whole numbers without `.0`, texts without quotes.
    pub fn print(&self) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Bool(value) => value.to_string(),
            Value::Int(whole) => whole.to_string(),
            Value::Float(number) => format!("{number}"),
            Value::Text(text) => text.to_string(),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::print).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
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
    pub fn from_json(value: &Json) -> Value {
        match value {
            Json::Null => Value::Nothing,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Value::Int(whole),
                (None, Some(number)) => Value::float(number),
                (None, None) => Value::Nothing,
            },
            Json::String(text) => Value::text(text),
            Json::Array(items) => Value::list(items.iter().map(Value::from_json).collect()),
            Json::Object(entries) => {
                Value::map(entries.iter().map(|(k, v)| (SmolStr::new(k), Value::from_json(v))).collect())
            }
        }
    }
}

impl From<Reading> for Value {
    fn from(reading: Reading) -> Value {
        match reading {
            Reading::Missing => Value::Nothing,
            Reading::Number(number) => Value::float(number),
            Reading::Bool(value) => Value::Bool(value),
            Reading::Text(text) => Value::Text(text),
            Reading::Json(value) => Value::from_json(&value),
        }
    }
}

/// `a < b` and its kin: unknown when either side is; an error when the sides cannot be compared.
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

/// Arithmetic: whole numbers stay whole while they fit, `/` is true division, nothing not finite.
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

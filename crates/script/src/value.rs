//! The values that a script computes with. `Nothing` is a missing value and an unknown truth alike.
//!
//! Invariant: every `Float` is finite; a result that is not finite becomes `Nothing`.

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

/// A shared list or map with its size and depth. Both are bounded, and so is the cost of comparing, printing and dropping
/// it.
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
    /// The list or map for a change in place. Where it is shared it is copied, which adds to `cost`, in operations.
    fn unshared(&mut self, cost: &mut u64) -> &mut T {
        if Arc::strong_count(&self.inside) > 1 {
            *cost += (self.size / ITEMS_PER_OPERATION) as u64;
        }
        Arc::make_mut(&mut self.inside)
    }

    /// Corrects size and depth after an item of size `before` became `after`. The depth never shrinks.
    fn recount(&mut self, before: usize, after: &Counts) {
        self.size = self.size.saturating_sub(before).saturating_add(after.size);
        self.depth = self.depth.max(1 + after.depth);
    }
}

/// Size and depth of a value.
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

    /// How many items the value holds, all levels together; 16 bytes of a text count as one.
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

    /// The kind of value, for messages.
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

    /// The value as an answer; `None` is unknown.
    ///
    /// # Errors
    /// It is no answer.
    pub fn truth(&self) -> Result<Option<bool>, String> {
        match self {
            Value::Bool(value) => Ok(Some(*value)),
            Value::Nothing => Ok(None),
            other => Err(format!("needs true or false, not {}", other.kind())),
        }
    }

    /// An entry of a map; missing where there is none.
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

    /// The operations that compiler this value or going through it costs, so that the limit on operations bounds time and
    /// memory too.
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

    /// A JSON value; `null` is missing.
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

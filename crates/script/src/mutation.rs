//! The functions that change a list or map in place: `push`, `pop`, `insert`, …
//!
//! They mean what Rhai's functions of the same name mean. Invariant: a change that fails leaves the value as it was,
//! except for entries of a map that the path to the place created.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::limits;
use crate::value::Value;

/// A function that changes a list or map in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Push,
    Append,
    Insert,
    Pop,
    Shift,
    Remove,
    Clear,
    Truncate,
    Chop,
    Pad,
    Set,
    Mixin,
    FillWith,
}

/// Name, number of arguments after the list or map, and how the call is written.
#[rustfmt::skip]
const CHANGES: [(Change, &str, usize, &str); 13] = [
    (Change::Push, "push", 1, "list.push(x)"),
    (Change::Append, "append", 1, "list.append(other_list)"),
    (Change::Insert, "insert", 2, "list.insert(0, x)"),
    (Change::Pop, "pop", 0, "list.pop()"),
    (Change::Shift, "shift", 0, "list.shift()"),
    (Change::Remove, "remove", 1, "list.remove(0) or map.remove(\"name\")"),
    (Change::Clear, "clear", 0, "list.clear()"),
    (Change::Truncate, "truncate", 1, "list.truncate(5)"),
    (Change::Chop, "chop", 1, "list.chop(5)"),
    (Change::Pad, "pad", 2, "list.pad(5, 0)"),
    (Change::Set, "set", 2, "list.set(0, x) or map.set(\"name\", x)"),
    (Change::Mixin, "mixin", 1, "map.mixin(other_map)"),
    (Change::FillWith, "fill_with", 1, "map.fill_with(other_map)"),
];

impl Change {
    pub fn of(name: &str) -> Option<Change> {
        CHANGES.iter().find(|(_, known, ..)| *known == name).map(|(change, ..)| *change)
    }

    fn row(self) -> (&'static str, usize, &'static str) {
        CHANGES
            .iter()
            .find(|(change, ..)| *change == self)
            .map_or(("", 0, ""), |(_, name, count, shape)| (name, *count, shape))
    }

    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// How many arguments follow the list or map.
    pub fn arguments(self) -> usize {
        self.row().1
    }

    pub fn shape(self) -> &'static str {
        self.row().2
    }

    /// Changes `holder` and gives what the call gives. `cost` grows by the operations that copying takes.
    ///
    /// # Errors
    /// The holder or an argument is of the wrong kind.
    pub fn apply(self, holder: &mut Value, args: &[Value], cost: &mut u64) -> Result<Value, String> {
        match self {
            Change::Push => holder.push(args[0].clone(), cost).map(|()| Value::Nothing),
            Change::Pop => holder.pop(cost),
            Change::Set | Change::Remove if matches!(holder, Value::Map(_)) => self.of_entry(holder, args, cost),
            Change::Mixin | Change::FillWith => self.of_maps(holder, args, cost),
            Change::Clear if matches!(holder, Value::Map(_)) => {
                *holder = Value::map(BTreeMap::new());
                Ok(Value::Nothing)
            }
            _ => self.of_list(holder, args, cost),
        }
    }

    fn wrong(self, holder: &Value) -> String {
        format!("`{}` cannot change {}; write {}", self.name(), holder.kind(), self.shape())
    }

    fn whole(self, args: &[Value]) -> Result<i64, String> {
        match args.first() {
            Some(Value::Int(whole)) => Ok(*whole),
            other => {
                let found = other.map_or("nothing", Value::kind);
                Err(format!("`{}` needs a whole number, not {found}", self.name()))
            }
        }
    }

    fn of_entry(self, holder: &mut Value, args: &[Value], cost: &mut u64) -> Result<Value, String> {
        let Some(Value::Text(name)) = args.first() else {
            return Err(format!("`{}` needs the name of an entry; write {}", self.name(), self.shape()));
        };
        if self == Change::Set {
            return holder.change_at(&[Value::Text(name.clone())], cost, |entry, _| {
                *entry = args[1].clone();
                Ok(Value::Nothing)
            });
        }
        *cost += holder.weight();
        let mut entries = entries_of(holder).ok_or_else(|| self.wrong(holder))?;
        let removed = entries.remove(name.as_str()).unwrap_or(Value::Nothing);
        *holder = Value::map(entries);
        Ok(removed)
    }

    fn of_maps(self, holder: &mut Value, args: &[Value], cost: &mut u64) -> Result<Value, String> {
        let (Some(mut entries), Some(more)) = (entries_of(holder), args.first().and_then(entries_of)) else {
            return Err(self.wrong(holder));
        };
        *cost += holder.weight() + args[0].weight();
        for (name, value) in more {
            if self == Change::Mixin || !entries.contains_key(&name) {
                entries.insert(name, value);
            }
        }
        *holder = Value::map(entries);
        Ok(Value::Nothing)
    }

    fn of_list(self, holder: &mut Value, args: &[Value], cost: &mut u64) -> Result<Value, String> {
        let Value::List(list) = &*holder else { return Err(self.wrong(holder)) };
        *cost += holder.weight();
        let mut items = list.to_vec();
        let mut result = Value::Nothing;
        match self {
            Change::Append => match &args[0] {
                Value::List(more) => {
                    *cost += args[0].weight();
                    items.extend(more.iter().cloned());
                }
                other => return Err(format!("`append` needs a list, not {}; write {}", other.kind(), self.shape())),
            },
            Change::Insert => {
                let at = clamped(items.len(), self.whole(args)?);
                items.insert(at.min(items.len()), args[1].clone());
            }
            Change::Shift if !items.is_empty() => result = items.remove(0),
            Change::Remove => {
                let at = self.whole(args)?;
                let from_end = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let at = usize::try_from(if at < 0 { at.saturating_add(from_end) } else { at });
                if let Some(at) = at.ok().filter(|at| *at < items.len()) {
                    result = items.remove(at);
                }
            }
            Change::Clear => items.clear(),
            Change::Truncate => items.truncate(usize::try_from(self.whole(args)?).unwrap_or(0)),
            Change::Chop => {
                let kept = usize::try_from(self.whole(args)?).unwrap_or(0);
                items.drain(..items.len().saturating_sub(kept));
            }
            Change::Pad => {
                let length = usize::try_from(self.whole(args)?).unwrap_or(0);
                if length > limits::LIST_ITEMS {
                    return Err(format!("a list has at most {} items", limits::LIST_ITEMS));
                }
                if length > items.len() {
                    items.resize(length, args[1].clone());
                }
            }
            Change::Set => {
                let at = clamped(items.len(), self.whole(args)?);
                if let Some(item) = items.get_mut(at) {
                    *item = args[1].clone();
                }
            }
            _ => {}
        }
        let made = Value::list(items);
        *cost += made.weight();
        *holder = made;
        Ok(result)
    }
}

fn entries_of(value: &Value) -> Option<BTreeMap<SmolStr, Value>> {
    match value {
        Value::Map(entries) => Some((**entries).clone()),
        _ => None,
    }
}

/// An index as Rhai's functions take it: negative counts from the end, and stops at the first item.
fn clamped(length: usize, at: i64) -> usize {
    let from_end = i64::try_from(length).unwrap_or(i64::MAX);
    let at = if at < 0 { at.saturating_add(from_end).max(0) } else { at };
    usize::try_from(at).unwrap_or(usize::MAX)
}

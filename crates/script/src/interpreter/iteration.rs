//! Functions that call a closure for each item, and functions that change a list or map in place.

use super::{Interpreter, Outcome, Stop, store};
use crate::ast::{Closure, Iterate, Iteration, Node, Place, Target};
use crate::mutation::Change;
use crate::value::Value;
use std::collections::BTreeMap;

/// What one call of a closure decides.
enum Flow {
    Next,
    /// The whole call gives this.
    Done(Value),
}

impl Interpreter<'_> {
    /// Missing in, missing out; the items are visited in order.
    pub(super) fn iterate(&mut self, iterate: &Iterate, frame: &mut Vec<Value>) -> Outcome {
        let how = iterate.how;
        let list = match self.eval(&iterate.holder, frame)? {
            Value::List(list) => list,
            Value::Map(entries) if matches!(how, Iteration::Map | Iteration::Filter) => {
                return self.iterate_entries(iterate, &entries, frame);
            }
            Value::Nothing => return Ok(Value::Nothing),
            other => return Err(Stop::failed(format!("`{}` needs a list, not {}", how.name(), other.kind()))),
        };
        if how == Iteration::Reduce {
            let mut result = match &iterate.initial {
                Some(initial) => self.eval(initial, frame)?,
                None => Value::Nothing,
            };
            for (at, item) in list.iter().enumerate() {
                result = self.apply(&iterate.closure, [result, item.clone(), index(at)], frame)?;
            }
            return Ok(result);
        }
        let mut kept = Vec::new();
        let mut unknown = false;
        for (at, item) in list.iter().enumerate() {
            let given = self.apply(&iterate.closure, [item.clone(), index(at), Value::Nothing], frame)?;
            match self.after_item(how, given, item, at, &mut kept, &mut unknown)? {
                Flow::Next => {}
                Flow::Done(value) => return Ok(value),
            }
        }
        Ok(match how {
            Iteration::Map | Iteration::Filter => {
                let made = Value::list(kept);
                self.spend(made.weight())?;
                made.bounded()?
            }
            Iteration::Some | Iteration::All if unknown => Value::Nothing,
            Iteration::Some => Value::Bool(false),
            Iteration::All => Value::Bool(true),
            Iteration::IndexOf => Value::Int(-1),
            Iteration::Find | Iteration::FindMap | Iteration::Reduce => Value::Nothing,
        })
    }

    /// What follows from the closure's answer about one item. `filter`, `find` and `index_of` pass over an item where the
    /// answer is unknown, as SQL's WHERE does; `some` and `all` are `||` and `&&` over the items.
    fn after_item(
        &mut self,
        how: Iteration,
        given: Value,
        item: &Value,
        at: usize,
        kept: &mut Vec<Value>,
        unknown: &mut bool,
    ) -> Result<Flow, Stop> {
        match how {
            Iteration::Map => {
                kept.push(given);
                return Ok(Flow::Next);
            }
            Iteration::FindMap => {
                return Ok(if given == Value::Nothing { Flow::Next } else { Flow::Done(given) });
            }
            _ => {}
        }
        let answer =
            given.truth().map_err(|message| Stop::failed(format!("the closure of `{}` {message}", how.name())))?;
        *unknown |= answer.is_none();
        match (how, answer) {
            (Iteration::Filter, Some(true)) => kept.push(item.clone()),
            (Iteration::Find, Some(true)) => return Ok(Flow::Done(item.clone())),
            (Iteration::IndexOf, Some(true)) => return Ok(Flow::Done(index(at))),
            (Iteration::Some, Some(true)) => return Ok(Flow::Done(Value::Bool(true))),
            (Iteration::All, Some(false)) => return Ok(Flow::Done(Value::Bool(false))),
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// `map` and `filter` of a map; the closure gets the entry's name and its value.
    fn iterate_entries(
        &mut self,
        iterate: &Iterate,
        entries: &BTreeMap<smol_str::SmolStr, Value>,
        frame: &mut Vec<Value>,
    ) -> Outcome {
        let mut kept = BTreeMap::new();
        for (name, value) in entries {
            let name_first = iterate.closure.params.len() > 1 || !iterate.closure.takes_this;
            let args = if name_first {
                [Value::Text(name.clone()), value.clone(), Value::Nothing]
            } else {
                [value.clone(), Value::Nothing, Value::Nothing]
            };
            let given = self.apply(&iterate.closure, args, frame)?;
            if iterate.how == Iteration::Map {
                kept.insert(name.clone(), given);
            } else if given.truth().map_err(|message| format!("the closure of `filter` {message}"))? == Some(true) {
                kept.insert(name.clone(), value.clone());
            }
        }
        let made = Value::map(kept);
        self.spend(made.weight())?;
        Ok(made.bounded()?)
    }

    fn apply(&mut self, closure: &Closure, args: [Value; 3], frame: &mut Vec<Value>) -> Outcome {
        self.spend(1)?;
        for (slot, arg) in closure.params.iter().zip(args) {
            store(frame, *slot, arg);
        }
        match self.eval(&closure.body, frame) {
            Err(Stop::Return(value)) => Ok(value),
            other => other,
        }
    }

    pub(super) fn change_in_place(
        &mut self,
        change: Change,
        target: &Target,
        args: &[Node],
        frame: &mut Vec<Value>,
    ) -> Outcome {
        let args = self.all(args, frame)?;
        match target {
            Target::Place(place) => self.change(place, frame, |item, cost| change.apply(item, &args, cost)),
            Target::Temporary(node) => {
                let mut holder = self.eval(node, frame)?;
                let mut cost = 0;
                let given = change.apply(&mut holder, &args, &mut cost)?;
                self.spend(cost)?;
                Ok(given)
            }
        }
    }

    /// Changes a variable or an element below it. A variable that grows beyond a limit ends the script.
    pub(super) fn change(
        &mut self,
        place: &Place,
        frame: &mut Vec<Value>,
        change: impl FnOnce(&mut Value, &mut u64) -> Result<Value, String>,
    ) -> Outcome {
        let path = self.all(&place.path, frame)?;
        if path.contains(&Value::Nothing) {
            return Err(Stop::failed("the name or index of the element to change is missing"));
        }
        let Some(variable) = frame.get_mut(place.slot) else { return Err(Stop::failed("a variable is missing")) };
        let mut cost = 0;
        let given = variable.change_at(&path, &mut cost, change)?;
        variable.check_bounds().map_err(Stop::limit)?;
        self.spend(1 + cost)?;
        Ok(given)
    }
}

fn index(at: usize) -> Value {
    Value::Int(i64::try_from(at).unwrap_or(i64::MAX))
}

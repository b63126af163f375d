//! Statements: blocks, variables, loops, `switch`, `try`.

use super::{Failure, Interpreter, Outcome, Stop, store};
use crate::ast::{Arm, Node, Statement, Switch, Try};
use crate::operators::{Compare, arith, compare};
use crate::value::Value;

impl Interpreter<'_> {
    /// A block gives its last expression's value.
    pub(super) fn block(&mut self, steps: &[Statement], frame: &mut Vec<Value>) -> Outcome {
        let mut last = Value::Nothing;
        for step in steps {
            last = self.step(step, frame)?;
        }
        Ok(last)
    }

    fn step(&mut self, step: &Statement, frame: &mut Vec<Value>) -> Outcome {
        match step {
            Statement::Do(code) => return self.eval(code, frame),
            Statement::Let(slot, code) => {
                let data = self.eval(code, frame)?;
                store(frame, *slot, data);
            }
            Statement::Assign(slot, op, code) => {
                let mut data = self.eval(code, frame)?;
                if let Some(op) = op {
                    data = arith(*op, frame.get(*slot).unwrap_or(&Value::Nothing), &data)?;
                    self.spend(data.weight())?;
                }
                store(frame, *slot, data);
            }
            Statement::AssignAt(place, op, code) => {
                let value = self.eval(code, frame)?;
                let assign = |item: &mut Value, _: &mut u64| {
                    *item = match op {
                        Some(op) => arith(*op, item, &value)?,
                        None => value,
                    };
                    Ok(Value::Nothing)
                };
                return self.change(place, frame, assign);
            }
            Statement::While { guard, again, body_first, body } => {
                return self.while_loop(guard.as_ref(), *again, *body_first, body, frame);
            }
            Statement::For { item, counter, over, body } => return self.for_loop(*item, *counter, over, body, frame),
            Statement::Break(code) => {
                let data = self.maybe(code.as_ref(), frame)?;
                return Err(Stop::Break(data));
            }
            Statement::Continue => return Err(Stop::Continue),
            Statement::Return(code) => {
                let data = self.maybe(code.as_ref(), frame)?;
                return Err(Stop::Return(data));
            }
            Statement::Throw(code) => {
                let thrown = self.maybe(code.as_ref(), frame)?;
                let message = match thrown.print() {
                    message if message.is_empty() => "the script threw an error".to_owned(),
                    message => message,
                };
                return Err(Stop::Failed(Failure { message, thrown: Some(thrown), exceeds_limit: false }));
            }
        }
        Ok(Value::Nothing)
    }

    fn maybe(&mut self, code: Option<&Node>, frame: &mut Vec<Value>) -> Outcome {
        code.map_or(Ok(Value::Nothing), |code| self.eval(code, frame))
    }

    fn while_loop(
        &mut self,
        guard: Option<&Node>,
        again: bool,
        body_first: bool,
        body: &Node,
        frame: &mut Vec<Value>,
    ) -> Outcome {
        let mut ask = !body_first;
        loop {
            self.spend(1)?;
            if let Some(guard) = guard.filter(|_| ask) {
                match self.truth(guard, frame)? {
                    Some(value) if value == again => {}
                    Some(_) => return Ok(Value::Nothing),
                    None => return Err(Stop::Unknown),
                }
            }
            ask = true;
            match self.eval(body, frame) {
                Ok(_) | Err(Stop::Continue) => {}
                Err(Stop::Break(data)) => return Ok(data),
                Err(stop) => return Err(stop),
            }
        }
    }

    fn for_loop(
        &mut self,
        item: usize,
        counter: Option<usize>,
        over: &Node,
        body: &Node,
        frame: &mut Vec<Value>,
    ) -> Outcome {
        let items = match self.eval(over, frame)? {
            Value::List(items) => items.to_vec(),
            Value::Map(entries) => entries.keys().map(Value::text).collect(),
            Value::Nothing => return Err(Stop::Unknown),
            other => return Err(Stop::failed(format!("`for` needs a list or a range, not {}", other.kind()))),
        };
        self.spend(items.len() as u64 / 8)?;
        for (at, data) in items.into_iter().enumerate() {
            store(frame, item, data);
            if let Some(counter) = counter {
                store(frame, counter, Value::Int(i64::try_from(at).unwrap_or(i64::MAX)));
            }
            match self.eval(body, frame) {
                Ok(_) | Err(Stop::Continue) => {}
                Err(Stop::Break(data)) => return Ok(data),
                Err(stop) => return Err(stop),
            }
        }
        Ok(Value::Nothing)
    }

    pub(super) fn switch(&mut self, switch: &Switch, frame: &mut Vec<Value>) -> Outcome {
        let subject = self.eval(&switch.subject, frame)?;
        for arm in &switch.arms {
            self.spend(1)?;
            if !arm_fits(arm, &subject) {
                continue;
            }
            match arm.guard.as_ref().map_or(Ok(Some(true)), |guard| self.truth(guard, frame))? {
                Some(true) => return self.eval(&arm.body, frame),
                Some(false) => {}
                None => return Err(Stop::Unknown),
            }
        }
        match &switch.otherwise {
            Some(otherwise) => self.eval(otherwise, frame),
            None => Ok(Value::Nothing),
        }
    }

    pub(super) fn try_catch(&mut self, parts: &Try, frame: &mut Vec<Value>) -> Outcome {
        match self.eval(&parts.body, frame) {
            Err(Stop::Failed(failure)) if !failure.exceeds_limit => {
                if let Some(slot) = parts.caught {
                    store(frame, slot, failure.thrown.unwrap_or_else(|| Value::text(failure.message)));
                }
                self.eval(&parts.handler, frame).map(|_| Value::Nothing)
            }
            other => other,
        }
    }
}

/// Whether a value equals one of an arm's values or lies in one of its ranges. Values of different kinds are not equal.
fn arm_fits(arm: &Arm, subject: &Value) -> bool {
    let equals = |value: &Value| match (value, subject) {
        (Value::Nothing, Value::Nothing) => true,
        _ => matches!(compare(Compare::Equal, value, subject), Ok(Value::Bool(true))),
    };
    let contains = |number: f64| arm.ranges.iter().any(|range| range.contains(number));
    arm.values.iter().any(equals) || subject.number().is_some_and(contains)
}

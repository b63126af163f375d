//! Evaluates a script's tree.
//!
//! Rhai parses; this evaluates, because what a condition means differs from Rhai where data is missing: comparing with
//! `()` is unknown, `&& || !` treat unknown as SQL does and stop as soon as the answer is known, an `if` on unknown
//! ends the script. Invariant: evaluation ends within [`limits`] and reads nothing but its
//! arguments.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::ast::{Arm, Function, Node, Statement, Switch, Try, bytes_of, inside, seconds_of, setting};
use crate::evidence::{Evidence, Vars};
use crate::functions::Signature;
use crate::library::{call, range};
use crate::limits;
use crate::names::Root;
use crate::read::{Arg, plan};
use crate::value::{Compare, Value, arith, compare, contains, negate};

/// Why evaluation does not go on.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// An `if`, a guard or a loop asked something unknown.
    Unknown,
    Failed(Failure),
    Return(Value),
    Break(Value),
    Continue,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For people.
    message: String,
    /// What the script threw; `catch` gets it instead of the message.
    thrown: Option<Value>,
    /// A script that exceeded a limit ends, whatever it would catch.
    exceeds_limit: bool,
}

impl Stop {
    fn failed(message: impl Into<String>) -> Stop {
        Stop::Failed(Failure { message: message.into(), thrown: None, exceeds_limit: false })
    }

    fn limit(message: impl Into<String>) -> Stop {
        Stop::Failed(Failure { message: message.into(), thrown: None, exceeds_limit: true })
    }
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::failed(message)
    }
}

type Outcome = Result<Value, Stop>;

mod iteration;

/// Evaluates one script once.
pub(crate) struct Interpreter<'a> {
    vars: &'a Vars,
    evidence: &'a dyn Evidence,
    shared: &'a [Function],
    own: &'a [Function],
    operations: u64,
    depth: usize,
    calls: usize,
}

impl<'a> Interpreter<'a> {
    /// `own` functions are numbered after the `shared` ones.
    pub fn new(vars: &'a Vars, evidence: &'a dyn Evidence, shared: &'a [Function], own: &'a [Function]) -> Self {
        Interpreter { vars, evidence, shared, own, operations: 0, depth: 0, calls: 0 }
    }

    /// # Errors
    /// The script failed or exceeded a limit. Unknown is `Nothing`.
    pub fn run(&mut self, code: &Node, locals: usize) -> Result<Value, String> {
        let mut frame = vec![Value::Nothing; locals];
        match self.eval(code, &mut frame) {
            Ok(data) | Err(Stop::Return(data)) => Ok(data),
            Err(Stop::Unknown) => Ok(Value::Nothing),
            Err(Stop::Failed(failure)) => Err(failure.message),
            Err(Stop::Break(_) | Stop::Continue) => Err("`break` or `continue` outside of a loop".to_owned()),
        }
    }

    /// What was spent so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    fn spend(&mut self, operations: u64) -> Result<(), Stop> {
        self.operations = self.operations.saturating_add(operations);
        if self.operations > limits::OPERATIONS {
            return Err(Stop::limit(format!("the script was cut off after {} operations", limits::OPERATIONS)));
        }
        Ok(())
    }

    fn eval(&mut self, code: &Node, frame: &mut Vec<Value>) -> Outcome {
        self.spend(1)?;
        if self.depth >= limits::NESTING {
            return Err(Stop::limit(format!("the script nests deeper than {} levels", limits::NESTING)));
        }
        self.depth += 1;
        let outcome = self.eval_here(code, frame);
        self.depth -= 1;
        outcome
    }

    fn eval_here(&mut self, code: &Node, frame: &mut Vec<Value>) -> Outcome {
        match code {
            Node::Const(data) => Ok(data.clone()),
            Node::Local(slot) => Ok(frame.get(*slot).cloned().unwrap_or(Value::Nothing)),
            Node::Path(root, path) => {
                let data = self.path(*root, path)?;
                self.spend(data.weight())?;
                Ok(data)
            }
            Node::Pieces(_) | Node::List(_) | Node::Map(_) => self.make(code, frame),
            Node::Member(holder, name) => Ok(self.eval(holder, frame)?.member(name)?),
            Node::Index(parts) => self.pair(parts, frame, |holder, at| holder.index(at)),
            Node::Not(inner) => Ok(match self.truth(inner, frame)? {
                Some(value) => Value::Bool(!value),
                None => Value::Nothing,
            }),
            Node::Negate(inner) => Ok(negate(&self.eval(inner, frame)?)?),
            Node::Arith(op, parts) => self.weighed(parts, frame, |left, right| arith(*op, left, right)),
            Node::Compare(op, parts) => self.weighed(parts, frame, |left, right| compare(*op, left, right)),
            Node::In(parts) => self.weighed(parts, frame, |item, holder| contains(holder, item)),
            Node::Range(parts, inclusive) => self.weighed(parts, frame, |from, to| range(from, to, *inclusive)),
            Node::And(parts) => self.decide(parts, frame, false),
            Node::Or(parts) => self.decide(parts, frame, true),
            Node::Coalesce(parts) => self.coalesce(parts, frame),
            Node::Read(read) => Ok(self.evidence.read(read)?.into()),
            Node::Has(inner) => Ok(Value::Bool(self.eval(inner, frame)? != Value::Nothing)),
            Node::If(parts) => match self.truth(&parts.0, frame)? {
                Some(true) => self.eval(&parts.1, frame),
                Some(false) => self.eval(&parts.2, frame),
                None => Err(Stop::Unknown),
            },
            Node::Switch(switch) => self.switch(switch, frame),
            Node::Try(parts) => self.try_catch(parts, frame),
            Node::Iterate(iterate) => self.iterate(iterate, frame),
            Node::Change(change, target, args) => self.change_in_place(*change, target, args, frame),
            Node::Block(steps) => self.block(steps, frame),
            Node::Ask(..)
            | Node::Extreme(..)
            | Node::Duration(_)
            | Node::Size(_)
            | Node::Setting(_)
            | Node::Library(..)
            | Node::Call(..) => self.call(code, frame),
        }
    }

    fn pair(
        &mut self,
        parts: &(Node, Node),
        frame: &mut Vec<Value>,
        apply: impl FnOnce(&Value, &Value) -> Result<Value, String>,
    ) -> Outcome {
        let left = self.eval(&parts.0, frame)?;
        let right = self.eval(&parts.1, frame)?;
        Ok(apply(&left, &right)?)
    }

    /// Like `pair`, for what goes through both values and makes a new one.
    fn weighed(
        &mut self,
        parts: &(Node, Node),
        frame: &mut Vec<Value>,
        apply: impl FnOnce(&Value, &Value) -> Result<Value, String>,
    ) -> Outcome {
        let left = self.eval(&parts.0, frame)?;
        let right = self.eval(&parts.1, frame)?;
        self.spend(left.weight() + right.weight())?;
        let made = apply(&left, &right)?;
        self.spend(made.weight())?;
        Ok(made)
    }

    fn truth(&mut self, code: &Node, frame: &mut Vec<Value>) -> Result<Option<bool>, Stop> {
        Ok(self.eval(code, frame)?.truth().map_err(|message| format!("a condition {message}"))?)
    }

    /// `&&` (settled by false) and `||` (settled by true): what comes after the one that settles is not evaluated.
    fn decide(&mut self, parts: &[Node], frame: &mut Vec<Value>, settles: bool) -> Outcome {
        let mut unknown = false;
        for part in parts {
            match self.truth(part, frame)? {
                Some(value) if value == settles => return Ok(Value::Bool(settles)),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Value::Nothing } else { Value::Bool(!settles) })
    }

    fn coalesce(&mut self, parts: &[Node], frame: &mut Vec<Value>) -> Outcome {
        for part in parts {
            let data = self.eval(part, frame)?;
            if data != Value::Nothing {
                return Ok(data);
            }
        }
        Ok(Value::Nothing)
    }

    fn all(&mut self, codes: &[Node], frame: &mut Vec<Value>) -> Result<Vec<Value>, Stop> {
        codes.iter().map(|code| self.eval(code, frame)).collect()
    }

    fn make(&mut self, code: &Node, frame: &mut Vec<Value>) -> Outcome {
        let made = match code {
            Node::Pieces(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    let data = self.eval(piece, frame)?;
                    if data == Value::Nothing {
                        return Ok(Value::Nothing);
                    }
                    text.push_str(&data.print());
                    if text.len() > limits::TEXT_BYTES {
                        break;
                    }
                }
                Value::text(text)
            }
            Node::List(items) => Value::list(self.all(items, frame)?),
            Node::Map(entries) => {
                let mut map = BTreeMap::new();
                for (name, value) in entries {
                    map.insert(name.clone(), self.eval(value, frame)?);
                }
                Value::map(map)
            }
            _ => Value::Nothing,
        };
        self.spend(made.weight())?;
        Ok(made.bounded()?)
    }

    fn call(&mut self, code: &Node, frame: &mut Vec<Value>) -> Outcome {
        match code {
            Node::Ask(signature, args) => {
                let args = self.all(args, frame)?;
                self.ask(signature, &args)
            }
            Node::Extreme(signature, library, args) => {
                let args = self.all(args, frame)?;
                if matches!(args.first(), Some(Value::Text(_))) {
                    return self.ask(signature, &args);
                }
                Ok(call(library, &args)?)
            }
            Node::Duration(inner) => Ok(seconds_of(&self.eval(inner, frame)?)?),
            Node::Size(inner) => Ok(bytes_of(&self.eval(inner, frame)?)?),
            Node::Setting(inner) => match self.eval(inner, frame)? {
                Value::Text(path) => Ok(setting(&self.vars.settings, &path)),
                Value::Nothing => Ok(Value::Nothing),
                other => Err(Stop::failed(format!("`setting` needs a text, not {}", other.kind()))),
            },
            Node::Library(library, args) => {
                let args = self.all(args, frame)?;
                if !matches!(library.name, "len" | "is_empty" | "type_of") {
                    self.spend(args.iter().map(Value::weight).sum())?;
                }
                let made = call(library, &args).map_err(|message| format!("`{}`: {message}", library.name))?;
                self.spend(made.weight())?;
                Ok(made)
            }
            Node::Call(index, args) => {
                let args = self.all(args, frame)?;
                self.function(*index, args)
            }
            _ => Ok(Value::Nothing),
        }
    }

    fn ask(&mut self, signature: &Signature, args: &[Value]) -> Outcome {
        let args: Vec<Arg<'_>> = args.iter().map(Value::as_arg).collect();
        let read = plan(signature, &args).map_err(|bad| bad.message)?;
        Ok(self.evidence.read(&read)?.into())
    }

    fn function(&mut self, index: usize, mut args: Vec<Value>) -> Outcome {
        let function = match index.checked_sub(self.shared.len()) {
            None => self.shared.get(index),
            Some(own) => self.own.get(own),
        };
        let Some(function) = function else { return Err(Stop::failed("a function is missing".to_owned())) };
        if self.calls >= limits::CALLS {
            return Err(Stop::limit(format!("`{}` calls deeper than {} levels", function.name, limits::CALLS)));
        }
        args.resize(function.locals.max(args.len()), Value::Nothing);
        self.calls += 1;
        let outcome = self.eval(&function.body, &mut args);
        self.calls -= 1;
        match outcome {
            Err(Stop::Return(data)) => Ok(data),
            Err(Stop::Failed(failure)) => {
                let message = format!("in `{}`: {}", function.name, failure.message);
                Err(Stop::Failed(Failure { message, ..failure }))
            }
            other => other,
        }
    }

    /// A block gives its last expression's value.
    fn block(&mut self, steps: &[Statement], frame: &mut Vec<Value>) -> Outcome {
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
                return self.rounds(guard.as_ref(), *again, *body_first, body, frame);
            }
            Statement::For { item, counter, over, body } => return self.each(*item, *counter, over, body, frame),
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

    fn rounds(
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

    fn each(
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

    fn switch(&mut self, switch: &Switch, frame: &mut Vec<Value>) -> Outcome {
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

    fn try_catch(&mut self, parts: &Try, frame: &mut Vec<Value>) -> Outcome {
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

    fn path(&self, root: Root, path: &[SmolStr]) -> Outcome {
        let vars = self.vars;
        let whole = |data: Value| path.iter().try_fold(data, |data, name| data.member(name)).map_err(Stop::from);
        match root {
            Root::Deployment => whole(vars.deployment.clone().map_or(Value::Nothing, Value::Text)),
            Root::Value => whole(vars.value.map_or(Value::Nothing, Value::float)),
            Root::Severity => whole(vars.severity.map_or(Value::Nothing, |severity| Value::text(severity.as_str()))),
            Root::Labels => match path {
                [name] => Ok(vars.labels.get(name).map_or(Value::Nothing, Value::text)),
                _ => {
                    let all =
                        vars.labels.iter().map(|(name, value)| (SmolStr::new(name), Value::text(value))).collect();
                    whole(Value::map(all))
                }
            },
            Root::Settings => Ok(inside(&vars.settings, path)),
            Root::Inputs => Ok(inside(&vars.inputs, path)),
            Root::Steps => Ok(inside(&vars.steps, path)),
            Root::Failed => Ok(vars.failed.as_ref().map_or(Value::Nothing, |failed| inside(failed, path))),
        }
    }
}

fn store(frame: &mut Vec<Value>, slot: usize, data: Value) {
    if slot >= frame.len() {
        frame.resize(slot + 1, Value::Nothing);
    }
    if let Some(place) = frame.get_mut(slot) {
        *place = data;
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

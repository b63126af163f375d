//! Evaluates a script's tree.
//!
//! Rhai only parses, because a condition means something else than Rhai where data is missing: a comparison with a
//! missing value is unknown, `&& || !` treat unknown as SQL does and stop as soon as the answer is known, and an `if` on
//! unknown ends the script.
//!
//! Invariant: an evaluation ends within [`limits`] and reads nothing but its arguments.

mod calls;
mod iteration;
mod statements;

use std::collections::BTreeMap;

use crate::ast::{Function, Node};
use crate::evidence::{Evidence, Vars};
use crate::library::range;
use crate::limits;
use crate::operators::{arith, compare, contains, negate};
use crate::value::Value;

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
            Node::Interpolated(_) | Node::List(_) | Node::Map(_) => self.make(code, frame),
            Node::Member(holder, name) => Ok(self.eval(holder, frame)?.member(name)?),
            Node::Index(parts) => self.pair(parts, frame, |holder, at| holder.index(at)),
            Node::Not(inner) => Ok(match self.truth(inner, frame)? {
                Some(value) => Value::Bool(!value),
                None => Value::Nothing,
            }),
            Node::Negate(inner) => Ok(negate(&self.eval(inner, frame)?)?),
            Node::Arith(op, parts) => self.large_pair(parts, frame, |left, right| arith(*op, left, right)),
            Node::Compare(op, parts) => self.large_pair(parts, frame, |left, right| compare(*op, left, right)),
            Node::In(parts) => self.large_pair(parts, frame, |item, holder| contains(holder, item)),
            Node::Range(parts, inclusive) => self.large_pair(parts, frame, |from, to| range(from, to, *inclusive)),
            Node::And(parts) => self.and_or(parts, frame, false),
            Node::Or(parts) => self.and_or(parts, frame, true),
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
            Node::ComputedRead(..)
            | Node::MinOrMax(..)
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
    fn large_pair(
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
    fn and_or(&mut self, parts: &[Node], frame: &mut Vec<Value>, settles: bool) -> Outcome {
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
            Node::Interpolated(pieces) => {
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
}

fn store(frame: &mut Vec<Value>, slot: usize, data: Value) {
    if slot >= frame.len() {
        frame.resize(slot + 1, Value::Nothing);
    }
    if let Some(place) = frame.get_mut(slot) {
        *place = data;
    }
}

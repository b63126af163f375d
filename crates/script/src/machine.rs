//! The machine that evaluates a script's tree.
//!
//! Rhai parses; this evaluates, because what a condition means differs from Rhai where data is missing: comparing with
//! `()` is unknown, `&& || !` treat unknown as SQL does and stop as soon as the answer is known, an `if` on unknown
//! ends the script. Invariant: evaluation ends within [`limits`] and reads nothing but its
//! arguments.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::code::{Code, Function, Root, Step, bytes_of, inside, seconds_of, setting};
use super::data::{Data, arith, compare, contains, negate};
use super::evidence::{Evidence, Vars};
use super::functions::{Arg, Signature, plan};
use super::host::limits;
use super::library::{call, range};

/// Why evaluation does not go on.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// An `if` or a loop asked something unknown.
    Unknown,
    Failed(String),
    Return(Data),
    Break(Data),
    Continue,
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::Failed(message)
    }
}

type Outcome = Result<Data, Stop>;

/// Evaluates one script once.
pub(super) struct Machine<'a> {
    vars: &'a Vars,
    evidence: &'a dyn Evidence,
    shared: &'a [Function],
    own: &'a [Function],
    operations: u64,
    depth: usize,
    calls: usize,
}

impl<'a> Machine<'a> {
    /// `own` functions are numbered after the `shared` ones.
    pub fn new(vars: &'a Vars, evidence: &'a dyn Evidence, shared: &'a [Function], own: &'a [Function]) -> Self {
        Machine { vars, evidence, shared, own, operations: 0, depth: 0, calls: 0 }
    }

    /// # Errors
    /// The script failed or exceeded a limit. Unknown is `Nothing`.
    pub fn run(&mut self, code: &Code, locals: usize) -> Result<Data, String> {
        let mut frame = vec![Data::Nothing; locals];
        match self.eval(code, &mut frame) {
            Ok(data) | Err(Stop::Return(data)) => Ok(data),
            Err(Stop::Unknown) => Ok(Data::Nothing),
            Err(Stop::Failed(message)) => Err(message),
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
            return Err(Stop::Failed(format!("the script was cut off after {} operations", limits::OPERATIONS)));
        }
        Ok(())
    }

    fn eval(&mut self, code: &Code, frame: &mut Vec<Data>) -> Outcome {
        self.spend(1)?;
        if self.depth >= limits::NESTING {
            return Err(Stop::Failed(format!("the script nests deeper than {} levels", limits::NESTING)));
        }
        self.depth += 1;
        let outcome = self.eval_here(code, frame);
        self.depth -= 1;
        outcome
    }

    fn eval_here(&mut self, code: &Code, frame: &mut Vec<Data>) -> Outcome {
        match code {
            Code::Const(data) => Ok(data.clone()),
            Code::Local(slot) => Ok(frame.get(*slot).cloned().unwrap_or(Data::Nothing)),
            Code::Path(root, path) => {
                let data = self.path(*root, path)?;
                self.spend(data.weight())?;
                Ok(data)
            }
            Code::Pieces(_) | Code::List(_) | Code::Map(_) => self.make(code, frame),
            Code::Member(holder, name) => Ok(self.eval(holder, frame)?.member(name)?),
            Code::Index(parts) => self.pair(parts, frame, |holder, at| holder.index(at)),
            Code::Not(inner) => Ok(match self.truth(inner, frame)? {
                Some(value) => Data::Bool(!value),
                None => Data::Nothing,
            }),
            Code::Negate(inner) => Ok(negate(&self.eval(inner, frame)?)?),
            Code::Arith(op, parts) => self.weighed(parts, frame, |left, right| arith(*op, left, right)),
            Code::Compare(op, parts) => self.weighed(parts, frame, |left, right| compare(*op, left, right)),
            Code::In(parts) => self.weighed(parts, frame, |item, holder| contains(holder, item)),
            Code::Range(parts, inclusive) => self.weighed(parts, frame, |from, to| range(from, to, *inclusive)),
            Code::And(parts) => self.decide(parts, frame, false),
            Code::Or(parts) => self.decide(parts, frame, true),
            Code::Coalesce(parts) => self.coalesce(parts, frame),
            Code::Read(read) => Ok(self.evidence.read(read)?.into()),
            Code::Has(inner) => Ok(Data::Bool(self.eval(inner, frame)? != Data::Nothing)),
            Code::If(parts) => match self.truth(&parts.0, frame)? {
                Some(true) => self.eval(&parts.1, frame),
                Some(false) => self.eval(&parts.2, frame),
                None => Err(Stop::Unknown),
            },
            Code::Block(steps) => self.block(steps, frame),
            Code::Ask(..)
            | Code::Extreme(..)
            | Code::Duration(_)
            | Code::Size(_)
            | Code::Setting(_)
            | Code::Library(..)
            | Code::Call(..) => self.call(code, frame),
        }
    }

    fn pair(
        &mut self,
        parts: &(Code, Code),
        frame: &mut Vec<Data>,
        apply: impl FnOnce(&Data, &Data) -> Result<Data, String>,
    ) -> Outcome {
        let left = self.eval(&parts.0, frame)?;
        let right = self.eval(&parts.1, frame)?;
        Ok(apply(&left, &right)?)
    }

    /// Like `pair`, for what goes through both values and makes a new one.
    fn weighed(
        &mut self,
        parts: &(Code, Code),
        frame: &mut Vec<Data>,
        apply: impl FnOnce(&Data, &Data) -> Result<Data, String>,
    ) -> Outcome {
        let left = self.eval(&parts.0, frame)?;
        let right = self.eval(&parts.1, frame)?;
        self.spend(left.weight() + right.weight())?;
        let made = apply(&left, &right)?;
        self.spend(made.weight())?;
        Ok(made)
    }

    fn truth(&mut self, code: &Code, frame: &mut Vec<Data>) -> Result<Option<bool>, Stop> {
        Ok(self.eval(code, frame)?.truth().map_err(|message| format!("a condition {message}"))?)
    }

    /// `&&` (settled by false) and `||` (settled by true): what comes after the one that settles is not evaluated.
    fn decide(&mut self, parts: &[Code], frame: &mut Vec<Data>, settles: bool) -> Outcome {
        let mut unknown = false;
        for part in parts {
            match self.truth(part, frame)? {
                Some(value) if value == settles => return Ok(Data::Bool(settles)),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Data::Nothing } else { Data::Bool(!settles) })
    }

    fn coalesce(&mut self, parts: &[Code], frame: &mut Vec<Data>) -> Outcome {
        for part in parts {
            let data = self.eval(part, frame)?;
            if data != Data::Nothing {
                return Ok(data);
            }
        }
        Ok(Data::Nothing)
    }

    fn all(&mut self, codes: &[Code], frame: &mut Vec<Data>) -> Result<Vec<Data>, Stop> {
        codes.iter().map(|code| self.eval(code, frame)).collect()
    }

    fn make(&mut self, code: &Code, frame: &mut Vec<Data>) -> Outcome {
        let made = match code {
            Code::Pieces(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    let data = self.eval(piece, frame)?;
                    if data == Data::Nothing {
                        return Ok(Data::Nothing);
                    }
                    text.push_str(&data.print());
                    if text.len() > limits::TEXT_BYTES {
                        break;
                    }
                }
                Data::text(text)
            }
            Code::List(items) => Data::list(self.all(items, frame)?),
            Code::Map(entries) => {
                let mut map = BTreeMap::new();
                for (name, value) in entries {
                    map.insert(name.clone(), self.eval(value, frame)?);
                }
                Data::map(map)
            }
            _ => Data::Nothing,
        };
        self.spend(made.weight())?;
        Ok(made.bounded()?)
    }

    fn call(&mut self, code: &Code, frame: &mut Vec<Data>) -> Outcome {
        match code {
            Code::Ask(signature, args) => {
                let args = self.all(args, frame)?;
                self.ask(signature, &args)
            }
            Code::Extreme(signature, library, args) => {
                let args = self.all(args, frame)?;
                if matches!(args.first(), Some(Data::Text(_))) {
                    return self.ask(signature, &args);
                }
                Ok(call(library, &args)?)
            }
            Code::Duration(inner) => Ok(seconds_of(&self.eval(inner, frame)?)?),
            Code::Size(inner) => Ok(bytes_of(&self.eval(inner, frame)?)?),
            Code::Setting(inner) => match self.eval(inner, frame)? {
                Data::Text(path) => Ok(setting(&self.vars.settings, &path)),
                Data::Nothing => Ok(Data::Nothing),
                other => Err(Stop::Failed(format!("`setting` needs a text, not {}", other.kind()))),
            },
            Code::Library(library, args) => {
                let args = self.all(args, frame)?;
                if !matches!(library.name, "len" | "is_empty" | "type_of") {
                    self.spend(args.iter().map(Data::weight).sum())?;
                }
                let made = call(library, &args).map_err(|message| format!("`{}`: {message}", library.name))?;
                self.spend(made.weight())?;
                Ok(made)
            }
            Code::Call(index, args) => {
                let args = self.all(args, frame)?;
                self.function(*index, args)
            }
            _ => Ok(Data::Nothing),
        }
    }

    fn ask(&mut self, signature: &Signature, args: &[Data]) -> Outcome {
        let args: Vec<Arg<'_>> = args.iter().map(Data::as_arg).collect();
        let read = plan(signature, &args).map_err(|bad| bad.message)?;
        Ok(self.evidence.read(&read)?.into())
    }

    fn function(&mut self, index: usize, mut args: Vec<Data>) -> Outcome {
        let function = match index.checked_sub(self.shared.len()) {
            None => self.shared.get(index),
            Some(own) => self.own.get(own),
        };
        let Some(function) = function else { return Err(Stop::Failed("a function is missing".to_owned())) };
        if self.calls >= limits::CALLS {
            return Err(Stop::Failed(format!("`{}` calls deeper than {} levels", function.name, limits::CALLS)));
        }
        args.resize(function.locals.max(args.len()), Data::Nothing);
        self.calls += 1;
        let outcome = self.eval(&function.body, &mut args);
        self.calls -= 1;
        match outcome {
            Err(Stop::Return(data)) => Ok(data),
            Err(Stop::Failed(message)) => Err(Stop::Failed(format!("in `{}`: {message}", function.name))),
            other => other,
        }
    }

    /// A block gives its last expression's value.
    fn block(&mut self, steps: &[Step], frame: &mut Vec<Data>) -> Outcome {
        let mut last = Data::Nothing;
        for step in steps {
            last = self.step(step, frame)?;
        }
        Ok(last)
    }

    fn step(&mut self, step: &Step, frame: &mut Vec<Data>) -> Outcome {
        match step {
            Step::Do(code) => return self.eval(code, frame),
            Step::Let(slot, code) => {
                let data = self.eval(code, frame)?;
                store(frame, *slot, data);
            }
            Step::Assign(slot, op, code) => {
                let mut data = self.eval(code, frame)?;
                if let Some(op) = op {
                    data = arith(*op, frame.get(*slot).unwrap_or(&Data::Nothing), &data)?;
                    self.spend(data.weight())?;
                }
                store(frame, *slot, data);
            }
            Step::While { guard, again, body_first, body } => {
                return self.rounds(guard.as_ref(), *again, *body_first, body, frame);
            }
            Step::For { item, counter, over, body } => return self.each(*item, *counter, over, body, frame),
            Step::Break(code) => {
                let data = self.maybe(code.as_ref(), frame)?;
                return Err(Stop::Break(data));
            }
            Step::Continue => return Err(Stop::Continue),
            Step::Return(code) => {
                let data = self.maybe(code.as_ref(), frame)?;
                return Err(Stop::Return(data));
            }
            Step::Throw(code) => {
                let message = self.maybe(code.as_ref(), frame)?.print();
                return Err(Stop::Failed(if message.is_empty() {
                    "the script threw an error".into()
                } else {
                    message
                }));
            }
        }
        Ok(Data::Nothing)
    }

    fn maybe(&mut self, code: Option<&Code>, frame: &mut Vec<Data>) -> Outcome {
        code.map_or(Ok(Data::Nothing), |code| self.eval(code, frame))
    }

    fn rounds(
        &mut self,
        guard: Option<&Code>,
        again: bool,
        body_first: bool,
        body: &Code,
        frame: &mut Vec<Data>,
    ) -> Outcome {
        let mut ask = !body_first;
        loop {
            self.spend(1)?;
            if let Some(guard) = guard.filter(|_| ask) {
                match self.truth(guard, frame)? {
                    Some(value) if value == again => {}
                    Some(_) => return Ok(Data::Nothing),
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
        over: &Code,
        body: &Code,
        frame: &mut Vec<Data>,
    ) -> Outcome {
        let items = match self.eval(over, frame)? {
            Data::List(items) => items.to_vec(),
            Data::Map(entries) => entries.keys().map(Data::text).collect(),
            Data::Nothing => return Err(Stop::Unknown),
            other => return Err(Stop::Failed(format!("`for` needs a list or a range, not {}", other.kind()))),
        };
        self.spend(items.len() as u64 / 8)?;
        for (at, data) in items.into_iter().enumerate() {
            store(frame, item, data);
            if let Some(counter) = counter {
                store(frame, counter, Data::Int(i64::try_from(at).unwrap_or(i64::MAX)));
            }
            match self.eval(body, frame) {
                Ok(_) | Err(Stop::Continue) => {}
                Err(Stop::Break(data)) => return Ok(data),
                Err(stop) => return Err(stop),
            }
        }
        Ok(Data::Nothing)
    }

    fn path(&self, root: Root, path: &[SmolStr]) -> Outcome {
        let vars = self.vars;
        let whole = |data: Data| path.iter().try_fold(data, |data, name| data.member(name)).map_err(Stop::Failed);
        match root {
            Root::Deployment => whole(vars.deployment.clone().map_or(Data::Nothing, Data::Text)),
            Root::Value => whole(vars.value.map_or(Data::Nothing, Data::float)),
            Root::Severity => whole(vars.severity.map_or(Data::Nothing, |severity| Data::text(severity.as_str()))),
            Root::Labels => match path {
                [name] => Ok(vars.labels.get(name).map_or(Data::Nothing, Data::text)),
                _ => {
                    let all = vars.labels.iter().map(|(name, value)| (SmolStr::new(name), Data::text(value))).collect();
                    whole(Data::map(all))
                }
            },
            Root::Settings => Ok(inside(&vars.settings, path)),
            Root::Inputs => Ok(inside(&vars.inputs, path)),
            Root::Steps => Ok(inside(&vars.steps, path)),
            Root::Failed => Ok(vars.failed.as_ref().map_or(Data::Nothing, |failed| inside(failed, path))),
        }
    }
}

fn store(frame: &mut Vec<Data>, slot: usize, data: Data) {
    if slot >= frame.len() {
        frame.resize(slot + 1, Data::Nothing);
    }
    if let Some(place) = frame.get_mut(slot) {
        *place = data;
    }
}

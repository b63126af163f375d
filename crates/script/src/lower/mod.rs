//! From Rhai's syntax tree to [`Code`], collecting every problem, every read and the types that are certain.

mod calls;
mod expressions;
mod names;
mod statements;

pub(super) use names::{FAILED_MEMBERS, STEP_MEMBERS};

use std::collections::{BTreeMap, BTreeSet};

use rhai::Position;
use smol_str::SmolStr;

use super::code::Code;
use super::condition::{Names, ProblemSeverity, ScriptProblem};
use super::data::Data;
use super::evidence::Read;
use super::host::limits;
use super::parse::{Definition, Parsed, problem};
use super::scan::Places;

/// Functions that can be called, by name and number of parameters.
pub(super) type Known = BTreeMap<(String, usize), usize>;

/// A lowered body and what was found on the way.
pub(super) struct Lowered {
    pub code: Code,
    pub gives: Type,
    pub locals: usize,
    /// In order of appearance, without repeats.
    pub reads: Vec<Read>,
    pub reads_are_static: bool,
    pub calls: BTreeSet<usize>,
    pub problems: Vec<ScriptProblem>,
    /// Something in it only Rhai can run.
    pub beyond: bool,
}

impl Lowered {
    /// Adds what closures inside it read. Which function each belongs to makes no difference to what is kept ready.
    pub fn take_in(&mut self, within: &Lowered) {
        if !self.beyond {
            return;
        }
        for read in &within.reads {
            if !self.reads.contains(read) {
                self.reads.push(read.clone());
            }
        }
        self.reads_are_static &= within.reads_are_static;
        self.calls.extend(&within.calls);
    }
}

/// What an expression gives when there is data, as far as that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Number,
    Text,
    /// A list or a map.
    Holder,
    /// `()`, or a statement that gives nothing.
    Nothing,
    Any,
}

impl Type {
    fn of(data: &Data) -> Type {
        match data {
            Data::Nothing => Type::Nothing,
            Data::Bool(_) => Type::Bool,
            Data::Int(_) | Data::Float(_) => Type::Number,
            Data::Text(_) => Type::Text,
            Data::List(_) | Data::Map(_) => Type::Holder,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Type::Bool => "true or false",
            Type::Number => "a number",
            Type::Text => "a text",
            Type::Holder => "a list or a map",
            Type::Nothing => "nothing",
            Type::Any => "anything",
        }
    }

    fn or(self, other: Type) -> Type {
        match (self, other) {
            (one, two) if one == two => one,
            (Type::Nothing, one) | (one, Type::Nothing) => one,
            _ => Type::Any,
        }
    }
}

/// Lowers the statements of a condition.
pub(super) fn condition(parsed: &Parsed, names: &Names<'_>, known: &Known) -> Lowered {
    let mut lowerer = Lowerer::new(&parsed.places, Some(names), known);
    let (code, gives) = lowerer.block(&parsed.statements);
    lowerer.finish(code, gives)
}

/// Lowers a function: it sees its parameters only.
pub(super) fn function(parsed: &Parsed, definition: &Definition, known: &Known) -> Lowered {
    let mut lowerer = Lowerer::new(&parsed.places, None, known);
    for name in &definition.params {
        lowerer.declare(name);
    }
    let (code, gives) = lowerer.block(&definition.body);
    lowerer.finish(code, gives)
}

/// What a text's closures read and call, all of them together. What is wrong in them shows when Rhai runs them.
pub(super) fn closures(parsed: &Parsed, known: &Known) -> Lowered {
    let mut lowerer = Lowerer::new(&parsed.places, None, known);
    for definition in parsed.closures() {
        for name in &definition.params {
            lowerer.declare(name);
        }
        let _ = lowerer.block(&definition.body);
    }
    lowerer.problems.clear();
    lowerer.finish(Code::Const(Data::Nothing), Type::Any)
}

struct Lowerer<'a> {
    places: &'a Places,
    /// `None` inside a function.
    names: Option<&'a Names<'a>>,
    known: &'a Known,
    /// Names in scope with their places in the frame; a later one hides an earlier.
    scope: Vec<(SmolStr, usize)>,
    locals: usize,
    depth: usize,
    reads: Vec<Read>,
    reads_are_static: bool,
    calls: BTreeSet<usize>,
    problems: Vec<ScriptProblem>,
    beyond: bool,
}

impl<'a> Lowerer<'a> {
    fn new(places: &'a Places, names: Option<&'a Names<'a>>, known: &'a Known) -> Self {
        Lowerer {
            places,
            names,
            known,
            scope: Vec::new(),
            locals: 0,
            depth: 0,
            reads: Vec::new(),
            reads_are_static: true,
            calls: BTreeSet::new(),
            problems: Vec::new(),
            beyond: false,
        }
    }

    fn finish(self, code: Code, gives: Type) -> Lowered {
        let Lowerer { locals, reads, reads_are_static, calls, mut problems, beyond, .. } = self;
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        problems.truncate(limits::PROBLEMS);
        let gives = if beyond { Type::Any } else { gives };
        Lowered { code, gives, locals, reads, reads_are_static, calls, problems, beyond }
    }

    fn declare(&mut self, name: &str) -> usize {
        let slot = self.locals;
        self.scope.push((SmolStr::new(name), slot));
        self.locals += 1;
        slot
    }

    fn local(&self, name: &str) -> Option<usize> {
        self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, slot)| *slot)
    }

    fn complain(&mut self, at: Position, code: &'static str, message: impl Into<String>, help: Option<String>) {
        let span = self.places.span(at);
        self.problems.push(problem(span, code, message.into(), help));
    }

    fn warn(&mut self, at: Position, code: &'static str, message: impl Into<String>, help: Option<String>) {
        let span = self.places.span(at);
        let severity = ProblemSeverity::Warning;
        self.problems.push(ScriptProblem { span, severity, code, message: message.into(), help });
    }

    /// Keeps the walk itself from nesting too deep; what lies deeper is not looked at, and refused.
    fn deeper<T>(&mut self, at: Position, fallback: T, walk: impl FnOnce(&mut Self) -> T) -> T {
        if self.depth >= limits::NESTING {
            let already = self.problems.iter().any(|problem| problem.code == "too-deep");
            if !already {
                self.complain(at, "too-deep", "the script nests too deep", Some("split it into functions".into()));
            }
            return fallback;
        }
        self.depth += 1;
        let outcome = walk(self);
        self.depth -= 1;
        outcome
    }
}

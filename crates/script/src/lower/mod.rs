//! Lowers Rhai's syntax tree to [`Node`], and collects every problem, every read and the types that are certain.

mod calls;
mod closures;
mod expressions;
mod names;
mod statements;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rhai::Position;
use smol_str::SmolStr;

use crate::ast::{Closure, Node};
use crate::limits;
use crate::names::Names;
use crate::parse::{Definition, Parsed};
use crate::problem::ScriptProblem;
use crate::read::Read;
use crate::value::Value;

/// Functions that can be called, by name and number of parameters.
pub(crate) type Known = BTreeMap<(String, usize), usize>;

/// A lowered body, and what lowering found in it.
pub(crate) struct Lowered {
    pub code: Node,
    pub gives: Type,
    /// How many variables the body needs.
    pub locals: usize,
    /// In order of appearance, without repeats.
    pub reads: Vec<Read>,
    pub reads_are_static: bool,
    pub calls: BTreeSet<usize>,
    pub problems: Vec<ScriptProblem>,
}

/// The kind of value that an expression gives when there is data, as far as that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
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
    fn of(data: &Value) -> Type {
        match data {
            Value::Nothing => Type::Nothing,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) | Value::Float(_) => Type::Number,
            Value::Text(_) => Type::Text,
            Value::List(_) | Value::Map(_) => Type::Holder,
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
pub(crate) fn condition(parsed: &Parsed, names: &Names<'_>, known: &Known) -> Lowered {
    let mut lowerer = Lowerer::new(parsed, Some(names), known);
    let (code, gives) = lowerer.block(&parsed.statements);
    lowerer.finish(code, gives)
}

/// Lowers a function: it sees its parameters only.
pub(crate) fn function(parsed: &Parsed, definition: &Definition, known: &Known) -> Lowered {
    let mut lowerer = Lowerer::new(parsed, None, known);
    for name in &definition.params {
        lowerer.declare(name);
    }
    let (code, gives) = lowerer.block(&definition.body);
    lowerer.finish(code, gives)
}

/// What a name in scope stands for.
#[derive(Clone)]
enum Binding {
    /// A variable, by its place in the frame.
    Slot(usize),
    /// `let is_high = |x| x > 80;`
    Closure(Arc<Closure>),
}

struct Lowerer<'a> {
    parsed: &'a Parsed,
    /// `None` inside a function.
    names: Option<&'a Names<'a>>,
    known: &'a Known,
    /// Names in scope; a later one hides an earlier one.
    scope: Vec<(SmolStr, Binding)>,
    locals: usize,
    depth: usize,
    reads: Vec<Read>,
    reads_are_static: bool,
    calls: BTreeSet<usize>,
    problems: Vec<ScriptProblem>,
}

impl<'a> Lowerer<'a> {
    fn new(parsed: &'a Parsed, names: Option<&'a Names<'a>>, known: &'a Known) -> Self {
        Lowerer {
            parsed,
            names,
            known,
            scope: Vec::new(),
            locals: 0,
            depth: 0,
            reads: Vec::new(),
            reads_are_static: true,
            calls: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    fn finish(self, code: Node, gives: Type) -> Lowered {
        let Lowerer { locals, reads, reads_are_static, calls, mut problems, .. } = self;
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        problems.truncate(limits::PROBLEMS);
        Lowered { code, gives, locals, reads, reads_are_static, calls, problems }
    }

    fn declare(&mut self, name: &str) -> usize {
        let slot = self.locals;
        self.scope.push((SmolStr::new(name), Binding::Slot(slot)));
        self.locals += 1;
        slot
    }

    fn binding(&self, name: &str) -> Option<&Binding> {
        self.scope.iter().rev().find(|(known, _)| known == name).map(|(_, binding)| binding)
    }

    /// Where a variable lies in the frame.
    fn local(&self, name: &str) -> Option<usize> {
        match self.binding(name) {
            Some(Binding::Slot(slot)) => Some(*slot),
            Some(Binding::Closure(_)) | None => None,
        }
    }

    fn complain(&mut self, at: Position, code: &'static str, message: impl Into<String>, help: Option<String>) {
        let span = self.parsed.places.span(at);
        self.problems.push(ScriptProblem::error(span, code, message, help));
    }

    fn warn(&mut self, at: Position, code: &'static str, message: impl Into<String>, help: Option<String>) {
        let span = self.parsed.places.span(at);
        self.problems.push(ScriptProblem::warning(span, code, message, help));
    }

    /// Bounds the depth of the walk itself; a deeper expression is refused.
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

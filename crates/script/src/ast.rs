//! A script as a typed tree, and the functions of the language that need only a value and the settings.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use crate::functions::Signature;
use crate::library::Library;
use crate::mutation::Change;
use crate::names::Root;
use crate::operators::{Arith, Compare};
use crate::read::Read;
use crate::value::Value;
use selfheal_model::units::parse_duration;
use selfheal_model::{Bytes, Map};

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Const(Value),
    Local(usize),
    /// A plain name and the members after it.
    Path(Root, Vec<SmolStr>),
    /// Pieces of an interpolated text.
    Interpolated(Vec<Node>),
    List(Vec<Node>),
    Map(Vec<(SmolStr, Node)>),
    Member(Box<Node>, SmolStr),
    Index(Box<(Node, Node)>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Arith(Arith, Box<(Node, Node)>),
    Compare(Compare, Box<(Node, Node)>),
    /// `item in holder`: item, then holder.
    In(Box<(Node, Node)>),
    Range(Box<(Node, Node)>, bool),
    And(Vec<Node>),
    Or(Vec<Node>),
    Coalesce(Vec<Node>),
    /// A read whose arguments are constants.
    Read(Arc<Read>),
    /// A read whose arguments are known only when the script runs.
    ComputedRead(&'static Signature, Vec<Node>),
    /// `min` or `max` of two numbers, or of a metric over a window: the kind of the first argument decides.
    MinOrMax(&'static Signature, &'static Library, Vec<Node>),
    Has(Box<Node>),
    Duration(Box<Node>),
    Size(Box<Node>),
    Setting(Box<Node>),
    Library(&'static Library, Vec<Node>),
    Call(usize, Vec<Node>),
    If(Box<(Node, Node, Node)>),
    Switch(Box<Switch>),
    /// `try`: what the body gives; nothing where it failed, as in Rhai.
    Try(Box<Try>),
    /// A function that calls a closure for each item.
    Iterate(Box<Iterate>),
    /// A function that changes a list or map in place.
    Change(Change, Target, Vec<Node>),
    Block(Vec<Statement>),
}

/// `switch subject { … }`: the first arm that matches.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    pub subject: Node,
    pub arms: Vec<Arm>,
    /// `_ =>`
    pub otherwise: Option<Node>,
}

/// One arm of a `switch`. It matches where the subject equals one of the values or lies in one of the ranges, and the
/// guard holds.
#[derive(Clone, Debug)]
pub(crate) struct Arm {
    pub values: Vec<Value>,
    pub ranges: Vec<NumberRange>,
    pub guard: Option<Node>,
    pub body: Node,
}

/// `from..to` or `from..=to` of a `switch`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberRange {
    pub from: i64,
    pub to: i64,
    pub inclusive: bool,
}

impl NumberRange {
    pub fn contains(self, number: f64) -> bool {
        let (from, to) = (self.from as f64, self.to as f64);
        number >= from && if self.inclusive { number <= to } else { number < to }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Try {
    pub body: Node,
    /// The variable of the handler that holds what was thrown.
    pub caught: Option<usize>,
    pub handler: Node,
}

/// A closure. It runs in the frame of the function that contains it, so it sees and changes that function's variables,
/// as Rhai's closures do.
#[derive(Clone, Debug)]
pub(crate) struct Closure {
    /// The variables that hold the arguments.
    pub params: Vec<usize>,
    /// The closure has no parameters and calls the item `this`; `params` has that variable.
    pub takes_this: bool,
    pub body: Node,
}

#[derive(Clone, Debug)]
pub(crate) struct Iterate {
    pub how: Iteration,
    pub holder: Node,
    /// Shared, because a closure in a variable can be used more than once.
    pub closure: Arc<Closure>,
    /// The value that `reduce` begins with.
    pub initial: Option<Node>,
}

/// The functions that call a closure for each item of a list (or entry of a map).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iteration {
    Map,
    Filter,
    Find,
    FindMap,
    IndexOf,
    Some,
    All,
    Reduce,
}

impl Iteration {
    pub const ALL: [(&'static str, Iteration); 8] = [
        ("map", Iteration::Map),
        ("filter", Iteration::Filter),
        ("find", Iteration::Find),
        ("find_map", Iteration::FindMap),
        ("index_of", Iteration::IndexOf),
        ("some", Iteration::Some),
        ("all", Iteration::All),
        ("reduce", Iteration::Reduce),
    ];

    pub fn of(name: &str) -> Option<Iteration> {
        Iteration::ALL.iter().find(|(known, _)| *known == name).map(|(_, iteration)| *iteration)
    }

    pub fn name(self) -> &'static str {
        Iteration::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// How the call is written, for help texts.
    pub fn shape(self) -> &'static str {
        match self {
            Iteration::Map => "list.map(|x| x * 2)",
            Iteration::Filter => "list.filter(|x| x > 80)",
            Iteration::Find => "list.find(|x| x > 80)",
            Iteration::FindMap => "list.find_map(|x| x.name)",
            Iteration::IndexOf => "list.index_of(|x| x > 80)",
            Iteration::Some => "list.some(|x| x > 80)",
            Iteration::All => "list.all(|x| x > 80)",
            Iteration::Reduce => "list.reduce(|sum, x| sum + x, 0)",
        }
    }

    /// How many parameters the closure has at most; with fewer, the last are left out.
    pub fn most_params(self) -> usize {
        if self == Iteration::Reduce { 3 } else { 2 }
    }
}

/// What a [`Node::Change`] changes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Place(Place),
    /// A value that no variable holds; only the result of the call matters.
    Temporary(Box<Node>),
}

/// A variable, or an element below it: `x`, `x.a[0]`.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub slot: usize,
    /// Names and indexes.
    pub path: Vec<Node>,
}

impl Place {
    /// The expression that reads the place.
    pub fn node(&self) -> Node {
        self.path.iter().fold(Node::Local(self.slot), |holder, at| Node::Index(Box::new((holder, at.clone()))))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    Let(usize, Node),
    Assign(usize, Option<Arith>, Node),
    /// `x[0] = 5`, `x.a += 1`
    AssignAt(Place, Option<Arith>, Node),
    Do(Node),
    While {
        /// `None` is `loop`.
        guard: Option<Node>,
        /// What the guard must be for another turn of the loop.
        again: bool,
        /// `do … while`: the first turn runs before the guard is evaluated.
        body_first: bool,
        body: Node,
    },
    For {
        item: usize,
        counter: Option<usize>,
        over: Node,
        body: Node,
    },
    Break(Option<Node>),
    Continue,
    Return(Option<Node>),
    Throw(Option<Node>),
}

/// A function of the policy or of the script itself.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub name: SmolStr,
    /// How many variables it has; the parameters are the first.
    pub locals: usize,
    pub body: Node,
}

/// The value at a path of names; missing where there is none.
pub(crate) fn inside<S: AsRef<str>>(map: &Map, path: &[S]) -> Value {
    let Some((first, rest)) = path.split_first() else {
        let all = map.iter().map(|(name, value)| (SmolStr::new(name), Value::from_json(value))).collect();
        return Value::map(all);
    };
    let mut value = map.get(first.as_ref());
    for name in rest {
        value = value.and_then(|value| value.get(name.as_ref()));
    }
    value.map_or(Value::Nothing, Value::from_json)
}

/// `setting("cpu_percent.critical")`
pub(crate) fn setting(settings: &Map, path: &str) -> Value {
    let parts: Vec<&str> = path.split('.').collect();
    inside(settings, &parts)
}

/// `duration("6h")` in seconds; a number is seconds already.
pub(crate) fn seconds_of(data: &Value) -> Result<Value, String> {
    match data {
        Value::Text(text) => parse_duration(text).map(|span: Duration| Value::float(span.as_secs_f64())),
        Value::Int(_) | Value::Float(_) | Value::Nothing => Ok(data.clone()),
        other => Err(format!("`duration` needs a text such as \"6h\", not {}", other.kind())),
    }
}

/// `size("2GiB")` in bytes; a number is bytes already.
pub(crate) fn bytes_of(data: &Value) -> Result<Value, String> {
    match data {
        Value::Text(text) => Bytes::parse(text).map(|size| Value::float(size.0 as f64)),
        Value::Int(_) | Value::Float(_) | Value::Nothing => Ok(data.clone()),
        other => Err(format!("`size` needs a text such as \"2GiB\", not {}", other.kind())),
    }
}

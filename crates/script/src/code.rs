//! A script as a small tree, and the few functions that only need a value and the settings.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::data::{Arith, Compare, Data};
use super::evidence::Read;
use super::functions::Signature;
use super::library::Library;
use selfheal_model::units::parse_duration;
use selfheal_model::{Bytes, Map};

/// The plain names of [`Vars`](super::Vars).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Root {
    Deployment,
    Labels,
    Value,
    Severity,
    Settings,
    Inputs,
    Steps,
    Failed,
}

#[derive(Clone, Debug)]
pub(super) enum Code {
    Const(Data),
    Local(usize),
    /// A plain name and the members after it.
    Path(Root, Vec<SmolStr>),
    /// Pieces of an interpolated text.
    Pieces(Vec<Code>),
    List(Vec<Code>),
    Map(Vec<(SmolStr, Code)>),
    Member(Box<Code>, SmolStr),
    Index(Box<(Code, Code)>),
    Not(Box<Code>),
    Negate(Box<Code>),
    Arith(Arith, Box<(Code, Code)>),
    Compare(Compare, Box<(Code, Code)>),
    /// Item and holder.
    In(Box<(Code, Code)>),
    Range(Box<(Code, Code)>, bool),
    And(Vec<Code>),
    Or(Vec<Code>),
    Coalesce(Vec<Code>),
    /// A read whose arguments are constants.
    Read(Arc<Read>),
    /// A read whose arguments are only known now.
    Ask(&'static Signature, Vec<Code>),
    /// `min` and `max` of two values, or of a metric: told apart by the first argument.
    Extreme(&'static Signature, &'static Library, Vec<Code>),
    Has(Box<Code>),
    Duration(Box<Code>),
    Size(Box<Code>),
    Setting(Box<Code>),
    Library(&'static Library, Vec<Code>),
    Call(usize, Vec<Code>),
    If(Box<(Code, Code, Code)>),
    Block(Vec<Step>),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Let(usize, Code),
    Assign(usize, Option<Arith>, Code),
    Do(Code),
    While {
        /// `None` is `loop`.
        guard: Option<Code>,
        /// What the guard must be for another round.
        again: bool,
        /// `do … while`: the first round is not asked for.
        body_first: bool,
        body: Code,
    },
    For {
        item: usize,
        counter: Option<usize>,
        over: Code,
        body: Code,
    },
    Break(Option<Code>),
    Continue,
    Return(Option<Code>),
    Throw(Option<Code>),
}

/// A function of the policy or of the script itself.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub name: SmolStr,
    /// Its parameters are the first of them.
    pub locals: usize,
    pub body: Code,
}

/// What stands under a path of names; what is not there is missing.
pub(super) fn inside<S: AsRef<str>>(map: &Map, path: &[S]) -> Data {
    let Some((first, rest)) = path.split_first() else {
        let all = map.iter().map(|(name, value)| (SmolStr::new(name), Data::from_json(value))).collect();
        return Data::map(all);
    };
    let mut value = map.get(first.as_ref());
    for name in rest {
        value = value.and_then(|value| value.get(name.as_ref()));
    }
    value.map_or(Data::Nothing, Data::from_json)
}

/// `setting("cpu_percent.critical")`
pub(super) fn setting(settings: &Map, path: &str) -> Data {
    let parts: Vec<&str> = path.split('.').collect();
    inside(settings, &parts)
}

/// `duration("6h")` in seconds; a number is seconds already.
pub(super) fn seconds_of(data: &Data) -> Result<Data, String> {
    match data {
        Data::Text(text) => parse_duration(text).map(|span: Duration| Data::float(span.as_secs_f64())),
        Data::Int(_) | Data::Float(_) | Data::Nothing => Ok(data.clone()),
        other => Err(format!("`duration` needs a text such as \"6h\", not {}", other.kind())),
    }
}

/// `size("2GiB")` in bytes; a number is bytes already.
pub(super) fn bytes_of(data: &Data) -> Result<Data, String> {
    match data {
        Data::Text(text) => Bytes::parse(text).map(|size| Data::float(size.0 as f64)),
        Data::Int(_) | Data::Float(_) | Data::Nothing => Ok(data.clone()),
        other => Err(format!("`size` needs a text such as \"2GiB\", not {}", other.kind())),
    }
}

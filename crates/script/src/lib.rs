//! The rule language of selfheal: Rhai conditions with SQL's unknown, and MiniJinja texts, over the same names and
//! functions.
//!
//! [`Condition`] is a compiled condition or number, [`Template`] a compiled text, [`ScriptHost`] compiles both kinds of
//! condition with the policy's own functions. A script reads through [`Evidence`] and [`Vars`] and sees nothing else.
//!
//! The crate must never know where evidence comes from, what an answer leads to, or the time: it has no clock, no file
//! and no random number, so the same arguments give the same answer. No input panics, overflows the stack or runs on
//! for ever: the module `limits` bounds parsing and evaluating.

mod ast;
mod common_mistakes;
mod condition;
mod evidence;
#[cfg(test)]
mod fake_evidence;
mod fast_path;
mod func;
mod functions;
mod host;
mod interpreter;
mod lexer;
mod library;
mod limits;
mod lower;
mod mutation;
mod names;
mod operators;
mod parse;
mod problem;
mod read;
#[cfg(test)]
mod rhai_oracle;
mod suggest;
mod template;
mod truth;
mod value;

pub use condition::{Condition, Expect};
pub use evidence::{Evidence, Reading, Vars};
pub use fast_path::FastPath;
pub use func::{About, Func};
pub use functions::function_names;
pub use host::ScriptHost;
pub use names::Names;
pub use problem::{ProblemSeverity, ScriptProblem};
pub use read::{Amount, Read};
pub use template::{Param, Template};
pub use truth::Truth;

//! The two languages of a policy's files: Rhai conditions and MiniJinja texts, over the same names and functions.
//!
//! Invariant: compiling and evaluating touch nothing outside their arguments. What a script can read comes through
//! [`Evidence`]; a script that runs away is cut off by the limits of [`host`].

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
mod parse;
mod problem;
mod read;
#[cfg(test)]
mod rhai_oracle;
mod suggest;
mod template;
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

use smol_str::SmolStr;

/// What a condition came to. Unknown is *no data*, never false.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Truth {
    True,
    False,
    NoData,
    /// The script failed or exceeded a limit; the text says how, for people.
    Error(SmolStr),
}

impl Truth {
    pub fn is_true(&self) -> bool {
        matches!(self, Truth::True)
    }
    pub fn is_false(&self) -> bool {
        matches!(self, Truth::False)
    }
}

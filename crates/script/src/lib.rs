//! The two languages of a policy's files: Rhai conditions and MiniJinja texts, over the same names and functions.
//!
//! Invariant: compiling and evaluating touch nothing outside their arguments. What a script can read comes through
//! [`Evidence`]; a script that runs away is cut off by the limits of [`host`].

mod code;
pub mod condition;
mod data;
pub mod evidence;
#[cfg(test)]
mod fake;
mod functions;
pub mod host;
mod library;
mod lower;
mod machine;
mod parse;
pub mod quick;
mod reference;
mod scan;
mod suggest;
pub mod template;
mod traps;

pub use condition::{Condition, Expect, Names, ProblemSeverity, ScriptProblem, Way};
pub use evidence::{About, Amount, Evidence, Func, Read, Reading, Vars};
pub use functions::function_names;
pub use host::ScriptHost;
pub use quick::Quick;
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

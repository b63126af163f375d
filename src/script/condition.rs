//! Rhai conditions: parsed once, evaluated with SQL's unknown.

use std::ops::Range;

use super::Truth;
use super::evidence::{Evidence, Read, Vars};
use super::host::ScriptHost;
use crate::model::Map;

/// What kind of answer a script must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Bool,
    Number,
}

/// The names that exist where a script stands, for checking at load.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    pub settings: Option<&'a Map>,
    /// `Some` in playbooks: the declared inputs.
    pub inputs: Option<&'a [String]>,
    /// `Some` in playbooks: the ids of the steps before this one.
    pub steps: Option<&'a [String]>,
    /// Whether the rule has a `value:`.
    pub has_value: bool,
    /// Whether `failed` exists (in `rescue`).
    pub in_rescue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemSeverity {
    Error,
    Warning,
}

/// Something wrong in a script or a text, at a byte range of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptProblem {
    pub span: Range<usize>,
    pub severity: ProblemSeverity,
    /// A stable kebab-case code: `unknown-function`, `unknown-variable`, `wrong-arguments`, `not-rhai`, …
    pub code: &'static str,
    pub message: String,
    pub help: Option<String>,
}

/// A compiled condition or value expression. Cheap to clone.
#[derive(Clone)]
pub struct Condition {}

impl Condition {
    /// # Errors
    /// Every problem found, not only the first.
    pub fn compile(
        host: &ScriptHost,
        source: &str,
        expect: Expect,
        names: &Names<'_>,
    ) -> Result<(Condition, Vec<ScriptProblem>), Vec<ScriptProblem>> {
        todo!()
    }

    pub fn source(&self) -> &str {
        todo!()
    }

    /// The reads whose arguments are constants, in order of appearance, without repeats.
    pub fn reads(&self) -> &[Read] {
        todo!()
    }

    /// Whether every read is in [`Condition::reads`]; if not, it is evaluated on every event of its scope.
    pub fn reads_are_static(&self) -> bool {
        todo!()
    }

    /// Equal for equal source under equal functions; what a reload compares.
    pub fn hash(&self) -> u64 {
        todo!()
    }

    /// Evaluates to a truth value.
    pub fn truth(&self, vars: &Vars, evidence: &dyn Evidence) -> Truth {
        todo!()
    }

    /// Evaluates to a number; `Ok(None)` is no data.
    ///
    /// # Errors
    /// The script failed, exceeded a limit or gave something else than a number.
    pub fn number(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Option<f64>, String> {
        todo!()
    }
}

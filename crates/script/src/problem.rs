//! What `check` reports about a script or a text: a place, a stable code, a sentence and a suggestion.

use std::ops::Range;

/// Whether a [`ScriptProblem`] keeps the policy from being loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemSeverity {
    /// The script or text cannot be used.
    Error,
    /// The script or text works, but probably not as its author expects, or at a cost.
    Warning,
}

/// Something wrong in a script or a text, at a byte range of its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptProblem {
    /// The bytes of the source that the problem is about.
    pub span: Range<usize>,
    /// Whether the policy can be loaded all the same.
    pub severity: ProblemSeverity,
    /// A stable kebab-case code: `unknown-function`, `unknown-variable`, `wrong-arguments`, `not-rhai`, …
    pub code: &'static str,
    /// What is wrong: one sentence, without a full stop.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

impl ScriptProblem {
    pub(crate) fn error(
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> ScriptProblem {
        ScriptProblem { span, severity: ProblemSeverity::Error, code, message: message.into(), help }
    }

    pub(crate) fn warning(
        span: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> ScriptProblem {
        ScriptProblem { span, severity: ProblemSeverity::Warning, code, message: message.into(), help }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == ProblemSeverity::Error
    }
}

//! A mistake in a policy file: where, what, why, and what to write instead.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warning,
}

/// What `check --json` prints, one per mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub file: String,
    /// 1-based.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// In characters on that line, at least 1: the length of the caret's underline.
    #[serde(skip)]
    pub length: u32,
    pub severity: Level,
    /// Stable, kebab-case: `unknown-key`, `unknown-function`, `not-built-yet`, …
    pub code: String,
    pub message: String,
    pub help: Option<String>,
    /// The source line, for the caret.
    #[serde(skip)]
    pub source_line: String,
}

/// As people read it: file, line, column, the source line, a caret, the reason and a suggestion; one after the other.
pub fn render(_diagnostics: &[Diagnostic], _colour: bool) -> String {
    todo!()
}

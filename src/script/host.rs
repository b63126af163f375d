//! The Rhai engine as conditions get it: chosen packages, the language's functions, every limit in one place.

use super::condition::ScriptProblem;

/// Compiles conditions: the rule language plus a policy's own functions (`rules/**/*.rhai`).
pub struct ScriptHost {}

impl ScriptHost {
    /// `functions`: (file, text) of every `.rhai` file.
    ///
    /// # Errors
    /// Per file, what is wrong in it.
    pub fn new(functions: &[(String, String)]) -> Result<ScriptHost, Vec<(String, ScriptProblem)>> {
        todo!()
    }
}

//! What a script can read: [`Evidence`] answers the functions, [`Vars`] holds the plain names.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::read::Read;
use selfheal_model::{Labels, Map, Severity, Timestamp, Value as Json};

/// The answer to a [`Read`]. Every number is finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// `()` in Rhai, undefined in a template.
    Missing,
    /// In the unit of the function; see [`Func`](crate::Func).
    Number(f64),
    /// The answer of a function that decides, such as `healthy`.
    Bool(bool),
    /// A word, such as a status, a reason or a label.
    Text(SmolStr),
    /// The value of a signal's field or of a fact, or a list of samples.
    Json(Json),
}

/// Answers the reads of a script for one scope at one instant. The same read gives the same answer during one
/// evaluation.
pub trait Evidence {
    /// Answers one read.
    ///
    /// # Errors
    /// The read cannot be answered here, for example because several series match; a sentence for people.
    fn read(&self, read: &Read) -> Result<Reading, String>;

    /// Called when a script has ended, with the operations that it took.
    fn spent(&self, _operations: u64) {}
}

/// The plain names that a script or text sees beside the functions.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    /// The instant of the evaluation.
    pub now: Timestamp,
    /// The deployment of the scope, where the scope has one.
    pub deployment: Option<SmolStr>,
    /// The alert's labels, or the deployment's where there is no alert.
    pub labels: Labels,
    /// The number of the rule's `value:`, in the unit of that expression.
    pub value: Option<f64>,
    /// The alert's severity, where there is an alert.
    pub severity: Option<Severity>,
    /// The policy's settings with the deployment's own on top; durations are seconds, sizes bytes.
    pub settings: Arc<Map>,
    /// The inputs of the playbook's run.
    pub inputs: Map,
    /// `steps.ID` → `{outcome, class, message, output, seconds}`
    pub steps: Map,
    /// `failed.id`, `failed.message`, in `rescue` only.
    pub failed: Option<Map>,
}

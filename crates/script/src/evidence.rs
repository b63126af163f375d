//! What scripts can read: one question type for every function of the rule language.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::read::Read;
use selfheal_model::{Labels, Map, Severity, Timestamp, Value as Json};

/// The answer to a [`Read`]. Every number is finite.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// `()` in Rhai, undefined in a template.
    Missing,
    Number(f64),
    Bool(bool),
    Text(SmolStr),
    /// A list or map out of a signal's field or a fact.
    Json(Json),
}

/// Answers reads for one scope at one instant.
pub trait Evidence {
    /// # Errors
    /// The read makes no sense here (ambiguous series, malformed selector); a sentence for people.
    fn read(&self, read: &Read) -> Result<Reading, String>;

    /// Hears how many operations a script took when it has ended.
    fn spent(&self, _operations: u64) {}
}

/// The plain names a script or text sees, beside the functions.
#[derive(Clone, Debug, Default)]
pub struct Vars {
    pub now: Timestamp,
    pub deployment: Option<SmolStr>,
    /// The alert's labels, or the deployment's where there is no alert.
    pub labels: Labels,
    pub value: Option<f64>,
    pub severity: Option<Severity>,
    /// The policy's settings with the deployment's own on top; durations are seconds, sizes bytes.
    pub settings: Arc<Map>,
    pub inputs: Map,
    /// `steps.ID` → `{outcome, class, message, output, seconds}`
    pub steps: Map,
    /// `failed.id`, `failed.message`, in `rescue` only.
    pub failed: Option<Map>,
}

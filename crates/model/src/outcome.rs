//! What an adapter's call came to. Never a bool: "no" and "nobody knows" are different answers.

use serde::{Deserialize, Serialize};

use super::{Event, Facts, Value};

/// Why a call failed, which decides what may follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// The same call may work later: `retry` applies.
    Transient,
    Permanent,
    /// Credentials were refused: one `refresh_auth`, one retry.
    Unauthorized,
    /// The adapter does not have this verb for this target.
    Unsupported,
    /// The target is already so, or something else holds it.
    Conflict,
}

impl FailureClass {
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Transient => "transient",
            FailureClass::Permanent => "permanent",
            FailureClass::Unauthorized => "unauthorized",
            FailureClass::Unsupported => "unsupported",
            FailureClass::Conflict => "conflict",
        }
    }
}

/// The end of one attempt of a verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// `output` is at most [`Outcome::MAX_OUTPUT`] bytes as text. `facts` and `events` are what the call found out.
    Done {
        output: Value,
        facts: Facts,
        events: Vec<Event>,
    },
    Failed {
        class: FailureClass,
        why: String,
    },
    /// It may or may not have happened (a time-out after the request was sent). Never blindly repeated.
    Unknown {
        why: String,
    },
}

impl Outcome {
    /// The engine keeps at most this much of an output; the rest belongs to history.
    pub const MAX_OUTPUT: usize = 4 * 1024;

    pub fn done(output: impl Into<Value>) -> Self {
        Outcome::Done { output: output.into(), facts: Facts::default(), events: Vec::new() }
    }

    pub fn failed(class: FailureClass, why: impl Into<String>) -> Self {
        Outcome::Failed { class, why: why.into() }
    }

    pub fn unknown(why: impl Into<String>) -> Self {
        Outcome::Unknown { why: why.into() }
    }

    /// `done`, `failed` or `unknown`, as the API and `steps.ID.outcome` say it.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Done { .. } => "done",
            Outcome::Failed { .. } => "failed",
            Outcome::Unknown { .. } => "unknown",
        }
    }
}

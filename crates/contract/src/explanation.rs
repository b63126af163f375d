//! Why something happened, and why it did not: for one rule and one scope, all that was looked at.

use serde::Serialize;
use smol_str::SmolStr;

use crate::view::{AlertView, GuardView, RunView};
use selfheal_model::{Labels, RuleName, Severity, Timestamp};

/// One rule for one scope.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub rule: RuleName,
    pub scope: Labels,
    pub at: Timestamp,
    /// Where the rule stands: `rules/web.yaml:3`.
    pub source: Option<String>,
    /// The story in sentences, what matters most first.
    pub because: Vec<String>,
    pub levels: Vec<LevelExplained>,
    /// What its conditions read, with what that comes to.
    pub reads: Vec<Part>,
    pub value: Option<f64>,
    pub alert: Option<AlertView>,
    pub timers: Vec<TimerExplained>,
    pub ladder: Option<LadderExplained>,
}

/// One level of a rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelExplained {
    pub severity: Severity,
    pub when: Part,
    /// The parts of `when` that `&&` and `||` join, where there are several.
    pub parts: Vec<Part>,
    pub clear_when: Option<Part>,
    /// `for`, in seconds.
    pub for_seconds: f64,
    pub keep_firing_for_seconds: f64,
}

/// A piece of a script and what it comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub text: String,
    /// `true`, `false`, a number, a text, `no data`, or why it fails.
    pub comes_to: String,
}

/// Something that will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimerExplained {
    pub what: String,
    pub at: Timestamp,
}

/// The repair of an alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LadderExplained {
    /// `waiting working resting exhausted stopped idle`
    pub state: SmolStr,
    pub rungs: Vec<RungExplained>,
    /// What every guard says now of the rung that is next or at work, each with its figures.
    pub guards: Vec<GuardView>,
}

/// One rung with what was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RungExplained {
    pub playbook: String,
    /// The one that is next or at work.
    pub current: bool,
    pub runs: Vec<RunView>,
}

//! A rule as written: what it watches, when it is true, how bad that is.
//!
//! Invariant: a `Rule` has at least one level, in ascending severity; its names resolve; its scripts compile.

use std::time::Duration;

use smol_str::SmolStr;

use selfheal_model::{Labels, RuleName, Selector, Severity, SourceRef};
use selfheal_script::{Condition, Template};

/// One alerting rule.
#[derive(Clone)]
pub struct Rule {
    pub name: RuleName,
    pub source: SourceRef,
    pub description: String,
    pub select: Selector,
    /// Scope labels: `[deployment]`, `[]` for the whole fleet, `[region]`, `[deployment, mount]`.
    pub per: Vec<SmolStr>,
    /// The number the alert carries.
    pub value: Option<Condition>,
    /// Ascending severity, at least one. A plain `when:` is one level.
    pub levels: Vec<Level>,
    pub no_data: NoData,
    pub cooldown: Duration,
    pub labels: Labels,
    pub summary: Option<Template>,
    pub annotations: Vec<(SmolStr, Template)>,
    pub mode: RuleMode,
    /// Upkeep: nobody is told unless a run fails or is refused for long; recurrence and storm do not count it.
    pub routine: bool,
    /// Over everything that decides the rule's answer (scripts, functions, scope, settings): a reload re-evaluates
    /// when this changed.
    pub hash: u64,
}

/// One severity of a rule with its own condition and timings.
#[derive(Clone)]
pub struct Level {
    pub severity: Severity,
    pub when: Condition,
    /// `None`: clear is `when` known to be false.
    pub clear_when: Option<Condition>,
    pub for_: Duration,
    pub keep_firing_for: Duration,
}

/// What a firing alert does when its condition has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NoData {
    #[default]
    Keep,
    Resolve,
    /// Keep it, and raise the built-in alert `NoData`.
    Alert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RuleMode {
    #[default]
    Live,
    /// Evaluated and recorded; nobody is told, nothing is done.
    Shadow,
}

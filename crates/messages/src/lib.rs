//! The messages between the two halves of the engine: detect says what is true, respond says what it wants to know.
//!
//! Messages of one sender arrive once and in the order in which they were sent; nothing is promised about when. No message
//! relies on an answer in the same turn: respond keeps what it has asked (its module `queries`), and an answer that comes
//! late, to a query that no longer matters, or never, has a defined result.
//!
//! This crate holds data only. It must never know how either half works, nor how messages travel.

mod query;
mod watch;

pub use query::{
    Answer, Context, Finding, LevelRef, Params, Query, QueryId, QueryKind, RenderedMaterial, RenderedParam,
    RenderedParams, RenderedText, StepMaterial,
};
pub use watch::{Generation, Sighting, Watch, WatchId, WatchSubject};

use selfheal_model::{AlertKey, CheckName, DeploymentId, Facts, Health, Labels, RuleName, Severity, Timestamp};
use selfheal_policy::playbook::SetCheck;
use selfheal_script::Truth;

/// A message from detect to respond.
#[derive(Clone, Debug)]
pub enum ToRespond {
    /// A rule's answer for one scope changed. Never sent while the rule is quiet there: all levels clear or without data
    /// before.
    Rule(RuleAnswer),
    /// The answer to a query.
    Answer { id: QueryId, answer: Answer },
    /// The truth of a watched condition: first when the watch begins, then whenever it changes.
    Watched { id: WatchId, generation: Generation, at: Timestamp, seen: Sighting },
    /// A deployment's smoothed health changed.
    Health(DeploymentHealth),
    /// A deployment was observed; these are its facts.
    Facts { deployment: DeploymentId, facts: Facts },
    /// A rule exceeds its budget of operations and is evaluated at a fixed interval from now on (`why` says so), or no longer
    /// does.
    Slow { rule: RuleName, why: Option<String> },
    /// The present state of an alert that another system posts.
    Posted(Box<PostedNow>),
    /// The scope is gone: its deployment was removed, or its rule.
    ScopeGone { key: AlertKey },
    /// Events were refused in this span, which is over.
    Unwatched(Unwatched),
}

/// A message from respond to detect.
#[derive(Clone)]
pub enum ToDetect {
    /// An alert began or ceased to count for `firing(rule)`. Alerts of shadow rules never count.
    Firing { key: AlertKey, firing: bool },
    /// Evaluate, and send the [`Answer`].
    Query(Query),
    /// Report the condition's truth until [`ToDetect::Unwatch`].
    Watch(Watch),
    /// End this watch; a watch of another generation goes on.
    Unwatch { id: WatchId, generation: Generation },
    /// Use other settings for a check for a while.
    SetCheck { deployment: DeploymentId, set: SetCheck },
    /// Take in an event of the engine's own (a run's signal) like any other.
    Emit(selfheal_model::Event),
}

/// The answer of a rule for one scope.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RuleAnswer {
    pub key: AlertKey,
    pub at: Timestamp,
    /// The hash of the rule that was evaluated. An answer of a rule that was edited since counts for nothing: the answer of
    /// the edited rule follows.
    pub rule_hash: u64,
    /// One per level of the rule, in the rule's order.
    pub levels: Vec<LevelAnswer>,
    pub value: Option<f64>,
    /// The instant of the newest evidence read; where time alone made it true, that instant.
    pub evidence: Timestamp,
    /// Something it read may have gone on unseen: until that changes, time proves nothing.
    pub blind: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LevelAnswer {
    pub when: Truth,
    /// `clear_when`, or the contrary of `when` where there is none.
    pub clear: Truth,
}

/// A span in which events were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwatched {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// A span that is not longer than this counts as watched.
pub const UNWATCHED_COUNTS: std::time::Duration = std::time::Duration::from_secs(30);

/// An alert from elsewhere that is over is remembered for so long, for the runs that wait to hear it; one that ran out may come
/// again for as long.
pub const POSTED_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// An alert from elsewhere, as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct PostedNow {
    pub key: AlertKey,
    pub at: Timestamp,
    /// No data: it was not posted again in time. False: it is over, or ran out.
    pub stands: Truth,
    pub severity: Severity,
    pub annotations: Labels,
    pub generator_url: String,
    /// Since when it stands, as whoever raised it says.
    pub began_at: Option<Timestamp>,
    /// When it was posted last.
    pub evidence: Timestamp,
    /// It is over only because nobody posts it any more.
    pub ran_out: bool,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeploymentHealth {
    pub deployment: DeploymentId,
    pub at: Timestamp,
    pub health: Health,
    /// Each check's smoothed verdict, in order of name.
    pub checks: Vec<(CheckName, Health)>,
    /// Replicas that some check calls unhealthy, ascending.
    pub sick_replicas: Vec<u32>,
    /// Checks that change their mind all the time, with the part of changes in percent.
    pub flapping: Vec<(CheckName, u8)>,
}

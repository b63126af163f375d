//! The messages between the two halves: detect says what is true, judge says what it wants to know.

use selfheal_model::{
    AlertKey, CheckName, DeploymentId, Facts, Health, Labels, Map, RuleName, RunId, Severity, StepId, Timestamp,
};
use selfheal_policy::playbook::SetCheck;
use selfheal_script::{Condition, Param, Template, Truth};

/// detect → judge
#[derive(Clone, Debug)]
pub enum ToJudge {
    /// A rule's answer for one scope changed (never sent while it is quiet: all clear and no data before).
    Answer(RuleAnswer),
    /// The reply to [`ToDetect::Ask`], in the order of its questions. Comes in the same turn.
    Told { id: AskId, replies: Vec<Reply> },
    /// A watched condition's truth, first at once, then whenever it changes.
    Watched { id: WatchId, at: Timestamp, seen: Sighted },
    /// A deployment's smoothed health changed.
    Health(DeploymentHealth),
    /// New facts of a deployment.
    Facts { deployment: DeploymentId, facts: Facts },
    /// A rule costs too much and is asked on a slow beat from now on, or no longer.
    Slow { rule: RuleName, why: Option<String> },
    /// What another system says of an alert of its own now.
    Posted(Box<PostedNow>),
    /// The scope is no longer there (deployment removed, rule gone).
    ScopeGone { key: AlertKey },
}

/// What a watched condition comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighted {
    pub truth: Truth,
    /// What it reads may have gone on unseen, so that nothing is known and time proves nothing.
    pub blind: bool,
}

/// What a rule says about one scope now.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RuleAnswer {
    pub key: AlertKey,
    pub at: Timestamp,
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

/// A span in which what was sent was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwatched {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Shorter than this it is as if everything had been watched.
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

/// judge → detect
#[derive(Clone)]
pub enum ToDetect {
    /// An alert began or stopped to count for `firing(rule)`. Shadow alerts never count.
    Firing {
        key: AlertKey,
        firing: bool,
    },
    /// Evaluate now, answer in this turn.
    Ask(Ask),
    /// Keep answering until [`ToDetect::Unwatch`].
    Watch(Watch),
    Unwatch(WatchId),
    /// A check gets other figures for a while.
    SetCheck {
        deployment: DeploymentId,
        set: SetCheck,
    },
    /// An event of the engine's own (a run's signal), to be taken in like any other.
    Emit(selfheal_model::Event),
}

/// Who asks; comes back in the reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum AskId {
    /// The texts (summary, then annotations) of an alert.
    AlertTexts(AlertKey),
    /// For a step about to begin: see the run's own state for what was asked.
    Step { run: RunId, step: StepId },
    /// For a run about to begin.
    Rung(RunId),
    /// For a run of a schedule about to begin.
    Scheduled(RunId),
    /// Which deployment a rung is for.
    On(AlertKey),
    /// For a run asked for by hand.
    Trigger { ticket: u64 },
}

/// Which condition is watched for whom. One run watches at most one thing at a time, and so does one ladder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum WatchId {
    /// `verify` of a run.
    Verify(RunId),
    /// A `wait: { until }` step of a run.
    Wait(RunId),
    /// What came of a rung for several deployments.
    Rung(AlertKey),
}

/// The scope and names a question is answered in.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Context {
    pub deployment: Option<DeploymentId>,
    /// The alert the question is about.
    pub alert: Option<AlertKey>,
    /// The labels scripts see.
    pub labels: Labels,
    pub value: Option<f64>,
    pub severity: Option<Severity>,
    pub inputs: Map,
    pub steps: Map,
    pub failed: Option<Map>,
    /// Only evidence from after this counts: windows are cut, earlier verdicts and signals are not seen.
    pub cut: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Ask {
    pub id: AskId,
    pub context: Context,
    pub questions: Vec<Question>,
}

#[derive(Clone)]
pub enum Question {
    Condition(Condition),
    /// Is the rule's level true for the context's alert, on data, right now?
    Level {
        rule: RuleName,
        severity: Severity,
    },
    Text(Template),
    /// Parameters of a step or rung, rendered together.
    Params(Vec<(String, Param)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// With the instant of the newest evidence read.
    Truth {
        truth: Truth,
        evidence: Timestamp,
    },
    Text(Result<String, String>),
    Params(Result<Map, String>),
}

#[derive(Clone)]
pub struct Watch {
    pub id: WatchId,
    pub context: Context,
    pub what: Watched,
}

#[derive(Clone)]
pub enum Watched {
    Condition(Condition),
    /// The rule's level is clear: `clear_when`, else `when` known to be false.
    Clear {
        rule: RuleName,
        severity: Severity,
    },
}

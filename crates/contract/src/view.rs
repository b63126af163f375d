//! What the outside may see: plain, serialisable pictures of the engine's state. The API's JSON is these types.

use serde::Serialize;
use smol_str::SmolStr;

use crate::Diagnostic;
use crate::Guard;
use crate::notification::RemediationFacts;
use selfheal_model::{
    AdapterName, ApprovalId, DeliveryId, DeploymentId, Facts, Health, Labels, Map, PlaybookName, ReceiverName, Replica,
    RunId, Severity, StepId, Timestamp, Value,
};

/// A change the read model takes over: each view replaces the one with the same id.
#[derive(Clone, Debug)]
pub enum Change {
    Alert(Box<AlertView>),
    Run(Box<RunView>),
    Deployment(Box<DeploymentView>),
    DeploymentGone(DeploymentId),
    Delivery(Box<DeliveryView>),
    Engine(Box<EngineView>),
    Approval(Box<ApprovalView>),
    Silence(Box<SilenceView>),
    SilenceGone(SmolStr),
    /// A line for the audit: who did what.
    Audit(AuditEntry),
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct AlertView {
    pub id: SmolStr,
    pub alert: String,
    pub labels: Labels,
    /// `pending firing resolved cooldown ended`
    pub state: AlertStateWord,
    /// Why it is held back: `shadow silence inhibition dependency acknowledgement`, the first that holds; `null` when it is not.
    pub suppressed: Option<SmolStr>,
    /// By what it is held back, all of it.
    #[serde(default)]
    pub held: Option<Box<HeldView>>,
    pub severity: Severity,
    pub value: Option<f64>,
    pub summary: String,
    pub annotations: Labels,
    /// When its condition first held in this episode.
    pub started_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub relapse: u32,
    pub without_data: bool,
    /// The rule's script fails: how.
    pub error: Option<String>,
    /// Of one from elsewhere: where whoever raised it shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
    pub remediation: Option<RemediationFacts>,
}

/// What holds a firing alert back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct HeldView {
    pub silenced_by: Vec<SmolStr>,
    /// A firing alert inhibits it.
    pub inhibited: bool,
    pub acknowledged: Option<AckView>,
    /// What it depends on explains it.
    #[serde(default)]
    pub dependency: Option<DependencyView>,
}

/// How an alert stands to an outage of what its deployment depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct DependencyView {
    /// `held`; `grace`: the root is back, and the alert may end by itself; `told`: held for as long as anything is.
    pub state: SmolStr,
    pub root: DeploymentId,
    /// `is unhealthy`
    pub why: String,
    pub out_since: Timestamp,
    pub back_at: Option<Timestamp>,
    pub held_since: Timestamp,
    /// When it is told at the latest; `null`: it was.
    pub until: Option<Timestamp>,
}

impl DependencyView {
    /// People are not told because of it.
    pub fn mutes(&self) -> bool {
        self.until.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct AckView {
    pub by: String,
    pub at: Timestamp,
    /// Taken over: its ladder stops.
    pub take: bool,
    pub comment: String,
}

/// A silence; times are by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct SilenceView {
    pub id: SmolStr,
    pub state: SilenceState,
    pub matchers: Vec<String>,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub created_by: String,
    pub comment: String,
    pub annotations: Labels,
    pub updated_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SilenceState {
    Pending,
    Active,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStateWord {
    Pending,
    Firing,
    Resolved,
    /// Its rule or scope is gone.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct RunView {
    pub id: RunId,
    pub playbook: PlaybookName,
    pub deployment: DeploymentId,
    /// The short id of the alert it works for.
    pub alert: Option<SmolStr>,
    pub alert_name: Option<String>,
    /// `rule:NAME`, `schedule:NAME` or `operator:NAME`
    pub cause: String,
    /// The question that waits for a person.
    pub approval: Option<ApprovalId>,
    pub approved_by: Option<String>,
    /// What every guard said when they were asked last.
    pub guards: Vec<GuardView>,
    /// `waiting approving running verifying ended`
    pub state: SmolStr,
    pub verdict: Option<SmolStr>,
    /// The guard that refused it and its figures.
    pub refused: Option<RefusalView>,
    pub why: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub steps: Vec<StepView>,
    pub policy: SmolStr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct RefusalView {
    pub guard: Guard,
    pub figures: String,
    pub may_pass: bool,
}

/// What one guard said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct GuardView {
    pub guard: Guard,
    /// Which deployment it is about; `null`: the run as a whole.
    pub of: Option<DeploymentId>,
    pub allows: bool,
    /// A person has overruled its no.
    pub overridden: bool,
    pub figures: String,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct ApprovalView {
    pub id: ApprovalId,
    pub run: RunId,
    pub playbook: PlaybookName,
    pub deployment: DeploymentId,
    pub alert: Option<SmolStr>,
    pub alert_name: Option<String>,
    /// `null`: before the run begins.
    pub step: Option<StepId>,
    pub ask: Option<ReceiverName>,
    /// The role whose holders may answer.
    pub by: SmolStr,
    /// What would be done, as a sentence goes on after "May selfheal".
    pub what: String,
    /// The parameters it is asked for.
    pub shown: Map,
    pub state: ApprovalState,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    pub answered_by: Option<String>,
    pub answered_at: Option<Timestamp>,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    Waiting,
    Approved,
    Denied,
    /// Nobody answered in time, which is a no.
    Expired,
    /// It was wanted no more.
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct StepView {
    pub id: String,
    /// The verb, or `wait assert check notify signal`.
    pub action: String,
    /// `steps rescue finally undo`
    pub section: SmolStr,
    /// `running done failed unknown skipped`
    pub outcome: SmolStr,
    pub class: Option<SmolStr>,
    pub message: Option<String>,
    pub output: Option<Value>,
    pub log: Option<String>,
    pub attempts: u32,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct DeploymentView {
    pub id: DeploymentId,
    pub labels: Labels,
    pub adapter: Option<AdapterName>,
    /// Listed in the policy, or registered by an event.
    pub listed: bool,
    pub health: Health,
    pub checks: Vec<CheckView>,
    pub facts: Facts,
    pub replicas: Vec<Replica>,
    /// Why the last observation failed, if it did.
    pub observe_error: Option<String>,
    /// Newest value of each metric, by `name{labels}`.
    pub metrics: Vec<(String, f64)>,
    pub last_event_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct CheckView {
    pub name: String,
    pub replica: Option<u32>,
    pub raw: SmolStr,
    pub smoothed: Health,
    pub message: String,
    pub latency_ms: Option<f64>,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct DeliveryView {
    pub id: DeliveryId,
    pub receiver: ReceiverName,
    /// `email` or `webhook`
    pub notifier: SmolStr,
    pub subject: String,
    /// What it is about, each once.
    pub deployments: Vec<DeploymentId>,
    pub rules: Vec<String>,
    /// `pending delivered undelivered`, or `merged`: its words went out with a later one.
    pub state: SmolStr,
    pub attempts: u32,
    pub error: Option<String>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// The engine as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct EngineView {
    pub policy_version: SmolStr,
    pub policy_loaded_at: Timestamp,
    /// Of the last save, if it did not compile.
    pub policy_errors: Vec<Diagnostic>,
    pub rules: usize,
    pub playbooks: usize,
    pub paused: Option<PauseView>,
    /// Deployments that are not repaired for a while, by a person's word.
    #[serde(default)]
    pub maintenance: Vec<MaintenanceView>,
    pub guard_mode: SmolStr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct PauseView {
    pub by: String,
    pub reason: String,
    pub since: Timestamp,
}

/// A time in which some deployments are not repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct MaintenanceView {
    pub id: SmolStr,
    /// All of them must match a deployment's labels.
    pub matchers: Vec<String>,
    pub by: String,
    pub reason: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub who: String,
    pub what: String,
}

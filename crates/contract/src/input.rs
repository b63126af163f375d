//! Everything the engine ever learns.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use selfheal_model::{
    ApprovalId, DeploymentId, Facts, Labels, Map, Outcome, PlaybookName, Replica, RunId, Selector, StepAttemptId,
    Timestamp,
};

/// An abrupt end of one version and the start of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The engine version that decided.
    pub from: u32,
    pub batches: u64,
    /// Steps that it started and this engine would not have: their runs are not known to it.
    pub unknown_steps: Vec<StepAttemptId>,
}

/// Why nothing was watched for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gap {
    /// selfheal itself was not there. Steps and deliveries under way then may or may not have happened: nobody will
    /// report their end.
    Stopped,
    /// It was there all the time and saw nothing: a suspended machine, a step of the clock.
    Blind,
}

/// The state of what the journal writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    Working,
    Failing { why: String },
}

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intake {
    Whole,
    /// More comes than is taken: some of it is refused.
    Shedding,
    /// Some was refused in a burst that came and went since the last input.
    Shed,
}

/// How one attempt of a step ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepEnd {
    pub id: StepAttemptId,
    pub outcome: Outcome,
    /// The last of the step's log, for people; at most [`Outcome::MAX_OUTPUT`] bytes.
    pub log: String,
    pub took: Duration,
}

/// One attempt's result at a notifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeliveryResult {
    Delivered,
    /// May work later; not before `retry_after`, where the peer said so.
    Transient {
        why: String,
        retry_after: Option<Duration>,
    },
    /// Will not work: a 4xx other than 408 and 429, a refused recipient.
    Permanent {
        why: String,
    },
}

/// What an adapter sees of a deployment at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub facts: Facts,
    pub replicas: Vec<Replica>,
    /// Samples the adapter measured (`cpu_percent`, `memory_bytes`, …), with labels.
    pub metrics: Vec<(selfheal_model::MetricName, f64, selfheal_model::Labels)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// Who said it, for the audit.
    pub who: String,
    pub command: OperatorCommand,
    /// Answers go out as `Effect::Answer` with this number.
    pub ticket: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OperatorCommand {
    /// Runs a playbook on a deployment under every guard.
    Trigger {
        playbook: PlaybookName,
        deployment: DeploymentId,
        with: Map,
        reason: String,
        /// Guards that do not hold for this run, by name; with a reason. Former journals have none.
        #[serde(default)]
        overrides: Vec<String>,
    },
    /// Stops all automatic action until resumed; durable, with owner and reason.
    Pause {
        reason: String,
    },
    Resume {
        reason: String,
    },
    /// No automatic repair of these deployments for a while; durable, with owner and reason.
    Maintain {
        select: Selector,
        for_: Duration,
        reason: String,
    },
    /// Ends a maintenance before its time.
    EndMaintenance {
        id: SmolStr,
    },
    /// Puts a playbook that its breaker took out of service back.
    ResetPlaybook {
        playbook: PlaybookName,
        reason: String,
    },
    Approve {
        approval: ApprovalId,
        reason: String,
    },
    Deny {
        approval: ApprovalId,
        reason: String,
    },
    /// A ladder that stopped or came to its end goes on; the alert by its short id.
    Retry {
        alert: SmolStr,
        reason: String,
    },
    /// Cancels a run: its acting step is cancelled, `finally` runs.
    CancelRun {
        run: RunId,
        reason: String,
    },
    /// Keeps people from being told of the alerts that match, for a while.
    Silence(SilenceAsked),
    ExpireSilence {
        id: SmolStr,
    },
    /// Somebody knows of this episode of an alert, by its short id: it is not repeated.
    Ack {
        alert: SmolStr,
        /// Takes it over: its ladder stops, too.
        take: bool,
        comment: String,
    },
    Unack {
        alert: SmolStr,
    },
}

/// A silence as it was asked for; times are by the wall clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceAsked {
    /// Changes this one.
    pub id: Option<SmolStr>,
    pub matchers: Selector,
    /// `None`: now, or when it was to start before.
    pub starts_at: Option<Timestamp>,
    pub ends: SilenceEnd,
    pub comment: String,
    /// `repair: "true"` lets repair go on.
    pub annotations: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SilenceEnd {
    At(Timestamp),
    /// So long after its start, or after now if it has begun.
    After(Duration),
}

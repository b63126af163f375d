//! Everything the engine wants done, one attempt each. The driver releases them; an edge tries once.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::view::Change;
use crate::notification::Notification;
use crate::receiver::Notifier;
use selfheal_model::{
    AdapterDef, CheckName, DeliveryId, Deployment, DeploymentId, Event, Facts, Map, ReceiverName, Replica, Source,
    StepAttemptId, Timestamp, Verb,
};

pub enum Effect {
    /// Call an adapter's verb once.
    StartStep(Box<StepCall>),
    /// The step is no longer wanted; its end is still awaited.
    CancelStep { id: StepAttemptId, deployment: DeploymentId },
    /// Try to deliver one notification to one notifier, once.
    Deliver(Box<Delivery>),
    /// Look at a deployment now, besides the rhythm of `Desired`.
    Observe { deployment: DeploymentId },
    /// Run this check now; its verdicts come as events, then `Input::Probed`.
    Probe { deployment: DeploymentId, check: CheckName, attempt: StepAttemptId },
    /// What should run at the edges; sent whole whenever any of it changed.
    Desired(Arc<Desired>),
    /// An event the engine itself makes known (`run_not_cured`, a playbook's `signal` step): already handled by the
    /// engine in the same turn, released for history and log.
    Emitted(Event),
    /// Something for the read model and history.
    Show(Change),
    /// The answer to an operator's word.
    Answer { ticket: u64, answer: Result<OperatorAnswer, String> },
}

/// What an operator's word came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorAnswer {
    /// The run exists and is queued or under way.
    Run(selfheal_model::RunId),
    /// What was made, by its id.
    Id(SmolStr),
    Ok,
}

/// Which attempt of how many this is, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    pub of: u32,
}

/// One call of one verb.
#[derive(Clone)]
pub struct StepCall {
    pub id: StepAttemptId,
    pub attempt: Attempt,
    pub deployment: Arc<Deployment>,
    pub adapter: Arc<AdapterDef>,
    pub verb: Verb,
    /// Rendered once, the same in every attempt.
    pub params: Map,
    /// The newest facts the engine has.
    pub facts: Facts,
    /// Replicas whose checks are unhealthy, for verbs that take `replicas: sick`.
    pub sick_replicas: Vec<u32>,
    /// Grows with every lease: an adapter refuses a smaller one than it has seen.
    pub fence: u64,
    /// The call's deadline from its release.
    pub timeout: Duration,
    /// Not begun after this: a decision taken before an outage is not acted on after it.
    pub not_after: Timestamp,
}

impl StepCall {
    /// Tells an adapter that it has seen this very call before. The fence is part of it: it grows over restarts, which
    /// begin to number runs anew.
    pub fn idempotency_key(&self) -> String {
        format!("{}@{}", self.id, self.fence)
    }
}

/// One attempt at one notification.
#[derive(Clone)]
pub struct Delivery {
    pub id: DeliveryId,
    /// 1-based.
    pub attempt: u32,
    pub receiver: ReceiverName,
    pub notifier: Notifier,
    pub notification: Arc<Notification>,
}

/// What should be running at the edges.
#[derive(Clone, Default)]
pub struct Desired {
    pub deployments: Vec<DesiredDeployment>,
    /// Places to ask for metrics.
    pub sources: Vec<Arc<Source>>,
    /// Labels that say whose a foreign sample is, in the order they are looked at.
    pub deployment_from: Arc<[SmolStr]>,
}

#[derive(Clone)]
pub struct DesiredDeployment {
    pub deployment: Arc<Deployment>,
    /// `None`: watched only.
    pub adapter: Option<Arc<AdapterDef>>,
    /// As last observed, so that per-replica checks know their ports.
    pub replicas: Vec<Replica>,
}

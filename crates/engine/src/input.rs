//! Everything the engine ever learns.

use std::sync::Arc;

use selfheal_contract::{DeliveryResult, Diagnostic, Gap, Intake, Observation, Operator, StepEnd, Storage, Upgraded};
use selfheal_model::{CheckName, DeliveryId, DeploymentId, Event, PostedAlert, StepAttemptId, Timestamp};
use selfheal_policy::Policy;

pub enum Input {
    /// Parsed, bounded, placed in time. In order of arrival.
    Events(Vec<Event>),
    /// A whole new policy; state is kept.
    PolicyReplaced(Arc<Policy>),
    /// A save that did not compile; the old policy stays. Raises `PolicyInvalid`, ended by the next good one.
    PolicyInvalid(Vec<Diagnostic>),
    /// The end of a step's attempt.
    StepEnded(StepEnd),
    /// The end of one delivery attempt.
    DeliveryEnded { id: DeliveryId, attempt: u32, result: DeliveryResult },
    /// Alerts that another system raised, each posted again and again while it stands.
    Posted(Vec<PostedAlert>),
    /// What an adapter saw, asked for by `Effect::Observe` or by its own rhythm.
    Observed { deployment: DeploymentId, observation: Result<Observation, String> },
    /// A probe asked for by `Effect::Probe` has run; its verdicts came as events before this.
    Probed { deployment: DeploymentId, check: CheckName, attempt: StepAttemptId },
    /// A person's or program's word through API or command line.
    Operator(Operator),
    /// Time passed; nothing else happened.
    Tick,
    /// Nothing was watched between the two.
    Resumed { from: Timestamp, to: Timestamp, because: Gap },
    /// The wall clock is now so far ahead of the engine's time, negative when behind. Events say when by the wall.
    ClockMoved { offset_ms: i64 },
    /// Whether what happens can be written down. While it cannot, no action is taken and what is said is marked as
    /// perhaps said before.
    Storage(Storage),
    /// Whether all that is sent is taken in.
    Intake(Intake),
    /// Recovery came to other decisions than the journal has: automation is paused and people are told.
    Diverged { why: String },
    /// Recovery folded batches that an engine of another version had decided on, so that what this one knows is not
    /// quite what was done and said. People get one message about it.
    Upgraded(Upgraded),
    /// The driver is shutting down: no new acting step begins.
    Draining,
}

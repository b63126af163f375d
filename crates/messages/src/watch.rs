//! Watches: conditions that detect evaluates again whenever something they read changes, until respond ends the watch.

use super::{Context, LevelRef};
use selfheal_model::{AlertKey, RunId};
use selfheal_script::{Condition, Truth};

/// Who watches. A run watches at most one condition at a time, and so does a ladder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum WatchId {
    /// The verification of a run.
    Verify(RunId),
    /// A `wait: { until }` step of a run.
    Wait(RunId),
    /// The verification of a rung for several deployments.
    Rung(AlertKey),
}

/// Tells the watches of one [`WatchId`] apart: each watch gets a higher number than the one before. A sighting of an older
/// generation belongs to a watch that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Generation(pub u64);

/// The order to watch a condition. It takes the place of an older watch with the same id.
#[derive(Clone)]
pub struct Watch {
    pub id: WatchId,
    pub generation: Generation,
    pub context: Context,
    pub subject: WatchSubject,
}

/// What a watch evaluates.
#[derive(Clone)]
pub enum WatchSubject {
    Condition(Condition),
    /// Whether the level is clear: its `clear_when`, or its `when` known to be false where it has none.
    Clear(LevelRef),
}

/// The result of a watched condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    pub truth: Truth,
    /// Events that the condition reads may have been refused, so that the absence of events proves nothing.
    pub blind: bool,
}

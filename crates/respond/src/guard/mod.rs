//! Guards: limits outside the playbooks that can refuse a run, always with a reason and its figures.
//!
//! A decision is a pure function of the limits and of a [`Situation`]: what the engine knows at
//! that moment. Invariant: every guard is asked, in the order of SPEC §5.2, and every answer carries its figures.

mod ask;
mod limits;
mod refusal;
mod situation;
#[cfg(test)]
mod tests;

pub use ask::{Answer, Answers, ask, frozen, group_name, mode, stale};
pub use limits::{Breaker, Circuit, StormWatch};
pub use refusal::{GroupTrouble, HeldBy, NotThere, Observed, Outage, Refusal};
pub use situation::{
    FlappingCheck, Grace, Group, LadderSituation, PlaybookSituation, SensorSituation, Situation, TargetSituation,
};

//! Ladders: the ordered playbooks of a rule, and what the end of a run means for the next rung.

use std::time::Duration;

use crate::model::{DeploymentId, PlaybookName, RuleName, Selector};
use crate::script::{Condition, Param};

/// The rungs for one rule at one severity, at least one.
#[derive(Clone)]
pub struct Ladder {
    pub rungs: Vec<Rung>,
}

#[derive(Clone)]
pub struct Rung {
    pub playbook: PlaybookName,
    pub with: Vec<(String, Param)>,
    pub if_: Option<Condition>,
    /// `None`: the deployment of the alert's scope.
    pub on: Option<On>,
    /// A person allows each run before it begins.
    pub approval: bool,
    /// So many runs at a time where the rung has several targets; `None`: as many as the guards allow.
    pub batch: Option<u32>,
    /// The wait between one batch and the next.
    pub pause: Duration,
    /// The rung is run again after so long while the alert fires.
    pub repeat: Option<Duration>,
    /// A refusal that may pass is told to people after this.
    pub give_up: Duration,
}

/// A refusal that may pass is told to people after this, where the rung says nothing else.
pub const GIVE_UP: Duration = Duration::from_secs(30 * 60);
/// The same for the rungs of a rule that is upkeep: people hear nothing else of it.
pub const ROUTINE_GIVE_UP: Duration = Duration::from_secs(15 * 60);

impl Rung {
    /// One that says no more than its playbook.
    pub fn plain(playbook: PlaybookName, with: Vec<(String, Param)>) -> Self {
        Rung {
            playbook,
            with,
            if_: None,
            on: None,
            approval: false,
            batch: None,
            pause: Duration::ZERO,
            repeat: None,
            give_up: GIVE_UP,
        }
    }
}

/// Which deployments a rung is for. Each has a run of its own, under every guard; the rung is judged by the alert.
#[derive(Clone)]
pub enum On {
    Deployment(Param),
    /// Those on which this rule fires.
    Firing(RuleName),
    Select(Selector),
}

/// A deployment named outright; what a text comes to is known only when the rung is tried.
impl On {
    pub fn literal(&self) -> Option<DeploymentId> {
        match self {
            On::Deployment(Param::Literal(value)) => value.as_str().map(DeploymentId::from),
            _ => None,
        }
    }
}

/// How a run ended, as far as its ladder is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    Cured,
    Done,
    /// Clear before the first acting step.
    WentAway,
    /// Also: a step failed.
    NotCured,
    RefusedMayPass,
    RefusedForGood,
    Inconclusive,
    /// By a person, or because nobody answered in time.
    Denied,
    Cancelled,
}

/// What the ladder does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing more in this firing; a relapse goes on with the same rung.
    Rest,
    NextRung,
    /// The same rung asks again while the alert fires.
    KeepRung,
    /// Nothing more in this episode; people are told.
    Stop,
    /// No rung is left; people are told the whole story.
    Exhausted,
}

/// The table of SPEC §5.1. `rungs_left`: how many come after the present one.
pub fn after(end: RunEnd, rungs_left: usize) -> Move {
    match end {
        RunEnd::Cured | RunEnd::Done | RunEnd::WentAway => Move::Rest,
        RunEnd::NotCured | RunEnd::RefusedForGood if rungs_left > 0 => Move::NextRung,
        RunEnd::NotCured | RunEnd::RefusedForGood => Move::Exhausted,
        RunEnd::RefusedMayPass => Move::KeepRung,
        RunEnd::Inconclusive | RunEnd::Denied | RunEnd::Cancelled => Move::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_run_decides_the_rung_as_the_table_says() {
        for (end, with_rungs_left, at_the_last) in [
            (RunEnd::Cured, Move::Rest, Move::Rest),
            (RunEnd::Done, Move::Rest, Move::Rest),
            (RunEnd::WentAway, Move::Rest, Move::Rest),
            (RunEnd::NotCured, Move::NextRung, Move::Exhausted),
            (RunEnd::RefusedForGood, Move::NextRung, Move::Exhausted),
            (RunEnd::RefusedMayPass, Move::KeepRung, Move::KeepRung),
            (RunEnd::Inconclusive, Move::Stop, Move::Stop),
            (RunEnd::Denied, Move::Stop, Move::Stop),
            (RunEnd::Cancelled, Move::Stop, Move::Stop),
        ] {
            assert_eq!(after(end, 1), with_rungs_left, "{end:?} with a rung left");
            assert_eq!(after(end, 0), at_the_last, "{end:?} at the last rung");
        }
    }
}

//! Ladders: the ordered playbooks of a rule, and what the end of a run means for the next rung.

use std::time::Duration;

use crate::model::ids::fingerprint;
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

    /// What a run of it is made for. With another playbook, or for other deployments, it is another rung; all else of it is
    /// read anew whenever its run asks whether it may begin.
    pub fn identity(&self) -> u64 {
        let on = match &self.on {
            None => String::new(),
            Some(On::Deployment(param)) => format!("deployment {}", text_of(param)),
            Some(On::Firing(rule)) => format!("firing {rule}"),
            Some(On::Select(select)) => {
                format!("select {:?}", select.0.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
        };
        fingerprint([self.playbook.as_str(), &on])
    }
}

fn text_of(param: &Param) -> String {
    match param {
        Param::Literal(value) => value.to_string(),
        Param::Template(template) => template.source().to_owned(),
        Param::List(_) | Param::Map(_) => String::new(),
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
    fn a_rung_is_another_one_with_another_playbook_or_for_other_deployments() {
        let rung = |playbook: &str, on: Option<On>| Rung { on, ..Rung::plain(playbook.into(), Vec::new()) }.identity();
        let named = |id: &str| Some(On::Deployment(Param::Literal(id.into())));
        let select = |text: &str| Some(On::Select(Selector(vec![text.parse().expect("a matcher")])));
        let all = [
            rung("restart", None),
            rung("rollback", None),
            rung("restart", named("db")),
            rung("restart", named("ci")),
            rung("restart", Some(On::Firing("db".into()))),
            rung("restart", select("tier=db")),
            rung("restart", select("tier!=db")),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        let asks = Rung { approval: true, batch: Some(2), ..Rung::plain("restart".into(), Vec::new()) };
        assert_eq!(asks.identity(), all[0], "how it is asked and gone through is read anew");
    }

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

//! What the guards look at.

use std::collections::BTreeSet;

use super::limits::Circuit;
use super::refusal::{HeldBy, Outage, Refusal};
use selfheal_contract::Guard;
use selfheal_model::{CheckName, DeploymentId, PlaybookName, RunId, Timestamp};
use selfheal_policy::guards::{Guards, Rate, Sensor};

/// All that the guards look at before a run begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    pub now: Timestamp,
    /// What the wall clock shows: times of the day are its.
    pub wall: Timestamp,
    /// Who paused, and why.
    pub paused: Option<String>,
    /// The engine is shutting down.
    pub draining: bool,
    /// Why nothing can be written down: what would be done might be forgotten.
    pub unwritable: Option<String>,
    /// Nobody asked for it just now: an alert or a schedule did, and no person has approved it.
    pub automatic: bool,
    /// `None`: asked for by hand or by a schedule.
    pub ladder: Option<LadderSituation>,
    /// Since the start, or since the last time in which nothing was watched.
    pub watching_since: Timestamp,
    pub sensor: SensorSituation,
    /// Until when there is a storm, and how many ladders wanted to start within its window.
    pub storm: Option<(Timestamp, u32)>,
    pub playbook: PlaybookSituation,
    /// Runs under way, this one not counted.
    pub running: u32,
    /// The deployments it would act on; empty where it only looks.
    pub targets: Vec<TargetSituation>,
    /// What holds its alert back.
    pub held: Option<HeldBy>,
    /// Guards that a person has overruled for this run.
    pub overridden: BTreeSet<Guard>,
}

/// What is special about a run that an alert asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LadderSituation {
    /// The alert's own deployment, where it is no target, and what it depends on that is out.
    pub root: Option<(DeploymentId, DeploymentId, Outage)>,
    /// Who has paused the repair of what the alert is about, where that is no target; with its deployment, if it is one.
    pub maintenance: Option<(Option<DeploymentId>, String)>,
    /// Of the newest evidence its condition read; `None`: not asked yet.
    pub evidence: Option<Timestamp>,
    pub fired_at: Timestamp,
    /// When this playbook has cured this alert, ascending.
    pub cured: Vec<Timestamp>,
    /// A check its condition reads that flaps.
    pub flapping: Option<FlappingCheck>,
    /// Upkeep: neither recurrence nor storm counts it.
    pub routine: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlappingCheck {
    pub deployment: DeploymentId,
    pub check: CheckName,
    /// Changes of verdict among the last ones, in percent.
    pub changes_percent: u8,
}

/// How many are sick whose sickness nothing they depend on explains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SensorSituation {
    /// Deployments with an adapter, without those that something they depend on explains.
    pub members: u32,
    /// The most that fell sick within `within` of each other and still are.
    pub sick: u32,
}

impl SensorSituation {
    /// Whether nearly all are sick at once, and so the sensor is suspect.
    pub fn is_suspect(self, limits: Sensor) -> Option<Refusal> {
        // floating error must not let one more pass: 0.8 of 10 is 8
        let too_many = limits.sick * f64::from(self.members) - 1e-9;
        let suspect = self.members >= limits.of_at_least && self.sick > 0 && f64::from(self.sick) >= too_many;
        suspect.then_some(Refusal::Sensor { sick: self.sick, members: self.members, within: limits.within })
    }
}

/// What is remembered of a playbook.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaybookSituation {
    pub name: PlaybookName,
    /// When runs of it counted in its budget, ascending.
    pub counted: Vec<Timestamp>,
    pub circuit: Circuit,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TargetSituation {
    pub deployment: DeploymentId,
    /// The limits that hold for it.
    pub limits: Guards,
    /// Who has paused the repair of this deployment, and why.
    pub maintenance: Option<String>,
    /// The last run that acted on it; `None` where that run was of the same ladder or there was none.
    pub grace: Option<Grace>,
    /// A deployment it depends on, directly or not, that is out.
    pub dependency: Option<(DeploymentId, Outage)>,
    /// Of those that were out and are not any more, the one that came back last, and when.
    pub root_back: Option<(DeploymentId, Timestamp)>,
    /// When runs counted in its budget, ascending.
    pub counted: Vec<Timestamp>,
    /// Its group of `velocity`, and when runs disrupted members of it, ascending; `None`: it is in no group, or
    /// nothing of the run takes capacity away.
    pub disrupted: Option<(String, Vec<Timestamp>)>,
    pub lease: Option<RunId>,
    /// `None`: it is in no group, or nothing of the run takes capacity away.
    pub group: Option<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    pub run: RunId,
    pub ended_at: Timestamp,
}

/// The group of a target, counted without the target itself unless said.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// `tier=web`
    pub name: String,
    /// The target included.
    pub members: u32,
    pub healthy_others: u32,
    pub in_run_others: u32,
    pub target_sick: bool,
    /// Another member that has not been well since a run on it that did not cure.
    pub uncured_other: Option<DeploymentId>,
}

/// How many of these instants are within the rate's window, and from when on there is room for one more.
pub(super) fn within(rate: Rate, counted: &[Timestamp], now: Timestamp) -> (u32, Option<Timestamp>) {
    let inside: Vec<_> = counted.iter().copied().filter(|at| now < *at + rate.window).collect();
    let count = u32::try_from(inside.len()).unwrap_or(u32::MAX);
    if count < rate.count {
        return (count, None);
    }
    // room comes when so many have left the window that fewer than `count` are in it; a rate of none never has room
    let leaves = (count - rate.count) as usize;
    (count, Some(inside.get(leaves).map_or(Timestamp::MAX, |at| *at + rate.window)))
}

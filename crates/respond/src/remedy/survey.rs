//! What the guards have to know of everybody else, counted once for all runs that ask at the same instant.
//!
//! Invariant: it says what counting anew would say. Whatever may change what it counts forgets it; it is no part of the state.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::SmolStr;

use super::Remedy;
use super::guards::{health_of, is_in_group};
use super::state::Run;
use crate::alerts::{Alert, Alerts};
use selfheal_model::{DeploymentId, Health, PlaybookName, RunId, Severity, Timestamp};
use selfheal_policy::Policy;

/// What is wrong where a count is not what it was: a mistake in here, found by every test.
const STALE: &str = "something that is counted has changed and was not forgotten";

/// The labels that make a group, with their values.
pub(super) type GroupLabels = Vec<(SmolStr, SmolStr)>;

/// Empty until somebody asks.
#[derive(Default)]
pub(super) struct Survey(RefCell<Option<Counted>>);

struct Counted {
    at: Timestamp,
    runs: Runs,
    members: BTreeMap<(GroupLabels, Duration), Members>,
    disrupted: BTreeMap<GroupLabels, Vec<Timestamp>>,
}

/// The runs that take something away from others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Runs {
    /// Those that take a slot of `max_running`.
    pub slots: Vec<RunId>,
    pub reserved: Vec<Reserved>,
}

/// A run that is allowed to act and has not done so everywhere.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reserved {
    pub run: RunId,
    pub playbook: PlaybookName,
    /// It has acted on nothing yet, and will.
    pub has_yet_to_act: bool,
    /// What it has yet to take capacity away from.
    pub disrupts: Vec<DeploymentId>,
}

/// The members of one group that have an adapter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Members {
    pub count: u32,
    /// Neither sick, nor in a run, nor in the grace of one.
    pub healthy: u32,
    pub in_run: Vec<InRun>,
    /// The first two that the last run did not cure and that have not been well since, in order of id.
    pub uncured: Vec<DeploymentId>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct InRun {
    pub deployment: DeploymentId,
    pub holder: RunId,
    /// But for the run.
    pub healthy: bool,
}

/// How one deployment counts in its group.
pub(super) struct Condition {
    pub sick: bool,
    pub in_grace: bool,
}

impl Survey {
    pub fn forget(&self) {
        self.0.replace(None);
    }

    fn at(&self, now: Timestamp, runs: impl FnOnce() -> Runs) -> std::cell::RefMut<'_, Counted> {
        let mut counted = self.0.borrow_mut();
        if counted.as_ref().is_none_or(|counted| counted.at != now) {
            *counted = None;
        }
        std::cell::RefMut::map(counted, |counted| {
            let (members, disrupted) = (BTreeMap::new(), BTreeMap::new());
            counted.get_or_insert_with(|| Counted { at: now, runs: runs(), members, disrupted })
        })
    }
}

impl Remedy {
    fn count_runs(&self) -> Runs {
        let mut counted = Runs::default();
        for run in self.runs.values().filter(|run| run.takes_a_slot()) {
            counted.slots.push(run.id.clone());
            if run.has_budget_reserved() {
                counted.reserved.push(Reserved::of(run));
            }
        }
        counted
    }

    pub(super) fn survey_of_runs(&self, now: Timestamp) -> Ref<'_, Runs> {
        let counted = self.survey.at(now, || self.count_runs());
        debug_assert_eq!(counted.runs, self.count_runs(), "{STALE}");
        drop(counted);
        Ref::map(self.survey.0.borrow(), |counted| counted.as_ref().map(|counted| &counted.runs).expect("just counted"))
    }

    fn is_sick(&self, alerts: &Alerts, id: &DeploymentId) -> bool {
        let critical = |alert: &Alert| alert.severity == Severity::Critical;
        health_of(self.places.get(id)) == Health::Unhealthy || alerts.firing_on(id).any(critical)
    }

    /// Known to be well: one that has checks and none of them says so is not.
    pub(super) fn is_well(&self, alerts: &Alerts, id: &DeploymentId) -> bool {
        let health = self.places.get(id).and_then(|place| place.health.as_ref());
        let healthy = health.is_none_or(|of| of.health == Health::Healthy || of.checks.is_empty());
        healthy && !self.is_sick(alerts, id)
    }

    pub(super) fn condition_of(
        &self,
        alerts: &Alerts,
        id: &DeploymentId,
        grace: Duration,
        now: Timestamp,
    ) -> Condition {
        let place = self.places.get(id);
        let sick = self.is_sick(alerts, id);
        let last = place.and_then(|place| place.last.as_ref());
        Condition { sick, in_grace: last.is_some_and(|last| now < last.ended_at + grace) }
    }

    pub(super) fn survey_of_members(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        group: &GroupLabels,
        grace: Duration,
        now: Timestamp,
    ) -> Members {
        let key = (group.clone(), grace);
        let mut counted = self.survey.at(now, || self.count_runs());
        let of_group = || self.count_members(policy, alerts, group, grace, now);
        let members = counted.members.entry(key).or_insert_with(of_group).clone();
        debug_assert_eq!(members, of_group(), "{STALE}");
        members
    }

    fn count_members(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        group: &GroupLabels,
        grace: Duration,
        now: Timestamp,
    ) -> Members {
        const UNCURED: usize = 2;
        let mut members = Members::default();
        let with_adapter = policy.deployments.values().filter(|one| one.adapter.is_some());
        for one in with_adapter.filter(|one| is_in_group(one, group)) {
            let Condition { sick, in_grace } = self.condition_of(alerts, &one.id, grace, now);
            let place = self.places.get(&one.id);
            members.count += 1;
            match place.and_then(|place| place.lease.clone()) {
                Some(holder) => {
                    members.in_run.push(InRun { deployment: one.id.clone(), holder, healthy: !sick && !in_grace });
                }
                None => members.healthy += u32::from(!sick && !in_grace),
            }
            let last = place.and_then(|place| place.last.as_ref());
            let unsettled = last.is_some_and(|last| !last.settled) && !self.is_well(alerts, &one.id);
            if unsettled && members.uncured.len() < UNCURED {
                members.uncured.push(one.id.clone());
            }
        }
        members
    }

    /// When members of a group were disrupted, ascending.
    pub(super) fn survey_of_disruptions(&self, policy: &Policy, group: &GroupLabels, now: Timestamp) -> Vec<Timestamp> {
        let mut counted = self.survey.at(now, || self.count_runs());
        let of_group = || {
            let members = policy.deployments.values().filter(|one| is_in_group(one, group));
            let places = members.filter_map(|member| self.places.get(&member.id));
            let mut instants: Vec<_> = places.flat_map(|place| place.disrupted.iter().copied()).collect();
            instants.sort_unstable();
            instants
        };
        let instants = counted.disrupted.entry(group.clone()).or_insert_with(of_group).clone();
        debug_assert_eq!(instants, of_group(), "{STALE}");
        instants
    }
}

impl Reserved {
    fn of(run: &Run) -> Reserved {
        let yet = run.targets.iter().filter(|(target, disrupts)| **disrupts && !run.disrupted.contains(*target));
        Reserved {
            run: run.id.clone(),
            playbook: run.playbook.name.clone(),
            has_yet_to_act: run.targets.len() > run.acted_on.len() && run.acted_on.is_empty(),
            disrupts: yet.map(|(target, _)| target.clone()).collect(),
        }
    }
}

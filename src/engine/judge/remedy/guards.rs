//! The facts the guards are asked about, gathered for one run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Remedy;
use super::state::{LastRun, Place, Run};
use crate::engine::judge::alerts::Alerts;
use crate::model::{
    AdapterDef, Deployment, DeploymentId, Effectfulness, Health, Labels, RunId, Severity, Timestamp, Verb, VerbSpec,
};
use crate::playbook::guard::{
    Grace, Group, LadderSituation, NotThere, Outage, Refusal, Situation, TargetSituation, group_name,
};
use crate::playbook::run::Section;
use crate::playbook::{Playbook, Step, StepKind};
use crate::policy::Policy;

/// A verb with all that is needed to call it.
pub(super) struct Resolved {
    pub deployment: Arc<Deployment>,
    pub adapter: Arc<AdapterDef>,
    pub spec: VerbSpec,
}

impl Resolved {
    pub fn is_acting(&self) -> bool {
        self.spec.effect != Effectfulness::Read
    }
}

/// Finds a verb of a deployment in the policy as it is now.
pub(super) fn resolve(policy: &Policy, id: &DeploymentId, verb: &Verb) -> Result<Resolved, Refusal> {
    let not_there = |why: fn(DeploymentId) -> NotThere| Refusal::EmptyTarget(why(id.clone()));
    let deployment = policy.deployments.get(id).ok_or_else(|| not_there(NotThere::NotListed))?.clone();
    let adapter = deployment.adapter.as_ref().and_then(|name| policy.adapters.get(name));
    let adapter = adapter.ok_or_else(|| not_there(NotThere::NoAdapter))?.clone();
    let missing = |allowed| Refusal::VerbMissing { verb: verb.clone(), adapter: adapter.name.clone(), allowed };
    let spec = adapter.verb(verb.as_str()).ok_or_else(|| missing(true))?.clone();
    let verb_allowed = adapter.allow.verbs.as_ref().is_none_or(|allowed| allowed.contains(verb));
    if !verb_allowed || !adapter.allow.select.matches(&labels_of(&deployment)) {
        return Err(missing(false));
    }
    Ok(Resolved { deployment, adapter, spec })
}

/// A deployment's labels with `deployment` among them, as matchers and scripts see them.
pub(super) fn labels_of(deployment: &Deployment) -> Labels {
    deployment.labels.with_label("deployment", deployment.id.as_str())
}

fn all_steps(playbook: &Playbook) -> impl Iterator<Item = (Section, &Step)> {
    let steps = playbook.steps.iter().map(|step| (Section::Steps, step));
    let undo = playbook.steps.iter().filter_map(|step| Some((Section::Undo, step.undo.as_deref()?)));
    let rescue = playbook.rescue.iter().map(|step| (Section::Rescue, step));
    let finally = playbook.finally.iter().map(|step| (Section::Finally, step));
    steps.chain(undo).chain(rescue).chain(finally)
}

/// The deployments a run would act on, and whether it would take capacity away there.
///
/// # Errors
/// A target that is none, or a verb without which the run cannot do its work.
pub(super) fn targets(
    policy: &Policy,
    playbook: &Playbook,
    deployment: &DeploymentId,
) -> Result<BTreeMap<DeploymentId, bool>, Refusal> {
    let mut targets = BTreeMap::new();
    for (section, step) in all_steps(playbook) {
        let StepKind::Action { verb, deployment: other, .. } = &step.kind else { continue };
        let id = other.as_ref().unwrap_or(deployment);
        match resolve(policy, id, verb) {
            Ok(resolved) if resolved.is_acting() => {
                let disrupts = targets.entry(id.clone()).or_insert(false);
                *disrupts |= resolved.spec.effect == Effectfulness::Disrupt;
            }
            Ok(_) => {}
            Err(refusal @ Refusal::EmptyTarget(_)) => return Err(refusal),
            // a step that may fail, or may not come, fails when it comes
            Err(refusal) if section == Section::Steps && !step.best_effort && step.if_.is_none() => {
                return Err(refusal);
            }
            Err(_) => {}
        }
    }
    Ok(targets)
}

impl Remedy {
    /// Whether anything may act at all: the kill switch, and the end of this engine.
    /// Whether a person or the drain has stopped all acting since.
    pub fn is_switched_off(&self) -> bool {
        self.paused.is_some() || self.draining
    }

    pub(super) fn may_act(&self) -> Result<(), Refusal> {
        match &self.paused {
            Some(pause) => {
                Err(Refusal::Pause { who: format!("by {} since {}: {}", pause.by, pause.since, pause.reason) })
            }
            None if self.draining => Err(Refusal::Draining),
            None => match &self.unwritable {
                Some(why) => Err(Refusal::Storage { why: why.clone() }),
                None => Ok(()),
            },
        }
    }

    /// What the guards are asked about before `run` begins. `evidence`: of its condition, once detect was asked.
    pub(super) fn situation(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        run: &Run,
        targets: &BTreeMap<DeploymentId, bool>,
        now: Timestamp,
        evidence: Option<Timestamp>,
    ) -> Situation {
        let ladder = run.alert().and_then(|key| self.ladders.get(key));
        let running = self.runs.values().filter(|other| other.is_under_way()).count();
        Situation {
            now,
            paused: match self.may_act() {
                Err(Refusal::Pause { who }) => Some(who),
                _ => None,
            },
            draining: self.draining,
            unwritable: self.unwritable.clone(),
            ladder: ladder.map(|ladder| LadderSituation { evidence, fired_at: ladder.fired_at }),
            watching_since: self.watching_since,
            running: u32::try_from(running).unwrap_or(u32::MAX),
            targets: targets
                .iter()
                .map(|(id, disrupts)| self.target_situation(policy, alerts, run, id, *disrupts, targets, now))
                .collect(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one place gathers all facts of a target")]
    fn target_situation(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        run: &Run,
        id: &DeploymentId,
        disrupts: bool,
        targets: &BTreeMap<DeploymentId, bool>,
        now: Timestamp,
    ) -> TargetSituation {
        let place = self.places.get(id);
        let own_ladder = run.alert().and_then(|key| Some((key.clone(), self.ladders.get(key)?.nth)));
        let foreign = |last: &&LastRun| last.ladder.is_none() || last.ladder != own_ladder;
        let last = place.and_then(|place| place.last.as_ref()).filter(foreign);
        TargetSituation {
            deployment: id.clone(),
            grace: last.map(|last| Grace { run: last.run.clone(), ended_at: last.ended_at }),
            dependency: self.dependency_out(policy, id, &run.id, targets),
            counted: place.map(|place| place.counted.iter().copied().collect()).unwrap_or_default(),
            lease: place.and_then(|place| place.lease.clone()).filter(|holder| *holder != run.id),
            group: disrupts.then(|| self.group(policy, alerts, id, &run.id, now)).flatten(),
        }
    }

    /// The nearest deployment it depends on, directly or not, that is unhealthy or being repaired.
    fn dependency_out(
        &self,
        policy: &Policy,
        id: &DeploymentId,
        run: &RunId,
        own: &BTreeMap<DeploymentId, bool>,
    ) -> Option<(DeploymentId, Outage)> {
        let mut seen = BTreeSet::from([id.clone()]);
        let mut next: VecDeque<_> = policy.deployments.get(id)?.depends_on.iter().cloned().collect();
        while let Some(other) = next.pop_front() {
            if !seen.insert(other.clone()) {
                continue;
            }
            let place = self.places.get(&other);
            let holder = place.and_then(|place| place.lease.as_ref()).filter(|holder| *holder != run);
            if let Some(holder) = holder {
                return Some((other, Outage::InRun(holder.clone())));
            }
            if !own.contains_key(&other) && health_of(place) == Health::Unhealthy {
                return Some((other, Outage::Unhealthy));
            }
            next.extend(policy.deployments.get(&other).iter().flat_map(|entry| entry.depends_on.iter().cloned()));
        }
        None
    }

    /// The group a deployment is in, if it carries every `group_by` label.
    fn group(&self, policy: &Policy, alerts: &Alerts, id: &DeploymentId, run: &RunId, now: Timestamp) -> Option<Group> {
        let group_by = &policy.guards.blast_radius.group_by;
        let values = |deployment: &Deployment| {
            let labels = labels_of(deployment);
            group_by.iter().map(|name| Some((name.clone(), labels.get(name)?.into()))).collect::<Option<Vec<_>>>()
        };
        let own = values(policy.deployments.get(id)?)?;
        let sick = |id: &DeploymentId| {
            health_of(self.places.get(id)) == Health::Unhealthy
                || alerts.firing_on(id).any(|alert| alert.severity == Severity::Critical)
        };
        let mut group = Group {
            name: group_name(&own),
            members: 1,
            healthy_others: 0,
            in_run_others: 0,
            target_sick: sick(id),
            uncured_other: None,
        };
        let members = policy.deployments.values().filter(|other| other.adapter.is_some() && other.id != *id);
        for other in members.filter(|other| values(other).as_ref() == Some(&own)) {
            group.members += 1;
            let place = self.places.get(&other.id);
            let in_run = place.and_then(|place| place.lease.as_ref()).is_some_and(|holder| holder != run);
            let last = place.and_then(|place| place.last.as_ref());
            let in_grace = last.is_some_and(|last| now < last.ended_at + policy.guards.grace);
            let is_sick = sick(&other.id);
            group.in_run_others += u32::from(in_run);
            group.healthy_others += u32::from(!is_sick && !in_run && !in_grace);
            if is_sick && last.is_some_and(|last| !last.cured) && group.uncured_other.is_none() {
                group.uncured_other = Some(other.id.clone());
            }
        }
        Some(group)
    }
}

pub(super) fn health_of(place: Option<&Place>) -> Health {
    place.and_then(|place| place.health.as_ref()).map(|health| health.health).unwrap_or_default()
}

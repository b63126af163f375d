//! The facts the guards are asked about, gathered for one run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smol_str::SmolStr;

use super::memory::Maintenance;
use super::outages::all_under;
use super::parts::subs_of;
use super::state::{LastRun, Place, Run};
use super::survey::Reserved;
use super::{Remedy, Timer};
use crate::alerts::{Alert, Alerts};
use crate::guard::{
    self, Circuit, Grace, Group, LadderSituation, NotThere, Observed, Outage, PlaybookSituation, Refusal,
    SensorSituation, Situation, TargetSituation, group_name,
};
use crate::turn::Turn;
use selfheal_model::{
    AdapterDef, AlertKey, Dependency, Deployment, DeploymentId, Effectfulness, Health, Labels, PlaybookName, RunId,
    Severity, Timestamp, Verb, VerbSpec,
};
use selfheal_policy::Policy;
use selfheal_policy::guards::{Guards, Mode};
use selfheal_policy::playbook::{Playbook, Section, StepKind};

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
    let subs = subs_of(policy, playbook);
    let all = playbook.all_steps().chain(subs.values().flat_map(|sub| sub.all_steps()));
    for (section, step) in all {
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
    /// Whether a person or the drain has stopped all acting since.
    pub fn is_switched_off(&self) -> bool {
        self.paused.is_some() || self.draining
    }

    /// Whether anything may act at all: the kill switch, the end of this engine, and what can be written down.
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
        let guards = &policy.guards;
        let runs = self.survey_of_runs(now);
        let running = runs.slots.iter().filter(|other| **other != run.id).count();
        let reserved: Vec<Reserved> = runs.reserved.iter().filter(|other| other.run != run.id).cloned().collect();
        drop(runs);
        let name = run.playbook.name.clone();
        let storm = self.memory.storm.until(guards.storm, now);
        let circuit = self.memory.breakers.get(&name).map(|breaker| breaker.circuit(guards.breaker, now));
        Situation {
            now,
            wall: self.schedules.wall(now),
            paused: match self.may_act() {
                Err(Refusal::Pause { who }) => Some(who),
                _ => None,
            },
            draining: self.draining,
            unwritable: self.unwritable.clone(),
            automatic: run.is_automatic(),
            ladder: self.ladder_situation(policy, alerts, run, targets, now, evidence),
            watching_since: self.watching_since,
            sensor: self.sensor(policy),
            storm: storm.map(|until| (until, self.memory.storm.count(guards.storm, now))),
            playbook: PlaybookSituation {
                counted: self.counted_runs_of(&name, &reserved, now),
                circuit: match circuit {
                    // one run tries it, from when it is allowed on
                    Some(Circuit::ProbeDue { since }) if reserved.iter().any(|other| other.playbook == name) => {
                        Circuit::Probing { since, beside: self.is_under_way_beside(run) }
                    }
                    Some(Circuit::Probing { since, .. }) => {
                        Circuit::Probing { since, beside: self.is_under_way_beside(run) }
                    }
                    circuit => circuit.unwrap_or(Circuit::Closed { failures: 0, deployments: 0 }),
                },
                name,
            },
            running: u32::try_from(running).unwrap_or(u32::MAX),
            targets: targets
                .iter()
                .map(|(id, disrupts)| {
                    self.target_situation(policy, alerts, run, id, *disrupts, targets, &reserved, now)
                })
                .collect(),
            held: run.alert().and_then(|key| self.held_back.get(key).cloned()),
            overridden: run.overridden.clone(),
        }
    }

    /// Whether its rung is at it on another target, with the same playbook.
    fn is_under_way_beside(&self, run: &Run) -> bool {
        let beside =
            |other: &Run| other.id != run.id && other.is_under_way() && other.playbook.name == run.playbook.name;
        let rung = run.alert().map(|key| self.runs_of(key)).unwrap_or_default();
        rung.iter().filter_map(|id| self.runs.get(id)).any(beside)
    }

    /// When runs of a playbook counted; those that are allowed to act and have not yet count as of now.
    fn counted_runs_of(&self, name: &PlaybookName, reserved: &[Reserved], now: Timestamp) -> Vec<Timestamp> {
        let mut counted = self.memory.counted(name);
        let to_come = reserved.iter().filter(|other| other.has_yet_to_act && other.playbook == *name);
        counted.extend(to_come.map(|_| now));
        counted
    }

    fn ladder_situation(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        run: &Run,
        targets: &BTreeMap<DeploymentId, bool>,
        now: Timestamp,
        evidence: Option<Timestamp>,
    ) -> Option<LadderSituation> {
        let key = run.alert()?;
        let ladder = self.ladders.get(key)?;
        let rule = policy.rule_of(key);
        let own = alerts.get(key).and_then(|alert| alert.deployment.clone());
        let root = own.filter(|own| !targets.contains_key(own)).and_then(|own| {
            let (on, outage) = self.dependency_out(policy, alerts, &own, &run.id, targets)?;
            Some((own, on, outage))
        });
        Some(LadderSituation {
            root,
            evidence,
            fired_at: ladder.fired_at,
            cured: self.memory.cures(key, &run.playbook.name),
            flapping: self.flapping(policy, alerts, run, key),
            // where it is a target, that says so already
            maintenance: self
                .alert_maintained(policy, alerts, key, now)
                .filter(|(own, _)| own.as_ref().is_none_or(|own| !targets.contains_key(own))),
            routine: rule.is_some_and(|rule| rule.routine),
        })
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
        reserved: &[Reserved],
        now: Timestamp,
    ) -> TargetSituation {
        let place = self.places.get(id);
        let own_ladder = run.alert().and_then(|key| Some((key.clone(), self.ladders.get(key)?.nth)));
        let foreign = |last: &&LastRun| last.ladder.is_none() || last.ladder != own_ladder;
        let last = place.and_then(|place| place.last.as_ref()).filter(foreign);
        let limits = limits_of(policy, id);
        let disrupted = disrupts.then(|| self.disruptions(policy, id, reserved, &limits, now)).flatten();
        TargetSituation {
            deployment: id.clone(),
            maintenance: self.maintained(policy, id, now),
            grace: last.map(|last| Grace { run: last.run.clone(), ended_at: last.ended_at }),
            dependency: self.dependency_out(policy, alerts, id, &run.id, targets),
            root_back: self
                .root_back(policy, id, run.alert(), now, |on| targets.contains_key(on))
                .and_then(|root| Some((root.deployment, root.back_at?))),
            counted: place.map(|place| place.counted.iter().copied().collect()).unwrap_or_default(),
            disrupted,
            lease: place.and_then(|place| place.lease.clone()).filter(|holder| *holder != run.id),
            group: disrupts.then(|| self.group(policy, alerts, id, &run.id, now, &limits)).flatten(),
            limits,
        }
    }

    /// Who has taken this deployment out of automatic repair.
    pub(super) fn maintained(&self, policy: &Policy, id: &DeploymentId, now: Timestamp) -> Option<String> {
        let labels = policy.deployments.get(id).map(|deployment| labels_of(deployment))?;
        let holds = |one: &&Maintenance| now < one.until && one.select.matches(&labels);
        let one = self.memory.maintenance.values().find(holds)?;
        Some(format!("by {} until {}: {}", one.by, one.until, one.reason))
    }

    /// When members of its `velocity` group were disrupted; what is allowed to and has not yet counts as of now.
    fn disruptions(
        &self,
        policy: &Policy,
        id: &DeploymentId,
        reserved: &[Reserved],
        limits: &Guards,
        now: Timestamp,
    ) -> Option<(String, Vec<Timestamp>)> {
        let own = group_of(policy.deployments.get(id)?, &limits.velocity.group_by)?;
        let mut instants = self.survey_of_disruptions(policy, &own, now);
        let in_group =
            |target: &&DeploymentId| policy.deployments.get(*target).is_some_and(|one| is_in_group(one, &own));
        instants.extend(reserved.iter().flat_map(|other| &other.disrupts).filter(in_group).map(|_| now));
        Some((group_name(&own), instants))
    }

    /// The nearest deployment it depends on, directly or not, that is out.
    pub(super) fn dependency_out(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        id: &DeploymentId,
        run: &RunId,
        own: &BTreeMap<DeploymentId, bool>,
    ) -> Option<(DeploymentId, Outage)> {
        all_under(policy, id).into_iter().find_map(|Dependency { on, when }| {
            let outage = self.outage_of(alerts, on, when.as_ref(), run, !own.contains_key(on))?;
            Some((on.clone(), outage))
        })
    }

    /// What a deployment's ladder waits for: something it depends on that is out, or came back a grace ago at most.
    pub(super) fn waits_for_root(&self, policy: &Policy, alerts: &Alerts, key: &AlertKey, now: Timestamp) -> bool {
        let Some(id) = key.deployment() else { return false };
        if self.dependency_out(policy, alerts, &id, &RunId::new(""), &BTreeMap::new()).is_some() {
            return true;
        }
        let back = self.root_back(policy, &id, Some(key), now, |_| false).and_then(|root| root.back_at);
        back.is_some_and(|at| now < at + limits_of(policy, &id).grace)
    }

    /// The group a deployment is in, if it carries every `group_by` label.
    fn group(
        &self,
        policy: &Policy,
        alerts: &Alerts,
        id: &DeploymentId,
        run: &RunId,
        now: Timestamp,
        limits: &Guards,
    ) -> Option<Group> {
        let deployment = policy.deployments.get(id)?;
        let own = group_of(deployment, &limits.blast_radius.group_by)?;
        let members = self.survey_of_members(policy, alerts, &own, limits.grace, now);
        let target = self.condition_of(alerts, id, limits.grace, now);
        let counts_as = |healthy: bool| u32::from(deployment.adapter.is_some() && healthy);
        let in_run = self.places.get(id).is_some_and(|place| place.lease.is_some());
        let others = || members.in_run.iter().filter(|one| one.deployment != *id);
        // what this very run holds is in no other run
        let own_others = others().filter(|one| one.holder == *run && one.healthy).count();
        let in_other_runs = others().filter(|one| one.holder != *run).count();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Group {
            name: group_name(&own),
            members: (1 + members.count).saturating_sub(counts_as(true)),
            healthy_others: members.healthy.saturating_sub(counts_as(!in_run && !target.sick && !target.in_grace))
                + count(own_others),
            in_run_others: count(in_other_runs),
            target_sick: target.sick,
            uncured_other: members.uncured.into_iter().find(|other| other != id),
        })
    }

    /// How many fell sick together whose sickness nothing they depend on explains.
    pub(super) fn sensor(&self, policy: &Policy) -> SensorSituation {
        self.memory.sensor.unwrap_or_else(|| self.count_sick(policy))
    }

    fn count_sick(&self, policy: &Policy) -> SensorSituation {
        let acted_on = |id: &DeploymentId| policy.deployments.get(id).is_some_and(|one| one.adapter.is_some());
        let sick: Vec<_> = self.memory.sick.iter().filter(|(id, _)| acted_on(id)).collect();
        let explained = |id: &DeploymentId| {
            let mut seen = BTreeSet::from([id.clone()]);
            let mut next = vec![id];
            while let Some(one) = next.pop() {
                for on in policy.deployments.get(one).iter().flat_map(|entry| &entry.depends_on).map(|one| &one.on) {
                    if self.memory.sick.contains_key(on) {
                        return true;
                    }
                    if seen.insert(on.clone()) {
                        next.push(on);
                    }
                }
            }
            false
        };
        let all = policy.deployments.values().filter(|one| one.adapter.is_some()).count();
        let mut since: Vec<Timestamp> =
            sick.iter().filter(|(id, _)| !explained(id)).map(|(_, since)| **since).collect();
        let members = all - (sick.len() - since.len());
        since.sort_unstable();
        let within = policy.guards.sensor.within;
        let mut first = 0;
        let mut most = 0;
        for (last, at) in since.iter().enumerate() {
            while since.get(first).is_some_and(|begin| *begin + within < *at) {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        SensorSituation { members: count(members), sick: count(most) }
    }

    /// Notes since when a deployment looks sick, or that it does no more.
    pub(super) fn note_sickness(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &DeploymentId) {
        if self.places.get(id).is_some() && self.is_well(alerts, id) {
            self.settle(id, |_| true);
        }
        // what selfheal says of itself is no sickness of a deployment, nor is upkeep
        let repaired = |alert: &Alert| match turn.policy.rule_of(&alert.key) {
            Some(rule) => !rule.routine,
            None if alert.key.is_posted() => true,
            None => turn.policy.ladders.contains_key(&(alert.key.rule.clone(), alert.severity)),
        };
        let alerting = |alert: &Alert| alert.severity >= Severity::Warning && repaired(alert);
        let sick = health_of(self.places.get(id)) == Health::Unhealthy || alerts.firing_on(id).any(alerting);
        let known = self.memory.sick.contains_key(id);
        match (sick, known) {
            (true, false) => {
                self.memory.sick.insert(id.clone(), turn.now);
            }
            (false, true) => {
                self.memory.sick.remove(id);
            }
            _ => return,
        }
        self.sickness_moved(turn);
    }

    /// The last run on a deployment stands in nobody's way any more.
    pub(super) fn settle(&mut self, id: &DeploymentId, run: impl FnOnce(&LastRun) -> bool) {
        if let Some(last) = self.places.at(id).last.as_mut().filter(|last| !last.settled && run(last)) {
            last.settled = true;
            self.survey.forget();
        }
    }

    /// Counted once for all that moves at this instant.
    pub(super) fn sickness_moved(&mut self, turn: &Turn<'_>) {
        self.memory.sensor = None;
        self.timers.set(Timer::Sensor, turn.now);
    }

    pub(super) fn judge_sensor(&mut self, turn: &mut Turn<'_>) {
        let limits = turn.policy.guards.sensor;
        let seen = self.count_sick(&turn.policy);
        self.memory.sensor = Some(seen);
        let suspect = seen.is_suspect(limits);
        if let Some(seen) = suspect.as_ref().filter(|_| !self.memory.sensor_told) {
            let text =
                format!("{seen}. Nothing is repaired by itself until fewer of them are; please look at the sensor");
            Remedy::tell_all(turn, "SensorSuspect", text);
        }
        // nothing waits longer than it has to once it is no more
        self.stirred |= self.memory.sensor_told && suspect.is_none();
        self.memory.sensor_told = suspect.is_some();
    }
}

/// The limits that hold for one deployment.
pub(crate) fn limits_of(policy: &Policy, id: &DeploymentId) -> Guards {
    if policy.guards.overrides.is_empty() {
        return policy.guards.clone();
    }
    let labels = policy.deployments.get(id).map(|deployment| labels_of(deployment)).unwrap_or_default();
    policy.guards.for_deployment(&labels)
}

/// The strictest mode of all that a run comes to, and which switch says so: of the deployments it acts on, of its playbook
/// and of those its steps run.
pub(super) fn mode_of<'a>(
    policy: &Policy,
    playbook: &Playbook,
    subs: &BTreeMap<PlaybookName, Arc<Playbook>>,
    deployments: impl IntoIterator<Item = &'a DeploymentId>,
) -> (Mode, Observed) {
    let limits: Vec<Guards> = deployments.into_iter().map(|id| limits_of(policy, id)).collect();
    guard::mode(&limits, subs.values().map(|sub| sub.mode).fold(playbook.mode, Mode::max))
}

impl Run {
    /// [`mode_of`] a run that has begun, with the deployment its next step acts on.
    fn mode_now(&self, policy: &Policy, next: Option<&DeploymentId>) -> (Mode, Observed) {
        let deployments = std::iter::once(&self.deployment).chain(self.targets.keys()).chain(next);
        mode_of(policy, &self.playbook, &self.subs, deployments)
    }

    /// Which switch says that it is done for show only.
    pub(super) fn observed_by(&self, policy: &Policy) -> Option<Observed> {
        let (mode, says) = self.mode_now(policy, None);
        (mode == Mode::Observe).then_some(says)
    }

    /// What the mode as it is now has against its next acting step on a deployment: everything, or that no person has
    /// allowed the run.
    pub(super) fn forbidden_by_mode(&self, policy: &Policy, on: &DeploymentId) -> Option<Refusal> {
        match self.mode_now(policy, Some(on)) {
            (Mode::Observe, says) => Some(Refusal::Observe(says)),
            (Mode::Approve, _) if self.is_automatic() => Some(Refusal::Approve),
            _ => None,
        }
    }
}

/// The values of a group's labels, if it carries all of them.
fn group_of(deployment: &Deployment, group_by: &[SmolStr]) -> Option<Vec<(SmolStr, SmolStr)>> {
    group_by.iter().map(|name| Some((name.clone(), label_of(deployment, name)?.into()))).collect()
}

fn label_of<'d>(deployment: &'d Deployment, name: &str) -> Option<&'d str> {
    if name == "deployment" { Some(deployment.id.as_str()) } else { deployment.labels.get(name) }
}

pub(super) fn is_in_group(deployment: &Deployment, group: &[(SmolStr, SmolStr)]) -> bool {
    group.iter().all(|(name, value)| label_of(deployment, name) == Some(value))
}

pub(super) fn health_of(place: Option<&Place>) -> Health {
    place.and_then(|place| place.health.as_ref()).map(|health| health.health).unwrap_or_default()
}

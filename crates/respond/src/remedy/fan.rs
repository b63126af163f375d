//! A rung for several deployments: each has a run of its own, in batches; then the alert judges them together.
//!
//! Invariants: nothing new begins once one of them failed, or a person is needed, and whether the alert still fires changes
//! nothing about that; a target has one run of the rung.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::guards::labels_of;
use super::state::{Cause, Fan, MadeFor, Run, Stand};
use super::{ASK_AGAIN, Remedy, Timer};
use crate::alerts::{Alert, Alerts};
use crate::guard::{NotThere, Refusal};
use crate::ladder::RunEnd;
use crate::queries::{Purpose, Reply};
use crate::run::{Interrupt, Verdict};
use crate::turn::{Turn, Word};
use selfheal_messages::{Answer, Context, QueryKind};
use selfheal_model::{AlertKey, DeploymentId, Labels, RunId};
use selfheal_policy::Policy;
use selfheal_policy::ladder::{On, Rung};

/// Runs of one rung that wait or are under way at a time where the rung names no batch: more would only ask in vain.
const FAN_AT_ONCE: usize = 50;

/// Which deployments a rung is for.
pub(super) enum Targets {
    /// One run, judged like any other.
    One(DeploymentId),
    /// Judged together by the alert.
    Several(VecDeque<DeploymentId>),
    /// Detect has been asked what the text comes to.
    Asked,
}

pub(super) fn is_in(scope: &Labels, labels: &Labels) -> bool {
    scope.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// The names that the conditions and texts of an alert see.
pub(super) fn context_of(key: &AlertKey, alert: &Alert) -> Context {
    Context {
        deployment: alert.deployment.clone().or_else(|| key.deployment()),
        alert: Some(key.clone()),
        labels: alert.labels.clone(),
        value: alert.value,
        severity: Some(alert.severity),
        ..Context::default()
    }
}

impl Remedy {
    /// # Errors
    /// There is none: an empty target is refused, never taken for all.
    pub(super) fn targets_of_rung(
        &self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        key: &AlertKey,
        alert: &Alert,
        rung: &Rung,
    ) -> Result<Targets, Refusal> {
        let own = || alert.deployment.clone().or_else(|| key.deployment());
        // all labels of one from elsewhere are its name, and no part of the fleet
        let whole = Labels::default();
        let scope = if key.is_posted() { &whole } else { &key.scope };
        let nobody = Refusal::EmptyTarget(NotThere::NoDeployment);
        let several = |targets: BTreeSet<DeploymentId>| match targets.is_empty() {
            true => Err(nobody.clone()),
            false => Ok(Targets::Several(targets.into_iter().collect())),
        };
        match &rung.on {
            None => own().map(Targets::One).ok_or(nobody),
            Some(on @ On::Deployment(param)) => match on.literal() {
                Some(id) => Ok(Targets::One(id)),
                None => {
                    let context = context_of(key, alert);
                    let purpose = Purpose::RungTarget { key: key.clone(), rung: rung.identity() };
                    turn.query(purpose, context, QueryKind::RungTarget { on: param.clone() });
                    Ok(Targets::Asked)
                }
            },
            Some(On::Firing(rule)) => {
                let in_scope = alerts.firing_of(rule).filter(|one| !one.key.is_posted() && is_in(scope, &one.labels));
                several(in_scope.filter_map(|one| one.deployment.clone()).collect())
            }
            Some(On::Select(select)) => {
                let taken = |policy: &Policy| {
                    let all = policy.deployments.values().map(|one| (one.id.clone(), labels_of(one)));
                    let wanted = all.filter(|(_, labels)| select.matches(labels) && is_in(scope, labels));
                    wanted.map(|(id, _)| id).collect()
                };
                several(taken(&turn.policy))
            }
        }
    }

    /// Detect has answered which deployment the `on` of a rung names. An answer about another rung than the one the ladder
    /// stands at now, or to a ladder that has its next moment set already, is void.
    pub(super) fn rung_target_replied(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        key: &AlertKey,
        asked_about: u64,
        reply: Reply,
    ) {
        let is_due = self.ladders.get(key).is_some_and(|ladder| ladder.stand == Stand::Due && !ladder.over)
            && self.timers.deadline_of(&Timer::Ladder(key.clone())).is_none();
        let Reply::Answered(Answer::RungTarget { on }) = reply else {
            if is_due {
                self.due(turn, key, ASK_AGAIN);
            }
            return;
        };
        let Some((rungs, index)) = self.rung_of(&turn.policy, key).filter(|_| is_due) else { return };
        let Some(rung) = rungs.rungs.get(index) else { return };
        if rung.identity() != asked_about {
            return self.due(turn, key, Duration::ZERO);
        }
        if !alerts.get(key).is_some_and(|alert| alert.firing) {
            // as when a rung comes due for an alert that is clear: the ladder rests
            return self.ladder_due(turn, alerts, key);
        }
        let told = on.ok().and_then(|on| on.as_str().map(str::to_owned));
        match told.filter(|id| !id.is_empty()) {
            Some(id) if !turn.policy.deployments.contains_key(id.as_str()) => {
                let refusal = Refusal::EmptyTarget(NotThere::NotListed(DeploymentId::new(id)));
                self.no_target(turn, alerts, key, &refusal);
            }
            Some(id) => self.run_for_rung(turn, alerts, key, rung, DeploymentId::new(id)),
            None => self.no_target(turn, alerts, key, &Refusal::EmptyTarget(NotThere::NoDeployment)),
        }
    }

    /// The next batch begins.
    pub(super) fn fan_out(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        let Some((rungs, index)) = self.rung_of(&turn.policy, key) else { return self.no_rung(turn, key) };
        let Some(rung) = rungs.rungs.get(index) else { return };
        let Some(playbook) = turn.policy.playbooks.get(&rung.playbook).cloned() else {
            return self.no_rung(turn, key);
        };
        let made_for = MadeFor { rung: index, identity: rung.identity() };
        if let Some(fan) = self.fan(key)
            && *fan.made_for.get_or_insert(made_for.identity) != made_for.identity
        {
            return self.due(turn, key, Duration::ZERO);
        }
        let at_once = rung.batch.map_or(FAN_AT_ONCE, |batch| batch as usize);
        let (hold, within) = (playbook.verify.hold, playbook.verify.within);
        let mut begun = 0;
        while let Some(fan) = self.fan(key)
            && fan.live.len() < at_once
            && !fan.is_stopped()
            // a batch is begun as a whole, and the next only when it has ended
            && (rung.batch.is_none() || begun.max(fan.begun) < at_once)
            && let Some(target) = fan.waiting.pop_front()
        {
            fan.begun += 1;
            begun += 1;
            fan.playbook = Some(playbook.name.clone());
            (fan.hold, fan.within) = (hold, within);
            let level = self.ladders.get(key).map(|ladder| ladder.level);
            let id = self.new_run(turn, playbook.clone(), target, Cause::Alert(key.clone()), level);
            if let Some(run) = self.runs.get_mut(&id) {
                run.judged_by_rung = true;
                run.made_for = Some(made_for);
            }
            self.timers.set(Timer::GiveUp(id.clone()), turn.now + rung.give_up);
            if let Some(fan) = self.fan(key) {
                fan.live.insert(id.clone());
            }
            self.keep_run_of_ladder(key, &id);
            self.consult(turn, alerts, &id);
        }
        self.fan_moved(turn, alerts, key);
    }

    pub(super) fn fan(&mut self, key: &AlertKey) -> Option<&mut Fan> {
        match &mut self.ladders.get_mut(key)?.stand {
            Stand::Fan(fan) => Some(fan),
            _ => None,
        }
    }

    /// One of the rung's runs has ended.
    pub(super) fn fan_run_ended(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        key: &AlertKey,
        id: &RunId,
        end: RunEnd,
    ) {
        let Some(run) = self.runs.get(id) else { return };
        let (deployment, acted_on) = (run.deployment.clone(), run.acted_on.clone());
        let acted_at = run.last_act_ended.or(run.begun_at);
        let passed_over = matches!(run.refusal, Some(Refusal::If | Refusal::Observe(_)));
        let Some(fan) = self.fan(key) else { return };
        if !fan.live.remove(id) {
            return;
        }
        let was_stopped = fan.is_stopped();
        match end {
            RunEnd::Cured | RunEnd::Done => {
                fan.acted_at = fan.acted_at.max(acted_at);
                fan.acted_on.extend(acted_on);
                fan.unproved |= end == RunEnd::Done;
            }
            RunEnd::WentAway => {}
            // that one target is not meant, or nothing is done for real, says nothing of the others
            RunEnd::RefusedForGood if passed_over => fan.passed_over = true,
            RunEnd::NotCured | RunEnd::RefusedForGood => fan.failed = true,
            RunEnd::RefusedMayPass => fan.waiting.push_back(deployment.clone()),
            RunEnd::Inconclusive | RunEnd::Denied | RunEnd::Cancelled => fan.needs_person = true,
        }
        if !was_stopped && fan.is_stopped() {
            self.withdraw_waiting(turn, alerts, key, &deployment);
        }
        self.fan_moved(turn, alerts, key);
    }

    /// A rung that has stopped begins nothing more: neither what waits for its guards or for a person, nor does it wait for
    /// those before the ladder goes on.
    fn withdraw_waiting(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, stopped_on: &DeploymentId) {
        let waits = |run: &RunId| self.runs.get(run).is_some_and(Run::is_waiting);
        let waiting: Vec<RunId> = self.runs_of(key).into_iter().filter(waits).collect();
        for run in waiting {
            self.note(&run, format!("its rung has stopped: the run on {stopped_on} has not done its work"));
            self.end_waiting(turn, alerts, &run, Verdict::WentAway);
        }
    }

    /// What follows once a batch has ended.
    fn fan_moved(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        let rung = self.rung_of(&turn.policy, key).and_then(|(rungs, index)| {
            let rung = rungs.rungs.get(index)?;
            Some((rung.pause, rung.repeat.is_some()))
        });
        let (pause, repeats) = rung.unwrap_or_default();
        let firing = alerts.get(key).is_some_and(|alert| alert.firing);
        let rise = self.pending_rise(alerts, key);
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        let over = ladder.over;
        let Stand::Fan(fan) = &mut ladder.stand else { return };
        if !fan.live.is_empty() {
            return;
        }
        fan.begun = 0;
        if over || !firing {
            fan.waiting.clear();
        }
        let at = fan.acted_at.unwrap_or(turn.now);
        turn.say(Word::RemediationMoved(key.clone()));
        if fan.needs_person {
            self.move_on(turn, alerts, key, RunEnd::Inconclusive, at);
        } else if fan.failed || rise.is_some() {
            // what is left for a higher level's own ladder counts as what did not cure: that one is next
            self.move_on(turn, alerts, key, RunEnd::NotCured, at);
        } else if !fan.waiting.is_empty() {
            self.timers.set(Timer::Ladder(key.clone()), turn.now + pause.max(ASK_AGAIN));
        } else if fan.acted_at.is_none() {
            // where none of them is meant the next rung is
            let end = if fan.passed_over { RunEnd::RefusedForGood } else { RunEnd::WentAway };
            self.move_on(turn, alerts, key, end, at);
        } else if repeats {
            self.move_on(turn, alerts, key, RunEnd::Done, at);
        } else {
            let fan = std::mem::take(fan);
            self.watch_rung(turn, alerts, key, fan);
        }
    }

    /// The alert is clear: what has not begun does not begin.
    pub(super) fn fan_symptom_gone(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        let Some(fan) = self.fan(key) else { return };
        fan.waiting.clear();
        for run in fan.live.clone() {
            self.interrupt(turn, alerts, &run, Interrupt::SymptomGone);
        }
        self.fan_moved(turn, alerts, key);
    }

    /// Every run of an alert that waits or is under way.
    pub(super) fn runs_of(&self, key: &AlertKey) -> Vec<RunId> {
        match self.ladders.get(key).map(|ladder| &ladder.stand) {
            Some(Stand::Run(run)) => vec![run.clone()],
            Some(Stand::Fan(fan)) => fan.live.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether any of them has begun, or what came of them is being watched.
    pub(super) fn is_any_under_way(&self, key: &AlertKey) -> bool {
        let judging = self.ladders.get(key).is_some_and(|ladder| ladder.judging.is_some());
        judging || self.runs_of(key).iter().filter_map(|run| self.runs.get(run)).any(Run::is_under_way)
    }
}

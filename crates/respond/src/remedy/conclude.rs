//! The end of a run: leases go back, people and other rules hear of it, its ladder moves.

use std::fmt::Display;

use super::guards::limits_of;
use super::state::{Cause, Doing, LastRun, Run};
use super::{KEPT_BY_HAND, Remedy, Timer, stuck_scope};
use crate::alerts::Alerts;
use crate::guard::Refusal;
use crate::run::{Interrupt, Verdict};
use crate::turn::{Said, Turn, Word};
use selfheal_contract::BuiltInAlert;
use selfheal_model::units::format_duration;
use selfheal_model::{DeploymentId, PlaybookName, RunId};

impl Remedy {
    /// Adds a sentence to why a run went the way it did.
    pub(super) fn note(&mut self, id: &RunId, why: String) {
        if let Some(run) = self.runs.get_mut(id)
            && !run.why.contains(&why)
        {
            run.why.push(why);
        }
    }

    /// Ends a run that has not begun.
    pub(super) fn end_waiting(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, verdict: Verdict) {
        if self.runs.get(id).is_some_and(Run::is_waiting) {
            self.finish(turn, alerts, id, verdict);
        }
    }

    pub(super) fn finish(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, verdict: Verdict) {
        let Some(run) = self.runs.get(id).filter(|run| !run.is_ended()) else { return };
        // one that only waited takes nothing away from others
        let frees = !run.is_waiting();
        self.leave_step(turn, id, "the run has ended");
        self.withdraw(turn, id);
        self.forget_timers(id);
        if self.runs.get(id).is_some_and(|run| run.parent.is_some()) {
            return self.part_ended(turn, alerts, id, verdict);
        }
        let Some(run) = self.runs.get_mut(id) else { return };
        let eased = run.eased_until.is_some_and(|until| turn.now < until);
        let verdict = if verdict == Verdict::Cured && eased { Verdict::Eased } else { verdict };
        run.doing = Doing::Ended(verdict);
        run.ended_at = Some(turn.now);
        run.refusal = match (verdict, run.observed) {
            (Verdict::Refused, Some(observed)) => Some(Refusal::Observe(observed)),
            (Verdict::Refused, None) => run.refusal.take(),
            _ => None,
        };
        self.give_back(turn, alerts, id, verdict);
        self.remember(turn, id, verdict);
        self.survey.forget();
        self.not_stuck(turn, id);
        let key = self.runs.get(id).and_then(|run| run.alert().cloned());
        if verdict == Verdict::NotCured {
            self.emit_about(turn, id, "run_not_cured", None, "");
        }
        self.tell_ended(turn, id, verdict);
        self.show(turn, id);
        match key {
            Some(key) => self.run_ended(turn, alerts, &key, id),
            None => {
                self.scheduled_run_ended(turn, id, verdict);
                self.keep_by_hand(id);
            }
        }
        self.stirred |= frees;
    }

    pub(super) fn forget_timers(&mut self, id: &RunId) {
        let every: [fn(RunId) -> Timer; 7] =
            [Timer::Hold, Timer::Step, Timer::Within, Timer::Deadline, Timer::BreakOff, Timer::GiveUp, Timer::Again];
        for timer in every {
            self.timers.clear(&timer(id.clone()));
        }
    }

    /// Leases go back; where it acted, its grace begins.
    fn give_back(&mut self, turn: &Turn<'_>, alerts: &Alerts, id: &RunId, verdict: Verdict) {
        let Some(run) = self.runs.get(id) else { return };
        let ladder = run.alert().and_then(|key| Some((key.clone(), self.ladders.get(key)?.nth)));
        let (targets, acted_on) = (run.leases.keys().cloned().collect::<Vec<_>>(), run.acted_on.clone());
        for target in &targets {
            self.places.release(target, id);
        }
        let cured = matches!(verdict, Verdict::Cured | Verdict::Eased);
        for target in &acted_on {
            let settled = cured || self.is_well(alerts, target);
            self.places.at(target).last =
                Some(LastRun { run: id.clone(), ladder: ladder.clone(), ended_at: turn.now, settled });
        }
    }

    /// A run that ended in time ends the alert about one there that did not.
    fn not_stuck(&self, turn: &mut Turn<'_>, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        if run.course.acted() && run.course.interrupt() != Some(Interrupt::Deadline) {
            let scope = stuck_scope(&run.deployment);
            turn.say(Word::Said(Said { name: BuiltInAlert::RunStuck, scope, summary: None }));
        }
    }

    /// What the end of a run says of its playbook, and of the alert it was for.
    fn remember(&mut self, turn: &mut Turn<'_>, id: &RunId, verdict: Verdict) {
        let Some(run) = self.runs.get(id).filter(|run| run.course.acted()) else { return };
        let (name, deployment) = (run.playbook.name.clone(), run.deployment.clone());
        match verdict {
            Verdict::Cured | Verdict::Eased => {
                // what one of several targets came to is no cure of the alert
                if let Some(key) = run.alert().filter(|_| !run.judged_by_rung) {
                    let within = limits_of(&turn.policy, &deployment).recurrence.within;
                    self.memory.cured(key, &name, turn.now, within);
                }
                self.playbook_cured(turn, &name, &deployment);
            }
            Verdict::NotCured => self.playbook_failed(turn, &name, [&deployment]),
            Verdict::Done => {
                let breaker = self.memory.breakers.get_mut(&name).filter(|breaker| breaker.is_open());
                if let Some(breaker) = breaker {
                    breaker.left();
                    self.note(id, format!("{name} stays out of service: nothing of this run was verified"));
                }
            }
            Verdict::Inconclusive | Verdict::WentAway | Verdict::Refused | Verdict::Denied | Verdict::Cancelled => {
                if let Some(breaker) = self.memory.breakers.get_mut(&name) {
                    breaker.left();
                }
            }
        }
    }

    /// A playbook has proved that it can cure.
    pub(super) fn playbook_cured(&mut self, turn: &mut Turn<'_>, name: &PlaybookName, what: &dyn Display) {
        if self.memory.breakers.remove(name).is_some_and(|mut breaker| breaker.cured()) {
            Remedy::tell_all(turn, "PlaybookBack", format!("{name} has cured {what} and is back in service"));
        }
    }

    /// A playbook has not cured these.
    pub(super) fn playbook_failed<'a>(
        &mut self,
        turn: &mut Turn<'_>,
        name: &PlaybookName,
        deployments: impl IntoIterator<Item = &'a DeploymentId>,
    ) {
        let limits = turn.policy.guards.breaker;
        let mut goes_out = false;
        for deployment in deployments {
            let breaker = self.memory.breakers.entry(name.clone()).or_default();
            goes_out |= breaker.failed(limits, turn.now, deployment);
        }
        if goes_out {
            let probe = format_duration(limits.probe_after);
            let text = format!(
                "{name} has failed {} times on {} deployments or more and is out of service; one run may try it after \
                 {probe}, or a person puts it back",
                limits.failures, limits.deployments
            );
            Remedy::tell_all(turn, "PlaybookOut", text);
        }
    }

    /// A run that waits for a person holds nothing.
    pub(super) fn give_leases_back(&mut self, id: &RunId) {
        let Some(run) = self.runs.get_mut(id) else { return };
        run.gave_leases_back = true;
        for target in std::mem::take(&mut run.leases).into_keys() {
            self.places.release(&target, id);
        }
    }

    fn keep_by_hand(&mut self, id: &RunId) {
        self.ended_by_hand.push_back(id.clone());
        if self.ended_by_hand.len() > KEPT_BY_HAND
            && let Some(oldest) = self.ended_by_hand.pop_front()
        {
            self.runs.remove(&oldest);
        }
    }

    /// A run whose rule, playbook or deployment is gone from the policy stops before its next acting step.
    pub(super) fn leave_what_is_gone(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        let gone = |run: &Run| {
            let policy = &turn.policy;
            let rule_gone = run.alert().is_some_and(|key| !policy.answers_for(key));
            if rule_gone {
                Some("its rule is no longer in the policy")
            } else if !policy.playbooks.contains_key(&run.playbook.name) {
                Some("its playbook is no longer in the policy")
            } else if !policy.deployments.contains_key(&run.deployment) {
                Some("its deployment is no longer in the policy")
            } else if matches!(&run.cause, Cause::Schedule(name) if !policy.schedules.contains_key(name)) {
                Some("its schedule is no longer in the policy")
            } else {
                None
            }
        };
        let live = self.runs.values().filter(|run| !run.is_ended() && run.parent.is_none());
        let leaving: Vec<_> = live.filter_map(|run| Some((run.id.clone(), gone(run)?))).collect();
        for (id, why) in leaving {
            // a waiting run of a ladder takes what the policy says now when it asks again
            if self.runs.get(&id).is_some_and(|run| run.is_waiting() && run.alert().is_some()) {
                continue;
            }
            self.note(&id, why.to_owned());
            self.interrupt(turn, alerts, &id, Interrupt::Cancelled);
        }
    }
}

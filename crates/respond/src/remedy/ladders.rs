//! Ladders: which rung of which alert is due, and what the end of its run means.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::fan::Targets;
use super::same_ladder::is_same_ladder;
use super::state::{Cause, Fan, LadderState, MadeFor, Rest, Run, Stand};
use super::windows::longest_window;
use super::{ASK_AGAIN, KEPT_OVER, KEPT_PER_ALERT, Remedy, Timer};
use crate::alerts::{Alert, Alerts};
use crate::guard::Refusal;
use crate::ladder::{Move, RunEnd};
use crate::run::{Interrupt, Verdict, Verified};
use crate::turn::{AlertChange, AlertChangeKind, Turn, Word};
use selfheal_contract::effect::OperatorAnswer;
use selfheal_model::units::format_duration;
use selfheal_model::{AlertKey, DeploymentId, RunId, Severity, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::ladder::{Ladder, Rung};

/// The ladder the policy has for this rule at this level.
fn ladder_of(policy: &Policy, key: &AlertKey, level: Severity) -> Option<Arc<Ladder>> {
    policy.ladder_of(key, level).cloned()
}

impl Remedy {
    pub(super) fn ladder_hears(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, change: &AlertChange) {
        let key = &change.key;
        match change.kind {
            AlertChangeKind::Fired => self.fired(turn, alerts, key, false),
            AlertChangeKind::Relapsed => self.fired(turn, alerts, key, true),
            AlertChangeKind::SeverityChanged { from, to } => self.level_changed(turn, alerts, key, from, to),
            AlertChangeKind::Resolved => self.symptom_gone(turn, alerts, key),
            AlertChangeKind::EpisodeOver => self.episode_over(turn, key),
            AlertChangeKind::Ended => self.no_longer_watched(turn, alerts, key),
            AlertChangeKind::Relabelled | AlertChangeKind::DataLost | AlertChangeKind::DataBack => {}
        }
    }

    fn fired(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, relapse: bool) {
        let Some(alert) = alerts.get(key) else { return };
        let under_way = self.is_any_under_way(key);
        // an alert from elsewhere that nobody posted for a while is the same one
        let goes_on = relapse || key.is_posted();
        match self.ladders.get_mut(key) {
            // what is under way is not begun anew because the alert was clear for a moment
            Some(ladder) if (goes_on && !ladder.over) || under_way => {
                ladder.over = false;
                ladder.fired_at = turn.now;
                if matches!(ladder.stand, Stand::Resting(_) | Stand::Due) {
                    self.due(turn, key, turn.policy.guards.act_after);
                }
                turn.say(Word::RemediationMoved(key.clone()));
                // an alert that comes back at another level says nothing else of that
                if let Some(level) = self.ladders.get(key).map(|ladder| ladder.level) {
                    self.level_changed(turn, alerts, key, level, alert.severity);
                }
            }
            _ => self.begin_ladder(turn, alerts, key, alert.severity),
        }
    }

    fn begin_ladder(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, level: Severity) {
        // a run of the ladder before that has not begun has nothing to begin for
        for run in self.runs_of(key) {
            self.end_waiting(turn, alerts, &run, Verdict::WentAway);
        }
        self.drop_ladder(turn, key);
        let Some(rungs) = ladder_of(&turn.policy, key, level) else { return };
        self.ladders_begun += 1;
        if !turn.policy.rule_of(key).is_some_and(|rule| rule.routine) {
            self.memory.storm.wants(turn.policy.guards.storm, turn.now, key.clone());
        }
        let ladder = LadderState {
            nth: self.ladders_begun,
            level,
            rung: 0,
            rungs: rungs.rungs.len(),
            stand: Stand::Due,
            runs: Vec::new(),
            fired_at: turn.now,
            untried: Vec::new(),
            told: BTreeSet::new(),
            rise: None,
            over: false,
            judging: None,
        };
        self.ladders.insert(key.clone(), ladder);
        self.due(turn, key, turn.policy.guards.act_after);
    }

    /// Whether the ladders that want to start are a storm. Those that wait for something they depend on are no part of it.
    pub(super) fn judge_storm(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        let limits = turn.policy.guards.storm;
        let judged = self.memory.storm_judged_at == Some(turn.now);
        if judged || !self.memory.storm.may_be_over(limits) {
            return;
        }
        let mut storm = std::mem::take(&mut self.memory.storm);
        let free = |key: &AlertKey| {
            !self.held_back.contains_key(key) && !self.waits_for_root(&turn.policy, alerts, key, turn.now)
        };
        let begins = storm.judge(limits, turn.now, free);
        self.memory.storm = storm;
        self.memory.storm_judged_at = Some(turn.now);
        if begins {
            let text = format!(
                "{} ladders wanted to start within {}: that is a storm. Nothing is repaired by itself until it has been calm \
                 for {}; please look at what they have in common",
                self.memory.storm.count(limits, turn.now),
                format_duration(limits.ladders.window),
                format_duration(limits.cool_down)
            );
            Remedy::tell_all(turn, "Storm", text);
        }
    }

    /// The next rung is tried after `wait`.
    pub(super) fn due(&mut self, turn: &mut Turn<'_>, key: &AlertKey, wait: Duration) {
        if let Some(ladder) = self.ladders.get_mut(key) {
            ladder.stand = Stand::Due;
            self.timers.set(Timer::Ladder(key.clone()), turn.now + wait);
            turn.say(Word::RemediationMoved(key.clone()));
        }
    }

    /// A rise starts that level's own ladder if it has one and goes on with the running one otherwise; a fall stops
    /// nothing.
    fn level_changed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, from: Severity, to: Severity) {
        let Some(own) = ladder_of(&turn.policy, key, to) else { return };
        let Some(ladder) = self.ladders.get_mut(key).filter(|ladder| !ladder.over) else {
            return self.begin_ladder(turn, alerts, key, to);
        };
        let running = ladder_of(&turn.policy, key, ladder.level);
        if to <= from || to <= ladder.level || running.is_some_and(|running| is_same_ladder(&running, &own)) {
            return;
        }
        match ladder.stand.clone() {
            // only a new episode lifts this
            Stand::Stopped => {}
            Stand::Run(run) => {
                ladder.rise = Some(to);
                if self.runs.get(&run).is_some_and(Run::is_waiting) {
                    self.note(&run, format!("the alert rose to {to}, which has a ladder of its own"));
                    self.end_waiting(turn, alerts, &run, Verdict::WentAway);
                }
            }
            Stand::Fan(_) => {
                ladder.rise = Some(to);
                self.fan_symptom_gone(turn, alerts, key);
            }
            Stand::Judging => ladder.rise = Some(to),
            Stand::Due | Stand::Resting(_) | Stand::Exhausted => self.rise(turn, key, to),
        }
    }

    /// The level whose own ladder waits for what is under way; one that the alert has left again waits for nothing.
    pub(super) fn pending_rise(&self, alerts: &Alerts, key: &AlertKey) -> Option<Severity> {
        let to = self.ladders.get(key)?.rise?;
        alerts.get(key).is_some_and(|alert| alert.firing && alert.severity >= to).then_some(to)
    }

    fn rise(&mut self, turn: &mut Turn<'_>, key: &AlertKey, to: Severity) {
        if let Some(ladder) = self.ladders.get_mut(key) {
            (ladder.level, ladder.rung, ladder.rise) = (to, 0, None);
            ladder.fired_at = turn.now;
            self.due(turn, key, turn.policy.guards.act_after);
        }
    }

    fn symptom_gone(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        match ladder.stand.clone() {
            Stand::Due | Stand::Resting(_) => {
                ladder.stand = Stand::Resting(Rest::Clear);
                self.timers.clear(&Timer::Ladder(key.clone()));
                turn.say(Word::RemediationMoved(key.clone()));
            }
            Stand::Run(run) => self.interrupt(turn, alerts, &run, Interrupt::SymptomGone),
            Stand::Fan(_) => self.fan_symptom_gone(turn, alerts, key),
            // that the alert is over proves nothing: what came since the last act does
            Stand::Judging | Stand::Exhausted | Stand::Stopped => {}
        }
    }

    fn episode_over(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        let Some(ladder) = self.ladders.get_mut(key).filter(|ladder| !ladder.over) else { return };
        ladder.over = true;
        if ladder.judging.is_none() {
            self.timers.clear(&Timer::Ladder(key.clone()));
        }
        self.over.push_back((key.clone(), ladder.nth));
        turn.say(Word::RemediationMoved(key.clone()));
        self.forget_over(turn);
    }

    fn forget_over(&mut self, turn: &mut Turn<'_>) {
        let mut at_work = Vec::new();
        while self.over.len() > KEPT_OVER {
            let Some((key, nth)) = self.over.pop_front() else { break };
            let Some(ladder) = self.ladders.get(&key).filter(|ladder| ladder.nth == nth && ladder.over) else {
                continue;
            };
            if ladder.judging.is_none() && self.runs_of(&key).is_empty() {
                self.drop_ladder(turn, &key);
            } else {
                at_work.push((key, nth));
            }
        }
        // those have their turn again with the next that is over
        for entry in at_work.into_iter().rev() {
            self.over.push_front(entry);
        }
    }

    /// Its rule or scope is gone: nothing begins any more; what is under way stops before its next acting step.
    fn no_longer_watched(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        for run in self.runs_of(key) {
            self.note(&run, "its alert is no longer watched".to_owned());
            self.interrupt(turn, alerts, &run, Interrupt::Cancelled);
        }
        if self.ladders.get(key).is_some_and(|ladder| ladder.stand == Stand::Judging) {
            let why = "its alert is no longer watched".to_owned();
            self.rung_judged(turn, alerts, key, Verified::NotKnown, why);
        }
        self.episode_over(turn, key);
    }

    /// Forgets a ladder and its ended runs.
    fn drop_ladder(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        self.leave_judging(turn, key);
        self.timers.clear(&Timer::Ladder(key.clone()));
        for run in self.ladders.remove(key).map(|ladder| ladder.runs).unwrap_or_default() {
            if self.runs.get(&run).is_some_and(Run::is_ended) {
                self.runs.remove(&run);
            }
        }
    }

    /// The rung a ladder stands at, in the policy as it is now.
    pub(super) fn rung_of(&self, policy: &Policy, key: &AlertKey) -> Option<(Arc<Ladder>, usize)> {
        let ladder = self.ladders.get(key)?;
        let rungs = ladder_of(policy, key, ladder.level)?;
        (ladder.rung < rungs.rungs.len()).then_some((rungs, ladder.rung))
    }

    /// A rung is due, or a rest is looked at.
    pub(super) fn ladder_due(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        if self.ladders.get(key).is_some_and(|ladder| ladder.stand == Stand::Judging) {
            return self.rung_time_over(turn, alerts, key);
        }
        let Some(ladder) = self.ladders.get_mut(key).filter(|ladder| !ladder.over) else { return };
        let Some(alert) = alerts.get(key).filter(|alert| alert.firing) else {
            if matches!(ladder.stand, Stand::Due) {
                ladder.stand = Stand::Resting(Rest::Clear);
                turn.say(Word::RemediationMoved(key.clone()));
            }
            return;
        };
        match (&ladder.stand, alert.true_now) {
            (Stand::Due, _) | (Stand::Resting(Rest::WentAway), true) => self.try_rung(turn, alerts, key, alert),
            // it was cured, and all evidence is from after that: the cure has not lasted
            (Stand::Resting(Rest::Cured), true) => self.next_rung(turn, alerts, key),
            (Stand::Resting(Rest::Cured | Rest::WentAway), false) => {
                self.timers.set(Timer::Ladder(key.clone()), turn.now + ASK_AGAIN);
            }
            (Stand::Fan(_), _) => self.fan_out(turn, alerts, key),
            (Stand::Resting(Rest::Clear) | Stand::Run(_) | Stand::Judging | Stand::Exhausted | Stand::Stopped, _) => {}
        }
    }

    /// Makes a run for the rung, which then waits for its guards.
    fn try_rung(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, alert: &Alert) {
        let Some((rungs, index)) = self.rung_of(&turn.policy, key) else {
            return self.no_rung(turn, key);
        };
        let Some(rung) = rungs.rungs.get(index) else { return };
        match self.targets_of_rung(turn, alerts, key, alert, rung) {
            Ok(Targets::One(deployment)) => self.run_for_rung(turn, alerts, key, rung, deployment),
            Ok(Targets::Several(waiting)) => {
                if let Some(ladder) = self.ladders.get_mut(key) {
                    ladder.stand = Stand::Fan(Fan { waiting, ..Fan::default() });
                }
                self.fan_out(turn, alerts, key);
            }
            Ok(Targets::Asked) => {}
            Err(refusal) => self.no_target(turn, alerts, key, &refusal),
        }
    }

    /// A rung that is for nobody is refused; the next one may be for somebody.
    pub(super) fn no_target(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, refusal: &Refusal) {
        self.tell_alert_refused(turn, key, refusal);
        let playbook = self.rung_of(&turn.policy, key).and_then(|(rungs, index)| {
            let rung = rungs.rungs.get(index)?;
            Some(rung.playbook.clone())
        });
        if let (Some(playbook), Some(ladder)) = (playbook, self.ladders.get_mut(key))
            && ladder.untried.len() < KEPT_PER_ALERT
        {
            ladder.untried.push(format!("{playbook} was not tried, by {}: {refusal}", refusal.guard()));
        }
        self.next_rung(turn, alerts, key);
    }

    pub(super) fn run_for_rung(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        key: &AlertKey,
        rung: &Rung,
        deployment: DeploymentId,
    ) {
        let Some(playbook) = turn.policy.playbooks.get(&rung.playbook).cloned() else {
            return self.next_rung(turn, alerts, key);
        };
        let (level, place) = match self.ladders.get(key) {
            Some(ladder) => (Some(ladder.level), ladder.rung),
            None => return,
        };
        let id = self.new_run(turn, playbook, deployment, Cause::Alert(key.clone()), level);
        self.timers.set(Timer::GiveUp(id.clone()), turn.now + rung.give_up);
        if let Some(run) = self.runs.get_mut(&id) {
            run.judged_by_rung = rung.repeat.is_some();
            run.made_for = Some(MadeFor { rung: place, identity: rung.identity() });
        }
        if let Some(ladder) = self.ladders.get_mut(key) {
            ladder.stand = Stand::Run(id.clone());
        }
        self.keep_run_of_ladder(key, &id);
        self.consult(turn, alerts, &id);
    }

    /// The ladder's story has one more run; beyond a bound the oldest that has ended is forgotten.
    pub(super) fn keep_run_of_ladder(&mut self, key: &AlertKey, id: &RunId) {
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        ladder.runs.push(id.clone());
        if ladder.runs.len() > KEPT_PER_ALERT {
            let runs = &self.runs;
            let ended = ladder.runs.iter().position(|run| runs.get(run).is_none_or(Run::is_ended));
            if let Some(oldest) = ended.map(|place| ladder.runs.remove(place)) {
                self.runs.remove(&oldest);
            }
        }
    }

    /// The ladder has come to its end, or the policy has none for it any more.
    pub(super) fn no_rung(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        if self.rungs_at(&turn.policy, key) > 0 {
            return self.exhausted(turn, key);
        }
        self.drop_ladder(turn, key);
        turn.say(Word::RemediationMoved(key.clone()));
    }

    pub(super) fn next_rung(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        let rungs = self.rungs_at(&turn.policy, key);
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        ladder.rungs = rungs;
        if ladder.rung + 1 >= rungs {
            return self.exhausted(turn, key);
        }
        ladder.rung += 1;
        if alerts.get(key).is_some_and(|alert| alert.firing) {
            // at once, but as a timer of its own: each rung is a step of its own in the order of things
            self.due(turn, key, Duration::ZERO);
        } else {
            ladder.stand = Stand::Resting(Rest::Clear);
        }
    }

    fn exhausted(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        if let Some(ladder) = self.ladders.get_mut(key).filter(|ladder| ladder.stand != Stand::Exhausted) {
            ladder.stand = Stand::Exhausted;
            self.tell_exhausted(turn, key);
            turn.say(Word::RemediationMoved(key.clone()));
        }
    }

    /// What the end of an alert's run means for its ladder.
    pub(super) fn run_ended(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, id: &RunId) {
        let Some((verdict, may_pass, acted_at)) = self.runs.get(id).and_then(|run| {
            let may_pass = run.refusal.as_ref().is_some_and(Refusal::may_pass);
            Some((run.verdict()?, may_pass, run.last_act_ended.unwrap_or(run.created_at)))
        }) else {
            return;
        };
        let end = run_end(verdict, may_pass);
        match self.ladders.get(key).map(|ladder| &ladder.stand) {
            Some(Stand::Fan(_)) => self.fan_run_ended(turn, alerts, key, id, end),
            Some(Stand::Run(run)) if run == id => self.move_on(turn, alerts, key, end, acted_at),
            _ => {}
        }
    }

    /// What comes after the run of a rung, or after all of them together.
    pub(super) fn move_on(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        key: &AlertKey,
        end: RunEnd,
        acted_at: Timestamp,
    ) {
        let rungs = self.rungs_at(&turn.policy, key);
        let firing = alerts.get(key).is_some_and(|alert| alert.firing);
        let repeat = self.rung_of(&turn.policy, key).and_then(|(rungs, index)| rungs.rungs.get(index)?.repeat);
        let rise = self.pending_rise(alerts, key);
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        ladder.rise = None;
        if ladder.over {
            ladder.stand = Stand::Resting(Rest::Clear);
            return;
        }
        let mut moved = crate::ladder::after(end, rungs.saturating_sub(ladder.rung + 1));
        if let Some(to) = rise.filter(|_| !matches!(moved, Move::Stop) && end != RunEnd::Cured) {
            // the higher level's own ladder has been waiting for this
            return self.rise(turn, key, to);
        }
        let ran = matches!(end, RunEnd::Cured | RunEnd::Done | RunEnd::NotCured | RunEnd::WentAway);
        if let Some(every) = repeat.filter(|_| ran && firing) {
            return self.due(turn, key, every);
        }
        if moved == Move::Exhausted && !firing {
            // nothing to tell the story of: the alert is gone; a relapse finds the ladder at its end
            ladder.rung = rungs;
            moved = Move::Rest;
        }
        match moved {
            Move::Rest => self.rest(turn, key, end, firing, acted_at),
            Move::NextRung => self.next_rung(turn, alerts, key),
            Move::KeepRung => self.due(turn, key, ASK_AGAIN),
            Move::Stop => ladder.stand = Stand::Stopped,
            Move::Exhausted => self.exhausted(turn, key),
        }
        turn.say(Word::RemediationMoved(key.clone()));
    }

    /// A person lets a ladder go on that has stopped, or begin again that has come to its end.
    pub(super) fn retry(
        &mut self,
        turn: &mut Turn<'_>,
        who: &str,
        alert: &str,
        reason: &str,
    ) -> Result<OperatorAnswer, String> {
        let found = self.ladders.iter().find(|(key, ladder)| key.id() == alert && !ladder.over);
        let Some(key) = found.map(|(key, _)| key.clone()) else {
            return Err(format!("alert {alert} has no ladder: it does not fire, or its rule repairs nothing"));
        };
        let Some(ladder) = self.ladders.get_mut(&key) else { return Ok(OperatorAnswer::Ok) };
        let from = match ladder.stand {
            Stand::Stopped => ladder.rung,
            Stand::Exhausted => 0,
            Stand::Due | Stand::Run(_) | Stand::Fan(_) | Stand::Judging => {
                return Err(format!("the ladder of {key} is at work already"));
            }
            Stand::Resting(_) => return Err(format!("the ladder of {key} rests: its last run cured, or it is clear")),
        };
        ladder.rung = from;
        ladder.told.clear();
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Remedy::audit(turn, who, format!("let the ladder of {key} go on at rung {}{because}", from + 1));
        self.due(turn, &key, Duration::ZERO);
        Ok(OperatorAnswer::Ok)
    }

    fn rungs_at(&self, policy: &Policy, key: &AlertKey) -> usize {
        let level = self.ladders.get(key).map(|ladder| ladder.level);
        level.and_then(|level| ladder_of(policy, key, level)).map_or(0, |ladder| ladder.rungs.len())
    }

    fn rest(&mut self, turn: &mut Turn<'_>, key: &AlertKey, end: RunEnd, firing: bool, acted_at: Timestamp) {
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        let (rest, at) = match (firing, end) {
            (false, _) => (Rest::Clear, None),
            (true, RunEnd::WentAway) => (Rest::WentAway, Some(turn.now + ASK_AGAIN)),
            (true, _) => {
                let window_over = acted_at + longest_window(&turn.policy, key);
                (Rest::Cured, Some(window_over.max(turn.now + ASK_AGAIN)))
            }
        };
        ladder.stand = Stand::Resting(rest);
        if let Some(at) = at {
            self.timers.set(Timer::Ladder(key.clone()), at);
        }
    }
}

fn run_end(verdict: Verdict, may_pass: bool) -> RunEnd {
    match verdict {
        Verdict::Cured | Verdict::Eased => RunEnd::Cured,
        Verdict::Done => RunEnd::Done,
        Verdict::WentAway => RunEnd::WentAway,
        Verdict::NotCured => RunEnd::NotCured,
        Verdict::Refused if may_pass => RunEnd::RefusedMayPass,
        Verdict::Refused => RunEnd::RefusedForGood,
        Verdict::Inconclusive => RunEnd::Inconclusive,
        Verdict::Denied => RunEnd::Denied,
        Verdict::Cancelled => RunEnd::Cancelled,
    }
}

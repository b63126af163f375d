//! The verdict on a run: only evidence from after the last acting step counts.

use std::time::Duration;

use super::state::{Doing, Verifying};
use super::{Remedy, Timer};
use crate::alerts::Alerts;
use crate::run::Verified;
use crate::turn::Turn;
use selfheal_messages::{LevelRef, Sighting, WatchId, WatchSubject};
use selfheal_model::timers::Timers;
use selfheal_model::units::format_duration;
use selfheal_model::{RunId, Timestamp};
use selfheal_script::Truth;

/// Whether what is seen has become clear, or is so no more.
pub(super) enum Turned {
    Clear,
    NotClear,
}

impl Verifying {
    /// Nothing has been seen yet.
    pub fn begin() -> Self {
        Verifying { truth: Truth::NoData, left: None }
    }

    /// While nothing is seen `within`, which ends by that timer, stands still; then it goes on.
    pub fn stand_still(&mut self, timers: &mut Timers<Timer>, within: Timer, blind: bool, now: Timestamp) {
        match (blind, self.left) {
            (true, None) => {
                self.left = timers.deadline_of(&within).map(|ends_at| ends_at.since(now));
                timers.clear(&within);
            }
            (false, Some(left)) => {
                timers.set(within, now + left);
                self.left = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Takes what is seen now; `None`: it stays clear.
    pub fn sees(&mut self, truth: Truth) -> Option<Turned> {
        let turned = match (self.truth.is_true(), truth.is_true()) {
            (false, true) => Some(Turned::Clear),
            (_, false) => Some(Turned::NotClear),
            (true, true) => None,
        };
        self.truth = truth;
        turned
    }

    /// What it comes to when `within` is over, and why.
    pub fn at_the_end(&self, hold: Duration, within: Duration) -> (Verified, String) {
        let within = format_duration(within);
        match &self.truth {
            Truth::False => (Verified::StillThere, format!("the symptom was still there after {within}")),
            Truth::True => {
                let hold = format_duration(hold);
                (Verified::NotKnown, format!("it was clear only for less than {hold} when {within} had passed"))
            }
            Truth::NoData => (Verified::NotKnown, format!("there was no data to judge by after {within}")),
            Truth::Error(error) => (Verified::NotKnown, format!("it could not be judged: {error}")),
        }
    }
}

impl Remedy {
    pub(super) fn start_verify(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let what = match (&run.playbook.verify.until, run.alert()) {
            (Some(until), _) => WatchSubject::Condition(until.clone()),
            (None, Some(key)) => {
                WatchSubject::Clear(LevelRef { rule: key.rule.clone(), severity: run.level.unwrap_or_default() })
            }
            // the course only comes here where there is something to verify
            (None, None) => return self.verification_ended(turn, alerts, id, Verified::NotKnown),
        };
        let mut context = run.context(turn, alerts);
        context.cut = Some(run.last_act_ended.or(run.begun_at).unwrap_or(turn.now));
        run.doing = Doing::Verifying(Verifying::begin());
        self.timers.set(Timer::Within(id.clone()), turn.now + run.playbook.verify.within);
        turn.watch(WatchId::Verify(id.clone()), context, what);
        self.show(turn, id);
    }

    pub(super) fn verify_watched(&mut self, turn: &mut Turn<'_>, id: &RunId, at: Timestamp, seen: Sighting) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let hold = run.playbook.verify.hold;
        let Doing::Verifying(verifying) = &mut run.doing else { return };
        verifying.stand_still(&mut self.timers, Timer::Within(id.clone()), seen.blind, turn.now);
        match verifying.sees(seen.truth) {
            // not before this turn: what was true earlier was not known to be
            Some(Turned::Clear) => self.timers.set(Timer::Hold(id.clone()), at.max(turn.now) + hold),
            Some(Turned::NotClear) => self.timers.clear(&Timer::Hold(id.clone())),
            None => {}
        }
    }

    /// It has been clear for `hold`.
    pub(super) fn held_clear(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let clear = |doing: &Doing| matches!(doing, Doing::Verifying(verifying) if verifying.truth.is_true());
        if self.runs.get(id).is_some_and(|run| clear(&run.doing)) {
            self.verification_ended(turn, alerts, id, Verified::Clear);
        }
    }

    /// `within` is over.
    pub(super) fn verification_over(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        let Doing::Verifying(verifying) = &run.doing else { return };
        let verify = &run.playbook.verify;
        let (verified, why) = verifying.at_the_end(verify.hold, verify.within);
        self.note(id, why);
        self.verification_ended(turn, alerts, id, verified);
    }

    fn verification_ended(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, verified: Verified) {
        self.leave_step(turn, id, "verified");
        if let Some(run) = self.runs.get_mut(id) {
            run.course.verified(verified);
            self.advance(turn, alerts, id);
        }
    }
}

//! What came of a rung for several deployments: by what its alert says from after the last acting step on.
//!
//! Invariant: it is judged as a run is, once. Cured: the alert was clear for `hold`, in time. Not cured: it is known not to be
//! at the end. Else nobody knows, and the ladder stops; but what the playbook's own `until` has proved on every deployment
//! stands where the alert has no data.

use std::collections::BTreeSet;

use super::fan::context_of;
use super::guards::limits_of;
use super::state::{Fan, Judging, Stand, Verifying};
use super::verify::Turned;
use super::windows::counted_window;
use super::{Remedy, Timer};
use crate::alerts::Alerts;
use crate::ladder::RunEnd;
use crate::run::Verified;
use crate::turn::{Turn, Word};
use selfheal_messages::{Context, LevelRef, Sighting, WatchId, WatchSubject};
use selfheal_model::{AlertKey, DeploymentId, PlaybookName, Timestamp};

impl Remedy {
    /// All targets of the rung have had their run.
    pub(super) fn watch_rung(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey, fan: Fan) {
        let Some(ladder) = self.ladders.get_mut(key) else { return };
        let acted_at = fan.acted_at.unwrap_or(turn.now);
        let what = WatchSubject::Clear(LevelRef { rule: key.rule.clone(), severity: ladder.level });
        let named = alerts.get(key).map(|alert| context_of(key, alert));
        let context = Context { alert: Some(key.clone()), cut: Some(acted_at), ..named.unwrap_or_default() };
        ladder.stand = Stand::Judging;
        ladder.judging = Some(Judging {
            playbook: fan.playbook.unwrap_or_else(|| "".into()),
            acted_on: fan.acted_on,
            acted_at,
            proved: !fan.unproved,
            hold: fan.hold,
            within: fan.within,
            seen: Verifying::begin(),
        });
        // what it counts may go on firing by evidence that no cut reaches; from then on it still has to hold
        let counted = turn.policy.rule_of(key).map(|rule| counted_window(&turn.policy, rule));
        let fresh_at = counted.filter(|counted| !counted.is_zero()).map(|counted| acted_at + counted + fan.hold);
        let ends_at = (turn.now + fan.within).max(fresh_at.unwrap_or(turn.now));
        self.timers.set(Timer::Ladder(key.clone()), ends_at);
        turn.watch(WatchId::Rung(key.clone()), context, what);
        turn.say(Word::RemediationMoved(key.clone()));
    }

    pub(super) fn rung_watched(&mut self, turn: &mut Turn<'_>, key: &AlertKey, at: Timestamp, seen: Sighting) {
        let Some(judging) = self.ladders.get_mut(key).and_then(|ladder| ladder.judging.as_mut()) else { return };
        judging.seen.stand_still(&mut self.timers, Timer::Ladder(key.clone()), seen.blind, turn.now);
        match judging.seen.sees(seen.truth) {
            Some(Turned::Clear) => {
                let held_at = at.max(turn.now) + judging.hold;
                self.timers.set(Timer::HoldRung(key.clone()), held_at);
            }
            Some(Turned::NotClear) => self.timers.clear(&Timer::HoldRung(key.clone())),
            None => {}
        }
    }

    /// Its alert has been clear for `hold`.
    pub(super) fn rung_held_clear(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        self.rung_judged(turn, alerts, key, Verified::Clear, String::new());
    }

    /// The time in which it had to show itself is over.
    pub(super) fn rung_time_over(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, key: &AlertKey) {
        let Some(ladder) = self.ladders.get(key) else { return };
        let (verified, why) = match &ladder.judging {
            Some(judging) => {
                let (verified, why) = judging.seen.at_the_end(judging.hold, judging.within);
                let proved = judging.proved && verified == Verified::NotKnown;
                (if proved { Verified::Clear } else { verified }, why)
            }
            // what an older snapshot has of it says nothing of when it acted
            None => (Verified::NotKnown, "there was nothing to judge it by".to_owned()),
        };
        self.rung_judged(turn, alerts, key, verified, why);
    }

    pub(super) fn rung_judged(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        key: &AlertKey,
        verified: Verified,
        why: String,
    ) {
        let judging = self.leave_judging(turn, key);
        let acted_at = judging.as_ref().map_or(turn.now, |judging| judging.acted_at);
        self.tell_rung_judged(turn, key, judging.as_ref(), verified, &why);
        let end = match verified {
            Verified::Clear => RunEnd::Cured,
            Verified::StillThere => RunEnd::NotCured,
            Verified::NotKnown => RunEnd::Inconclusive,
        };
        if let Some(Judging { playbook, acted_on, .. }) = judging.filter(|judging| !judging.acted_on.is_empty()) {
            match verified {
                Verified::Clear => self.rung_cured(turn, key, &playbook, &acted_on),
                Verified::StillThere => self.playbook_failed(turn, &playbook, &acted_on),
                Verified::NotKnown => {}
            }
        }
        self.move_on(turn, alerts, key, end, acted_at);
        turn.say(Word::RemediationMoved(key.clone()));
    }

    /// It counts once as a cure of the alert, and as the cure of every deployment it acted on where nobody has acted since.
    fn rung_cured(
        &mut self,
        turn: &mut Turn<'_>,
        key: &AlertKey,
        playbook: &PlaybookName,
        acted_on: &BTreeSet<DeploymentId>,
    ) {
        let ladder = self.ladders.get(key).map(|ladder| (key.clone(), ladder.nth));
        for deployment in acted_on {
            self.settle(deployment, |last| last.ladder == ladder);
        }
        self.stirred = true;
        let within = acted_on.iter().map(|id| limits_of(&turn.policy, id).recurrence.within).max();
        self.memory.cured(key, playbook, turn.now, within.unwrap_or_default());
        self.playbook_cured(turn, playbook, key);
    }

    /// Nothing of it is watched any more.
    pub(super) fn leave_judging(&mut self, turn: &mut Turn<'_>, key: &AlertKey) -> Option<Judging> {
        let judging = self.ladders.get_mut(key)?.judging.take()?;
        for timer in [Timer::HoldRung(key.clone()), Timer::Ladder(key.clone())] {
            self.timers.clear(&timer);
        }
        turn.unwatch(WatchId::Rung(key.clone()));
        Some(judging)
    }
}

//! What holds alerts back (SPEC §4.3): silences, inhibition, acknowledgements.
//!
//! Asked for one alert, it says what keeps people from being told of it ([`Held::is_muted`]) and what stops its ladder
//! ([`Held::held_by`]): a silence may let repair go on, and an acknowledgement mutes nobody. When an answer may have
//! changed it says so of that alert, once, to the parts after it.
//!
//! Invariants: times of silences are by the wall clock; an alert that is held back still counts everywhere else; to ask
//! costs as much as there are rules and silences of the alert, however many alerts there are.

mod acks;
mod inhibition;
mod operate;
mod silences;

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use super::alerts::{Alert, Alerts};
use super::turn::{AlertChange, AlertChangeKind, Turn, Word};
use crate::guard::HeldBy;
use acks::Ack;
use inhibition::Inhibition;
use selfheal_contract::explanation::Explanation;
use selfheal_contract::view::HeldView;
use selfheal_model::{AlertKey, Labels, Timestamp};
use selfheal_policy::Policy;
use silences::{Silence, Silences};

/// Silences, acknowledgements, and what they and the inhibit rules mean for the alerts that fire.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Held {
    /// The wall clock is so far ahead of the engine's time.
    offset_ms: i64,
    silences: Silences,
    acks: BTreeMap<AlertKey, Ack>,
    /// The alerts that fire and were told of as firing.
    standing: BTreeMap<AlertKey, Standing>,
    /// Follows from `standing` and the policy.
    #[serde(skip)]
    inhibition: Inhibition,
}

/// How one firing alert stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Standing {
    labels: Labels,
    /// The active ones that match.
    silences: BTreeSet<SmolStr>,
    inhibited: bool,
}

impl Standing {
    fn is_free(&self) -> bool {
        self.silences.is_empty() && !self.inhibited
    }
}

impl Held {
    pub fn new(_start: Timestamp) -> Self {
        Held::default()
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.silences.next_deadline()
    }

    /// What stops the ladder of this alert.
    pub fn held_by(&self, alerts: &Alerts, key: &AlertKey, now: Timestamp) -> Option<HeldBy> {
        let silence = self.longest(alerts, key, now, |silence| !silence.lets_repair());
        let taken = || self.acks.get(key).filter(|ack| ack.take).map(|ack| HeldBy::Taken { by: ack.by.clone() });
        silence.or_else(|| self.inhibited_by(alerts, key)).or_else(taken)
    }

    /// What keeps people from being told of this alert.
    pub fn is_muted(&self, alerts: &Alerts, key: &AlertKey, now: Timestamp) -> Option<HeldBy> {
        self.longest(alerts, key, now, |_| true).or_else(|| self.inhibited_by(alerts, key))
    }

    /// Somebody has said that they know of it: it is not repeated.
    pub fn is_acknowledged(&self, key: &AlertKey) -> bool {
        self.acks.contains_key(key)
    }

    /// What the wall clock shows then.
    pub fn wall(&self, at: Timestamp) -> Timestamp {
        match at {
            Timestamp::MAX => at,
            at => Timestamp::from_millis(at.as_millis().saturating_add(self.offset_ms)),
        }
    }

    /// When the wall clock shows that.
    pub fn at_wall(&self, wall: Timestamp) -> Timestamp {
        match wall {
            Timestamp::MAX => wall,
            wall => Timestamp::from_millis(wall.as_millis().saturating_sub(self.offset_ms)),
        }
    }

    /// A firing alert as people see it held back; `None`: it is not.
    pub fn view_of(&self, key: &AlertKey) -> Option<HeldView> {
        let standing = self.standing.get(key)?;
        let acknowledged = self.acks.get(key).map(Ack::view);
        if standing.is_free() && acknowledged.is_none() {
            return None;
        }
        let silenced_by = standing.silences.iter().cloned().collect();
        Some(HeldView { silenced_by, inhibited: standing.inhibited, acknowledged, dependency: None })
    }

    /// Says what holds a firing alert back.
    pub fn explain(&self, alerts: &Alerts, key: &AlertKey, explained: &mut Explanation) {
        if !self.standing.contains_key(key) {
            return;
        }
        let because = &mut explained.because;
        because
            .extend(self.is_muted(alerts, key, explained.at).map(|held| format!("people are not told of it: {held}")));
        because.extend(self.acks.get(key).map(|ack| format!("it is not repeated: {} knows of it", ack.by)));
        because.extend(self.held_by(alerts, key, explained.at).map(|held| format!("nothing repairs it: {held}")));
    }

    pub fn alert_changed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, change: &AlertChange) {
        let key = &change.key;
        match change.kind {
            AlertChangeKind::Fired
            | AlertChangeKind::Relapsed
            | AlertChangeKind::SeverityChanged { .. }
            | AlertChangeKind::Relabelled => {
                if let Some(alert) = alerts.get(key).filter(|alert| alert.firing) {
                    self.stand(turn, key, &alert.labels);
                }
            }
            AlertChangeKind::DataLost | AlertChangeKind::DataBack => {}
            AlertChangeKind::Resolved => self.leave(turn, key),
            AlertChangeKind::EpisodeOver => self.forget_ack(turn, key),
            AlertChangeKind::Ended => {
                self.leave(turn, key);
                self.forget_ack(turn, key);
            }
        }
    }

    /// Begins, ends or forgets the silence whose time came.
    pub fn fire(&mut self, turn: &mut Turn<'_>) {
        if let Some(id) = self.silences.pop_due(turn.now) {
            self.move_silence(turn, &id);
        }
    }

    pub fn clock_moved(&mut self, turn: &mut Turn<'_>, offset_ms: i64) {
        self.offset_ms = offset_ms;
        for id in self.silences.ids() {
            self.move_silence(turn, &id);
        }
    }

    /// Inhibit rules may be others now, and labels, too.
    pub fn replace_policy(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        self.inhibition = Inhibition::of(&turn.policy.inhibit_rules);
        let before = std::mem::take(&mut self.standing);
        let now: Vec<(AlertKey, Labels)> =
            alerts.told_as_firing().map(|alert| (alert.key.clone(), alert.labels.clone())).collect();
        for (key, labels) in &now {
            self.inhibition.add(key, labels);
        }
        let keys: BTreeSet<AlertKey> = before.keys().cloned().chain(now.iter().map(|(key, _)| key.clone())).collect();
        for (key, labels) in now {
            let standing = self.standing_of(turn.now, labels);
            self.standing.insert(key, standing);
        }
        for key in keys {
            let free = |standing: Option<&Standing>| standing.is_none_or(Standing::is_free);
            let (old, new) = (before.get(&key), self.standing.get(&key));
            let held = |standing: Option<&Standing>| standing.map(|it| (it.silences.clone(), it.inhibited));
            if !(free(old) && free(new)) && held(old) != held(new) {
                turn.say(Word::HeldChanged(key));
            }
        }
    }

    /// What is not saved: it follows from the policy.
    pub(super) fn relink(&mut self, policy: &Policy) {
        self.inhibition = Inhibition::of(&policy.inhibit_rules);
        for (key, standing) in &self.standing {
            self.inhibition.add(key, &standing.labels);
        }
    }

    /// The alert fires with these labels.
    fn stand(&mut self, turn: &mut Turn<'_>, key: &AlertKey, labels: &Labels) {
        if self.standing.get(key).is_some_and(|standing| standing.labels == *labels) {
            return;
        }
        let mut touched = BTreeSet::new();
        let before = self.standing.remove(key);
        if let Some(before) = &before {
            touched.extend(self.inhibition.remove(key, &before.labels));
        }
        touched.extend(self.inhibition.add(key, labels));
        touched.remove(key);
        let standing = self.standing_of(turn.now, labels.clone());
        let before = before.unwrap_or_default();
        let is_news = (&before.silences, before.inhibited) != (&standing.silences, standing.inhibited);
        let is_new_and_known = before.labels.is_empty() && self.acks.contains_key(key);
        self.standing.insert(key.clone(), standing);
        if is_news || is_new_and_known {
            turn.say(Word::HeldChanged(key.clone()));
        }
        self.judge_inhibition(turn, touched);
    }

    /// The alert fires no more.
    fn leave(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        let Some(before) = self.standing.remove(key) else { return };
        let mut touched: BTreeSet<AlertKey> = self.inhibition.remove(key, &before.labels).into_iter().collect();
        touched.remove(key);
        if !before.is_free() || self.acks.contains_key(key) {
            turn.say(Word::HeldChanged(key.clone()));
        }
        self.judge_inhibition(turn, touched);
    }

    fn standing_of(&self, now: Timestamp, labels: Labels) -> Standing {
        let silences = self.silences.active_on(&labels, self.wall(now)).map(|silence| silence.id.clone()).collect();
        let inhibited = self.inhibition.inhibitor_of(&labels).is_some();
        Standing { labels, silences, inhibited }
    }

    /// What inhibits these may have begun or ended.
    fn judge_inhibition(&mut self, turn: &mut Turn<'_>, touched: BTreeSet<AlertKey>) {
        for key in touched {
            let Some(standing) = self.standing.get_mut(&key) else { continue };
            let inhibited = self.inhibition.inhibitor_of(&standing.labels).is_some();
            if std::mem::replace(&mut standing.inhibited, inhibited) != inhibited {
                turn.say(Word::HeldChanged(key));
            }
        }
    }

    /// The silence that lasts longest, of the active ones on this alert that count.
    fn longest(
        &self,
        alerts: &Alerts,
        key: &AlertKey,
        now: Timestamp,
        counts: impl Fn(&Silence) -> bool,
    ) -> Option<HeldBy> {
        let wall = self.wall(now);
        let longest = |silences: &mut dyn Iterator<Item = &Silence>| {
            let counting = silences.filter(|silence| silence.is_active(wall) && counts(silence));
            counting.max_by_key(|silence| silence.ends_at).map(|silence| HeldBy::Silence {
                id: silence.id.clone(),
                by: silence.created_by.clone(),
                until: self.at_wall(silence.ends_at),
            })
        };
        match self.standing.get(key) {
            Some(standing) => longest(&mut standing.silences.iter().filter_map(|id| self.silences.get(id))),
            None => longest(&mut self.silences.active_on(&alerts.get(key)?.labels, wall)),
        }
    }

    fn inhibited_by(&self, alerts: &Alerts, key: &AlertKey) -> Option<HeldBy> {
        let labels = match self.standing.get(key) {
            Some(standing) => &standing.labels,
            None => &alerts.get(key)?.labels,
        };
        self.inhibition.inhibitor_of(labels).map(|by| HeldBy::Inhibition { by: name_of(by) })
    }
}

/// An alert in a sentence: by what people can look it up.
fn name_of(key: &AlertKey) -> SmolStr {
    smol_str::format_smolstr!("{key} ({})", key.id())
}

fn is_in_an_episode(alert: &Alert) -> bool {
    alert.firing || alert.ended_at.is_some()
}

#[cfg(test)]
mod tests;

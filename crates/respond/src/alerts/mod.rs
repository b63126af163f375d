//! Alerts: every answer that is not quiet has one, with its state, episode and texts.
//!
//! Answers and time move each alert's `Life`; what moved is said to the parts after this one, to detect (for
//! `firing(rule)`) and to the world. A change that people hear of is said once its texts are there: they are asked
//! for first, and detect answers within the same turn.
//!
//! Invariants: a quiet rule and scope costs nothing; nothing is said of shadow alerts; what was said to have fired
//! is said to have resolved or ended; a text that fails never holds an alert back.

mod builtin;
mod ended;
mod entries;
mod entry;
mod explain;
mod posted;
mod reload;
mod texts;

use super::turn::{AlertChange, AlertChangeKind, Turn, Word};
use crate::lifecycle::Move;
use builtin::Troubles;
use ended::Ended;
use entries::Entries;
use entry::{Entry, Kind, Unsaid};
use selfheal_contract::notification::RemediationFacts;
use selfheal_contract::view::{AlertView, Change, HeldView};
use selfheal_messages::{RuleAnswer, ToDetect};
use selfheal_model::timers::Timers;
use selfheal_model::{AlertKey, DeploymentId, Labels, RuleName, Severity, Timestamp};
use selfheal_policy::rule::NoData;
pub use texts::Rendered;

/// All alerts that are not quiet, and those that ended last.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Alerts {
    entries: Entries,
    ended: Ended,
    troubles: Troubles,
    timers: Timers<Due>,
}

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
enum Due {
    /// Its life moves, or its newest figures may be shown.
    Alert(AlertKey),
    /// A failure of this rule's script has stood long enough to be told.
    Trouble(RuleName),
}

/// One alert as the other parts read it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Alert {
    pub key: AlertKey,
    /// `alertname`, `severity`, scope, the deployment's and the rule's labels.
    pub labels: Labels,
    pub deployment: Option<DeploymentId>,
    pub severity: Severity,
    pub firing: bool,
    /// Firing and its level's condition is true on data now (not by `keep_firing_for` or `no_data`).
    pub true_now: bool,
    pub value: Option<f64>,
    pub summary: String,
    pub annotations: Labels,
    pub started_at: Timestamp,
    /// Of this firing or the last one; of a pending alert, when it began.
    pub fired_at: Timestamp,
    /// When it was last resolved; `None` while it fires.
    pub ended_at: Option<Timestamp>,
    pub relapse: u32,
    pub without_data: bool,
    /// Newest evidence its last answer read.
    pub evidence: Timestamp,
    /// Of one from elsewhere: where whoever raised it shows it.
    #[serde(default)]
    pub generator_url: String,
    /// Of one from elsewhere: since when it stands, as whoever raised it says.
    #[serde(default)]
    pub began_at: Option<Timestamp>,
    /// Of one from elsewhere: it is over for people, but nobody said so.
    #[serde(default)]
    pub ran_out: bool,
}

impl Alerts {
    pub fn new(_start: Timestamp) -> Self {
        Alerts::default()
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// Does what is due first. One thing at a time: what detect makes of it comes before the next of the same instant.
    pub fn fire(&mut self, turn: &mut Turn<'_>) {
        match self.timers.pop_due(turn.now) {
            Some((_, Due::Alert(key))) => {
                let Some(mut entry) = self.entries.remove(&key) else { return };
                entry.stand_still(turn.now);
                let moves = entry.life.pass(turn.now, &entry.terms);
                self.settle(turn, entry, moves);
            }
            Some((_, Due::Trouble(rule))) => self.judge_trouble(turn, &rule),
            None => {}
        }
    }

    pub fn answer(&mut self, turn: &mut Turn<'_>, answer: RuleAnswer) {
        let rule = turn.policy.rule_of(&answer.key).filter(|rule| rule.hash == answer.rule_hash);
        let Some(rule) = rule.cloned() else { return };
        let known = self.entries.remove(&answer.key);
        let back = if known.is_none() { self.ended.take_back(&answer.key, turn.now) } else { None };
        let is_back = back.is_some();
        let mut entry = known
            .or_else(|| back.map(|entry| entry.take_up(&turn.policy, &rule, turn.now)))
            .unwrap_or_else(|| Entry::of_rule(&turn.policy, answer.key.clone(), &rule, turn.now));
        let error = entry::error_of(&answer);
        let mut moves = entry.take_answer(turn.now, &answer, &rule);
        if is_back && entry.life.is_firing() && !moves.contains(&Move::Relapsed) {
            // it was told as no longer watched
            moves.insert(0, Move::Fired);
        }
        self.settle(turn, entry, moves);
        self.note_trouble(turn, &answer.key, error);
    }

    pub fn scope_gone(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        self.forget_trouble(turn, key);
        if let Some(entry) = self.entries.remove(key) {
            self.end(turn, entry);
        }
    }

    /// The texts of an alert, for which its changes have waited. `None`: detect did not answer.
    pub fn texts(&mut self, turn: &mut Turn<'_>, key: &AlertKey, rendered: Option<Rendered>) {
        // one that ended meanwhile was told of without
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.unsaid.is_waiting()) else { return };
        if let Some(rule) = turn.policy.rule_of(key) {
            texts::take(&mut entry.alert, rule, rendered);
        }
        let unsaid = std::mem::take(&mut entry.unsaid);
        say(turn, entry, unsaid.into_changes());
        self.show(turn, key);
    }

    /// Shows the alert with where its repair stands. A run may still end after its alert did.
    pub fn show_remediation(&mut self, turn: &mut Turn<'_>, key: &AlertKey, facts: Option<RemediationFacts>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.remediation = facts;
            if !entry.unsaid.is_waiting() {
                self.show(turn, key);
            }
        } else if let Some(entry) = self.ended.get_mut(key) {
            entry.remediation = facts;
            turn.show(Change::Alert(Box::new(entry.view())));
        }
    }

    /// Shows the alert with what holds it back.
    pub fn show_held(&mut self, turn: &mut Turn<'_>, key: &AlertKey, held: Option<HeldView>) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.held = held;
            if !entry.unsaid.is_waiting() {
                self.show(turn, key);
            }
        } else if let Some(entry) = self.ended.get_mut(key) {
            // it is over, and nothing of it is shown any more
            entry.held = None;
        }
    }

    /// Pending, firing and cooling-down alerts, and for a while those that ended (news of their repair may still come);
    /// shadow ones are not found here.
    pub fn get(&self, key: &AlertKey) -> Option<&Alert> {
        let living = self.entries.get(key).filter(|entry| entry.kind != Kind::Shadow);
        living.or_else(|| self.ended.get(key)).map(|entry| &entry.alert)
    }

    /// By its short id, as [`Alerts::get`] finds those that have not ended.
    pub fn find(&self, id: &str) -> Option<&Alert> {
        let living = self.entries.values().filter(|entry| entry.kind != Kind::Shadow);
        living.map(|entry| &entry.alert).find(|alert| alert.key.id() == id)
    }

    /// Those that fire and were said to have fired, in order of key.
    pub fn told_as_firing(&self) -> impl Iterator<Item = &Alert> {
        let told = |entry: &&Entry| entry.kind != Kind::Shadow && entry.told && entry.alert.firing;
        self.entries.values().filter(told).map(|entry| &entry.alert)
    }

    /// When the cooldown of the alert's episode ends: it also runs on through a relapse.
    pub fn cooldown_until(&self, key: &AlertKey) -> Option<Timestamp> {
        self.entries.get(key).and_then(|entry| entry.life.cooldown_until(&entry.terms))
    }

    /// Firing alerts of one deployment, in order of key; shadow ones not among them.
    pub fn firing_on(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Alert> {
        self.entries.firing_on(deployment).map(|entry| &entry.alert)
    }

    /// Firing alerts of one rule, in order of key; shadow ones not among them.
    pub fn firing_of<'a>(&'a self, rule: &'a RuleName) -> impl Iterator<Item = &'a Alert> {
        self.entries.firing_of(rule).map(|entry| &entry.alert)
    }

    /// Every alert that is not quiet, shadow ones too, in order of key.
    pub fn views(&self) -> Vec<AlertView> {
        self.entries.values().map(Entry::view).collect()
    }

    /// Says and shows what moved, and keeps the alert unless it is quiet again.
    fn settle(&mut self, turn: &mut Turn<'_>, mut entry: Entry, moves: Vec<Move>) {
        let was_firing = entry.alert.firing;
        let wants_texts = moves.iter().any(|what| {
            matches!(what, Move::Began | Move::Fired | Move::Relapsed | Move::SeverityChanged { .. } | Move::DataBack)
        });
        let changes = entry.take_moves(turn.now, &moves);
        if entry.counts() && was_firing != entry.alert.firing {
            turn.send(ToDetect::Firing { key: entry.alert.key.clone(), firing: entry.alert.firing });
        }
        let source = entry.alert.clone();
        let blind = entry.blind_since.is_some();
        let tells_no_data = entry.kind == Kind::Live
            && turn.policy.rule_of(&source.key).is_some_and(|rule| rule.no_data == NoData::Alert);
        self.keep(turn, entry, changes, wants_texts);
        if tells_no_data {
            self.judge_no_data(turn, &source, blind);
        }
    }

    /// Says `changes` now or with the texts, and puts the alert where it belongs.
    fn keep(&mut self, turn: &mut Turn<'_>, mut entry: Entry, changes: Vec<AlertChangeKind>, wants_texts: bool) {
        let key = entry.alert.key.clone();
        if entry.life.is_quiet() {
            let mut all = std::mem::take(&mut entry.unsaid).into_changes();
            all.extend(changes);
            say(turn, &mut entry, all);
            self.leave(turn, entry);
            return;
        }
        if entry.unsaid.is_waiting() {
            entry.unsaid.push(changes);
            self.entries.insert(key, entry);
            return;
        }
        let policy = turn.policy.clone();
        let asked = match policy.rule_of(&key) {
            Some(rule) if wants_texts || entry.wants_new_figures(turn.now) => texts::ask(turn, &entry, rule),
            _ => false,
        };
        if asked {
            entry.unsaid = Unsaid::Waiting(changes);
            self.entries.insert(key, entry);
        } else {
            say(turn, &mut entry, changes);
            self.entries.insert(key.clone(), entry);
            self.show(turn, &key);
        }
    }

    /// The alert is quiet: shown for the last time, and found for a while if it ever fired.
    fn leave(&mut self, turn: &mut Turn<'_>, mut entry: Entry) {
        self.timers.clear(&Due::Alert(entry.alert.key.clone()));
        if entry.shown.is_some() || entry.has_fired {
            entry.alert.ended_at.get_or_insert(turn.now);
            turn.show(Change::Alert(Box::new(entry.view())));
        }
        if entry.has_fired && entry.kind != Kind::Shadow {
            self.ended.add(entry);
        }
    }

    /// Its rule or scope is gone.
    fn end(&mut self, turn: &mut Turn<'_>, mut entry: Entry) {
        let key = entry.alert.key.clone();
        if entry.counts() && entry.alert.firing {
            turn.send(ToDetect::Firing { key: key.clone(), firing: false });
        }
        let mut changes = std::mem::take(&mut entry.unsaid).into_changes();
        changes.extend(entry.unwatch(turn.now));
        say(turn, &mut entry, changes);
        self.leave(turn, entry);
        self.drop_no_data(turn, &key);
    }

    /// Shows the alert if what is seen of it changed, and sets its timer. Figures alone are shown at most every
    /// [`entry::FIGURES_EVERY`].
    /// Everything that is known, for whoever knows nothing yet.
    pub(super) fn show_all(&self, turn: &mut Turn<'_>) {
        for entry in self.ended.iter().chain(self.entries.values()) {
            turn.show(Change::Alert(Box::new(entry.view())));
        }
    }

    fn show(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(view) = entry.view_if_changed(turn.now) {
            turn.show(Change::Alert(Box::new(view)));
        }
        match entry.deadline() {
            Some(at) => self.timers.set(Due::Alert(key.clone()), at),
            None => self.timers.clear(&Due::Alert(key.clone())),
        }
    }
}

/// Tells the parts after this one, which may be told of this alert.
fn say(turn: &mut Turn<'_>, entry: &mut Entry, changes: Vec<AlertChangeKind>) {
    for kind in changes {
        if let Some(kind) = entry.telling(kind) {
            turn.say(Word::Alert(AlertChange { key: entry.alert.key.clone(), kind }));
        }
    }
}

#[cfg(test)]
mod given;
#[cfg(test)]
mod tests;

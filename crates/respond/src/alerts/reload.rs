//! What a new policy and a stretch of unwatched time do to the alerts there are. Nothing is forgotten: lives go on
//! under the new terms, counted from where they began.

use super::entry::{self, Entry, Kind};
use super::{Alerts, say};
use crate::lifecycle::Move;
use crate::turn::{AlertChangeKind, Turn};
use selfheal_messages::ToDetect;
use selfheal_model::{AlertKey, Timestamp};
use selfheal_policy::rule::Rule;

impl Alerts {
    pub fn replace_policy(&mut self, turn: &mut Turn<'_>) {
        self.policy_is_valid(turn);
        self.forget_troubles_of_gone_rules(turn);
        let keys: Vec<AlertKey> = self.entries.keys().cloned().collect();
        for key in keys {
            // one that ended with another of these is already gone
            let Some(mut entry) = self.entries.remove(&key) else { continue };
            if entry.kind == Kind::Posted {
                self.adopt_posted(turn, entry);
                continue;
            }
            if entry.kind == Kind::BuiltIn {
                entry.base = entry::base_labels(&turn.policy, &key, None);
                self.relabel(turn, entry, Vec::new());
                continue;
            }
            match turn.policy.rule_of(&key).cloned() {
                Some(rule) => self.adopt(turn, entry, &rule),
                None => self.end(turn, entry),
            }
        }
    }

    /// Time that was not watched counts for no `for` and no `keep_firing_for`; cooldowns run on.
    pub fn resumed(&mut self, turn: &mut Turn<'_>, from: Timestamp, to: Timestamp) {
        let gap = to.since(from);
        let keys: Vec<AlertKey> = self.entries.keys().cloned().collect();
        for key in keys {
            let Some(mut entry) = self.entries.remove(&key) else { continue };
            match entry.blind_since {
                Some(_) => entry.stand_still(turn.now),
                None => entry.life.skip(gap),
            }
            let moves = entry.life.pass(turn.now, &entry.terms);
            self.settle(turn, entry, moves);
        }
    }

    /// Goes on under the rule as it is now.
    fn adopt(&mut self, turn: &mut Turn<'_>, mut entry: Entry, rule: &Rule) {
        entry.terms = entry::terms_of(rule);
        // a deployment that is no longer listed takes its alerts with it: detect says so in this turn, and they end
        // where they were told of
        let listed = entry::is_listed(&turn.policy, &entry.alert.key);
        if listed || !entry.listed {
            entry.base = entry::base_labels(&turn.policy, &entry.alert.key, Some(rule));
            entry.listed = listed;
        }
        let before = std::mem::replace(&mut entry.kind, Kind::of(rule));
        match (before, entry.kind) {
            (Kind::Live, Kind::Shadow) => self.step_into_shadow(turn, &mut entry),
            (Kind::Shadow, Kind::Live) => step_out_of_shadow(turn, &mut entry),
            _ => {}
        }
        entry.stand_still(turn.now);
        let moves = entry.life.adopt(turn.now, &entry.terms);
        let no_longer_told = entry.kind != Kind::Live || rule.no_data != selfheal_policy::rule::NoData::Alert;
        let key = entry.alert.key.clone();
        self.relabel(turn, entry, moves);
        if no_longer_told {
            self.drop_no_data(turn, &key);
        }
    }

    /// Settles the moves, says where the labels changed, and renders the texts anew: their templates, settings or
    /// labels may be others now.
    fn relabel(&mut self, turn: &mut Turn<'_>, mut entry: Entry, moves: Vec<Move>) {
        let labels = entry.labels();
        let key = entry.alert.key.clone();
        let relabelled = entry.alert.labels != labels && entry.told;
        entry.alert.labels = labels;
        self.settle(turn, entry, moves);
        if let Some(entry) = self.entries.remove(&key) {
            let changes = if relabelled { vec![AlertChangeKind::Relabelled] } else { Vec::new() };
            let renders = (entry.alert.firing || entry.life.is_pending()) && !entry.alert.without_data;
            self.keep(turn, entry, changes, renders);
        }
    }

    /// Nobody shall hear of it any more: to the others it ended.
    fn step_into_shadow(&mut self, turn: &mut Turn<'_>, entry: &mut Entry) {
        let mut told = entry.clone();
        told.kind = Kind::Live;
        if told.alert.firing {
            turn.send(ToDetect::Firing { key: told.alert.key.clone(), firing: false });
        }
        let change = told.unwatch(turn.now);
        say(turn, &mut told, change.into_iter().collect());
        entry.told = false;
        if told.has_fired {
            self.ended.add(told);
        }
    }
}

/// From now on it counts, and if it fires that is news.
fn step_out_of_shadow(turn: &mut Turn<'_>, entry: &mut Entry) {
    if entry.alert.firing {
        turn.send(ToDetect::Firing { key: entry.alert.key.clone(), firing: true });
        say(turn, entry, vec![AlertChangeKind::Fired]);
    }
}

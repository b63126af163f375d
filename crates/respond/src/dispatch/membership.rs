//! Which groups an alert belongs to: at its firing, when its labels or the routes change, and at its end.

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Cause, Group, GroupKey, Hold, Member, Pace};
use super::{Dispatch, Known, word};
use crate::turn::Turn;
use selfheal_contract::notification::{AlertFacts, AlertStatus};
use selfheal_model::{AlertKey, Labels, ReceiverName, Severity, Timestamp};

/// A new group goes on where the one it replaces was: the routes changed, not the alert.
#[derive(Clone, Copy)]
pub(super) struct Inherit;

/// What a receiver knows from the groups an alert leaves.
#[derive(Default)]
struct Before {
    told: BTreeMap<ReceiverName, Severity>,
    groups: BTreeMap<ReceiverName, GroupKey>,
}

/// A place the routes lead an alert to.
struct Place {
    key: GroupKey,
    labels: Labels,
    path: smol_str::SmolStr,
    pace: Pace,
}

impl Dispatch {
    /// Routes a firing alert: at its firing and whenever it may be routed elsewhere. A receiver that stays remembers
    /// what it was told; one that is left hears that the alert moved.
    pub(super) fn place(&mut self, turn: &mut Turn<'_>, known: &dyn Known, alert: &AlertKey, inherit: Option<Inherit>) {
        let Some(now) = known.alert(alert) else { return };
        let facts = word::facts_of(known, now, AlertStatus::Firing);
        let places: Vec<Place> = turn
            .policy
            .route
            .matching(&facts.labels)
            .into_iter()
            .map(|route| {
                let labels = route.group_labels(&facts.labels);
                let key = GroupKey { id: route.group_id(&labels), receiver: route.receiver.clone() };
                Place { key, labels, path: route.path.clone(), pace: Pace::of(route) }
            })
            .collect();
        let before = self.before(alert);
        self.depart(turn, alert, &places);
        for place in places {
            let key = place.key.clone();
            let predecessor = inherit.and_then(|Inherit| before.groups.get(&key.receiver)).cloned();
            self.open(turn.now, place, predecessor.as_ref());
            let told = before.told.get(&key.receiver).copied();
            self.join(turn, known, alert, &key, facts.clone(), told);
        }
    }

    fn before(&self, alert: &AlertKey) -> Before {
        let mut before = Before::default();
        for key in self.member_of.get(alert).into_iter().flatten() {
            let Some(member) = self.groups.get(key).and_then(|group| group.members.get(alert)) else { continue };
            before.groups.insert(key.receiver.clone(), key.clone());
            // also where its end or move is not said yet: the receiver still believes that it fires
            if let Some(told) = member.told {
                before.told.insert(key.receiver.clone(), told);
            }
        }
        before
    }

    /// Takes the alert out of the groups that no route leads it to any more.
    fn depart(&mut self, turn: &Turn<'_>, alert: &AlertKey, places: &[Place]) {
        let staying: BTreeSet<&GroupKey> = places.iter().map(|place| &place.key).collect();
        let all = self.member_of.get(alert).cloned().unwrap_or_default();
        for key in all.iter().filter(|key| !staying.contains(key)) {
            let Some(member) = self.groups.get_mut(key).and_then(|group| group.members.get_mut(alert)) else {
                continue;
            };
            let stays = places.iter().any(|place| place.key.receiver == key.receiver);
            if stays || member.told.is_none() {
                self.leave(alert, key);
            } else if member.is_firing() {
                member.facts.status = AlertStatus::Moved;
                member.facts.ended_at = Some(turn.now);
                member.hold = None;
            }
            self.arm(turn.now, key);
        }
    }

    fn leave(&mut self, alert: &AlertKey, key: &GroupKey) {
        if let Some(group) = self.groups.get_mut(key) {
            group.members.remove(alert);
        }
        self.forget_membership(alert, key);
    }

    pub(super) fn forget_membership(&mut self, alert: &AlertKey, key: &GroupKey) {
        if let Some(groups) = self.member_of.get_mut(alert) {
            groups.remove(key);
            if groups.is_empty() {
                self.member_of.remove(alert);
            }
        }
    }

    /// Makes sure that the group is there and counts from the right instant.
    fn open(&mut self, now: Timestamp, place: Place, predecessor: Option<&GroupKey>) {
        let heir = predecessor.filter(|before| **before != place.key).and_then(|before| self.groups.get(before));
        let clock = heir.map(|before| (before.began, before.flushed_at, before.said_at));
        let Place { key, labels, path, pace } = place;
        let is_new = !self.groups.contains_key(&key);
        let group = self.groups.entry(key).or_insert_with(|| Group::new(labels, Some(path), pace, now));
        if let Some((began, flushed_at, said_at)) = clock.filter(|_| is_new) {
            // one that spoke already begins a thread of its own here, so that no delivery's id comes twice
            group.began = if flushed_at.is_none() { began } else { now };
            group.flushed_at = flushed_at;
            group.said_at = said_at;
        } else if !is_new && group.is_idle() {
            group.begin_anew(now);
        }
        group.pace = pace;
    }

    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        known: &dyn Known,
        alert: &AlertKey,
        key: &GroupKey,
        facts: AlertFacts,
        told: Option<Severity>,
    ) {
        let heard = self.heard_at(alert, &key.receiver).filter(|_| facts.relapse > 0);
        let Some(group) = self.groups.get_mut(key) else { return };
        let before = group.members.get(alert).and_then(|member| member.hold);
        let told = group.members.get(alert).map_or(told, |member| member.told);
        let hold = match told {
            Some(_) => None,
            None => hold(turn.now, known, alert, &facts, heard, group.pace),
        };
        let was_there = group.members.contains_key(alert);
        let (muted, acknowledged) = (known.is_muted(alert, turn.now), known.is_acknowledged(alert));
        let member = Member { facts, told, hold, known: heard.is_some(), muted, acknowledged };
        group.members.insert(alert.clone(), member);
        self.member_of.entry(alert.clone()).or_default().insert(key.clone());
        // a relapse that need not wait for the cooldown is told at once
        let released = !was_there || matches!(before, Some(Hold::Cooldown { .. }));
        let may_be_told = hold.is_none() && !muted && self.closed_until(turn, known, key).is_none();
        if heard.is_some() && told.is_none() && released && may_be_told {
            self.flush(turn, known, key, Cause::Due);
        } else {
            self.arm(turn.now, key);
        }
    }

    /// The ladder of the alert moved: "firing" may be held now, or held no longer.
    pub(super) fn reconsider(&mut self, turn: &mut Turn<'_>, known: &dyn Known, alert: &AlertKey) {
        for key in self.member_of.get(alert).cloned().unwrap_or_default() {
            let untold = self
                .groups
                .get(&key)
                .and_then(|group| group.members.get(alert))
                .filter(|member| member.is_firing() && member.told.is_none());
            if let Some(member) = untold {
                let facts = AlertFacts { remediation: known.remediation_of(alert), ..member.facts.clone() };
                self.join(turn, known, alert, &key, facts, None);
            }
        }
    }

    /// What holds the alert back changed: what may be told now is, at its group's time.
    pub(super) fn reconsider_mute(&mut self, turn: &mut Turn<'_>, known: &dyn Known, alert: &AlertKey) {
        let (muted, acknowledged) = (known.is_muted(alert, turn.now), known.is_acknowledged(alert));
        for key in self.member_of.get(alert).cloned().unwrap_or_default() {
            let Some(member) = self.groups.get_mut(&key).and_then(|group| group.members.get_mut(alert)) else {
                continue;
            };
            member.muted = muted;
            member.acknowledged = acknowledged;
            self.arm(turn.now, &key);
        }
    }

    /// The alert fires no more. Whoever heard it fire hears of it; a receiver that heard nothing never will.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, known: &dyn Known, alert: &AlertKey, status: AlertStatus) {
        for key in self.member_of.get(alert).cloned().unwrap_or_default() {
            let Some(member) = self.groups.get_mut(&key).and_then(|group| group.members.get_mut(alert)) else {
                continue;
            };
            if !member.is_firing() {
                continue;
            }
            if let Some(now) = known.alert(alert) {
                member.facts = word::facts_of(known, now, status);
            }
            member.facts.status = status;
            member.facts.ended_at.get_or_insert(turn.now);
            member.hold = None;
            match member.told {
                Some(told) => {
                    self.heard.entry(alert.clone()).or_default().insert(key.receiver.clone(), told);
                }
                None => {
                    let was_muted = member.muted;
                    self.leave(alert, &key);
                    if let Some(group) = self.groups.get_mut(&key).filter(|_| was_muted) {
                        group.forget_news_of(alert);
                    }
                }
            }
            self.arm(turn.now, &key);
        }
    }

    pub(super) fn fires_somewhere(&self, alert: &AlertKey) -> bool {
        let groups = self.member_of.get(alert).into_iter().flatten();
        groups.filter_map(|key| self.groups.get(key)?.members.get(alert)).any(Member::is_firing)
    }

    fn heard_at(&self, alert: &AlertKey, receiver: &ReceiverName) -> Option<Severity> {
        self.heard.get(alert).and_then(|receivers| receivers.get(receiver)).copied()
    }
}

/// Whether "firing" is held from a receiver that heard it fire and end at severity `heard`, if it did.
fn hold(
    now: Timestamp,
    known: &dyn Known,
    alert: &AlertKey,
    facts: &AlertFacts,
    heard: Option<Severity>,
    pace: Pace,
) -> Option<Hold> {
    let state = facts.remediation.as_ref().map(|remediation| remediation.state.as_str());
    if let Some(heard) = heard {
        let rose = facts.severity > heard;
        let ladder_ended = matches!(state, Some("exhausted" | "stopped"));
        let cooled = known.cooldown_until(alert).filter(|until| *until > now);
        return match cooled {
            Some(until) if !rose && !ladder_ended => Some(Hold::Cooldown { until }),
            _ => None,
        };
    }
    let until = facts.fired_at + pace.wait_for_repair;
    // after a cure it rests, and the alert has yet to see that it is over
    let works = known.is_working(alert) || state == Some("resting");
    (works && until > now).then_some(Hold::Repair { until })
}

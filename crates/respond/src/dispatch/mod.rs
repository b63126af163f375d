//! Who is told, when: routing, groups and deliveries with their retries and rates.
//!
//! An alert is a member of one `group` per route that takes it; a group says what changed when its time comes; a
//! `gate` holds each receiver to its rate; a `lane` per notifier delivers in order.
//!
//! Invariants: who was told that an alert fires is told of its end, whatever the routes became meanwhile; a
//! notification is frozen when it is flushed; none is dropped without being shown as undelivered.

mod gate;
mod group;
mod lane;
mod membership;
mod merge;
mod word;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::alerts::{Alert, Alerts};
use super::dependents::Dependents;
use super::held::Held;
use super::remedy::Remedy;
use super::turn::{AlertChange, AlertChangeKind, NewsAbout, NewsFor, Turn};
use gate::Gates;
use group::{Audience, Cause, Group, GroupKey, Pace, WaitingNews};
use lane::Lanes;
use selfheal_contract::input::{DeliveryResult, Gap, Storage};
use selfheal_contract::notification::{
    AlertStatus, DependentsFacts, FlushReason, NewsKind, RemediationFacts, RootFacts, Unwatched,
};
use selfheal_model::timers::Timers;
use selfheal_model::{AlertKey, DeliveryId, DeploymentId, GroupId, Labels, ReceiverName, Severity, Timestamp};
use selfheal_policy::Policy;

/// Groups and deliveries.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Dispatch {
    groups: BTreeMap<GroupKey, Group>,
    /// The groups an alert is a member of.
    member_of: BTreeMap<AlertKey, BTreeSet<GroupKey>>,
    /// Who heard an alert fire and end in its present episode, and how grave it was then.
    heard: BTreeMap<AlertKey, BTreeMap<ReceiverName, Severity>>,
    timers: Timers<GroupKey>,
    gates: Gates,
    lanes: Lanes,
    /// Nothing can be written down: what is said may be said again by the next life.
    unwritable: bool,
}

/// What the parts before this one know.
trait Known {
    fn alert(&self, key: &AlertKey) -> Option<&Alert>;
    fn cooldown_until(&self, key: &AlertKey) -> Option<Timestamp>;
    fn remediation_of(&self, key: &AlertKey) -> Option<RemediationFacts>;
    fn is_working(&self, key: &AlertKey) -> bool;
    /// People are not told that it fires.
    fn is_muted(&self, key: &AlertKey, now: Timestamp) -> bool;
    fn is_acknowledged(&self, key: &AlertKey) -> bool;
    /// The deployment whose outage explains it.
    fn root_of(&self, key: &AlertKey) -> Option<RootFacts>;
    /// The sick deployments of which nobody is told because this one is out.
    fn held_under(&self, root: &DeploymentId) -> Option<DependentsFacts>;
    /// What the wall clock shows then, and when it shows that.
    fn wall(&self, at: Timestamp) -> Timestamp;
    fn at_wall(&self, wall: Timestamp) -> Timestamp;
}

/// The parts before this one.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    pub alerts: &'a Alerts,
    pub held: &'a Held,
    pub remedy: &'a Remedy,
    pub dependents: &'a Dependents,
}

impl Known for Judged<'_> {
    fn alert(&self, key: &AlertKey) -> Option<&Alert> {
        self.alerts.get(key)
    }
    fn cooldown_until(&self, key: &AlertKey) -> Option<Timestamp> {
        self.alerts.cooldown_until(key)
    }
    fn remediation_of(&self, key: &AlertKey) -> Option<RemediationFacts> {
        self.remedy.remediation_of(key)
    }
    fn is_working(&self, key: &AlertKey) -> bool {
        self.remedy.is_working(key)
    }
    fn is_muted(&self, key: &AlertKey, now: Timestamp) -> bool {
        self.dependents.is_muted(key) || self.held.is_muted(self.alerts, key, now).is_some()
    }
    fn is_acknowledged(&self, key: &AlertKey) -> bool {
        self.held.is_acknowledged(key)
    }
    fn root_of(&self, key: &AlertKey) -> Option<RootFacts> {
        self.dependents.root_of(key)
    }
    fn held_under(&self, root: &DeploymentId) -> Option<DependentsFacts> {
        self.dependents.held_under(root)
    }
    fn wall(&self, at: Timestamp) -> Timestamp {
        self.held.wall(at)
    }
    fn at_wall(&self, wall: Timestamp) -> Timestamp {
        self.held.at_wall(wall)
    }
}

/// A shorter time in which nothing was watched is not worth a message (SPEC §2.3 calls a longer one a gap).
const UNWATCHED_TOLD: Duration = Duration::from_secs(30);

impl Dispatch {
    pub fn new(_start: Timestamp) -> Self {
        Dispatch::default()
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        [self.timers.next_deadline(), self.gates.next_deadline(), self.lanes.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn fire(&mut self, turn: &mut Turn<'_>, known: Judged<'_>) {
        self.fire_knowing(turn, &known);
    }

    pub fn alert_changed(&mut self, turn: &mut Turn<'_>, known: Judged<'_>, change: &AlertChange) {
        self.take_change(turn, &known, change);
    }

    pub fn news(&mut self, turn: &mut Turn<'_>, known: Judged<'_>, news: NewsFor) {
        self.take_news(turn, &known, news);
    }

    /// A ladder moved: what `wait_for_repair` held may go.
    pub fn remediation_moved(&mut self, turn: &mut Turn<'_>, known: Judged<'_>, key: &AlertKey) {
        self.reconsider(turn, &known, key);
    }

    /// What holds an alert back changed.
    pub fn held_changed(&mut self, turn: &mut Turn<'_>, known: Judged<'_>, key: &AlertKey) {
        self.reconsider_mute(turn, &known, key);
    }

    /// Time intervals are looked at anew.
    pub fn clock_moved(&mut self, turn: &Turn<'_>) {
        self.look_again(turn.now);
    }

    pub fn ended(&mut self, turn: &mut Turn<'_>, id: &DeliveryId, attempt: u32, result: DeliveryResult) {
        self.lanes.ended(turn, id, attempt, result);
    }

    pub fn replace_policy(&mut self, turn: &mut Turn<'_>, known: Judged<'_>) {
        self.adopt_policy(turn, &known);
    }

    /// What piled up while nothing was watched is one message. Each group says once that nobody watched, where that
    /// was for long enough to be told.
    pub fn resumed(&mut self, turn: &mut Turn<'_>, from: Timestamp, to: Timestamp, because: Gap) {
        self.lanes.merge_since(turn, from);
        if because == Gap::Stopped {
            self.lanes.stopped();
            self.unwritable = false;
        }
        if to.since(from) <= UNWATCHED_TOLD {
            return;
        }
        let keys: Vec<GroupKey> = self.groups.keys().cloned().collect();
        for key in keys {
            if let Some(group) = self.groups.get_mut(&key) {
                group.went_unwatched(Unwatched { from, to });
            }
            self.arm(turn.now, &key);
        }
    }

    /// What another version may have said already is one message to each who may hear it again.
    pub fn upgraded(&mut self, turn: &mut Turn<'_>) {
        self.lanes.merge_since(turn, Timestamp::MIN);
        self.lanes.mark_possible_repeats();
    }

    /// While nothing can be written down, everything said is marked: the next life may say it again.
    pub fn storage(&mut self, storage: &Storage) {
        self.unwritable = matches!(storage, Storage::Failing { .. });
        if self.unwritable {
            self.lanes.mark_possible_repeats();
        }
    }

    /// Attempts under way go out once more, under their ids, and everything is shown.
    pub(super) fn release_again(&self, turn: &mut Turn<'_>) {
        self.lanes.release_again(turn);
    }

    /// Receivers as the live policy has them.
    pub(super) fn relink(&mut self, policy: &Policy) {
        self.gates.relink(policy);
    }

    /// Notifications that wait for another try, for their group or for their receiver's rate.
    pub fn waiting(&self) -> usize {
        let groups = self.groups.values().filter(|group| group.is_waiting()).count();
        groups + self.gates.waiting() + self.lanes.waiting()
    }

    /// Does what is due first; at the same instant groups come before rates before retries.
    fn fire_knowing(&mut self, turn: &mut Turn<'_>, known: &dyn Known) {
        if let Some((_, key)) = self.timers.pop_due(turn.now) {
            self.group_due(turn, known, &key);
        } else if let Some((receiver, notification)) = self.gates.fire(turn.now) {
            self.lanes.send(turn, &receiver, notification);
        } else {
            self.lanes.fire(turn);
        }
    }

    fn group_due(&mut self, turn: &mut Turn<'_>, known: &dyn Known, key: &GroupKey) {
        let closed_until = self.closed_until(turn, known, key);
        let Some(group) = self.groups.get_mut(key) else { return };
        group.closed_until = closed_until;
        if closed_until.is_some() && !group.is_idle() {
            self.arm(turn.now, key);
            return;
        }
        match group.cause_at(turn.now) {
            // who has not got the last message yet has no use for the same once more
            Some(Cause::Repeat) if self.lanes.holds(key) || self.gates.holds(&key.receiver, &key.id) => {
                group.said_at = Some(turn.now);
            }
            Some(cause) => return self.flush(turn, known, key, cause),
            None if group.is_idle() => {
                self.groups.remove(key);
                return;
            }
            None => {}
        }
        self.arm(turn.now, key);
    }

    /// Says what the group has to say and hands it on.
    fn flush(&mut self, turn: &mut Turn<'_>, known: &dyn Known, key: &GroupKey, cause: Cause) {
        let policy = turn.policy.clone();
        let closed = self.closed_until(turn, known, key).is_some();
        self.refresh(known, key);
        let Some(group) = self.groups.get_mut(key) else { return };
        let receiver = policy.receivers.get(&key.receiver);
        let nothing = BTreeSet::new();
        let wants = receiver.map_or(&nothing, |receiver| &receiver.send);
        let audience = Audience { wants, closed, external_url: &policy.server.external_url };
        let flushed = group.flush(turn.now, key, cause, audience);
        for alert in &flushed.left {
            self.forget_membership(alert, key);
        }
        match (receiver, flushed.notification) {
            (Some(receiver), Some(mut notification)) => {
                notification.possible_repeat |= self.unwritable;
                notification.dependents = word::dependents_of(known, &notification);
                if let Some(passed) = self.gates.offer(turn.now, receiver, notification) {
                    self.lanes.send(turn, receiver, passed);
                }
            }
            (None, Some(notification)) => self.lanes.refuse(turn, None, notification),
            (_, None) => {}
        }
        self.arm(turn.now, key);
    }

    /// While the time intervals of the group's route let nothing out: when they may, at the earliest. A playbook's own
    /// messages have no route.
    fn closed_until(&self, turn: &Turn<'_>, known: &dyn Known, key: &GroupKey) -> Option<Timestamp> {
        let route = self.groups.get(key)?.route.as_ref().and_then(|path| turn.policy.route.find(path))?;
        if route.receiver != key.receiver {
            return None;
        }
        let until = route.hours.closed_until(&turn.policy.time_intervals, known.wall(turn.now))?;
        Some(known.at_wall(until))
    }

    /// What is closed may be open now.
    fn look_again(&mut self, now: Timestamp) {
        let keys: Vec<GroupKey> = self.groups.keys().cloned().collect();
        for key in keys {
            if let Some(group) = self.groups.get_mut(&key) {
                group.closed_until = None;
            }
            self.arm(now, &key);
        }
    }

    /// Sets the group's timer to when it next has something to do.
    fn arm(&mut self, now: Timestamp, key: &GroupKey) {
        match self.groups.get(key).and_then(|group| group.due(now)) {
            Some(at) if at < Timestamp::MAX => self.timers.set(key.clone(), at.max(now)),
            _ => self.timers.clear(key),
        }
    }

    /// Brings firing members up to what is so now. Those that ended keep what was last known, but for their repair.
    fn refresh(&mut self, known: &dyn Known, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else { return };
        for (alert, member) in &mut group.members {
            if member.is_firing() {
                if let Some(now) = known.alert(alert) {
                    member.facts = word::facts_of(known, now, AlertStatus::Firing);
                }
            } else if let Some(remediation) = known.remediation_of(alert) {
                member.facts.remediation = Some(remediation);
            }
        }
        for news in &mut group.news {
            if let Some(facts) = news.about.as_ref().and_then(|alert| word::context_of(known, alert)) {
                news.facts = Some(facts);
            }
        }
    }

    fn take_change(&mut self, turn: &mut Turn<'_>, known: &dyn Known, change: &AlertChange) {
        let key = &change.key;
        match change.kind {
            AlertChangeKind::Fired | AlertChangeKind::Relapsed => self.place(turn, known, key, None),
            AlertChangeKind::SeverityChanged { .. } | AlertChangeKind::Relabelled => {
                if self.fires_somewhere(key) {
                    self.place(turn, known, key, None);
                }
            }
            // no words of their own; the next message says how it is then
            AlertChangeKind::DataLost | AlertChangeKind::DataBack => {}
            AlertChangeKind::Resolved => self.end(turn, known, key, AlertStatus::Resolved),
            AlertChangeKind::EpisodeOver => {
                self.heard.remove(key);
            }
            AlertChangeKind::Ended => {
                self.end(turn, known, key, AlertStatus::NoLongerWatched);
                self.heard.remove(key);
            }
        }
    }

    fn take_news(&mut self, turn: &mut Turn<'_>, known: &dyn Known, news: NewsFor) {
        let NewsFor { about, news, reason } = news;
        let policy = turn.policy.clone();
        let (alert, labels) = match about {
            NewsAbout::Alert(key) => {
                let labels = known.alert(&key).map_or_else(|| word::labels_of(&key), |alert| alert.labels.clone());
                (Some(key), labels)
            }
            NewsAbout::Labels(labels) => (None, labels),
            NewsAbout::Receiver(receiver) => return self.take_own_word(turn, known, receiver, news),
        };
        let cause = match reason {
            FlushReason::Urgent => Some(Cause::Urgent),
            FlushReason::Playbook => Some(Cause::Playbook),
            FlushReason::New | FlushReason::Changed | FlushReason::Repeat => None,
        };
        let facts = alert.as_ref().and_then(|key| word::context_of(known, key));
        let untold = alert.as_ref().filter(|key| cause.is_none() && known.is_muted(key, turn.now));
        for route in policy.route.matching(&labels) {
            let wants = policy.receivers.get(&route.receiver).is_some_and(|it| it.send.contains(&news.kind));
            // the kill switch, and a repair that was held too long, concern everyone
            let must_hear = news.kind == NewsKind::Refused && cause == Some(Cause::Urgent);
            if !wants && !must_hear {
                continue;
            }
            let group_labels = route.group_labels(&labels);
            let key = GroupKey { id: route.group_id(&group_labels), receiver: route.receiver.clone() };
            // of an alert that is muted, who is not to hear of its end hears nothing of its repair
            if untold.is_some_and(|alert| self.groups.get(&key).is_none_or(|group| !group.members.contains_key(alert)))
            {
                continue;
            }
            let group = self
                .groups
                .entry(key.clone())
                .or_insert_with(|| Group::new(group_labels, Some(route.path.clone()), Pace::of(route), turn.now));
            group.add_news(WaitingNews { news: news.clone(), about: alert.clone(), facts: facts.clone() });
            match cause {
                Some(cause) => self.flush(turn, known, &key, cause),
                None => self.arm(turn.now, &key),
            }
        }
    }

    /// A playbook's own word goes straight to its receiver, whatever that asked for. One thread per run.
    fn take_own_word(
        &mut self,
        turn: &mut Turn<'_>,
        known: &dyn Known,
        receiver: ReceiverName,
        news: selfheal_contract::notification::News,
    ) {
        let id = match &news.run {
            Some(run) => GroupId::new(format!("run/{run}")),
            None => GroupId::new("notify"),
        };
        let labels: Labels = news.deployment.iter().map(|id| ("deployment", id.as_str())).collect();
        let about = news.alert.as_ref().and_then(|id| self.member_of.keys().find(|key| key.id() == *id)).cloned();
        let facts = about.as_ref().and_then(|key| word::context_of(known, key));
        let key = GroupKey { id, receiver };
        let group =
            self.groups.entry(key.clone()).or_insert_with(|| Group::new(labels, None, Pace::IMMEDIATE, turn.now));
        group.add_news(WaitingNews { news, about, facts });
        self.flush(turn, known, &key, Cause::Playbook);
    }

    /// Routes, receivers and durations are others now. Groups keep their timers and what they told; alerts are routed
    /// anew; what waits for a receiver that is gone ends undelivered.
    fn adopt_policy(&mut self, turn: &mut Turn<'_>, known: &dyn Known) {
        let policy = turn.policy.clone();
        for (key, group) in &mut self.groups {
            let route = group.route.as_ref().and_then(|path| policy.route.find(path));
            if let Some(route) = route.filter(|route| route.receiver == key.receiver) {
                group.pace = Pace::of(route);
            }
        }
        let alerts: Vec<AlertKey> = self.member_of.keys().cloned().collect();
        for alert in alerts {
            if self.fires_somewhere(&alert) {
                self.place(turn, known, &alert, Some(membership::Inherit));
            }
        }
        self.look_again(turn.now);
        self.lanes.replace_policy(turn);
        for (receiver, notification) in self.gates.replace(turn.now, &policy.receivers) {
            self.lanes.refuse(turn, Some(&receiver), notification);
        }
    }
}

#[cfg(test)]
mod tests;

//! Deliveries: one lane per group, receiver and notifier. In a lane the next waits until the former ended; lanes know
//! nothing of each other, so one failing notifier holds up no other.
//!
//! Invariant: what enters a lane ends exactly once, as delivered or as undelivered with a reason.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use super::group::GroupKey;
use super::merge::merge;
use crate::turn::Turn;
use selfheal_contract::effect::{Delivery, Effect};
use selfheal_contract::input::DeliveryResult;
use selfheal_contract::notification::Notification;
use selfheal_contract::receiver::{Notifier, Receiver};
use selfheal_contract::view::{Change, DeliveryView};
use selfheal_model::timers::Timers;
use selfheal_model::{DeliveryId, Timestamp, fingerprint};

/// The first wait between two attempts; each next one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// No wait between two attempts is longer, unless the peer asks for it.
const MAX_BACKOFF: Duration = Duration::from_secs(5 * 60);

/// So many notifications wait in one lane; beyond, the newest ones are merged.
const MAX_QUEUE: usize = 100;

/// Resolution of the jitter.
const JITTER_STEPS: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
struct LaneKey {
    group: GroupKey,
    /// `email-1`, `webhook-2`: stable while the receiver's list of that kind is.
    notifier: SmolStr,
}

/// One notification for one notifier.
#[derive(serde::Serialize, serde::Deserialize)]
struct Parcel {
    id: DeliveryId,
    notification: Arc<Notification>,
    created_at: Timestamp,
    attempts: u32,
    error: Option<String>,
}

/// What the first in the queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Head {
    UnderWay,
    /// It was under way when selfheal stopped: the same attempt goes out once more.
    Lost,
    /// Its next attempt has a timer.
    Waiting,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Lane {
    head: Head,
    /// Never empty.
    queue: VecDeque<Parcel>,
}

/// How a parcel ends.
enum End {
    Delivered,
    Undelivered(String),
    /// Its words go out with another one.
    Merged(DeliveryId),
}

/// All lanes with something in them.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Lanes {
    lanes: BTreeMap<LaneKey, Lane>,
    of: BTreeMap<DeliveryId, LaneKey>,
    timers: Timers<LaneKey>,
    /// Of the newest parcel.
    serial: u64,
}

impl Lanes {
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// What has not ended yet, under way or not.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.queue.len()).sum()
    }

    pub(super) fn holds(&self, group: &GroupKey) -> bool {
        let from = LaneKey { group: group.clone(), notifier: SmolStr::default() };
        self.lanes.range(from..).next().is_some_and(|(key, _)| key.group == *group)
    }

    /// Sends the notification by every notifier of its receiver.
    pub(super) fn send(&mut self, turn: &mut Turn<'_>, receiver: &Receiver, notification: Notification) {
        let notification = Arc::new(notification);
        let group = GroupKey { id: notification.group.clone(), receiver: receiver.name.clone() };
        for (name, _) in notifiers(receiver) {
            let key = LaneKey { group: group.clone(), notifier: name };
            self.enqueue(turn, key, notification.clone());
        }
    }

    /// The notification's receiver is gone: shows it as undelivered by every notifier that was last known.
    pub(super) fn refuse(&mut self, turn: &mut Turn<'_>, receiver: Option<&Receiver>, notification: Notification) {
        let notification = Arc::new(notification);
        let group = GroupKey { id: notification.group.clone(), receiver: notification.receiver.clone() };
        let names = match receiver {
            Some(receiver) => notifiers(receiver).map(|(name, _)| name).collect(),
            None => vec![SmolStr::new_static("none")],
        };
        for notifier in names {
            let key = LaneKey { group: group.clone(), notifier };
            let parcel = self.parcel(&key, notification.clone(), turn.now);
            parcel.show(turn, &key, Some(&End::Undelivered(GONE.to_owned())));
        }
    }

    fn parcel(&mut self, key: &LaneKey, notification: Arc<Notification>, now: Timestamp) -> Parcel {
        self.serial += 1;
        // the instant tells apart what has one serial: a crash may take the last of them before they are written down
        let id =
            format!("{}/{}/{}/{}.{}", key.group.id, key.group.receiver, key.notifier, now.as_millis(), self.serial);
        Parcel { id: DeliveryId::new(id), notification, created_at: now, attempts: 0, error: None }
    }

    fn enqueue(&mut self, turn: &mut Turn<'_>, key: LaneKey, notification: Arc<Notification>) {
        if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.queue.len() >= MAX_QUEUE)
            && let Some(last) = lane.queue.back_mut().filter(|last| last.attempts == 0)
        {
            last.notification = Arc::new(merge((*last.notification).clone(), (*notification).clone()));
            last.show(turn, &key, None);
            return;
        }
        let parcel = self.parcel(&key, notification, turn.now);
        parcel.show(turn, &key, None);
        self.of.insert(parcel.id.clone(), key.clone());
        match self.lanes.get_mut(&key) {
            Some(lane) => lane.queue.push_back(parcel),
            None => {
                self.lanes.insert(key.clone(), Lane { head: Head::Waiting, queue: VecDeque::from([parcel]) });
                self.attempt(turn, &key);
            }
        }
    }

    /// Makes the next attempt that is due.
    pub(super) fn fire(&mut self, turn: &mut Turn<'_>) {
        if let Some((_, key)) = self.timers.pop_due(turn.now) {
            self.attempt(turn, &key);
        }
    }

    /// Tries the first in the queue, by the notifier as the policy has it now.
    fn attempt(&mut self, turn: &mut Turn<'_>, key: &LaneKey) {
        let policy = turn.policy.clone();
        let receiver = policy.receivers.get(&key.group.receiver);
        let notifier = receiver.and_then(|receiver| notifiers(receiver).find(|(name, _)| *name == key.notifier));
        let Some((_, notifier)) = notifier else {
            self.give_up(turn, key);
            return;
        };
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Some(parcel) = lane.queue.front_mut() else { return };
        lane.head = Head::UnderWay;
        parcel.attempts += 1;
        turn.effects.push(parcel.delivery(key, notifier));
    }

    /// An attempt ended. One that is not under way (any more) changes nothing.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>, id: &DeliveryId, attempt: u32, result: DeliveryResult) {
        let Some(key) = self.of.get(id).cloned() else { return };
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.head != Head::Waiting) else { return };
        let Some(parcel) = lane.queue.front_mut().filter(|head| head.id == *id && head.attempts == attempt) else {
            return;
        };
        let (why, retry_after) = match result {
            DeliveryResult::Delivered => return self.end_head(turn, &key, End::Delivered),
            DeliveryResult::Permanent { why } => return self.end_head(turn, &key, End::Undelivered(why)),
            DeliveryResult::Transient { why, retry_after } => (why, retry_after),
        };
        let max_age = turn.policy.receivers.get(&key.group.receiver).map_or(Duration::ZERO, |it| it.max_age);
        match next_attempt(turn.now, parcel, retry_after, parcel.created_at + max_age) {
            Some(at) => {
                parcel.error = Some(why);
                parcel.show(turn, &key, None);
                lane.head = Head::Waiting;
                self.timers.set(key, at);
            }
            None => {
                let because = match turn.policy.receivers.contains_key(&key.group.receiver) {
                    true => "the receiver's max_age is over",
                    false => GONE,
                };
                let why = format!("{why} (given up after {} attempts: {because})", parcel.attempts);
                self.end_head(turn, &key, End::Undelivered(why));
            }
        }
    }

    /// Ends the first in the queue and goes on with the next.
    fn end_head(&mut self, turn: &mut Turn<'_>, key: &LaneKey, end: End) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if let Some(parcel) = lane.queue.pop_front() {
            self.of.remove(&parcel.id);
            parcel.show(turn, key, Some(&end));
        }
        lane.head = Head::Waiting;
        if lane.queue.is_empty() {
            self.lanes.remove(key);
            self.timers.clear(key);
        } else {
            self.attempt(turn, key);
        }
    }

    /// The notifier is gone: everything in the lane that is not under way ends undelivered.
    fn give_up(&mut self, turn: &mut Turn<'_>, key: &LaneKey) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let why = match turn.policy.receivers.contains_key(&key.group.receiver) {
            true => format!("the receiver has no {} any more", key.notifier),
            false => GONE.to_owned(),
        };
        let kept = usize::from(lane.head == Head::UnderWay);
        for parcel in lane.queue.split_off(kept.min(lane.queue.len())) {
            self.of.remove(&parcel.id);
            parcel.show(turn, key, Some(&End::Undelivered(why.clone())));
        }
        if lane.queue.is_empty() {
            self.lanes.remove(key);
            self.timers.clear(key);
        }
    }

    pub(super) fn replace_policy(&mut self, turn: &mut Turn<'_>) {
        let policy = turn.policy.clone();
        let keys: Vec<LaneKey> = self.lanes.keys().cloned().collect();
        for key in keys {
            let receiver = policy.receivers.get(&key.group.receiver);
            let remains = receiver.is_some_and(|receiver| notifiers(receiver).any(|(name, _)| name == key.notifier));
            if !remains {
                self.give_up(turn, &key);
            }
        }
    }

    /// Every notification that has not ended says from now on that it may be a repeat.
    pub(super) fn mark_possible_repeats(&mut self) {
        for parcel in self.lanes.values_mut().flat_map(|lane| &mut lane.queue) {
            Arc::make_mut(&mut parcel.notification).possible_repeat = true;
        }
    }

    /// Nobody reports the end of what was under way.
    pub(super) fn stopped(&mut self) {
        for lane in self.lanes.values_mut().filter(|lane| lane.head == Head::UnderWay) {
            lane.head = Head::Lost;
        }
    }

    /// Whether an attempt under way has arrived died with the process: the same attempt goes out once more.
    pub(super) fn release_again(&self, turn: &mut Turn<'_>) {
        let policy = turn.policy.clone();
        for (key, lane) in &self.lanes {
            for parcel in &lane.queue {
                parcel.show(turn, key, None);
            }
            let receiver = policy.receivers.get(&key.group.receiver);
            let notifier = receiver.and_then(|receiver| notifiers(receiver).find(|(name, _)| *name == key.notifier));
            if let (Head::UnderWay | Head::Lost, Some(parcel), Some((_, notifier))) =
                (lane.head, lane.queue.front(), notifier)
            {
                turn.effects.push(parcel.delivery(key, notifier));
            }
        }
    }

    /// What piled up in a stretch that nobody watched is one message per lane.
    pub(super) fn merge_since(&mut self, turn: &mut Turn<'_>, from: Timestamp) {
        for (key, lane) in &mut self.lanes {
            let is_new = |parcel: &Parcel| parcel.attempts == 0 && parcel.created_at >= from;
            let Some(first) = lane.queue.iter().position(is_new) else { continue };
            let mut piled = lane.queue.split_off(first).into_iter();
            let Some(mut one) = piled.next() else { continue };
            for parcel in piled {
                self.of.remove(&parcel.id);
                one.notification = Arc::new(merge((*one.notification).clone(), (*parcel.notification).clone()));
                parcel.show(turn, key, Some(&End::Merged(one.id.clone())));
            }
            one.show(turn, key, None);
            lane.queue.push_back(one);
        }
    }
}

/// Why what waits for a receiver that is gone ends.
const GONE: &str = "the receiver is no longer in the policy";

impl Parcel {
    /// The attempt under way.
    fn delivery(&self, key: &LaneKey, notifier: &Notifier) -> Effect {
        Effect::Deliver(Box::new(Delivery {
            id: self.id.clone(),
            attempt: self.attempts,
            receiver: key.group.receiver.clone(),
            notifier: notifier.clone(),
            notification: self.notification.clone(),
        }))
    }

    fn show(&self, turn: &mut Turn<'_>, key: &LaneKey, end: Option<&End>) {
        let (state, error) = match end {
            None => ("pending", self.error.clone()),
            Some(End::Delivered) => ("delivered", None),
            Some(End::Undelivered(why)) => ("undelivered", Some(why.clone())),
            Some(End::Merged(into)) => ("merged", Some(format!("its words went out with {into}"))),
        };
        let kind = key.notifier.split('-').next().unwrap_or_default();
        turn.show(Change::Delivery(Box::new(DeliveryView {
            id: self.id.clone(),
            receiver: key.group.receiver.clone(),
            notifier: SmolStr::new(kind),
            subject: self.notification.subject(),
            deployments: about(self.notification.deployments()),
            rules: about(self.notification.alerts.iter().map(|alert| &alert.alert)),
            state: SmolStr::new_static(state),
            attempts: self.attempts,
            error,
            created_at: self.created_at,
            ended_at: end.map(|_| turn.now),
        })));
    }
}

/// Each once, in order of first mention.
fn about<'a, T: Ord + Clone + 'a>(named: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    named.filter(|one| seen.insert(*one)).cloned().collect()
}

/// A receiver's notifiers with their names: its kind and which of that kind it is.
fn notifiers(receiver: &Receiver) -> impl Iterator<Item = (SmolStr, &Notifier)> {
    let (mut emails, mut webhooks) = (0, 0);
    receiver.notifiers.iter().map(move |notifier| {
        let (kind, count) = match notifier {
            Notifier::Email(_) => ("email", &mut emails),
            Notifier::Webhook(_) => ("webhook", &mut webhooks),
        };
        *count += 1;
        (format_smolstr!("{kind}-{count}"), notifier)
    })
}

/// When a parcel is tried again; `None`: not within its age. The last attempt is at the age's very end.
fn next_attempt(now: Timestamp, parcel: &Parcel, retry_after: Option<Duration>, until: Timestamp) -> Option<Timestamp> {
    let asked = now + retry_after.unwrap_or_default();
    if now >= until || asked > until {
        return None;
    }
    Some((now + backoff(&parcel.id, parcel.attempts)).max(asked).min(until))
}

/// Doubles with every attempt; between half and all of it, spread by the delivery's own hash so that many that failed
/// together do not come back together.
fn backoff(id: &DeliveryId, attempt: u32) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
    let full = u64::try_from(doubled.min(MAX_BACKOFF).as_millis()).unwrap_or(u64::MAX);
    let share = fingerprint([id.as_str(), &attempt.to_string()]) % (JITTER_STEPS + 1);
    Duration::from_millis(full / 2 + full / 2 * share / JITTER_STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_are_spread() {
        let id = DeliveryId::new("0/oncall/email-1/1");
        for (attempt, full) in [(1, 1_000), (2, 2_000), (5, 16_000), (9, 256_000), (10, 300_000), (90, 300_000)] {
            let wait = backoff(&id, attempt).as_millis();
            assert!(wait >= full / 2 && wait <= full, "attempt {attempt} waits {wait} of {full}");
            assert_eq!(wait, backoff(&id, attempt).as_millis());
        }
        let others: std::collections::BTreeSet<_> =
            (0..20).map(|n| backoff(&DeliveryId::new(format!("0/oncall/email-1/{n}")), 8)).collect();
        assert!(others.len() > 10, "{others:?}");
    }
}

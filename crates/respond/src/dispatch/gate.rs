//! A receiver's rate: at most so many notifications per window. Above it they wait, and while they wait they are
//! merged: first those of one group, then, when too many groups wait, all of them. None is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::merge::merge;
use selfheal_contract::notification::{FlushReason, Notification};
use selfheal_contract::receiver::{NotifyRate, Receiver};
use selfheal_model::timers::Timers;
use selfheal_model::{ReceiverName, Timestamp};
use selfheal_policy::Policy;

/// When notifications of more groups wait for one receiver, they become one: a storm is one message to read.
const MAX_WAITING_GROUPS: usize = 20;

/// All receivers' gates.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Gates {
    gates: BTreeMap<ReceiverName, Gate>,
    timers: Timers<ReceiverName>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Gate {
    /// As last seen: one that is gone still has to be named with what waited for it.
    #[serde(with = "selfheal_contract::receiver::by_name")]
    receiver: Arc<Receiver>,
    /// When the last notifications passed, at most the rate's count.
    passed: VecDeque<Timestamp>,
    waiting: VecDeque<Notification>,
    /// Too many groups waited: all that comes joins the one message, until it has passed.
    is_storm: bool,
}

impl Gate {
    fn count(&self) -> usize {
        usize::try_from(self.receiver.rate.count).unwrap_or(usize::MAX).max(1)
    }

    /// When the next one may pass.
    fn opens_at(&self) -> Timestamp {
        let NotifyRate { window, .. } = self.receiver.rate;
        match self.passed.len().checked_sub(self.count()) {
            Some(index) => self.passed.get(index).map_or(Timestamp::MIN, |at| *at + window),
            None => Timestamp::MIN,
        }
    }

    fn pass(&mut self, now: Timestamp) {
        self.passed.push_back(now);
        let (count, window) = (self.count(), self.receiver.rate.window);
        while self.passed.len() > count || self.passed.front().is_some_and(|at| *at + window <= now) {
            self.passed.pop_front();
        }
    }

    fn wait(&mut self, later: Notification) {
        let same = self.waiting.iter().position(|waiting| waiting.group == later.group);
        match same.and_then(|index| self.waiting.remove(index).map(|earlier| (index, earlier))) {
            // it keeps its place in the queue
            Some((index, earlier)) => self.waiting.insert(index, merge(earlier, later)),
            None => self.waiting.push_back(later),
        }
        self.is_storm |= self.waiting.len() > MAX_WAITING_GROUPS;
        if self.is_storm
            && let Some(all) = std::mem::take(&mut self.waiting).into_iter().reduce(merge)
        {
            self.waiting.push_back(all);
        }
    }

    /// What cannot wait is the next to pass.
    fn take_next(&mut self) -> Option<Notification> {
        let urgent = self.waiting.iter().position(|waiting| waiting.reason == FlushReason::Urgent);
        let next = self.waiting.remove(urgent.unwrap_or(0));
        self.is_storm &= !self.waiting.is_empty();
        next
    }
}

impl Gates {
    /// Takes the receivers from the policy. One that is gone has still to be named with what waited for it.
    pub(super) fn relink(&mut self, policy: &Policy) {
        for (name, gate) in &mut self.gates {
            if let Some(receiver) = policy.receivers.get(name) {
                gate.receiver = receiver.clone();
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// Lets the notification pass, or keeps it.
    pub(super) fn offer(
        &mut self,
        now: Timestamp,
        receiver: &Arc<Receiver>,
        notification: Notification,
    ) -> Option<Notification> {
        let gate = self.gates.entry(receiver.name.clone()).or_insert_with(|| Gate {
            receiver: receiver.clone(),
            passed: VecDeque::new(),
            waiting: VecDeque::new(),
            is_storm: false,
        });
        gate.receiver = receiver.clone();
        if gate.waiting.is_empty() && gate.opens_at() <= now {
            gate.pass(now);
            return Some(notification);
        }
        gate.wait(notification);
        self.timers.set(receiver.name.clone(), gate.opens_at().max(now));
        None
    }

    /// The next notification whose time came.
    pub(super) fn fire(&mut self, now: Timestamp) -> Option<(Arc<Receiver>, Notification)> {
        let (_, name) = self.timers.pop_due(now)?;
        let gate = self.gates.get_mut(&name)?;
        let notification = gate.take_next()?;
        gate.pass(now);
        if !gate.waiting.is_empty() {
            self.timers.set(name, gate.opens_at().max(now));
        }
        Some((gate.receiver.clone(), notification))
    }

    /// Takes over the receivers as they are now. Returns what waited for those that are gone.
    pub(super) fn replace(
        &mut self,
        now: Timestamp,
        receivers: &BTreeMap<ReceiverName, Arc<Receiver>>,
    ) -> Vec<(Arc<Receiver>, Notification)> {
        let mut orphans = Vec::new();
        for (name, mut gate) in std::mem::take(&mut self.gates) {
            let Some(receiver) = receivers.get(&name) else {
                self.timers.clear(&name);
                orphans.extend(gate.waiting.into_iter().map(|waiting| (gate.receiver.clone(), waiting)));
                continue;
            };
            gate.receiver = receiver.clone();
            if !gate.waiting.is_empty() {
                self.timers.set(name.clone(), gate.opens_at().max(now));
            }
            self.gates.insert(name, gate);
        }
        orphans
    }

    /// A notification of this group waits here.
    pub(super) fn holds(&self, receiver: &ReceiverName, group: &selfheal_model::GroupId) -> bool {
        self.gates.get(receiver).is_some_and(|gate| gate.waiting.iter().any(|waiting| waiting.group == *group))
    }

    pub(super) fn waiting(&self) -> usize {
        self.gates.values().map(|gate| gate.waiting.len()).sum()
    }
}

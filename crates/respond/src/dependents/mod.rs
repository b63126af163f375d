//! What people hear of dependents while their root is out.
//!
//! The first word on an alert of a deployment that depends on others waits for `dependency_hold`: what it depends on may
//! turn out to be out, which explains it. While that is so nobody is told; the message about the root names it instead.
//! When the root is back the alert has one `grace` in which it may end, silently; after it it is told as its own. What is
//! held for `dependency_wait` is told with the root named. Its repair waits by itself, by the guard `dependency`.
//!
//! Invariants: an alert of a deployment that depends on nothing is never looked at; one that is held still counts
//! everywhere else; to hear of a root costs as much as there are alerts under it.

mod stand;

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use super::alerts::{Alert, Alerts};
use super::remedy::{Remedy, all_under};
use super::turn::{AlertChange, AlertChangeKind, Turn, Word};
use selfheal_contract::BuiltInAlert;
use selfheal_contract::explanation::{Explanation, TimerExplained};
use selfheal_contract::notification::{DependentsFacts, RootFacts};
use selfheal_contract::view::DependencyView;
use selfheal_model::timers::Timers;
use selfheal_model::{AlertKey, DeploymentId, Timestamp};
use selfheal_policy::Policy;
use stand::{Heard, Stand, Terms};

/// The alerts of dependents in their episodes.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Dependents {
    alerts: BTreeMap<AlertKey, Dependent>,
    /// What was held when it ended, not longer ago than `dependency_wait`: coming again under the same root it goes on waiting.
    #[serde(default)]
    lately: BTreeMap<AlertKey, Lately>,
    timers: Timers<AlertKey>,
    /// By what they depend on, directly or not. Follows from `alerts` and the policy.
    #[serde(skip)]
    under: BTreeMap<DeploymentId, BTreeSet<AlertKey>>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Dependent {
    deployment: DeploymentId,
    stand: Stand,
    /// People may have heard of it in this episode.
    known: bool,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Lately {
    root: DeploymentId,
    held_since: Timestamp,
    ended_at: Timestamp,
}

impl Dependents {
    pub fn new(_start: Timestamp) -> Self {
        Dependents::default()
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// Does what is due first.
    pub fn fire(&mut self, turn: &mut Turn<'_>) {
        let Some((_, key)) = self.timers.pop_due(turn.now) else { return };
        match self.alerts.get(&key).map(|one| &one.stand) {
            Some(Stand::Ended { .. }) => self.forget(turn, &key),
            _ => self.hear(turn, &key, Heard::Due),
        }
    }

    pub fn alert_changed(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, remedy: &Remedy, change: &AlertChange) {
        let key = &change.key;
        match change.kind {
            AlertChangeKind::Fired | AlertChangeKind::Relapsed => {
                let Some(alert) = alerts.get(key).filter(|alert| alert.firing) else { return };
                self.begin(turn, remedy, alert, change.kind == AlertChangeKind::Relapsed);
            }
            AlertChangeKind::Resolved => self.hear(turn, key, Heard::Resolved),
            AlertChangeKind::EpisodeOver if self.is_muted(key) => self.hear(turn, key, Heard::EpisodeOver),
            AlertChangeKind::EpisodeOver | AlertChangeKind::Ended => self.forget(turn, key),
            AlertChangeKind::SeverityChanged { .. }
            | AlertChangeKind::Relabelled
            | AlertChangeKind::DataLost
            | AlertChangeKind::DataBack => {}
        }
    }

    /// A deployment that others depend on is out, or is back.
    pub fn outage_moved(&mut self, turn: &mut Turn<'_>, remedy: &Remedy, root: &DeploymentId) {
        for key in self.under.get(root).cloned().unwrap_or_default() {
            self.judge(turn, remedy, &key);
        }
    }

    /// What depends on what, and the figures, may be others now. What fires since before it depended on anything was told.
    pub fn replace_policy(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, remedy: &Remedy) {
        let policy = turn.policy.clone();
        let known: Vec<AlertKey> = self.alerts.keys().cloned().collect();
        for key in &known {
            if self.alerts.get(key).is_some_and(|one| !depends(&policy, &one.deployment)) {
                self.forget(turn, key);
            }
        }
        for alert in alerts.told_as_firing() {
            if let Some(deployment) = dependent_of(&policy, alert) {
                let one = || Dependent { deployment: deployment.clone(), stand: Stand::Free, known: true };
                self.alerts.entry(alert.key.clone()).or_insert_with(one);
            }
        }
        self.relink(&policy);
        let all: Vec<AlertKey> = self.alerts.keys().cloned().collect();
        for key in all {
            self.arm(turn, &key);
            self.judge(turn, remedy, &key);
            // until when it is held may be another instant
            turn.say(Word::HeldChanged(key));
        }
    }

    /// What was not watched is no time in which anything could have shown itself.
    pub fn resumed(&mut self, turn: &mut Turn<'_>, from: Timestamp, to: Timestamp) {
        let all: Vec<AlertKey> = self.alerts.keys().cloned().collect();
        for key in all {
            if let Some(one) = self.alerts.get_mut(&key) {
                one.stand.stand_still(to.since(from));
            }
            self.arm(turn, &key);
        }
        for lately in self.lately.values_mut() {
            lately.held_since = lately.held_since + to.since(from);
            lately.ended_at = lately.ended_at + to.since(from);
        }
    }

    /// What is not saved: it follows from the policy.
    pub(super) fn relink(&mut self, policy: &Policy) {
        self.under.clear();
        for (key, one) in &self.alerts {
            for dependency in all_under(policy, &one.deployment) {
                self.under.entry(dependency.on.clone()).or_default().insert(key.clone());
            }
        }
    }

    /// People are not told of it now; nor, where it ended before they were, of what comes after it.
    pub fn is_muted(&self, key: &AlertKey) -> bool {
        self.alerts.get(key).is_some_and(|one| match one.stand {
            Stand::Ended { explained, .. } => explained && !one.known,
            _ => one.stand.mutes(),
        })
    }

    /// The deployment whose outage explains this alert now.
    pub fn root_of(&self, key: &AlertKey) -> Option<RootFacts> {
        match &self.alerts.get(key)?.stand {
            Stand::Held { root, .. } | Stand::Named { root, .. } => {
                Some(RootFacts { deployment: root.deployment.clone(), why: root.why.to_string(), since: root.since })
            }
            Stand::Waiting { .. } | Stand::Grace { .. } | Stand::Free | Stand::Ended { .. } => None,
        }
    }

    /// The sick deployments of which nobody is told because this one is out.
    pub fn held_under(&self, root: &DeploymentId) -> Option<DependentsFacts> {
        let held = |key: &AlertKey| {
            let one = self.alerts.get(key)?;
            matches!(&one.stand, Stand::Held { root: of, .. } if of.deployment == *root).then_some(&one.deployment)
        };
        let sick: BTreeSet<&DeploymentId> = self.under.get(root)?.iter().filter_map(held).collect();
        let more = sick.len().saturating_sub(DependentsFacts::MAX_NAMED);
        let named: Vec<DeploymentId> = sick.into_iter().take(DependentsFacts::MAX_NAMED).cloned().collect();
        (!named.is_empty()).then(|| DependentsFacts { root: root.clone(), sick: named, more })
    }

    /// As people see it explained by its root; `None`: it is not.
    pub fn view_of(&self, policy: &Policy, key: &AlertKey) -> Option<DependencyView> {
        let one = self.alerts.get(key)?;
        let (state, root, since) = match &one.stand {
            Stand::Held { root, since } => ("held", root, since),
            Stand::Grace { root, held_since, .. } => ("grace", root, held_since),
            Stand::Named { root, since } => ("told", root, since),
            Stand::Waiting { .. } | Stand::Free | Stand::Ended { .. } => return None,
        };
        Some(DependencyView {
            state: SmolStr::new_static(state),
            root: root.deployment.clone(),
            why: root.why.to_string(),
            out_since: root.since,
            back_at: root.back_at,
            held_since: *since,
            until: one.stand.until(Terms::of(policy, &one.deployment)),
        })
    }

    /// Says what people are not told because of what it depends on.
    pub fn explain(&self, policy: &Policy, key: &AlertKey, explained: &mut Explanation) {
        let Some(one) = self.alerts.get(key) else { return };
        let until = one.stand.until(Terms::of(policy, &one.deployment));
        let by = until.map(|at| at.to_string()).unwrap_or_default();
        let sentence = match &one.stand {
            Stand::Waiting { since } => format!(
                "its first word waits since {since} until {by} (dependency_hold): what {} depends on may turn out to be out",
                one.deployment
            ),
            Stand::Held { root, since } => format!(
                "people are not told of it (dependency): {} {} since {}; held since {since}, it is told with {} named at {by} \
                 (dependency_wait)",
                root.deployment, root.why, root.since, root.deployment
            ),
            Stand::Grace { root, since, .. } => format!(
                "people are not told of it (dependency): {} was out from {} and is back since {since}; what has not ended at \
                 {by} (grace) is told",
                root.deployment, root.since
            ),
            Stand::Named { root, since } => format!(
                "people are told of it with {} named, which {} since {}: it was held since {since} for dependency_wait",
                root.deployment, root.why, root.since
            ),
            Stand::Free | Stand::Ended { .. } => return,
        };
        explained.because.push(sentence);
        let what = match &one.stand {
            Stand::Held { .. } => "it is told with its root named",
            _ => "it is told",
        };
        explained.timers.extend(until.map(|at| TimerExplained { what: what.to_owned(), at }));
    }

    fn begin(&mut self, turn: &mut Turn<'_>, remedy: &Remedy, alert: &Alert, relapse: bool) {
        let key = &alert.key;
        let policy = turn.policy.clone();
        let Some(deployment) = dependent_of(&policy, alert) else { return };
        let known = self.alerts.get(key).is_some_and(|one| relapse && one.known);
        let new = || Dependent { deployment: deployment.clone(), stand: Stand::NEW, known };
        self.alerts.entry(key.clone()).or_insert_with(new).known = known;
        for dependency in all_under(&policy, deployment) {
            self.under.entry(dependency.on.clone()).or_default().insert(key.clone());
        }
        let back = remedy.root_back(&policy, deployment, Some(key), turn.now, |_| false);
        self.hear(turn, key, Heard::Fired { known, back });
        self.judge(turn, remedy, key);
    }

    /// Looks whether anything it depends on is out.
    fn judge(&mut self, turn: &mut Turn<'_>, remedy: &Remedy, key: &AlertKey) {
        let Some(one) = self.alerts.get(key) else { return };
        let heard = match remedy.root_out(&turn.policy, &one.deployment, key) {
            Some(root) => Heard::Out(root),
            None => Heard::Clear,
        };
        self.hear(turn, key, heard);
    }

    fn hear(&mut self, turn: &mut Turn<'_>, key: &AlertKey, heard: Heard) {
        let Some(one) = self.alerts.get_mut(key) else { return };
        let terms = Terms::of(&turn.policy, &one.deployment);
        let before = one.stand.clone();
        let ends = heard == Heard::Resolved;
        one.stand = before.clone().after(heard, turn.now, terms);
        if let Some((root, held_since)) = before.held_by().filter(|_| ends) {
            let wait = turn.policy.guards.dependency_wait;
            self.lately.retain(|_, lately| turn.now < lately.ended_at + wait);
            let lately = Lately { root: root.clone(), held_since, ended_at: turn.now };
            self.lately.insert(key.clone(), lately);
        }
        if let Stand::Held { root, since } = &mut one.stand
            && *since == turn.now
            && let Some(lately) = self.lately.get(key)
            && lately.root == root.deployment
            && turn.now < lately.ended_at + terms.wait
        {
            *since = lately.held_since;
        }
        one.known |= one.stand.tells();
        if one.stand != before {
            turn.say(Word::HeldChanged(key.clone()));
        }
        self.arm(turn, key);
    }

    /// Sets its timer to when it moves on by itself.
    fn arm(&mut self, turn: &Turn<'_>, key: &AlertKey) {
        let Some(one) = self.alerts.get(key) else { return };
        match one.stand.until(Terms::of(&turn.policy, &one.deployment)) {
            Some(at) => self.timers.set(key.clone(), at.max(turn.now)),
            None => self.timers.clear(key),
        }
    }

    fn forget(&mut self, turn: &mut Turn<'_>, key: &AlertKey) {
        if self.alerts.remove(key).is_none() {
            return;
        }
        self.timers.clear(key);
        self.under.retain(|_, keys| {
            keys.remove(key);
            !keys.is_empty()
        });
        turn.say(Word::HeldChanged(key.clone()));
    }
}

fn depends(policy: &Policy, id: &DeploymentId) -> bool {
    policy.deployments.get(id).is_some_and(|entry| !entry.depends_on.is_empty())
}

/// The deployment of an alert that a root may explain: it depends on others, and the alert is no word of selfheal about
/// its own work there.
fn dependent_of<'a>(policy: &Policy, alert: &'a Alert) -> Option<&'a DeploymentId> {
    let key = &alert.key;
    let explained =
        key.is_posted() || policy.rules.contains_key(&key.rule) || key.rule.as_str() == BuiltInAlert::NoData.name();
    alert.deployment.as_ref().filter(|id| explained && depends(policy, id))
}

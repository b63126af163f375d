//! Which deployments that others depend on are out, since when, and when those that were came back.
//!
//! Whether a run may begin is asked of what is so at that moment. What is written down here besides says how long that
//! has been so: for people who hear of a dependent, and for the grace that dependents get.
//!
//! Invariant: at the end of a turn what is written down is what is so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use smol_str::SmolStr;

use super::Remedy;
use super::guards::health_of;
use crate::alerts::{Alert, Alerts};
use crate::guard::Outage;
use crate::turn::{Turn, Word};
use selfheal_model::{AlertKey, Dependency, DeploymentId, Health, RunId, Selector, Timestamp};
use selfheal_policy::Policy;

/// A deployment whose trouble explains that of those which depend on it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Root {
    pub deployment: DeploymentId,
    pub why: Outage,
    pub since: Timestamp,
    /// `None` while it is out.
    pub back_at: Option<Timestamp>,
}

/// The newest outage of each deployment that others depend on.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Outages {
    /// For those that name alerts under which it is out, too, by their words; see [`name_of`].
    newest: BTreeMap<(DeploymentId, SmolStr), Outing>,
    /// What it follows from, and from which policy.
    #[serde(skip)]
    roots: Option<(Arc<Policy>, Arc<Roots>)>,
}

/// What others depend on, and under which alerts it is out for them.
type Roots = BTreeMap<DeploymentId, BTreeMap<SmolStr, Option<Selector>>>;

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Outing {
    why: Outage,
    since: Timestamp,
    back_at: Option<Timestamp>,
    /// It was nothing but runs for this alert.
    only_for: Option<AlertKey>,
}

impl Outing {
    fn is_explaining(&self, alert: Option<&AlertKey>) -> bool {
        self.only_for.is_none() || self.only_for.as_ref() != alert
    }
}

impl Outages {
    fn roots(&mut self, policy: &Arc<Policy>) -> Arc<Roots> {
        if let Some((of, roots)) = &self.roots
            && Arc::ptr_eq(of, policy)
        {
            return roots.clone();
        }
        let mut roots = Roots::new();
        for dependency in policy.deployments.values().flat_map(|entry| &entry.depends_on) {
            roots.entry(dependency.on.clone()).or_default().insert(name_of(dependency), dependency.when.clone());
        }
        let roots = Arc::new(roots);
        self.roots = Some((policy.clone(), roots.clone()));
        roots
    }

    fn of(&self, dependency: &Dependency) -> Option<&Outing> {
        self.newest.get(&(dependency.on.clone(), name_of(dependency)))
    }

    /// Writes down that it is out, or is not. Says whether that is another answer than before.
    fn note(
        &mut self,
        now: Timestamp,
        place: (DeploymentId, SmolStr),
        out: Option<(Outage, Option<AlertKey>)>,
    ) -> bool {
        let last = self.newest.get_mut(&place);
        match (last, out) {
            (Some(outing), Some((why, only_for))) if outing.back_at.is_none() => {
                if outing.only_for != only_for {
                    outing.only_for = None;
                }
                std::mem::replace(&mut outing.why, why.clone()) != why
            }
            (Some(outing), None) if outing.back_at.is_none() => {
                outing.back_at = Some(now);
                true
            }
            (_, Some((why, only_for))) => {
                self.newest.insert(place, Outing { why, since: now, back_at: None, only_for });
                true
            }
            (_, None) => false,
        }
    }
}

/// The matchers that an entry of `depends_on` says besides the deployment, as one text.
fn name_of(dependency: &Dependency) -> SmolStr {
    let matchers = dependency.when.iter().flat_map(|when| &when.0);
    matchers.map(ToString::to_string).collect::<Vec<_>>().join(", ").into()
}

/// What a deployment depends on, directly or not, each once, the nearest first.
pub(crate) fn all_under<'p>(policy: &'p Policy, id: &DeploymentId) -> Vec<&'p Dependency> {
    let mut seen = BTreeSet::from([id.clone()]);
    let mut next: VecDeque<&Dependency> = direct(policy, id).collect();
    let mut all = Vec::new();
    while let Some(dependency) = next.pop_front() {
        if seen.insert(dependency.on.clone()) {
            next.extend(direct(policy, &dependency.on));
            all.push(dependency);
        }
    }
    all
}

fn direct<'p>(policy: &'p Policy, id: &DeploymentId) -> impl Iterator<Item = &'p Dependency> + use<'p> {
    policy.deployments.get(id).into_iter().flat_map(|entry| &entry.depends_on)
}

impl Remedy {
    /// The deployment that explains the trouble of this one: of those it depends on, directly or not, one that is out and
    /// depends on none that is. What is out only because of runs for `alert` explains nothing about it.
    pub fn root_out(&self, policy: &Policy, id: &DeploymentId, alert: &AlertKey) -> Option<Root> {
        let mut seen = BTreeSet::from([id.clone()]);
        let mut next: VecDeque<&Dependency> = direct(policy, id).collect();
        let mut root = None;
        while let Some(dependency) = next.pop_front() {
            if !seen.insert(dependency.on.clone()) {
                continue;
            }
            let out = self.outages.of(dependency).filter(|outing| outing.back_at.is_none());
            if let Some(outing) = out.filter(|outing| outing.is_explaining(Some(alert))) {
                root = Some(root_from(dependency, outing));
                // only what lies under it can be nearer to the cause
                next.clear();
            }
            next.extend(direct(policy, &dependency.on));
        }
        root
    }

    /// Of what this deployment depends on, directly or not, and what is not out any more, that which came back last. Not
    /// one that was out only because of runs for `alert`, nor one that `passes`.
    pub fn root_back(
        &self,
        policy: &Policy,
        id: &DeploymentId,
        alert: Option<&AlertKey>,
        now: Timestamp,
        passes: impl Fn(&DeploymentId) -> bool,
    ) -> Option<Root> {
        let back = |dependency: &&Dependency| {
            let outing = self.outages.of(dependency).filter(|outing| outing.is_explaining(alert))?;
            let mut root = root_from(dependency, outing);
            // it came back within this turn, and that is not written down yet
            root.back_at.get_or_insert(now);
            Some(root)
        };
        let all = all_under(policy, id);
        let others = all.iter().filter(|dependency| !passes(&dependency.on));
        others.filter_map(back).max_by_key(|root| root.back_at)
    }

    /// Why a deployment is out for those that name alerts of it by `when`, or none; but for what `run` does there.
    /// `itself`: its own state counts, too.
    pub(super) fn outage_of(
        &self,
        alerts: &Alerts,
        on: &DeploymentId,
        when: Option<&Selector>,
        run: &RunId,
        itself: bool,
    ) -> Option<Outage> {
        let place = self.places.get(on);
        let holder = place.and_then(|place| place.lease.as_ref()).filter(|holder| *holder != run);
        if let Some(holder) = holder {
            return Some(Outage::InRun(holder.clone()));
        }
        if !itself {
            return None;
        }
        if health_of(place) == Health::Unhealthy {
            return Some(Outage::Unhealthy);
        }
        let named = |alert: &&Alert| when.is_some_and(|when| when.matches(&alert.labels));
        alerts.firing_on(on).find(named).map(|alert| Outage::Alert(alert.key.rule.as_str().into()))
    }

    /// Writes down what became of the deployments of which something moved, and says so of those that others depend on.
    pub(super) fn note_outages(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        let touched = std::mem::take(&mut self.places.touched);
        if touched.is_empty() {
            return;
        }
        let roots = self.outages.roots(&turn.policy);
        let nobody = RunId::new("");
        for id in touched {
            let mut moved = false;
            for (named, when) in roots.get(&id).into_iter().flatten() {
                let out = self.outage_of(alerts, &id, when.as_ref(), &nobody, true).map(|why| {
                    let only_for = match &why {
                        Outage::InRun(run) => self.runs.get(run).and_then(|run| run.alert().cloned()),
                        Outage::Unhealthy | Outage::Alert(_) => None,
                    };
                    (why, only_for)
                });
                moved |= self.outages.note(turn.now, (id.clone(), named.clone()), out);
            }
            if moved {
                turn.say(Word::OutageMoved(id));
            }
        }
    }

    /// Others may depend on it now, or name other alerts.
    pub(super) fn note_all_outages(&mut self, turn: &mut Turn<'_>, alerts: &Alerts) {
        let roots = self.outages.roots(&turn.policy);
        self.outages.newest.retain(|(id, named), _| roots.get(id).is_some_and(|of| of.contains_key(named)));
        self.places.touched.extend(roots.keys().cloned());
        self.note_outages(turn, alerts);
    }
}

fn root_from(dependency: &Dependency, outing: &Outing) -> Root {
    let Outing { why, since, back_at, .. } = outing.clone();
    Root { deployment: dependency.on.clone(), why, since, back_at }
}

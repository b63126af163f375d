//! What is true: series, verdicts, signals and facts, and the rules' answers about them.
//!
//! Invariant: a rule is asked again exactly when something it reads changed: an event, a fact, its scope, an alert it
//! counts, the policy, or passing time at an instant known before. What is quiet costs nothing and says nothing.

mod asks;
mod checks;
mod evaluation;
mod evidence;
mod intake;
mod plan;
mod reload;
pub(super) mod saved;
mod scopes;
mod series;
mod signals;
mod subject;
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::asks::Watching;
use self::evidence::World;
use self::plan::Topic;
use self::scopes::{Moved, RuleState};
use self::subject::Subject;
use super::effect::{Desired, DesiredDeployment, Effect};
use super::input::Observation;
use super::message::{ToDetect, ToJudge, WatchId};
use super::timers::Timers;
use super::view::{Change, DeploymentView};
use crate::model::{AlertKey, DeploymentId, Event, Labels, RuleName, Timestamp};
use crate::policy::Policy;

/// The metrics that verdicts give, labelled `check`.
const CHECK_UP: &str = "check_up";
const CHECK_LATENCY: &str = "check_latency_ms";

/// The detecting half.
pub struct Detect {
    now: Timestamp,
    policy: Arc<Policy>,
    world: World,
    subjects: BTreeMap<DeploymentId, Subject>,
    rules: BTreeMap<RuleName, RuleState>,
    watches: BTreeMap<WatchId, Watching>,
    timers: Timers<Due>,
    /// As last sent to the edges.
    desired: Option<Arc<Desired>>,
    refused: Refused,
    /// The wall clock, by which events say when, is so far ahead of the engine's time.
    offset_ms: i64,
}

/// Input that found no room or no deployment, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// About deployments that are not listed, where the policy rejects them or there are too many already.
    pub deployments: u64,
    pub samples: u64,
    pub verdicts: u64,
    pub signals: u64,
}

/// What falls due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
enum Due {
    /// A verdict goes stale.
    Stale(DeploymentId),
    /// Series may have been idle for long enough.
    Idle(DeploymentId),
    /// A deployment known only by its events has had none for long enough.
    Forget(DeploymentId),
    /// An answer may change.
    Ask(RuleName, Labels),
    Watch(WatchId),
}

/// Why rules are asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    News,
    /// Nothing came; the clock went on.
    Time,
}

/// What has to be asked again at the end of a step.
#[derive(Clone, Debug, Default)]
struct Dirty {
    scopes: BTreeSet<(RuleName, Labels)>,
    /// Asked again and told even if nothing changed: judge's picture is of another text of the rule.
    anew: BTreeSet<(RuleName, Labels)>,
    /// Watches on these deployments.
    touched: BTreeSet<DeploymentId>,
    watches: BTreeSet<WatchId>,
    all_watches: bool,
}

impl Detect {
    pub fn new(start: Timestamp, policy: Arc<Policy>) -> Self {
        Detect {
            now: start,
            policy,
            world: World::new(start),
            subjects: BTreeMap::new(),
            rules: BTreeMap::new(),
            watches: BTreeMap::new(),
            timers: Timers::default(),
            desired: None,
            refused: Refused::default(),
            offset_ms: 0,
        }
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// Does what is due first, at `at`; one instant's worth at most.
    pub fn fire(&mut self, at: Timestamp, out: &mut VecDeque<ToJudge>, effects: &mut Vec<Effect>) {
        self.now = self.now.max(at);
        let mut dirty = Dirty::default();
        while let Some((_, due)) = self.timers.pop_due(at) {
            match due {
                Due::Stale(id) => self.tell_health(at, &id, out),
                Due::Idle(id) => self.forget_idle(at, &id, &mut dirty, out),
                Due::Forget(id) => self.forget(&id, &mut dirty, out, effects),
                Due::Ask(rule, scope) => {
                    dirty.scopes.insert((rule, scope));
                }
                Due::Watch(id) => {
                    dirty.watches.insert(id);
                }
            }
        }
        self.settle(at, dirty, Because::Time, out);
    }

    pub fn events(
        &mut self,
        now: Timestamp,
        events: Vec<Event>,
        out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        self.now = self.now.max(now);
        let mut dirty = Dirty::default();
        let mut events = events.into_iter().peekable();
        while let Some(event) = events.next() {
            let (deployment, time) = (event.deployment.clone(), event.time);
            self.take(now, event, &mut dirty, out);
            // what is said of one instant is judged together: half of a set of metrics is no state that ever was
            if events.peek().is_none_or(|next| next.deployment != deployment || next.time != time) {
                self.settle(now, std::mem::take(&mut dirty), Because::News, out);
            }
        }
    }

    pub fn observed(
        &mut self,
        now: Timestamp,
        deployment: &DeploymentId,
        observation: Result<Observation, String>,
        out: &mut VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) {
        self.now = self.now.max(now);
        let mut dirty = Dirty::default();
        self.take_observation(now, deployment, observation, &mut dirty, out);
        self.send_desired(effects);
        self.settle(now, dirty, Because::News, out);
    }

    pub fn replace_policy(
        &mut self,
        now: Timestamp,
        policy: Arc<Policy>,
        out: &mut VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) {
        self.now = self.now.max(now);
        let dirty = self.follow(now, policy, out, effects);
        self.send_desired(effects);
        self.settle(now, dirty, Because::News, out);
    }

    /// Nothing was watched between the two: no age counts it, and silence begins anew at `to`.
    pub fn resumed(&mut self, from: Timestamp, to: Timestamp, out: &mut VecDeque<ToJudge>) {
        self.now = self.now.max(to);
        self.world.gap(from, to);
        let mut dirty = Dirty { all_watches: true, ..Dirty::default() };
        for (rule, state) in &self.rules {
            dirty.scopes.extend(state.scopes.keys().map(|scope| (rule.clone(), scope.clone())));
        }
        self.settle(to, dirty, Because::News, out);
    }

    /// Events say when by the wall clock, which is so far ahead of the engine's time now.
    pub fn clock_moved(&mut self, offset_ms: i64) {
        self.offset_ms = offset_ms;
    }

    pub fn message(
        &mut self,
        now: Timestamp,
        message: ToDetect,
        out: &mut VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            ToDetect::Firing { key, firing } => self.count_firing(now, &key, firing, out),
            ToDetect::Ask(ask) => self.answer_ask(now, ask, out),
            ToDetect::Watch(watch) => {
                let id = watch.id.clone();
                self.watches.insert(id.clone(), Watching::new(watch));
                self.look(now, &id, out);
            }
            ToDetect::Unwatch(id) => {
                self.watches.remove(&id);
                self.timers.clear(&Due::Watch(id));
            }
            ToDetect::Emit(event) => self.events(now, vec![event], out, effects),
        }
    }

    /// Every deployment, in order of id; for reads between inputs.
    pub fn deployment_views(&self) -> Vec<DeploymentView> {
        self.subjects.values().map(|subject| subject.view(self.now)).collect()
    }

    /// What was refused so far, of all deployments there are.
    pub fn refused(&self) -> Refused {
        self.subjects.values().fold(self.refused, |sum, subject| Refused {
            deployments: sum.deployments,
            samples: sum.samples + subject.series.refused(),
            verdicts: sum.verdicts + subject.checks.refused(),
            signals: sum.signals + subject.signals.refused(),
        })
    }

    /// Asks again what has to be, rules first, in order of name and scope.
    fn settle(&mut self, now: Timestamp, dirty: Dirty, because: Because, out: &mut VecDeque<ToJudge>) {
        for key in dirty.scopes.union(&dirty.anew) {
            let (rule, scope) = key;
            self.evaluate(now, rule, scope, because, dirty.anew.contains(key), out);
        }
        let concerned = |(id, watching): (&WatchId, &Watching)| {
            let touched = dirty.touched.iter().any(|deployment| self.concerns(watching, deployment));
            (dirty.all_watches || touched || dirty.watches.contains(id)).then(|| id.clone())
        };
        let concerned: Vec<WatchId> = self.watches.iter().filter_map(concerned).collect();
        for id in concerned {
            self.look(now, &id, out);
        }
    }

    fn count_firing(&mut self, now: Timestamp, key: &AlertKey, firing: bool, out: &mut VecDeque<ToJudge>) {
        let scopes = self.world.firing.entry(key.rule.clone()).or_default();
        let changed = if firing { scopes.insert(key.scope.clone()) } else { scopes.remove(&key.scope) };
        if scopes.is_empty() {
            self.world.firing.remove(&key.rule);
        }
        if !changed {
            return;
        }
        let mut dirty = Dirty { all_watches: true, ..Dirty::default() };
        for rule in self.world.plan.readers(&Topic::Firing(key.rule.as_str().into())) {
            let Some(state) = self.rules.get(rule) else { continue };
            let concerned: Vec<&Labels> = match key.deployment() {
                Some(deployment) => state.of(&deployment).collect(),
                None => state.scopes.keys().collect(),
            };
            dirty.scopes.extend(concerned.into_iter().map(|scope| (rule.clone(), scope.clone())));
        }
        self.settle(now, dirty, Because::News, out);
    }

    /// Rules that read the topic are asked again where this deployment counts.
    fn mark(&self, topic: &Topic, id: &DeploymentId, labels: Option<&Labels>, dirty: &mut Dirty) {
        let Some(subject) = self.subjects.get(id) else { return };
        // a sample says nothing about a scope that is narrowed to another series
        let elsewhere = |scope: &Labels| {
            labels.is_some_and(|labels| {
                scope.iter().any(|(name, value)| {
                    subject.labels.get(name).is_none() && labels.get(name).is_some_and(|own| own != value)
                })
            })
        };
        for rule in self.world.plan.readers(topic) {
            let Some(state) = self.rules.get(rule) else { continue };
            let concerned = state.of(id).filter(|scope| !elsewhere(scope));
            dirty.scopes.extend(concerned.map(|scope| (rule.clone(), scope.clone())));
        }
    }

    /// Takes over that scopes of a rule have changed.
    fn moved(&mut self, rule: &RuleName, moved: Moved, dirty: &mut Dirty, out: &mut VecDeque<ToJudge>) {
        for (scope, told) in moved.gone {
            self.scope_gone(rule, scope, told, dirty, out);
        }
        dirty.scopes.extend(moved.changed.into_iter().map(|scope| (rule.clone(), scope)));
    }

    /// Nobody asks about it any more; judge hears of it if it ever did.
    fn scope_gone(
        &mut self,
        rule: &RuleName,
        scope: Labels,
        told: bool,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToJudge>,
    ) {
        self.timers.clear(&Due::Ask(rule.clone(), scope.clone()));
        dirty.scopes.remove(&(rule.clone(), scope.clone()));
        if told {
            out.push_back(ToJudge::ScopeGone { key: AlertKey { rule: rule.clone(), scope } });
        }
    }

    /// Says what should run at the edges, where that is something else than before.
    fn send_desired(&mut self, effects: &mut Vec<Effect>) {
        let desired = self.desired_now();
        let same = |(new, old): (&DesiredDeployment, &DesiredDeployment)| {
            new.deployment == old.deployment && new.adapter == old.adapter && new.replicas == old.replicas
        };
        let unchanged = self.desired.as_ref().is_some_and(|sent| {
            sent.deployments.len() == desired.deployments.len()
                && desired.deployments.iter().zip(&sent.deployments).all(same)
        });
        if !unchanged {
            let desired = Arc::new(desired);
            self.desired = Some(desired.clone());
            effects.push(Effect::Desired(desired));
        }
    }

    fn desired_now(&self) -> Desired {
        let deployments = self.policy.deployments.iter().map(|(id, deployment)| DesiredDeployment {
            deployment: deployment.clone(),
            adapter: deployment.adapter.as_ref().and_then(|name| self.policy.adapters.get(name).cloned()),
            replicas: self.subjects.get(id).map(|subject| subject.observed.replicas.clone()).unwrap_or_default(),
        });
        Desired { deployments: deployments.collect() }
    }

    fn forget(&mut self, id: &DeploymentId, dirty: &mut Dirty, out: &mut VecDeque<ToJudge>, effects: &mut Vec<Effect>) {
        if self.subjects.remove(id).is_none() {
            return;
        }
        for due in [Due::Stale(id.clone()), Due::Idle(id.clone()), Due::Forget(id.clone())] {
            self.timers.clear(&due);
        }
        let moves: Vec<_> = self.rules.iter_mut().map(|(rule, state)| (rule.clone(), state.remove(id))).collect();
        for (rule, moved) in moves {
            self.moved(&rule, moved, dirty, out);
        }
        effects.push(Effect::Show(Change::DeploymentGone(id.clone())));
    }
}

#[cfg(test)]
mod tests;

//! What is true: series, verdicts, signals and facts, and the rules' answers about them.
//!
//! Invariant: a rule × scope that is quiet (every level known to be false, or nothing known) has no entry here but a
//! timer, and only where time alone may change its answer.

mod ask;
mod evidence;
mod health;
mod rules;
mod series;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::effect::{Desired, DesiredDeployment, Effect};
use super::input::Observation;
use super::message::{LevelAnswer, RuleAnswer, ToDetect, ToJudge, Watch, WatchId};
use super::timers::Timers;
use super::view::DeploymentView;
use crate::model::{
    AlertKey, Deployment, DeploymentId, Event, EventKind, Labels, MetricName, RuleName, Timestamp, Value,
};
use crate::policy::Policy;
use crate::script::{Truth, Vars};
use evidence::ScopeEvidence;
use health::Verdict;
use rules::{Rules, Topic};
use state::State;

/// A deployment that only events know is forgotten after so long without one.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Gaps that are remembered, so that they do not count as silence.
const MAX_GAPS: usize = 16;
/// A watched condition is looked at this often besides on events.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Deployments known by events only; more are a label with an id in it.
const MAX_UNLISTED: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    Rule(AlertKey),
    Watch(WatchId),
    Forget(DeploymentId),
}

struct WatchState {
    watch: Watch,
    last: Option<Truth>,
}

/// The detecting half.
pub struct Detect {
    policy: Arc<Policy>,
    rules: Rules,
    states: BTreeMap<DeploymentId, State>,
    /// Last answers that were not quiet.
    answers: BTreeMap<AlertKey, RuleAnswer>,
    firing: BTreeMap<RuleName, BTreeSet<Labels>>,
    watches: BTreeMap<WatchId, WatchState>,
    timers: Timers<TimerKey>,
    /// Times in which nothing was watched, oldest first.
    gaps: VecDeque<(Timestamp, Timestamp)>,
    desired_sent: bool,
}

type Out<'a> = &'a mut VecDeque<ToJudge>;

impl Detect {
    pub fn new(_start: Timestamp, policy: Arc<Policy>) -> Self {
        Detect {
            policy,
            rules: Rules::default(),
            states: BTreeMap::new(),
            answers: BTreeMap::new(),
            firing: BTreeMap::new(),
            watches: BTreeMap::new(),
            timers: Timers::default(),
            gaps: VecDeque::new(),
            desired_sent: false,
        }
    }

    fn policy(&self) -> &Policy {
        &self.policy
    }

    fn gaps(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        self.gaps.iter().copied()
    }

    fn rule_since(&self, rule: &RuleName) -> Option<Timestamp> {
        self.rules.get(rule).map(|watched| watched.since)
    }

    fn firing_of(&self, rule: &str) -> Option<&BTreeSet<Labels>> {
        self.firing.get(rule)
    }

    fn deployment(&self, id: &DeploymentId) -> Option<Arc<Deployment>> {
        self.policy.deployments.get(id).cloned()
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline()
    }

    /// Does what is due first, at `at`; one instant's worth at most.
    pub fn fire(&mut self, at: Timestamp, out: &mut VecDeque<ToJudge>, effects: &mut Vec<Effect>) {
        let Some((_, key)) = self.timers.pop_due(at) else { return };
        match key {
            TimerKey::Rule(key) => self.evaluate(at, &key.rule, &key.scope, out),
            TimerKey::Watch(id) => self.look_at_watch(at, &id, out),
            TimerKey::Forget(id) => self.forget(at, &id, out, effects),
        }
    }

    pub fn events(
        &mut self,
        now: Timestamp,
        events: Vec<Event>,
        out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        for event in events {
            self.event(now, event, out);
        }
    }

    fn event(&mut self, now: Timestamp, event: Event, out: Out<'_>) {
        let at = event.time.min(now);
        let id = event.deployment.clone();
        if !self.know(now, &id, out) {
            return;
        }
        let deployment = self.deployment(&id);
        let keep = self.rules.keep();
        let Some(state) = self.states.get_mut(&id) else { return };
        state.last_event_at = Some(now);
        match event.kind {
            EventKind::Metric { name, value, labels } => {
                if state.sample(&name, &labels, at, value, keep) {
                    self.touched(now, &id, Topic::Metric(name.as_str()), Some(&labels), out);
                }
            }
            EventKind::Health { check, replica, status, latency_ms, reason, message } => {
                let thresholds = state::thresholds(deployment.as_deref(), check.as_str());
                let message = SmolStr::new(message);
                state.verdict(&check, replica, Verdict { at, status, latency_ms, reason, message }, thresholds);
                let mut labels = Labels::default().with_label("check", check.as_str());
                if let Some(replica) = replica {
                    labels = labels.with_label("replica", &replica.to_string());
                }
                let up = MetricName::new("check_up");
                state.sample(&up, &labels, at, state::up(status), keep);
                let latency = MetricName::new("check_latency_ms");
                if let Some(latency_ms) = latency_ms {
                    state.sample(&latency, &labels, at, latency_ms, keep);
                }
                out.extend(state.health_news(deployment.as_deref(), now).map(ToJudge::Health));
                self.touched(now, &id, Topic::Check(check.as_str()), None, out);
                self.touched(now, &id, Topic::Metric(up.as_str()), Some(&labels), out);
                self.touched(now, &id, Topic::Metric(latency.as_str()), Some(&labels), out);
            }
            EventKind::Signal { name, fields } => {
                state.signal(&name, at, fields, &event.origin);
                self.touched(now, &id, Topic::Signal(name.as_str()), None, out);
            }
        }
        self.look_at_watches_of(now, &id, out);
    }

    /// Registers a deployment at its first event; false where there is no room for it.
    fn know(&mut self, now: Timestamp, id: &DeploymentId, out: Out<'_>) -> bool {
        let is_listed = self.policy.deployments.contains_key(id);
        if !is_listed {
            self.timers.set(TimerKey::Forget(id.clone()), now + FORGET_AFTER);
        }
        if self.states.contains_key(id) {
            return true;
        }
        if !is_listed && self.states.values().filter(|state| !state.listed).count() >= MAX_UNLISTED {
            self.timers.clear(&TimerKey::Forget(id.clone()));
            return false;
        }
        self.states.insert(id.clone(), State::new(id.clone(), &Labels::default(), false, now));
        self.evaluate_all_of(now, id, out);
        true
    }

    fn forget(&mut self, now: Timestamp, id: &DeploymentId, out: Out<'_>, effects: &mut Vec<Effect>) {
        if self.states.get(id).is_some_and(|state| state.listed) {
            return;
        }
        let names: Vec<RuleName> = self.rules.names().cloned().collect();
        self.states.remove(id);
        effects.push(Effect::Show(super::view::Change::DeploymentGone(id.clone())));
        self.end_scopes_without_members(out);
        for name in names {
            self.evaluate_rule(now, &name, out);
        }
    }

    /// Evaluates the rules that read `topic`, in the scopes this deployment belongs to.
    fn touched(&mut self, now: Timestamp, id: &DeploymentId, topic: Topic<'_>, series: Option<&Labels>, out: Out<'_>) {
        for name in self.rules.reading(topic) {
            let Some((watched, state)) = self.rules.get(&name).zip(self.states.get(id)) else { continue };
            for scope in watched.scopes_of(state, series) {
                self.evaluate(now, &name, &scope, out);
            }
        }
    }

    fn evaluate_all_of(&mut self, now: Timestamp, id: &DeploymentId, out: Out<'_>) {
        let names: Vec<RuleName> = self.rules.names().cloned().collect();
        for name in names {
            let Some((watched, state)) = self.rules.get(&name).zip(self.states.get(id)) else { continue };
            for scope in watched.scopes_of(state, None) {
                self.evaluate(now, &name, &scope, out);
            }
        }
    }

    fn evaluate_rule(&mut self, now: Timestamp, name: &RuleName, out: Out<'_>) {
        let Some(watched) = self.rules.get(name) else { return };
        let mut scopes: BTreeSet<Labels> =
            self.states.values().flat_map(|state| watched.scopes_of(state, None)).collect();
        if watched.rule.per.is_empty() {
            // the whole fleet exists also when it is empty
            scopes.insert(Labels::default());
        }
        for scope in scopes {
            self.evaluate(now, name, &scope, out);
        }
    }

    fn members(&self, rule: &RuleName, scope: &Labels) -> Vec<&State> {
        let Some(watched) = self.rules.get(rule) else { return Vec::new() };
        match scope.get("deployment") {
            Some(id) => self.states.get(id).filter(|state| watched.has_member(state, scope)).into_iter().collect(),
            None => self.states.values().filter(|state| watched.has_member(state, scope)).collect(),
        }
    }

    fn vars(&self, now: Timestamp, scope: &Labels, members: &[&State]) -> Vars {
        let deployment = scope.get("deployment").map(DeploymentId::from);
        let labels = match (&deployment, members) {
            (Some(_), [one]) => one.labels.with(scope),
            _ => scope.clone(),
        };
        Vars {
            now,
            settings: self.policy.settings_for(deployment.as_ref()),
            deployment: deployment.map(|id| SmolStr::new(id.as_str())),
            labels,
            ..Vars::default()
        }
    }

    /// Answers a rule for one scope now, tells judge if that is news, and comes back when time may change it.
    fn evaluate(&mut self, now: Timestamp, name: &RuleName, scope: &Labels, out: Out<'_>) {
        let key = AlertKey { rule: name.clone(), scope: scope.clone() };
        let Some((answer, next)) = self.answer(now, &key) else { return };
        match next {
            Some(next) => self.timers.set(TimerKey::Rule(key.clone()), next),
            None => self.timers.clear(&TimerKey::Rule(key.clone())),
        }
        let failed = answer.levels.iter().any(|level| matches!(level.when, Truth::Error(_)));
        let before = self.answers.get(&key);
        let is_news = match before {
            None => failed || answer.levels.iter().any(|level| level.when.is_true()),
            Some(before) => failed || before.levels != answer.levels || before.value != answer.value,
        };
        if !is_news {
            if let Some(kept) = self.answers.get_mut(&key) {
                // newer evidence for the same answer is not said, but known when it is asked for
                kept.evidence = answer.evidence;
            }
            return;
        }
        let is_quiet = answer.levels.iter().all(|level| level.when.is_false() && level.clear.is_true());
        if is_quiet {
            self.answers.remove(&key);
        } else {
            self.answers.insert(key, answer.clone());
        }
        out.push_back(ToJudge::Answer(answer));
    }

    /// What a rule says of one scope now, and when that may change by time alone.
    fn answer(&self, now: Timestamp, key: &AlertKey) -> Option<(RuleAnswer, Option<Timestamp>)> {
        let rule = self.rules.get(&key.rule)?.rule.clone();
        let members = self.members(&key.rule, &key.scope);
        let mut vars = self.vars(now, &key.scope, &members);
        let evidence = ScopeEvidence::new(self, now, &key.scope, members, Some(&key.rule), None);
        let value = rule.value.as_ref().map(|value| value.number(&vars, &evidence));
        let failure = match value {
            Some(Ok(value)) => {
                vars.value = value;
                None
            }
            Some(Err(why)) => Some(Truth::Error(SmolStr::new(format!("value: {why}")))),
            None => None,
        };
        let levels = rule
            .levels
            .iter()
            .map(|level| {
                if let Some(failure) = &failure {
                    return LevelAnswer { when: failure.clone(), clear: failure.clone() };
                }
                vars.severity = Some(level.severity);
                let when = level.when.truth(&vars, &evidence);
                let clear = match &level.clear_when {
                    Some(clear) => clear.truth(&vars, &evidence),
                    None => contrary(&when),
                };
                LevelAnswer { when, clear }
            })
            .collect();
        let (newest, next) = (evidence.newest(), evidence.next_change());
        let answer = RuleAnswer { key: key.clone(), at: now, levels, value: vars.value, evidence: newest };
        Some((answer, next))
    }

    pub fn observed(
        &mut self,
        now: Timestamp,
        id: &DeploymentId,
        observation: Result<Observation, String>,
        out: &mut VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) {
        let deployment = self.deployment(id);
        let keep = self.rules.keep();
        let Some(state) = self.states.get_mut(id) else { return };
        let seen = match observation {
            Err(why) => {
                state.observe_error = Some(why);
                return;
            }
            Ok(seen) => seen,
        };
        state.observe_error = None;
        let replicas_changed = state.replicas != seen.replicas;
        state.replicas(seen.replicas, now);
        state.facts = seen.facts;
        state.facts_at = Some(now);
        let mut touched: Vec<(MetricName, Labels)> = Vec::new();
        let facts = state.facts.0.iter().filter_map(|(name, value)| {
            let value = value.as_f64().or_else(|| value.as_bool().map(f64::from))?;
            Some((MetricName::new(format!("fact_{name}")), value, Labels::default()))
        });
        let samples: Vec<_> = facts.chain(seen.metrics).filter(|(_, value, _)| value.is_finite()).collect();
        for (name, value, labels) in samples {
            if state.sample(&name, &labels, now, value, keep) {
                touched.push((name, labels));
            }
        }
        out.push_back(ToJudge::Facts { deployment: id.clone(), facts: state.facts.clone() });
        out.extend(state.health_news(deployment.as_deref(), now).map(ToJudge::Health));
        if replicas_changed {
            self.desire(effects);
        }
        for (name, labels) in touched {
            self.touched(now, id, Topic::Metric(name.as_str()), Some(&labels), out);
        }
        self.touched(now, id, Topic::Facts, None, out);
        if replicas_changed {
            // verdicts of replicas that are gone no longer count
            let checks = self.states.get(id).map(State::check_names).unwrap_or_default();
            for check in checks {
                self.touched(now, id, Topic::Check(check.as_str()), None, out);
            }
        }
        self.look_at_watches_of(now, id, out);
    }

    fn desire(&self, effects: &mut Vec<Effect>) {
        let deployments = self
            .policy
            .deployments
            .values()
            .map(|deployment| DesiredDeployment {
                deployment: deployment.clone(),
                adapter: deployment.adapter.as_ref().and_then(|name| self.policy.adapters.get(name)).cloned(),
                replicas: self.states.get(&deployment.id).map(|state| state.replicas.clone()).unwrap_or_default(),
            })
            .collect();
        effects.push(Effect::Desired(Arc::new(Desired { deployments })));
    }

    pub fn replace_policy(
        &mut self,
        now: Timestamp,
        policy: Arc<Policy>,
        out: &mut VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) {
        let before = std::mem::replace(&mut self.policy, policy);
        let old_rules = std::mem::take(&mut self.rules);
        self.rules = Rules::new(&self.policy, &old_rules, now);
        let fleet_changed = self.take_fleet(now);
        if !self.desired_sent
            || before.deployments != self.policy.deployments
            || before.adapters != self.policy.adapters
        {
            self.desired_sent = true;
            self.desire(effects);
        }
        self.end_scopes_without_members(out);
        let settings_changed = before.settings != self.policy.settings;
        let names: Vec<RuleName> = self.rules.names().cloned().collect();
        for name in names {
            let is_same = old_rules.get(&name).zip(self.rules.get(&name)).is_some_and(|(old, new)| {
                old.rule.hash == new.rule.hash && old.rule.levels.len() == new.rule.levels.len()
            });
            if is_same && !fleet_changed && !settings_changed {
                continue;
            }
            if !is_same {
                // what was answered by other scripts must be answered anew, also if it is quiet now
                self.answers
                    .values_mut()
                    .filter(|answer| answer.key.rule == name)
                    .for_each(|answer| answer.levels.clear());
            }
            self.evaluate_rule(now, &name, out);
        }
    }

    /// Takes the listed deployments over; true where the fleet is another than before.
    fn take_fleet(&mut self, now: Timestamp) -> bool {
        let mut changed = false;
        for (id, deployment) in &self.policy.deployments {
            let labels = deployment.labels.with_label("deployment", id.as_str());
            match self.states.get_mut(id) {
                Some(state) => {
                    changed |= !state.listed || state.labels != labels;
                    state.listed = true;
                    state.labels = labels;
                    self.timers.clear(&TimerKey::Forget(id.clone()));
                }
                None => {
                    changed = true;
                    self.states.insert(id.clone(), State::new(id.clone(), &deployment.labels, true, now));
                }
            }
        }
        let policy = self.policy.clone();
        let before = self.states.len();
        self.states.retain(|id, state| !state.listed || policy.deployments.contains_key(id));
        changed || before != self.states.len()
    }

    /// Answers and timers about rules and scopes that are no longer there.
    fn end_scopes_without_members(&mut self, out: Out<'_>) {
        let is_gone = |key: &AlertKey| {
            self.rules.get(&key.rule).is_none_or(|watched| {
                let same_labels = key.scope.len() == watched.rule.per.len()
                    && watched.rule.per.iter().all(|label| key.scope.get(label).is_some());
                !same_labels || (!key.scope.is_empty() && self.members(&key.rule, &key.scope).is_empty())
            })
        };
        let firing = self.firing.iter().flat_map(|(rule, scopes)| {
            scopes.iter().map(|scope| AlertKey { rule: rule.clone(), scope: scope.clone() })
        });
        let known: BTreeSet<AlertKey> = self.answers.keys().cloned().chain(firing).collect();
        let gone: Vec<AlertKey> = known.into_iter().filter(is_gone).collect();
        for key in gone {
            self.answers.remove(&key);
            self.timers.clear(&TimerKey::Rule(key.clone()));
            out.push_back(ToJudge::ScopeGone { key });
        }
    }

    /// Nothing was watched from `from` to `to`: that time is no silence.
    pub fn resumed(&mut self, from: Timestamp, to: Timestamp, out: &mut VecDeque<ToJudge>) {
        if self.gaps.len() == MAX_GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back((from, to));
        let names: Vec<RuleName> = self.rules.names().cloned().collect();
        for name in names {
            self.evaluate_rule(to, &name, out);
        }
    }

    pub fn message(
        &mut self,
        now: Timestamp,
        message: ToDetect,
        out: &mut VecDeque<ToJudge>,
        _effects: &mut Vec<Effect>,
    ) {
        match message {
            ToDetect::Firing { key, firing } => {
                let scopes = self.firing.entry(key.rule.clone()).or_default();
                let changed = if firing { scopes.insert(key.scope.clone()) } else { scopes.remove(&key.scope) };
                if changed {
                    for name in self.rules.reading(Topic::Firing(key.rule.as_str())) {
                        self.evaluate_rule(now, &name, out);
                    }
                }
            }
            ToDetect::Ask(ask) => {
                let replies = self.replies(now, &ask);
                out.push_back(ToJudge::Told { id: ask.id, replies });
            }
            ToDetect::Watch(watch) => {
                let id = watch.id.clone();
                self.watches.insert(id.clone(), WatchState { watch, last: None });
                self.look_at_watch(now, &id, out);
            }
            ToDetect::Unwatch(id) => {
                self.watches.remove(&id);
                self.timers.clear(&TimerKey::Watch(id));
            }
            ToDetect::Emit(event) => self.event(now, event, out),
        }
    }

    fn look_at_watch(&mut self, now: Timestamp, id: &WatchId, out: Out<'_>) {
        let Some(state) = self.watches.get(id) else { return };
        let truth = self.watched(now, &state.watch);
        self.timers.set(TimerKey::Watch(id.clone()), now + WATCH_EVERY);
        let Some(state) = self.watches.get_mut(id) else { return };
        if state.last.as_ref() != Some(&truth) {
            state.last = Some(truth.clone());
            out.push_back(ToJudge::Watched { id: id.clone(), at: now, truth });
        }
    }

    fn look_at_watches_of(&mut self, now: Timestamp, deployment: &DeploymentId, out: Out<'_>) {
        let ids: Vec<WatchId> = self
            .watches
            .iter()
            .filter(|(_, state)| state.watch.context.deployment.as_ref().is_none_or(|own| own == deployment))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            self.look_at_watch(now, &id, out);
        }
    }

    /// Every deployment, in order of id; for reads between inputs.
    pub fn deployment_views(&self) -> Vec<DeploymentView> {
        let now = self.states.values().filter_map(|state| state.last_event_at.max(state.facts_at)).max();
        let now = now.unwrap_or_default();
        self.states
            .values()
            .map(|state| state.view(self.policy.deployments.get(&state.id).map(AsRef::as_ref), now))
            .collect()
    }
}

/// `clear` where there is no `clear_when`.
fn contrary(when: &Truth) -> Truth {
    match when {
        Truth::True => Truth::False,
        Truth::False => Truth::True,
        other => other.clone(),
    }
}

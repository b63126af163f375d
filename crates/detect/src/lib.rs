//! What is true: series, verdicts, signals and facts, and the rules' answers about them.
//!
//! Invariant: a rule is asked again exactly when something it reads changed: an event, a fact, its scope, an alert it
//! counts, the policy, or passing time at an instant known before. What is quiet costs nothing and says nothing.

mod budget;
mod checks;
pub mod costs;
mod evaluation;
mod evidence;
pub mod explain;
mod few;
mod intake;
mod plan;
mod posted;
mod queries;
mod query;
mod quick;
mod reload;
pub mod saved;
mod scopes;
mod series;
mod signals;
mod store;
mod subject;
mod subjects;
mod tally;
mod warmth;
mod wheel;
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::evidence::{Deaf, World};
use self::plan::Topic;
use self::posted::Posted;
use self::queries::Watching;
use self::scopes::{Moved, RuleState};
use self::store::{MetricPlace, NO_PLACE};
use self::subject::{Eased, FORGET_AFTER};
use self::subjects::{SubjectIx, Subjects};
pub use self::tally::{Figures, Refused, Tally};
use self::warmth::Warmth;
use self::wheel::Wheel;
use selfheal_contract::effect::{Desired, DesiredDeployment, Effect};
use selfheal_contract::input::{Gap, Intake, Observation, Storage};
use selfheal_contract::view::{Change, DeploymentView};
use selfheal_messages::{ToDetect, ToRespond, Unwatched, WatchId};
use selfheal_model::timers::Timers;
use selfheal_model::{AlertKey, DeploymentId, Event, Labels, RuleName, Timestamp};
use selfheal_policy::Policy;
use selfheal_policy::playbook::SetCheck;

/// The metrics that verdicts give, labelled `check`.
const CHECK_UP: &str = "check_up";
const CHECK_LATENCY: &str = "check_latency_ms";
/// 1 while a source gives what it is asked for, labelled `source`.
const SOURCE_UP: &str = "up";

/// The detecting half.
pub struct Detect {
    now: Timestamp,
    policy: Arc<Policy>,
    world: World,
    subjects: Subjects,
    rules: BTreeMap<RuleName, RuleState>,
    watches: BTreeMap<WatchId, Watching>,
    posted: Posted,
    timers: Timers<Due>,
    /// Metrics that quick rules read, by deployment and place: when passing time changes what is read of them.
    wheel: Wheel<(SubjectIx, MetricPlace)>,
    /// As last sent to the edges.
    desired: Option<Arc<Desired>>,
    refused: Refused,
    tally: Tally,
    /// Series of all deployments together, so that nobody has to count them.
    series: usize,
    warmth: Warmth,
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
    /// A check's own figures hold again.
    Eased(DeploymentId),
    /// The slow beat of a rule that costs too much ends.
    Beat(RuleName),
    /// An alert from elsewhere is no longer fresh, runs out, or is forgotten.
    Posted(AlertKey),
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
    /// Quick rules about deployments, in the order they were found, and by which of its metrics.
    quick: Vec<(u32, SubjectIx, MetricPlace)>,
    scopes: BTreeSet<(RuleName, Labels)>,
    /// Asked again and told even if nothing changed: judge's picture is of another text of the rule.
    anew: BTreeSet<(RuleName, Labels)>,
    /// Watches on these deployments.
    touched: BTreeSet<DeploymentId>,
    watches: BTreeSet<WatchId>,
    all_watches: bool,
}

impl Dirty {
    /// Keeps the memory for what comes next.
    fn clear(&mut self) {
        let Dirty { quick, scopes, anew, touched, watches, all_watches } = self;
        quick.clear();
        for set in [scopes, anew].into_iter().filter(|set| !set.is_empty()) {
            set.clear();
        }
        touched.clear();
        watches.clear();
        *all_watches = false;
    }
}

impl Detect {
    pub fn new(start: Timestamp, policy: Arc<Policy>) -> Self {
        Detect {
            now: start,
            policy,
            world: World::new(start),
            subjects: Subjects::default(),
            rules: BTreeMap::new(),
            watches: BTreeMap::new(),
            posted: Posted::default(),
            timers: Timers::default(),
            wheel: Wheel::default(),
            desired: None,
            refused: Refused::default(),
            tally: Tally::default(),
            series: 0,
            warmth: Warmth::default(),
        }
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next_deadline().into_iter().chain(self.wheel.next()).min()
    }

    /// Does what is due first, at `at`; one instant's worth at most.
    pub fn fire(&mut self, at: Timestamp, out: &mut VecDeque<ToRespond>, effects: &mut Vec<Effect>) {
        self.now = self.now.max(at);
        let mut dirty = Dirty::default();
        while let Some((_, due)) = self.timers.pop_due(at) {
            match due {
                Due::Stale(id) => self.tell_health(at, &id, out),
                Due::Idle(id) => self.forget_idle(at, &id, &mut dirty, out),
                Due::Forget(id) => self.forget_silent(at, &id, &mut dirty, out, effects),
                Due::Ask(rule, scope) => {
                    let deployment =
                        scope.get("deployment").and_then(|id| self.subjects.number(&DeploymentId::new(id)));
                    match (self.world.plan.quick_of(&rule), deployment) {
                        (Some(quick), Some(number)) => dirty.quick.push((quick, number, NO_PLACE)),
                        _ => {
                            dirty.scopes.insert((rule, scope));
                        }
                    }
                }
                Due::Watch(id) => {
                    dirty.watches.insert(id);
                }
                Due::Eased(id) => self.unease(at, &id, effects),
                Due::Beat(rule) => self.beat_ended(at, &rule, out),
                Due::Posted(key) => self.posted_due(at, &key, out),
            }
        }
        while let Some((due, (number, place))) = self.next_of_wheel(at) {
            self.time_changed(at, due, (number, place), &mut dirty);
        }
        self.settle(at, &mut dirty, Because::Time, out);
    }

    /// What is read of a metric is another thing now.
    fn time_changed(&mut self, at: Timestamp, due: Timestamp, (number, place): (SubjectIx, u32), dirty: &mut Dirty) {
        let Some(subject) = self.subjects.at_mut(number) else { return };
        let stale_after = subject.stale_after;
        let metric = subject.series.at_mut(place as usize);
        let Some(metric) = metric.filter(|metric| metric.due == due) else { return };
        metric.advance(at);
        metric.due = metric.next_change(at, stale_after);
        dirty.quick.extend(metric.plan.quick.iter().map(|rule| (*rule, number, place)));
        if metric.due < Timestamp::MAX {
            self.wheel.push(metric.due, (number, place));
        }
    }

    /// Sees to it that passing time is noticed where quick rules read this metric.
    fn arm(&mut self, now: Timestamp, number: SubjectIx, place: usize) {
        let Some(subject) = self.subjects.at_mut(number) else { return };
        let stale_after = subject.stale_after;
        let metric = subject.series.at_mut(place);
        let Some(metric) = metric.filter(|metric| !metric.plan.quick.is_empty()) else { return };
        let next = metric.next_change(now, stale_after);
        // an instant that comes too early is looked at and moved on
        if next < metric.due {
            metric.due = next;
            self.wheel.push(next, (number, u32::try_from(place).unwrap_or(u32::MAX)));
        }
    }

    /// Puts into the wheel what a restored deployment has in its metrics.
    fn arm_all(&mut self, number: SubjectIx) {
        let Some(subject) = self.subjects.at(number) else { return };
        for (place, _, metric) in subject.series.metrics().filter(|(_, _, metric)| metric.due < Timestamp::MAX) {
            self.wheel.push(metric.due, (number, u32::try_from(place).unwrap_or(u32::MAX)));
        }
    }

    pub fn events(
        &mut self,
        now: Timestamp,
        mut events: Vec<Event>,
        out: &mut VecDeque<ToRespond>,
        _effects: &mut Vec<Effect>,
    ) {
        self.now = self.now.max(now);
        self.convert(&mut events);
        let mut dirty = Dirty::default();
        let mut found = Vec::new().into_iter();
        let mut events = events.into_iter();
        loop {
            if found.len() == 0 {
                found = self.locate(events.as_slice()).into_iter();
            }
            let Some(event) = events.next() else { break };
            // what is said of one instant is judged together: half of a set of metrics is no state that ever was
            let same = |next: &Event| next.deployment == event.deployment && next.time == event.time;
            let is_last = events.as_slice().first().is_none_or(|next| !same(next));
            self.take(now, event, found.next().flatten(), &mut dirty, out);
            if is_last {
                self.settle(now, &mut dirty, Because::News, out);
            }
        }
    }

    pub fn observed(
        &mut self,
        now: Timestamp,
        deployment: &DeploymentId,
        observation: Result<Observation, String>,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) {
        self.now = self.now.max(now);
        let mut dirty = Dirty::default();
        self.take_observation(now, deployment, observation, &mut dirty, out);
        self.send_desired(effects);
        self.settle(now, &mut dirty, Because::News, out);
    }

    pub fn replace_policy(
        &mut self,
        now: Timestamp,
        policy: Arc<Policy>,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) {
        self.now = self.now.max(now);
        let mut dirty = self.follow(now, policy, out, effects);
        self.posted_anew(now, out);
        self.send_desired(effects);
        self.settle(now, &mut dirty, Because::News, out);
    }

    /// Whether events are accepted, as far as the journal can store them. The message that tells respond of a span in which
    /// they were refused is the first one in `out`.
    pub fn storage(&mut self, now: Timestamp, storage: &Storage, out: &mut VecDeque<ToRespond>) {
        self.hear(now, Deaf::Storage, *storage == Storage::Working, out);
    }

    /// As [`Detect::storage`], as far as there is room in the queues.
    pub fn intake(&mut self, now: Timestamp, intake: Intake, out: &mut VecDeque<ToRespond>) {
        if intake == Intake::Shed {
            self.now = self.now.max(now);
            self.world.gap(now, now);
            let mut dirty = self.all_scopes();
            return self.settle(now, &mut dirty, Because::News, out);
        }
        self.hear(now, Deaf::Shedding, intake == Intake::Whole, out);
    }

    /// While events are refused no silence grows, and nothing runs out.
    fn hear(&mut self, now: Timestamp, deaf: Deaf, hears: bool, out: &mut VecDeque<ToRespond>) {
        self.now = self.now.max(now);
        let before = self.world.deaf_since();
        if !self.world.hears(now, deaf, hears) {
            return;
        }
        let mut dirty = match before {
            // what is quiet is asked when its own time comes
            None => self.loud_scopes(),
            Some(since) => {
                out.push_back(ToRespond::Unwatched(Unwatched { from: since, to: now }));
                self.posted_unwatched(since, now, out);
                self.all_scopes()
            }
        };
        self.settle(now, &mut dirty, Because::News, out);
    }

    /// Nothing was watched between the two: no age counts it, and silence begins anew at `to`. Whoever comes back from a
    /// stop hears again.
    pub fn resumed(&mut self, from: Timestamp, to: Timestamp, because: Gap, out: &mut VecDeque<ToRespond>) {
        self.now = self.now.max(to);
        if because == Gap::Stopped {
            let deaf_since = self.world.deaf_since();
            for deaf in [Deaf::Storage, Deaf::Shedding] {
                self.world.hears(from, deaf, true);
            }
            if let Some(since) = deaf_since {
                self.posted_unwatched(since, from, out);
            }
        }
        self.world.gap(from, to);
        // where it is within a longer time of refusals, that one's end counts it
        if self.world.deaf_since().is_none() {
            self.posted_unwatched(from, to, out);
        }
        let mut dirty = self.all_scopes();
        // not as something that time made true: nobody watched that time
        while let Some((due, key)) = self.next_of_wheel(to) {
            self.time_changed(to, due, key, &mut dirty);
        }
        self.settle(to, &mut dirty, Because::News, out);
    }

    /// What was said something of.
    fn loud_scopes(&self) -> Dirty {
        let mut dirty = Dirty { all_watches: true, ..Dirty::default() };
        for (rule, state) in &self.rules {
            let said = state.kept().into_iter().filter(|(_, kept)| kept.said.is_some());
            dirty.scopes.extend(said.map(|(scope, _)| (rule.clone(), scope)));
        }
        dirty
    }

    /// Everything that may be another thing once something is seen again.
    fn all_scopes(&self) -> Dirty {
        let mut dirty = Dirty { all_watches: true, ..Dirty::default() };
        for (rule, state) in &self.rules {
            // quick rules read no ages, and what leaves their windows is found by itself
            let scopes: Vec<Labels> = match self.world.plan.quick_of(rule) {
                Some(_) => state.kept().into_iter().map(|(scope, _)| scope).collect(),
                None => state.names(&self.subjects),
            };
            dirty.scopes.extend(scopes.into_iter().map(|scope| (rule.clone(), scope)));
        }
        dirty
    }

    /// Events say when by the wall clock, which is so far ahead of the engine's time now.
    pub fn clock_moved(&mut self, now: Timestamp, offset_ms: i64, out: &mut VecDeque<ToRespond>) {
        self.now = self.now.max(now);
        self.world.offset_ms = offset_ms;
        let mut dirty = Dirty::default();
        for (rule, state) in self.world.plan.clocks.iter().filter_map(|rule| Some((rule, self.rules.get(rule)?))) {
            dirty.scopes.extend(state.names(&self.subjects).into_iter().map(|scope| (rule.clone(), scope)));
        }
        self.settle(now, &mut dirty, Because::News, out);
    }

    pub fn message(
        &mut self,
        now: Timestamp,
        message: ToDetect,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            ToDetect::Firing { key, firing } => self.count_firing(now, &key, firing, out),
            ToDetect::Query(query) => self.answer(now, &query, out),
            ToDetect::Watch(watch) => {
                let id = watch.id.clone();
                self.watches.insert(id.clone(), Watching::new(watch));
                self.look(now, &id, out);
            }
            ToDetect::Unwatch { id, generation } => {
                if self.watches.get(&id).is_some_and(|watching| watching.watch.generation == generation) {
                    self.watches.remove(&id);
                    self.timers.clear(&Due::Watch(id));
                }
            }
            ToDetect::SetCheck { deployment, set } => self.ease(now, &deployment, set, effects),
            ToDetect::Emit(event) => self.events(now, vec![event], out, effects),
        }
    }

    /// Every deployment, in order of id; for reads between inputs.
    pub fn deployment_views(&self) -> Vec<DeploymentView> {
        self.subjects.values().map(|subject| subject.view(self.now)).collect()
    }

    /// How much is known, and what was let go: totals that are kept, whatever there is of it.
    pub fn figures(&self) -> Figures {
        Figures { deployments: self.subjects.len(), series: self.series, refused: self.tally }
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

    /// Asks again what has to be, rules first, in order of name and scope. Leaves `dirty` empty for the next.
    fn settle(&mut self, now: Timestamp, dirty: &mut Dirty, because: Because, out: &mut VecDeque<ToRespond>) {
        self.sift(now, dirty);
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
        dirty.clear();
    }

    fn count_firing(&mut self, now: Timestamp, key: &AlertKey, firing: bool, out: &mut VecDeque<ToRespond>) {
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
            let concerned: Vec<Labels> = match key.deployment() {
                Some(deployment) => self.subjects.get(&deployment).map(|subject| state.of(subject)).unwrap_or_default(),
                None => state.names(&self.subjects),
            };
            dirty.scopes.extend(concerned.into_iter().map(|scope| (rule.clone(), scope)));
        }
        self.settle(now, &mut dirty, Because::News, out);
    }

    /// Of the quick rules found, those that are not certainly as quiet as before are asked by their scripts.
    fn sift(&mut self, now: Timestamp, dirty: &mut Dirty) {
        for (rule, number, place) in dirty.quick.drain(..) {
            let Some(rule) = self.world.plan.quick.get(rule as usize) else { continue };
            let Some(subject) = self.subjects.at_mut(number) else { continue };
            if !rule.selects(&subject.labels) {
                continue;
            }
            let is_quiet = !subject.has_own_settings(&self.policy)
                && !subject.loud.contains(&rule.name)
                && rule.is_quiet(subject, place, now);
            if !is_quiet {
                dirty.scopes.insert((rule.name.clone(), subject.own_scope()));
            }
        }
    }

    /// Rules that read the topic are asked again where this deployment counts; quick ones that read a metric aside.
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
            let concerned = state.of(subject).into_iter().filter(|scope| !elsewhere(scope));
            dirty.scopes.extend(concerned.map(|scope| (rule.clone(), scope)));
        }
    }

    /// Takes over that scopes of a rule have changed.
    fn moved(&mut self, rule: &RuleName, moved: Moved, dirty: &mut Dirty, out: &mut VecDeque<ToRespond>) {
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
        out: &mut VecDeque<ToRespond>,
    ) {
        self.timers.clear(&Due::Ask(rule.clone(), scope.clone()));
        dirty.scopes.remove(&(rule.clone(), scope.clone()));
        if told {
            out.push_back(ToRespond::ScopeGone { key: AlertKey { rule: rule.clone(), scope } });
        }
    }

    /// A check gets other figures for a while; a second word about it takes the first one's place.
    fn ease(&mut self, now: Timestamp, id: &DeploymentId, set: SetCheck, effects: &mut Vec<Effect>) {
        let Some(subject) = self.subjects.get_mut(id) else { return };
        subject.eased.retain(|eased| eased.set.check != set.check);
        subject.eased.push(Eased { until: now + set.for_, set });
        self.follow_eased(now, id, effects);
    }

    fn unease(&mut self, now: Timestamp, id: &DeploymentId, effects: &mut Vec<Effect>) {
        let Some(subject) = self.subjects.get_mut(id) else { return };
        subject.eased.retain(|eased| eased.until > now);
        self.follow_eased(now, id, effects);
    }

    fn follow_eased(&mut self, now: Timestamp, id: &DeploymentId, effects: &mut Vec<Effect>) {
        let Some(subject) = self.subjects.get_mut(id) else { return };
        match subject.eased.iter().map(|eased| eased.until).min() {
            Some(until) => self.timers.set(Due::Eased(id.clone()), until),
            None => self.timers.clear(&Due::Eased(id.clone())),
        }
        subject.follow(&self.policy, now);
        self.send_desired(effects);
    }

    /// Says what should run at the edges, where that is something else than before.
    fn send_desired(&mut self, effects: &mut Vec<Effect>) {
        let desired = self.desired_now();
        let same = |(new, old): (&DesiredDeployment, &DesiredDeployment)| {
            new.deployment == old.deployment && new.adapter == old.adapter && new.replicas == old.replicas
        };
        let unchanged = self.desired.as_ref().is_some_and(|sent| {
            sent.sources == desired.sources
                && sent.deployment_from == desired.deployment_from
                && sent.deployments.len() == desired.deployments.len()
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
            deployment: self.subjects.get(id).and_then(|subject| subject.listed.as_ref()).unwrap_or(deployment).clone(),
            adapter: deployment.adapter.as_ref().and_then(|name| self.policy.adapters.get(name).cloned()),
            replicas: self.subjects.get(id).map(|subject| subject.observed.replicas.clone()).unwrap_or_default(),
        });
        let intake = &self.policy.intake;
        Desired {
            deployments: deployments.collect(),
            sources: intake.sources.clone(),
            deployment_from: intake.deployment_from.as_slice().into(),
        }
    }

    /// Forgets a deployment that no policy lists, if it has been silent for long enough.
    fn forget_silent(
        &mut self,
        now: Timestamp,
        id: &DeploymentId,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(subject) = self.subjects.get(id).filter(|subject| subject.listed.is_none()) else { return };
        let due = subject.heard_at + FORGET_AFTER;
        if due > now {
            self.timers.set(Due::Forget(id.clone()), due);
        } else {
            self.forget(id, dirty, out, effects);
        }
    }

    fn forget(
        &mut self,
        id: &DeploymentId,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(gone) = self.subjects.remove(id) else { return };
        self.series -= gone.series.len();
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

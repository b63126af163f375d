//! What comes in: events and observations become samples, verdicts, signals and facts, and mark what reads them.

use std::collections::VecDeque;

use super::checks::Verdict;
use super::plan::{MetricPlan, Topic};
use super::series::{Sample, Taken};
use super::signals::Signal;
use super::store::{MetricPlace, NO_PLACE, SERIES_IDLE};
use super::subject::{FORGET_AFTER, MAX_REGISTERED, Subject};
use super::subjects::SubjectIx;
use super::{CHECK_LATENCY, CHECK_UP, Detect, Dirty, Due, SOURCE_UP};
use selfheal_contract::input::Observation;
use selfheal_messages::{DeploymentHealth, ToRespond};
use selfheal_model::{
    CheckName, CheckStatus, DeploymentId, Event, EventKind, Health, Labels, MetricName, OWN_DEPLOYMENT, Origin,
    Timestamp,
};
use selfheal_policy::UnknownDeployments;

/// Numeric facts are metrics of this name too.
const FACT_PREFIX: &str = "fact_";

/// Where a sample belongs.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub subject: SubjectIx,
    pub place: usize,
}

impl Detect {
    fn place_of(&self, subject: SubjectIx, metric: &MetricName) -> Option<usize> {
        let series = &self.subjects.at(subject)?.series;
        match self.world.plan.number(metric) {
            Some(number) => series.place_of(number),
            None => series.place(metric),
        }
    }

    /// Renames and recalculates metrics as the policy says.
    pub(super) fn convert(&self, events: &mut [Event]) {
        let conversions = &self.policy.intake.metrics;
        if conversions.is_empty() {
            return;
        }
        for event in events {
            match &mut event.kind {
                EventKind::Metric { name, value, .. } => {
                    let Some(conversion) = conversions.get(name) else { continue };
                    *name = conversion.name.clone();
                    *value *= conversion.times;
                }
                EventKind::Ended { name, .. } => {
                    if let Some(conversion) = conversions.get(name) {
                        *name = conversion.name.clone();
                    }
                }
                EventKind::Health { .. } | EventKind::Signal { .. } => {}
            }
        }
    }

    /// Takes in one event, at its own time but never later than now. `found` says where it belongs, if that is known.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        event: Event,
        found: Option<Found>,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let at = self.placed(&event).min(now);
        let known = match &found {
            Some(found) => Some(found.subject),
            None => self.know(now, &event.deployment, dirty, out),
        };
        if let Some((source, answers)) = word_of_source(&event) {
            self.told_by_source(&event.deployment, source, answers, at, dirty);
        }
        let id = event.deployment;
        let Some(number) = known else {
            self.refused.deployments += 1;
            return;
        };
        let Some(subject) = self.subjects.at_mut(number) else { return };
        subject.last_event_at = subject.last_event_at.max(Some(at));
        subject.heard_at = now;
        if !self.watches.is_empty() {
            dirty.touched.insert(id.clone());
        }
        match event.kind {
            EventKind::Metric { name, value, labels } => {
                let place = found.map(|found| found.place);
                self.sample(now, (number, &id), (&name, place), &labels, Sample { at, value }, dirty, out);
            }
            EventKind::Ended { name, labels } => {
                let Some(place) = self.place_of(number, &name) else { return };
                let Some(subject) = self.subjects.at_mut(number) else { return };
                if subject.series.end(place, &labels, at) {
                    self.mark_metric(number, place, Some(&labels), dirty);
                }
            }
            EventKind::Signal { name, fields } => {
                let made_for = match event.origin {
                    Origin::Run { rule, .. } => rule,
                    Origin::External | Origin::Watched => None,
                };
                if subject.signals.insert(&name, Signal { at, fields, made_for }) {
                    self.mark(&Topic::Signal(name.as_str().into()), &id, None, dirty);
                } else {
                    self.tally.too_many_signals += 1;
                }
            }
            EventKind::Health { check, replica, status, latency_ms, reason, message, confidence } => {
                if event.origin != Origin::Watched {
                    // selfheal's own checks send these themselves
                    self.sample_verdict(now, (number, &id), &check, replica, status, latency_ms, at, dirty, out);
                }
                let verdict = Verdict { at, status, latency_ms, reason, message, confidence };
                let Some(subject) = self.subjects.get_mut(&id) else { return };
                let since = subject.known_since;
                if subject.checks.take(&check, replica, verdict, since) {
                    self.mark(&Topic::Check(check.as_str().into()), &id, None, dirty);
                    self.watch_idleness(now, &id);
                    self.tell_health(now, &id, out);
                } else {
                    self.tally.too_many_checks += 1;
                }
            }
        }
    }

    /// A source says whether it answered. What it says of itself holds for whoever it ever said something of: it may have
    /// forgotten whom.
    fn told_by_source(&mut self, id: &DeploymentId, source: &str, answers: bool, at: Timestamp, dirty: &mut Dirty) {
        let is_of_all = id.as_str() == OWN_DEPLOYMENT;
        let is_fed = |subject: &&Subject| subject.id == *id || is_of_all && subject.sight.is_fed_by(source);
        let fed: Vec<DeploymentId> = match is_of_all {
            true => self.subjects.values().filter(is_fed).map(|subject| subject.id.clone()).collect(),
            false => vec![id.clone()],
        };
        for id in fed {
            let Some(subject) = self.subjects.get_mut(&id) else { continue };
            if subject.told_by_source(source, answers, at, &self.policy) {
                self.mark_sight(&id, dirty);
                dirty.touched.insert(id);
            }
        }
    }

    /// Whether this deployment is seen changed: rules that draw conclusions from silence are asked again, and those that
    /// are not quiet about it, whose times stand still or go on.
    fn mark_sight(&self, id: &DeploymentId, dirty: &mut Dirty) {
        let Some(subject) = self.subjects.get(id) else { return };
        for (rule, state) in &self.rules {
            dirty.scopes.extend(state.loud(subject).into_iter().map(|scope| (rule.clone(), scope)));
        }
        for rule in &self.world.plan.silent {
            let Some(state) = self.rules.get(rule) else { continue };
            dirty.scopes.extend(state.of(subject).into_iter().map(|scope| (rule.clone(), scope)));
        }
    }

    /// The event's own time on the engine's clock. What the engine says itself is on it already.
    fn placed(&self, event: &Event) -> Timestamp {
        match event.origin {
            Origin::Run { .. } => event.time,
            Origin::External | Origin::Watched => {
                Timestamp::from_millis(event.time.as_millis().saturating_sub(self.world.offset_ms))
            }
        }
    }

    /// The number of a deployment that is known, perhaps from now on.
    fn know(
        &mut self,
        now: Timestamp,
        id: &DeploymentId,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) -> Option<SubjectIx> {
        if let Some(number) = self.subjects.number(id) {
            return Some(number);
        }
        let registered = self.subjects.len().saturating_sub(self.policy.deployments.len());
        if self.policy.unknown_deployments == UnknownDeployments::Reject {
            self.tally.unknown_deployments += 1;
            return None;
        }
        if registered >= MAX_REGISTERED {
            self.tally.too_many_deployments += 1;
            return None;
        }
        let subject = Subject::new(id, &self.policy, now);
        // a quick rule has nothing to say of a deployment without series
        let mut quick = self.world.plan.quick.iter().map(|rule| &rule.name).peekable();
        let mut moves = Vec::new();
        for (rule, state) in &mut self.rules {
            if quick.next_if_eq(&rule).is_none() {
                moves.push((rule.clone(), state.place(&subject)));
            }
        }
        let number = self.subjects.insert(subject);
        self.timers.set(Due::Forget(id.clone()), now + FORGET_AFTER);
        for (rule, moved) in moves {
            self.moved(&rule, moved, dirty, out);
        }
        Some(number)
    }

    #[expect(clippy::too_many_arguments, reason = "a sample's coordinates, and where its consequences go")]
    fn sample(
        &mut self,
        now: Timestamp,
        (number, id): (SubjectIx, &DeploymentId),
        (metric, place): (&MetricName, Option<usize>),
        labels: &Labels,
        sample: Sample,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let known = place.or_else(|| self.place_of(number, metric));
        let Some(subject) = self.subjects.at_mut(number) else { return };
        let place = match known {
            Some(place) => place,
            None if !subject.series.has_room() => {
                self.tally.too_many_series += 1;
                return subject.series.refuse();
            }
            None => subject.series.place_for(metric, || self.world.plan.metric(metric)),
        };
        match subject.series.insert(now, place, labels, sample) {
            Taken::Known => {}
            Taken::NewSeries => {
                self.series += 1;
                self.watch_idleness(now, id);
                self.place_by_series(id, metric, Some(labels), dirty, out);
            }
            Taken::TooLate => {
                self.tally.too_late += 1;
                return;
            }
            Taken::TooManySeries => {
                self.tally.too_many_series += 1;
                return;
            }
        }
        self.arm(now, number, place);
        self.mark_metric(number, place, Some(labels), dirty);
    }

    /// Every rule that reads the metric is asked again where this deployment counts.
    fn mark_metric(&self, number: SubjectIx, place: usize, labels: Option<&Labels>, dirty: &mut Dirty) {
        let Some(subject) = self.subjects.at(number) else { return };
        let Some(metric) = subject.series.at(place) else { return };
        let place = u32::try_from(place).unwrap_or(NO_PLACE);
        self.mark_readers((number, place), metric.name(), &metric.plan, labels, dirty);
    }

    fn mark_readers(
        &self,
        (number, place): (SubjectIx, MetricPlace),
        metric: &MetricName,
        plan: &MetricPlan,
        labels: Option<&Labels>,
        dirty: &mut Dirty,
    ) {
        dirty.quick.extend(plan.quick.iter().map(|rule| (*rule, number, place)));
        if plan.has_others
            && let Some(subject) = self.subjects.at(number)
        {
            self.mark(&Topic::Metric(metric.as_str().into()), &subject.id, labels, dirty);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a verdict's coordinates, and where its consequences go")]
    fn sample_verdict(
        &mut self,
        now: Timestamp,
        subject: (SubjectIx, &DeploymentId),
        check: &CheckName,
        replica: Option<u32>,
        status: CheckStatus,
        latency_ms: Option<f64>,
        at: Timestamp,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let replica = replica.map(|replica| replica.to_string());
        let labels: Labels = [("check", check.as_str())]
            .into_iter()
            .chain(replica.as_deref().map(|replica| ("replica", replica)))
            .collect();
        let up = if status == CheckStatus::Healthy { 1.0 } else { 0.0 };
        for (metric, value) in [(CHECK_UP, Some(up)), (CHECK_LATENCY, latency_ms)] {
            if let Some(value) = value {
                self.sample(now, subject, (&MetricName::new(metric), None), &labels, Sample { at, value }, dirty, out);
            }
        }
    }

    /// A series came or went: rules whose scopes are label sets of series may have others now. `new`: the labels of the one
    /// that came.
    fn place_by_series(
        &mut self,
        id: &DeploymentId,
        metric: &MetricName,
        new: Option<&Labels>,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let Some(subject) = self.subjects.get(id) else { return };
        let mut moves = Vec::new();
        for rule in self.world.plan.readers(&Topic::Metric(metric.as_str().into())) {
            let Some(state) = self.rules.get_mut(rule).filter(|state| state.scoped_by_series(subject)) else {
                continue;
            };
            if new.is_some_and(|labels| !state.has_room_for(subject, labels)) {
                self.tally.too_many_scopes += 1;
                continue;
            }
            moves.push((rule.clone(), state.place(subject)));
        }
        for (rule, moved) in moves {
            self.moved(&rule, moved, dirty, out);
        }
    }

    fn watch_idleness(&mut self, now: Timestamp, id: &DeploymentId) {
        let due = Due::Idle(id.clone());
        if self.timers.deadline_of(&due).is_none() {
            self.timers.set(due, now + SERIES_IDLE);
        }
    }

    /// Forgets what nobody has sent for long; a series that a window still covers is not idle.
    pub(super) fn forget_idle(
        &mut self,
        now: Timestamp,
        id: &DeploymentId,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let Some(subject) = self.subjects.get_mut(id) else { return };
        let span = SERIES_IDLE.max(self.world.plan.kept_longest());
        subject.checks.forget_idle(now - span);
        let before = subject.series.len();
        let (lost, oldest) = subject.series.forget_idle(now - span);
        self.series -= before - subject.series.len();
        if oldest.is_some() || subject.checks.iter().next().is_some() {
            // never at once again: a check that is listed is never idle, and a series may be due this very instant
            let next = oldest.map_or(now + SERIES_IDLE, |oldest| oldest + span).max(now + super::checks::STALE_AFTER);
            self.timers.set(Due::Idle(id.clone()), next);
        }
        for metric in lost {
            self.place_by_series(id, &metric, None, dirty, out);
            let Some(number) = self.subjects.number(id) else { continue };
            self.mark_readers((number, NO_PLACE), &metric, &self.world.plan.metric(&metric), None, dirty);
        }
        self.tell_health(now, id, out);
    }

    /// Tells judge of a deployment's health where it changed, and looks again when a verdict goes stale.
    pub(super) fn tell_health(&mut self, now: Timestamp, id: &DeploymentId, out: &mut VecDeque<ToRespond>) {
        let flap = self.policy.guards.flap;
        let Some(subject) = self.subjects.get_mut(id) else { return };
        let (health, checks) = subject.checks.health(now);
        let sick = subject.checks.sick_replicas(now);
        let flapping = subject.checks.judge_flapping(flap);
        match subject.checks.next_stale(now) {
            Some(at) => self.timers.set(Due::Stale(id.clone()), at),
            None => self.timers.clear(&Due::Stale(id.clone())),
        }
        let mut told =
            DeploymentHealth { deployment: id.clone(), at: now, health, checks, sick_replicas: sick, flapping };
        let news = match &subject.told_health {
            Some(before) => {
                told.at = before.at;
                let news = told != *before;
                told.at = now;
                news
            }
            // that nothing is known is no news at first
            None => told.checks.iter().any(|(_, health)| *health != Health::Unknown),
        };
        if news {
            subject.told_health = Some(told.clone());
            out.push_back(ToRespond::Health(told));
        }
    }

    /// Takes in what an adapter saw. What it saw of a deployment that is no longer listed is dropped.
    pub(super) fn take_observation(
        &mut self,
        now: Timestamp,
        id: &DeploymentId,
        observation: Result<Observation, String>,
        dirty: &mut Dirty,
        out: &mut VecDeque<ToRespond>,
    ) {
        let Some(subject) = self.subjects.get_mut(id).filter(|subject| subject.listed.is_some()) else { return };
        let observation = match observation {
            Ok(observation) => observation,
            Err(why) => {
                subject.observed.error = Some(why);
                return;
            }
        };
        subject.checks.observed(&subject.observed.replicas, &observation.replicas, now);
        let before = std::mem::take(&mut subject.observed.facts);
        subject.observed = super::subject::Observed {
            facts: observation.facts.clone(),
            at: Some(now),
            replicas: observation.replicas,
            error: None,
        };
        let checks: Vec<CheckName> = subject.checks.iter().map(|(name, _)| name.clone()).collect();
        dirty.touched.insert(id.clone());
        for check in checks {
            self.mark(&Topic::Check(check.as_str().into()), id, None, dirty);
        }
        // also what is no longer among them
        for name in before.0.keys().chain(observation.facts.0.keys()) {
            self.mark(&Topic::Fact(name.clone()), id, None, dirty);
        }
        let of_facts = observation.facts.0.iter().filter_map(|(name, value)| {
            let value = value.as_f64().filter(|value| value.is_finite())?;
            Some((MetricName::new(format!("{FACT_PREFIX}{name}")), value, Labels::default()))
        });
        let conversions = &self.policy.intake.metrics;
        let seen = observation.metrics.into_iter().map(|(name, value, labels)| match conversions.get(&name) {
            Some(conversion) => (conversion.name.clone(), value * conversion.times, labels),
            None => (name, value, labels),
        });
        let metrics: Vec<_> = of_facts.chain(seen).collect();
        let Some(number) = self.subjects.number(id) else { return };
        for (metric, value, labels) in metrics {
            if value.is_finite() {
                self.sample(now, (number, id), (&metric, None), &labels, Sample { at: now, value }, dirty, out);
            }
        }
        self.tell_health(now, id, out);
        out.push_back(ToRespond::Facts { deployment: id.clone(), facts: observation.facts });
    }
}

/// What a source that is asked says of its last round: whether it answered.
fn word_of_source(event: &Event) -> Option<(&str, bool)> {
    match &event.kind {
        EventKind::Metric { name, value, labels } if event.origin == Origin::Watched && name.as_str() == SOURCE_UP => {
            Some((labels.get("source")?, *value > 0.0))
        }
        _ => None,
    }
}

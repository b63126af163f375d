//! What respond wants to know: queries, each answered once, and watches, which report until respond ends them.
//!
//! Nothing is compiled or parsed here: conditions and texts come compiled with the query.

use std::collections::VecDeque;

use super::evaluation::evidence;
use super::evidence::{Reader, Seen};
use super::subject::Subject;
use super::{Detect, Due};
use selfheal_messages::{
    Answer, Context, Finding, LevelAnswer, LevelRef, Params, Query, QueryKind, RenderedMaterial, RenderedParams,
    RenderedText, Sighting, StepMaterial, ToRespond, Watch, WatchId, WatchSubject,
};
use selfheal_model::{CheckName, DeploymentId, Health, Labels, Map, RuleName, Severity, Timestamp};
use selfheal_script::{Condition, Evidence, Func, Param, Read, Reading, Template, Truth, Vars};

/// A condition under watch.
pub(super) struct Watching {
    pub watch: Watch,
    /// The truth that was reported last.
    pub said: Option<Truth>,
    pub blind: bool,
}

impl Watching {
    pub fn new(watch: Watch) -> Self {
        Watching { watch, said: None, blind: false }
    }
}

/// What a condition or level came to.
pub(super) struct Found {
    pub truth: Truth,
    pub evidence: Timestamp,
    pub next: Option<Timestamp>,
    /// Something that was read may have gone on unseen.
    pub blind: bool,
}

impl Found {
    /// No data at all.
    pub fn nothing(now: Timestamp) -> Self {
        Found { truth: Truth::NoData, evidence: now, next: None, blind: false }
    }
}

impl Detect {
    /// Answers one query from what is known at `now`.
    pub(super) fn answer(&self, now: Timestamp, query: &Query, out: &mut VecDeque<ToRespond>) {
        let Query { id, context, kind } = query;
        let answer = match kind {
            QueryKind::AlertTexts { summary, annotations } => {
                let text = |template: &Template| self.text(now, context, template);
                Answer::AlertTexts {
                    summary: summary.as_ref().map(text),
                    annotations: annotations.iter().map(|(name, template)| (name.clone(), text(template))).collect(),
                }
            }
            QueryKind::RungTarget { on } => {
                Answer::RungTarget { on: self.with_reader(now, context, |vars, reader| on.render(vars, reader)) }
            }
            QueryKind::BeginRung { symptom, if_, with } => Answer::BeginRung {
                symptom: self.symptom(now, context, symptom),
                if_: if_.as_ref().map(|condition| self.find(now, context, condition).truth),
                with: self.params(now, context, with),
            },
            QueryKind::BeginScheduled { with } => Answer::BeginScheduled { with: self.params(now, context, with) },
            QueryKind::BeginStep { if_, symptom, material } => Answer::BeginStep {
                if_: if_.as_ref().map(|condition| self.find(now, context, condition).truth),
                symptom: symptom.as_ref().map(|level| self.symptom(now, context, level)),
                material: self.rendered(now, context, material),
            },
            QueryKind::RetryStep { symptom } => Answer::RetryStep { symptom: self.symptom(now, context, symptom) },
            QueryKind::CheckHealthy { check } => {
                Answer::CheckHealthy { healthy: self.check_healthy(now, context, check) }
            }
        };
        out.push_back(ToRespond::Answer { id: *id, answer });
    }

    /// Whether the level of the alert's rule is true on data.
    fn symptom(&self, now: Timestamp, context: &Context, level: &LevelRef) -> Finding {
        let posted = context.alert.as_ref().filter(|key| key.is_posted());
        let found = match posted {
            Some(key) => self.find_posted(now, key),
            None => self.find_level(now, context, &level.rule, level.severity, |level| level.when.clone()),
        };
        Finding { truth: found.truth, evidence: found.evidence }
    }

    fn rendered(&self, now: Timestamp, context: &Context, material: &StepMaterial) -> RenderedMaterial {
        match material {
            StepMaterial::Nothing => RenderedMaterial::Nothing,
            StepMaterial::Params(params) => RenderedMaterial::Params(self.params(now, context, params)),
            StepMaterial::Text(template) => RenderedMaterial::Text(self.text(now, context, template)),
            StepMaterial::Assertion { condition, message } => RenderedMaterial::Assertion {
                truth: self.find(now, context, condition).truth,
                message: message.as_ref().map(|template| self.text(now, context, template)),
            },
        }
    }

    fn text(&self, now: Timestamp, context: &Context, template: &Template) -> RenderedText {
        self.with_reader(now, context, |vars, reader| template.render(vars, reader))
    }

    fn params(&self, now: Timestamp, context: &Context, params: &Params) -> RenderedParams {
        self.with_reader(now, context, |vars, reader| rendered(params, vars, reader))
    }

    /// Whether the newest raw verdict of the check is healthy, without smoothing.
    fn check_healthy(&self, now: Timestamp, context: &Context, check: &CheckName) -> Truth {
        let read = Read { func: Func::Status, subject: check.as_str().into(), window: None, other: None, amount: None };
        match self.with_reader(now, context, |_, reader| reader.read(&read)) {
            Ok(Reading::Text(status)) if status == Health::Healthy.as_str() => Truth::True,
            Ok(Reading::Text(_)) => Truth::False,
            Ok(_) => Truth::NoData,
            Err(why) => Truth::Error(why.into()),
        }
    }

    /// Whether something about the deployment can change what is watched.
    pub(super) fn concerns(&self, watching: &Watching, deployment: &DeploymentId) -> bool {
        let context = &watching.watch.context;
        let of_alert = || {
            let key = context.alert.as_ref()?;
            Some(self.rules.get(&key.rule)?.is_member(&key.scope, deployment))
        };
        context.deployment.as_ref() == Some(deployment) || of_alert().unwrap_or(false)
    }

    /// Looks at what is watched; says what it came to where that is new, at first in any case.
    pub(super) fn look(&mut self, now: Timestamp, id: &WatchId, out: &mut VecDeque<ToRespond>) {
        let due = Due::Watch(id.clone());
        let Some(watching) = self.watches.get(id) else { return self.timers.clear(&due) };
        let context = &watching.watch.context;
        let posted = context.alert.as_ref().filter(|key| key.is_posted());
        let found = match &watching.watch.subject {
            WatchSubject::Condition(condition) => self.find(now, context, condition),
            WatchSubject::Clear(LevelRef { rule, severity }) => match posted {
                Some(key) => self.find_posted_over(now, key, context.cut),
                None => self.find_level(now, context, rule, *severity, |level| level.clear.clone()),
            },
        };
        match found.next {
            Some(next) => self.timers.set(due, next),
            None => self.timers.clear(&due),
        }
        // what is not seen proves no cure, and no failure either
        let truth = match found.truth {
            Truth::True | Truth::False if found.blind => Truth::NoData,
            truth => truth,
        };
        if let Some(watching) = self.watches.get_mut(id)
            && (watching.said.as_ref() != Some(&truth) || watching.blind != found.blind)
        {
            watching.said = Some(truth.clone());
            watching.blind = found.blind;
            let seen = Sighting { truth, blind: found.blind };
            let generation = watching.watch.generation;
            out.push_back(ToRespond::Watched { id: id.clone(), generation, at: now, seen });
        }
    }

    fn find(&self, now: Timestamp, context: &Context, condition: &Condition) -> Found {
        self.with_reader(now, context, |vars, reader| {
            let truth = condition.truth(vars, reader);
            let seen = &reader.seen;
            Found { truth, evidence: evidence(seen, None, now), next: seen.next(), blind: seen.is_blind() }
        })
    }

    /// One level of a rule for the context's alert. A level that a save took away is judged by the one below it.
    fn find_level(
        &self,
        now: Timestamp,
        context: &Context,
        rule: &RuleName,
        severity: Severity,
        part: impl Fn(&LevelAnswer) -> Truth,
    ) -> Found {
        let nothing = |truth| Found { truth, evidence: now, next: None, blind: false };
        let Some(state) = self.rules.get(rule) else {
            return nothing(Truth::Error(format!("the rule {rule} is gone").into()));
        };
        let Some(name) = context.alert.as_ref().map(|key| &key.scope) else { return nothing(Truth::NoData) };
        let Some(scope) = state.scope(name, &self.subjects) else { return nothing(Truth::NoData) };
        // what time made true counts as of then, unless only what came after a cut counts
        let said = scope.kept.and_then(|kept| kept.said.as_ref());
        let by_time = said.and_then(|said| said.made_by_time).filter(|_| context.cut.is_none());
        let index = state.rule.levels.iter().rposition(|level| level.severity <= severity).unwrap_or(0);
        let asked = self.ask_rule(now, state, name, scope, context.cut);
        let truth = asked.levels.get(index).map_or(Truth::NoData, part);
        let seen = &asked.seen;
        Found { truth, evidence: evidence(seen, by_time, now), next: seen.next(), blind: seen.is_blind() }
    }

    /// Hands the names and the evidence of a context to `then`.
    pub(super) fn with_reader<T>(
        &self,
        now: Timestamp,
        context: &Context,
        then: impl FnOnce(&Vars, &Reader<'_>) -> T,
    ) -> T {
        let one = context.deployment.as_ref();
        let own = context.alert.as_ref().filter(|key| !key.is_posted());
        let state = own.and_then(|key| self.rules.get(&key.rule));
        let of_alert = || {
            let key = context.alert.as_ref()?;
            Some(state?.scope(&key.scope, &self.subjects)?.members)
        };
        let members: Vec<&Subject> = match one {
            Some(id) => self.subjects.get(id).into_iter().collect(),
            None => of_alert().unwrap_or_default(),
        };
        let scope = match (&context.alert, one) {
            // all labels of one from elsewhere are its name, and narrow nothing here
            (Some(key), _) if !key.is_posted() => key.scope.clone(),
            (_, Some(id)) => [("deployment", id.as_str())].into_iter().collect(),
            (_, None) => Labels::default(),
        };
        let labels = match members.as_slice() {
            [one] if context.labels.is_empty() => one.labels.clone(),
            _ => context.labels.clone(),
        };
        let vars = Vars {
            now,
            deployment: one.map(|id| id.as_str().into()).or_else(|| scope.get("deployment").map(Into::into)),
            labels: labels.clone(),
            value: context.value,
            severity: context.severity,
            settings: self.policy.settings_for(one),
            inputs: context.inputs.clone(),
            steps: context.steps.clone(),
            failed: context.failed.clone(),
        };
        let reader = Reader {
            now,
            cut: context.cut,
            world: &self.world,
            members,
            scope: &scope,
            labels: &labels,
            viewer: None,
            rule_since: state.map_or(Timestamp::MIN, |state| state.since),
            seen: Seen::nothing(),
        };
        then(&vars, &reader)
    }
}

fn rendered(params: &[(String, Param)], vars: &Vars, reader: &Reader<'_>) -> Result<Map, String> {
    let one = |(name, param): &(String, Param)| {
        let value = param.render(vars, reader).map_err(|why| format!("`{name}`: {why}"))?;
        Ok((name.clone(), value))
    };
    params.iter().map(one).collect()
}

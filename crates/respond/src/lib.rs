//! What follows from what is true: alerts and their episodes, who is told, what is repaired.
//!
//! Five parts in one direction: [`alerts`] turns answers into alert changes; [`held`] knows what holds alerts back;
//! [`remedy`] turns alert changes into runs and news; [`dependents`] knows which alerts a root that is out explains;
//! [`dispatch`] turns alert changes and news into messages. Each reads the ones before it, none writes another.

pub mod alerts;
pub mod dependents;
pub mod dispatch;
pub mod guard;
pub mod held;
pub mod ladder;
pub mod lifecycle;
pub mod queries;
pub mod remedy;
pub mod run;
pub mod saved;
pub mod turn;

use std::collections::VecDeque;
use std::sync::Arc;

use alerts::Alerts;
use dependents::Dependents;
use dispatch::{Dispatch, Judged};
use held::Held;
use queries::{Purpose, Queries, Reply};
use remedy::Remedy;
use selfheal_contract::effect::Effect;
use selfheal_contract::explanation::Explanation;
use selfheal_contract::view::HeldView;
use selfheal_contract::{DeliveryResult, Diagnostic, Gap, Operator, OperatorCommand, StepEnd, Storage, Upgraded};
use selfheal_messages::{Answer, ToDetect, ToRespond, UNWATCHED_COUNTS, Unwatched};
use selfheal_model::{AlertKey, DeliveryId, DeploymentId, Facts, StepAttemptId, Timestamp};
use selfheal_policy::Policy;
use turn::{Turn, Word};

/// The judging half.
pub struct Judge {
    policy: Arc<Policy>,
    alerts: Alerts,
    held: Held,
    remedy: Remedy,
    dependents: Dependents,
    dispatch: Dispatch,
    queries: Queries,
}

impl Judge {
    pub fn new(start: Timestamp, policy: Arc<Policy>) -> Self {
        Judge {
            policy,
            alerts: Alerts::new(start),
            held: Held::new(start),
            remedy: Remedy::new(start),
            dependents: Dependents::new(start),
            dispatch: Dispatch::new(start),
            queries: Queries::default(),
        }
    }

    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    pub fn held(&self) -> &Held {
        &self.held
    }

    pub fn remedy(&self) -> &Remedy {
        &self.remedy
    }

    pub fn dependents(&self) -> &Dependents {
        &self.dependents
    }

    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// What follows, and has followed, from what a rule says of one scope.
    pub fn explain(&self, key: &AlertKey, explained: &mut Explanation) {
        self.alerts.explain(key, explained);
        self.held.explain(&self.alerts, key, explained);
        self.dependents.explain(&self.policy, key, explained);
        self.remedy.explain(&self.policy, &self.alerts, key, explained);
    }

    pub fn next_deadline(&self) -> Option<Timestamp> {
        [
            self.alerts.next_deadline(),
            self.held.next_deadline(),
            self.remedy.next_deadline(),
            self.dependents.next_deadline(),
            self.dispatch.next_deadline(),
            self.queries.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Fires the part whose timer is first; at the same instant in the order in which they read each other.
    pub fn fire(&mut self, at: Timestamp, out: &mut VecDeque<ToDetect>, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(at, self.policy.clone(), effects);
        if self.alerts.next_deadline().is_some_and(|due| due <= at) {
            self.alerts.fire(&mut turn);
        } else if self.held.next_deadline().is_some_and(|due| due <= at) {
            self.held.fire(&mut turn);
        } else if self.remedy.next_deadline().is_some_and(|due| due <= at) {
            self.remedy.fire(&mut turn, &self.alerts);
        } else if self.dependents.next_deadline().is_some_and(|due| due <= at) {
            self.dependents.fire(&mut turn);
        } else if self.dispatch.next_deadline().is_some_and(|due| due <= at) {
            let (dispatch, known) = self.dispatching();
            dispatch.fire(&mut turn, known);
        } else if let Some((purpose, reply)) = self.queries.overdue(at) {
            self.replied(&mut turn, purpose, reply);
        }
        self.settle(turn, out);
    }

    pub fn message(
        &mut self,
        now: Timestamp,
        message: ToRespond,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        match message {
            ToRespond::Rule(answer) => self.alerts.answer(&mut turn, answer),
            ToRespond::Posted(posted) => self.alerts.posted(&mut turn, *posted),
            ToRespond::ScopeGone { key } => self.alerts.scope_gone(&mut turn, &key),
            ToRespond::Answer { id, answer } => {
                if let Some((purpose, reply)) = self.queries.answered(id, answer, &self.policy.version) {
                    self.replied(&mut turn, purpose, reply);
                }
            }
            ToRespond::Watched { id, generation, at, seen } => {
                if self.queries.accepts(&id, generation) {
                    self.remedy.watched(&mut turn, &self.alerts, id, at, seen);
                }
            }
            ToRespond::Unwatched(span) => self.unwatched(span),
            ToRespond::Health(health) => self.remedy.health(&mut turn, &self.alerts, health),
            ToRespond::Slow { rule, why } => self.alerts.slow(&mut turn, &rule, why),
            ToRespond::Facts { deployment, facts } => self.remedy.facts(&mut turn, &self.alerts, &deployment, facts),
        }
        self.settle(turn, out);
    }

    /// Hands what became of a query to the component that asked it.
    fn replied(&mut self, turn: &mut Turn<'_>, purpose: Purpose, reply: Reply) {
        match (purpose, reply) {
            (Purpose::AlertTexts(key), Reply::Answered(Answer::AlertTexts { summary, annotations })) => {
                self.alerts.texts(turn, &key, Some(alerts::Rendered { summary, annotations }));
            }
            (Purpose::AlertTexts(key), _) => self.alerts.texts(turn, &key, None),
            (purpose, reply) => self.remedy.replied(turn, &self.alerts, purpose, reply),
        }
    }

    /// A save did not compile.
    pub fn policy_invalid(
        &mut self,
        now: Timestamp,
        diagnostics: Vec<Diagnostic>,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.policy_invalid(&mut turn, diagnostics.clone());
        self.alerts.policy_invalid(&mut turn, diagnostics);
        self.settle(turn, out);
    }

    /// One delivery attempt has ended.
    pub fn delivery_ended(
        &mut self,
        now: Timestamp,
        id: &DeliveryId,
        attempt: u32,
        result: DeliveryResult,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.dispatch.ended(&mut turn, id, attempt, result);
        self.settle(turn, out);
    }

    /// One attempt of a step has ended.
    pub fn step_ended(
        &mut self,
        now: Timestamp,
        end: StepEnd,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.step_ended(&mut turn, &self.alerts, end);
        self.settle(turn, out);
    }

    /// A probe that a step asked for has run.
    pub fn probed(
        &mut self,
        now: Timestamp,
        attempt: &StepAttemptId,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.probed(&mut turn, &self.alerts, attempt);
        self.settle(turn, out);
    }

    /// A command of a person or program.
    pub fn operator(
        &mut self,
        now: Timestamp,
        operator: Operator,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        if Held::answers(&operator.command) {
            self.held.operator(&mut turn, &self.alerts, operator);
        } else {
            let resumes = matches!(operator.command, OperatorCommand::Resume { .. });
            self.remedy.operator(&mut turn, &self.alerts, operator);
            if resumes {
                // whoever lets automation go on has seen why it was paused
                self.alerts.divergence_seen(&mut turn);
            }
        }
        self.settle(turn, out);
    }

    /// Recovery came to other decisions than the journal has.
    pub fn diverged(&mut self, now: Timestamp, why: &str, out: &mut VecDeque<ToDetect>, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.diverged(&mut turn, why);
        self.alerts.diverged(&mut turn, why);
        self.settle(turn, out);
    }

    /// Recovery folded what an engine of another version had decided.
    pub fn upgraded(
        &mut self,
        now: Timestamp,
        upgraded: &Upgraded,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.dispatch.upgraded(&mut turn);
        self.remedy.upgraded(&mut turn, upgraded);
        self.settle(turn, out);
    }

    /// selfheal is shutting down: no new acting step begins.
    pub fn draining(&mut self, now: Timestamp, out: &mut VecDeque<ToDetect>, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.draining(&mut turn);
        self.settle(turn, out);
    }

    pub fn observed(
        &mut self,
        now: Timestamp,
        deployment: &DeploymentId,
        facts: Option<&Facts>,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.observed(&mut turn, &self.alerts, deployment, facts);
        self.settle(turn, out);
    }

    pub fn replace_policy(
        &mut self,
        now: Timestamp,
        policy: Arc<Policy>,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        self.policy = policy;
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.alerts.replace_policy(&mut turn);
        self.held.replace_policy(&mut turn, &self.alerts);
        self.remedy.replace_policy(&mut turn, &self.alerts);
        self.dependents.replace_policy(&mut turn, &self.alerts, &self.remedy);
        let (dispatch, known) = self.dispatching();
        dispatch.replace_policy(&mut turn, known);
        self.settle(turn, out);
    }

    /// Whether what happens can be written down; what was sent meanwhile was refused.
    pub fn storage(
        &mut self,
        now: Timestamp,
        storage: &Storage,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.remedy.storage(&mut turn, &self.alerts, storage);
        self.dispatch.storage(storage);
        self.alerts.storage(&mut turn, storage);
        self.settle(turn, out);
    }

    /// Events were refused in that span: where it was long enough, ladders wait for evidence from after it.
    fn unwatched(&mut self, span: Unwatched) {
        if span.to.since(span.from) > UNWATCHED_COUNTS {
            self.remedy.unwatched(span.to);
        }
    }

    /// The wall clock is so far ahead of the engine's time now.
    pub fn clock_moved(
        &mut self,
        now: Timestamp,
        offset_ms: i64,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now, self.policy.clone(), effects);
        self.held.clock_moved(&mut turn, offset_ms);
        self.remedy.clock_moved(offset_ms);
        self.dispatch.clock_moved(&turn);
        self.settle(turn, out);
    }

    pub fn resumed(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        because: Gap,
        out: &mut VecDeque<ToDetect>,
        effects: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(to, self.policy.clone(), effects);
        self.alerts.resumed(&mut turn, from, to);
        self.remedy.resumed(&mut turn, &self.alerts, from, to, because);
        self.dependents.resumed(&mut turn, from, to);
        self.dispatch.resumed(&mut turn, from, to, because);
        if because == Gap::Stopped {
            // whoever recovered has written that down
            self.alerts.storage(&mut turn, &Storage::Working);
        }
        self.settle(turn, out);
    }

    /// The last part, and what it may read of the others.
    fn dispatching(&mut self) -> (&mut Dispatch, Judged<'_>) {
        let Judge { alerts, held, remedy, dependents, dispatch, .. } = self;
        (dispatch, Judged { alerts, held, remedy, dependents })
    }

    /// A firing alert as people see it held back; `None`: it is not.
    fn held_view(&self, key: &AlertKey) -> Option<HeldView> {
        let dependency = self.dependents.view_of(&self.policy, key);
        match (self.held.view_of(key), dependency) {
            (held, None) => held,
            (held, dependency) => Some(HeldView { dependency, ..held.unwrap_or_default() }),
        }
    }

    /// Carries words from part to part, in order, until there are none; then sends detect what the parts want of it.
    fn settle(&mut self, mut turn: Turn<'_>, out: &mut VecDeque<ToDetect>) {
        while let Some(word) = turn.words.pop_front() {
            match word {
                Word::Alert(change) => {
                    self.held.alert_changed(&mut turn, &self.alerts, &change);
                    self.remedy.alert_changed(&mut turn, &self.alerts, &change);
                    self.dependents.alert_changed(&mut turn, &self.alerts, &self.remedy, &change);
                    // upkeep is nobody's news
                    if !turn.policy.rule_of(&change.key).is_some_and(|rule| rule.routine) {
                        let (dispatch, known) = self.dispatching();
                        dispatch.alert_changed(&mut turn, known, &change);
                    }
                }
                Word::Said(said) => self.alerts.said_by_runs(&mut turn, said),
                Word::News(news) => {
                    let (dispatch, known) = self.dispatching();
                    dispatch.news(&mut turn, known, news);
                }
                Word::RemediationMoved(key) => {
                    let facts = self.remedy.remediation_of(&key);
                    self.alerts.show_remediation(&mut turn, &key, facts);
                    let (dispatch, known) = self.dispatching();
                    dispatch.remediation_moved(&mut turn, known, &key);
                }
                Word::HeldChanged(key) => {
                    let view = self.held_view(&key);
                    self.alerts.show_held(&mut turn, &key, view);
                    let held = self.held.held_by(&self.alerts, &key, turn.now);
                    self.remedy.held_changed(&mut turn, &self.alerts, &key, held);
                    let (dispatch, known) = self.dispatching();
                    dispatch.held_changed(&mut turn, known, &key);
                }
                Word::OutageMoved(root) => self.dependents.outage_moved(&mut turn, &self.remedy, &root),
                Word::SilenceForRepair { key, span, by } => {
                    // what came of it is audited
                    let _ = self.held.silence_for_repair(&mut turn, &key, span, by);
                }
            }
        }
        let Turn { now, policy, requests, .. } = turn;
        out.extend(requests.into_iter().filter_map(|request| self.queries.send(now, &policy.version, request)));
    }
}

//! Calls of verbs: released once each, tried again only where a failure is known and may pass, and settled where
//! nobody knows.

use super::guards::{limits_of, resolve};
use super::memory::push_bounded;
use super::state::{Call, Doing, Lost, Refresh, Run};
use super::steps::StepOver;
use super::{ASK_AGAIN, Remedy, STEP_MARGIN, Timer, reconciler};
use crate::alerts::Alerts;
use crate::guard::Refusal;
use crate::run::{At, Interrupt, StepResult};
use crate::turn::Turn;
use selfheal_contract::effect::{Attempt, Effect, StepCall};
use selfheal_contract::input::StepEnd;
use selfheal_contract::view::StepView;
use selfheal_messages::RenderedMaterial;
use selfheal_model::{
    DeploymentId, Effectfulness, Event, Facts, FailureClass, Map, Outcome, RunId, StepAttemptId, StepId, Value, Verb,
};
use selfheal_policy::playbook::{Section, Step};
use selfheal_script::Truth;

/// The verb that fetches new credentials.
const REFRESH_AUTH: &str = "refresh_auth";

/// What detect rendered for a step.
#[derive(Default)]
pub(super) struct Rendered {
    pub truth: Option<Truth>,
    pub text: Option<Result<String, String>>,
    pub params: Map,
}

impl Rendered {
    /// # Errors
    /// Parameters that cannot be rendered: nothing is sent.
    pub fn read(material: RenderedMaterial) -> Result<Self, String> {
        let nothing = Rendered::default();
        Ok(match material {
            RenderedMaterial::Nothing => nothing,
            RenderedMaterial::Params(params) => Rendered { params: params?, ..nothing },
            RenderedMaterial::Text(text) => Rendered { text: Some(text), ..nothing },
            RenderedMaterial::Assertion { truth, message } => Rendered { truth: Some(truth), text: message, ..nothing },
        })
    }
}

impl Call {
    /// The verb that is called now: the step's own, or the one that fetches new credentials for it.
    pub(super) fn own_or_refresh(&self) -> Verb {
        if self.refresh == Refresh::UnderWay { Verb::new(REFRESH_AUTH) } else { self.verb.clone() }
    }
}

impl Remedy {
    #[expect(clippy::too_many_arguments, reason = "the parts of one step")]
    pub(super) fn begin_call(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        name: &StepId,
        step: &Step,
        verb: Verb,
        deployment: Option<DeploymentId>,
        params: Map,
    ) {
        let Some(run) = self.runs.get(id) else { return };
        let target = deployment.unwrap_or_else(|| run.deployment.clone());
        let resolved = match resolve(&turn.policy, &target, &verb) {
            Ok(resolved) => resolved,
            Err(refusal) => {
                let over = StepOver::failed(step.best_effort, FailureClass::Unsupported, refusal.to_string());
                return self.step_over(turn, alerts, id, over);
            }
        };
        let acting = resolved.is_acting();
        if acting && !self.holds_lease(id, &target) && !self.takes_lease_again(turn, id, &target) {
            return;
        }
        if acting && !self.holds_lease(id, &target) {
            let why = format!("this run does not hold the lease of {target}");
            let over = StepOver::failed(step.best_effort, FailureClass::Conflict, why);
            return self.step_over(turn, alerts, id, over);
        }
        if acting {
            self.count_before_acting(turn, id, &target, resolved.spec.effect == Effectfulness::Disrupt);
        }
        let call = Call {
            id: StepAttemptId::of(id, name.as_str(), 1),
            target,
            verb,
            params,
            acting,
            timeout: step.timeout,
            settle: resolved.spec.settle.unwrap_or(step.timeout),
            best_effort: step.best_effort,
            tries: 0,
            attempts: 0,
            refresh: Refresh::Unneeded,
            lost: Lost::No,
            at_large: false,
            looked: false,
            last_failure: String::new(),
            last_class: None,
        };
        self.call_again(turn, alerts, id, call);
    }

    fn holds_lease(&self, id: &RunId, target: &DeploymentId) -> bool {
        let root = self.root_of(id);
        self.runs.get(&root).is_some_and(|run| run.leases.contains_key(target)) && self.places.holds(target, &root)
    }

    /// A run that gave its leases back to wait for a person cleans up under one taken for it; while another run has it, that
    /// waits. Says whether there is anything to go on with.
    fn takes_lease_again(&mut self, turn: &mut Turn<'_>, id: &RunId, target: &DeploymentId) -> bool {
        let root = self.root_of(id);
        if self.needs_symptom(id) || !self.runs.get(&root).is_some_and(|run| run.gave_leases_back) {
            return true;
        }
        if let Some(holder) = self.places.get(target).and_then(|place| place.lease.clone()) {
            // the record of the step that was begun goes again with its next try
            if let Some(run) = self.runs.get_mut(id) {
                run.steps.pop_if(|record| record.ended_at.is_none());
            }
            self.hold(turn, id, Refusal::Lease { deployment: target.clone(), holder });
            self.timers.set(Timer::Again(id.clone()), turn.now + ASK_AGAIN);
            return false;
        }
        self.take_leases(&root, std::iter::once(target));
        true
    }

    /// A run counts once in each budget, before its first call there is released.
    fn count_before_acting(&mut self, turn: &Turn<'_>, id: &RunId, target: &DeploymentId, disrupts: bool) {
        for id in self.lineage(id) {
            if let Some(run) = self.runs.get_mut(&id) {
                run.course.acting_step_begins();
            }
        }
        let root = self.root_of(id);
        let Some(run) = self.runs.get_mut(&root) else { return };
        if run.acted_on.is_empty() {
            self.memory.count(&run.playbook.name, turn.now);
            if let Some(breaker) = self.memory.breakers.get_mut(&run.playbook.name) {
                breaker.begins();
            }
        }
        if run.acted_on.insert(target.clone()) {
            self.places.count(target, turn.now);
        }
        if disrupts && run.disrupted.insert(target.clone()) {
            push_bounded(&mut self.places.at(target).disrupted, turn.now);
        }
    }

    /// Releases one try of the step's own verb.
    pub(super) fn call_again(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, mut call: Call) {
        let Some((_, name, _)) = self.step_at(id) else { return };
        if call.lost == Lost::Stopped {
            return self.call_same_again(turn, alerts, id, call);
        }
        call.tries += 1;
        call.attempts += 1;
        call.id = StepAttemptId::of(id, name.as_str(), call.attempts);
        if let Some(record) = self.runs.get_mut(id).and_then(Run::open_step) {
            record.attempts = call.attempts;
            record.outcome = "running".into();
        }
        let (verb, params) = (call.verb.clone(), call.params.clone());
        self.release(turn, alerts, id, call, verb, params);
    }

    /// Hands a call to the adapters.
    fn release(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, call: Call, verb: Verb, params: Map) {
        let resolved = match resolve(&turn.policy, &call.target, &verb) {
            Ok(resolved) => resolved,
            Err(refusal) => {
                let over = StepOver::failed(call.best_effort, FailureClass::Unsupported, refusal.to_string());
                return self.step_over(turn, alerts, id, over);
            }
        };
        let of = self.step_at(id).map_or(1, |(_, _, step)| step.retry.attempts);
        let root = self.root_of(id);
        let lease = self.runs.get(&root).and_then(|run| run.leases.get(&call.target).copied());
        let Some(run) = self.runs.get_mut(id) else { return };
        let place = self.places.at(&call.target);
        let step_call = StepCall {
            id: call.id.clone(),
            attempt: Attempt { number: call.attempts, of: of.max(call.attempts) },
            deployment: resolved.deployment,
            adapter: resolved.adapter,
            verb,
            params,
            facts: place.facts.clone(),
            sick_replicas: place.health.as_ref().map(|health| health.sick_replicas.clone()).unwrap_or_default(),
            fence: lease.unwrap_or(place.fence),
            timeout: call.timeout,
            not_after: turn.now + limits_of(&turn.policy, &call.target).max_event_age,
        };
        self.timers.set(Timer::Step(id.clone()), turn.now + call.timeout + STEP_MARGIN);
        run.doing = Doing::Calling(call);
        turn.effects.push(Effect::StartStep(Box::new(step_call)));
        self.show(turn, id);
    }

    /// Asks the edge to cancel the call under way; its end is still awaited.
    pub(super) fn cancel_call(&mut self, turn: &mut Turn<'_>, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        if matches!(run.course.at(), At::Step(Section::Finally, _)) {
            return;
        }
        for run in std::iter::once(id).chain(&self.parts_of(id)).filter_map(|id| self.runs.get(id)) {
            if let Doing::Calling(call) = &run.doing {
                turn.effects.push(Effect::CancelStep { id: call.id.clone(), deployment: call.target.clone() });
            }
        }
    }

    /// The end of an attempt. One that nobody waits for any more changes nothing.
    pub(super) fn call_ended(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, end: StepEnd) {
        let waits = |run: &Run| matches!(&run.doing, Doing::Calling(call) | Doing::Settling(call) if call.id == end.id);
        let Some(id) = self.runs.values().find(|run| waits(run)).map(|run| run.id.clone()) else { return };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let settling = matches!(run.doing, Doing::Settling(_));
        if settling && matches!(end.outcome, Outcome::Unknown { .. }) {
            if let Doing::Settling(call) = &mut run.doing {
                // from here on a look at the deployment says something
                (call.at_large, call.looked) = (false, false);
                let target = call.target.clone();
                Remedy::look_at(turn, &target);
            }
            return;
        }
        let (Doing::Calling(mut call) | Doing::Settling(mut call)) = std::mem::replace(&mut run.doing, Doing::Sleeping)
        else {
            return;
        };
        self.timers.clear(&Timer::Step(id.clone()));
        if call.acting {
            self.note_act_ended(&id, turn.now);
        }
        if call.refresh == Refresh::UnderWay {
            return self.refresh_ended(turn, alerts, &id, call, end);
        }
        if let Some(record) = self.runs.get_mut(&id).and_then(Run::open_step) {
            record.seconds = Some(end.took.as_secs_f64());
            record.log = Some(end.log).filter(|log| !log.is_empty()).or(record.log.take());
        }
        match end.outcome {
            Outcome::Done { output, facts, events } => {
                self.call_done(turn, alerts, &id, &call, output, facts, events);
            }
            Outcome::Failed { class, why } => {
                call.last_failure.clone_from(&why);
                call.last_class = Some(class);
                if let Some(record) = self.runs.get_mut(&id).and_then(Run::open_step) {
                    record.class = Some(class.as_str().into());
                    record.message = Some(why.clone());
                }
                // once it was unknown whether it happened, it is not tried again
                if settling {
                    return self.call_failed(turn, alerts, &id, &call, class, why);
                }
                self.after_failure(turn, alerts, &id, call, class, why);
            }
            Outcome::Unknown { why } => self.call_unknown(turn, alerts, &id, call, why),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one outcome")]
    fn call_done(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        call: &Call,
        output: Value,
        facts: Facts,
        events: Vec<Event>,
    ) {
        if call.acting {
            Remedy::look_at(turn, &call.target);
        }
        self.places.at(&call.target).facts.0.extend(facts.0);
        for event in events {
            self.pass_on(turn, id, event);
        }
        if let Some(note) = reconciler::note(&call.verb, &call.params, &output, &call.target) {
            self.note(id, note);
        }
        if let Some(record) = self.runs.get_mut(id).and_then(Run::open_step) {
            record.output = Some(output).filter(|output| !output.is_null());
            (record.class, record.message) = (None, None);
        }
        self.step_over(turn, alerts, id, StepOver::done());
    }

    /// A known failure: refused credentials are renewed once, what may pass is tried again, all else is the end.
    fn after_failure(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        mut call: Call,
        class: FailureClass,
        why: String,
    ) {
        let Some((_, _, step)) = self.step_at(id) else { return };
        if class == FailureClass::Unauthorized && call.refresh == Refresh::Unneeded {
            self.emit_about(turn, id, "unauthorized", Some(class), &why);
        }
        let pause = step.retry.pause_after(call.tries, call.id.as_str());
        let again = match class {
            FailureClass::Unauthorized => self.can_refresh(turn, id, &call),
            FailureClass::Transient => pause.is_some(),
            FailureClass::Permanent | FailureClass::Unsupported | FailureClass::Conflict => false,
        };
        // as it does while it waits for its next try
        if again && self.runs.get(id).is_some_and(|run| run.course.is_leaving()) {
            return self.not_tried_again(turn, alerts, id, &call);
        }
        match (again, pause) {
            (true, _) if class == FailureClass::Unauthorized => {
                call.refresh = Refresh::UnderWay;
                call.id = StepAttemptId::of(id, &format!("{}-refresh-auth", step.id), 1);
                self.release(turn, alerts, id, call, Verb::new(REFRESH_AUTH), Map::new());
            }
            (true, Some(pause)) => {
                self.timers.set(Timer::Step(id.clone()), turn.now + pause);
                if let Some(run) = self.runs.get_mut(id) {
                    run.doing = Doing::Pausing(call);
                }
                self.show(turn, id);
            }
            _ => self.call_failed(turn, alerts, id, &call, class, why),
        }
    }

    fn call_failed(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        call: &Call,
        class: FailureClass,
        why: String,
    ) {
        if call.acting {
            Remedy::look_at(turn, &call.target);
        }
        self.step_over(turn, alerts, id, StepOver::failed(call.best_effort, class, why));
    }

    /// A step that has failed and is not tried again has failed, whatever keeps it from that: what was done before it is
    /// undone, and the run cured nothing. Of a call that was lost nobody knows that it failed.
    pub(super) fn not_tried_again(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, call: &Call) {
        let why = format!("not tried again: {}", call.last_failure);
        match call.last_class.filter(|_| call.lost == Lost::No) {
            Some(class) => self.call_failed(turn, alerts, id, call, class, why),
            None => {
                if call.acting {
                    Remedy::look_at(turn, &call.target);
                }
                self.step_over(turn, alerts, id, StepOver { outcome: "failed", ..StepOver::skipped(&why) });
            }
        }
    }

    /// Whether new credentials can be fetched for this call: once, with the lease, where the deployment has any.
    fn can_refresh(&self, turn: &Turn<'_>, id: &RunId, call: &Call) -> bool {
        let verb = Verb::new(REFRESH_AUTH);
        call.refresh == Refresh::Unneeded
            && call.verb != verb
            && self.may_act().is_ok()
            && self.holds_lease(id, &call.target)
            && resolve(&turn.policy, &call.target, &verb).is_ok_and(|resolved| resolved.deployment.auth.is_some())
    }

    fn refresh_ended(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, mut call: Call, end: StepEnd) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let (class, message) = match &end.outcome {
            Outcome::Done { .. } => (None, None),
            Outcome::Failed { class, why } => (Some(class.as_str().into()), Some(why.clone())),
            Outcome::Unknown { why } => (None, Some(why.clone())),
        };
        let record = StepView {
            id: format!("{}-refresh-auth", run.steps.last().map_or("step", |step| step.id.as_str())),
            action: REFRESH_AUTH.to_owned(),
            section: run.steps.last().map_or_else(|| "steps".into(), |step| step.section.clone()),
            outcome: end.outcome.word().into(),
            class,
            message: message.clone(),
            output: None,
            log: Some(end.log).filter(|log| !log.is_empty()),
            attempts: 1,
            started_at: turn.now - end.took,
            ended_at: Some(turn.now),
            seconds: Some(end.took.as_secs_f64()),
        };
        // before the step it was needed for, whose record stays the open one
        let place = run.steps.len().saturating_sub(1);
        run.steps.insert(place, record);
        call.refresh = Refresh::Done;
        match end.outcome {
            Outcome::Done { .. } => {
                // the refresh took its time: the symptom is asked about again, as before every try
                run.doing = Doing::Pausing(call);
                self.ask_retry(turn, alerts, id);
            }
            Outcome::Failed { .. } => {
                let why = format!("{}; and refresh_auth failed: {}", call.last_failure, message.unwrap_or_default());
                self.call_failed(turn, alerts, id, &call, FailureClass::Unauthorized, why);
            }
            Outcome::Unknown { why } => self.call_unknown(turn, alerts, id, call, format!("refresh_auth: {why}")),
        }
    }

    /// Nobody knows whether it happened. What only looks has changed nothing and has simply failed; for what acts the
    /// lease stays, and the deployment is looked at.
    fn call_unknown(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, mut call: Call, why: String) {
        if !call.acting {
            let over = StepOver::failed(call.best_effort, FailureClass::Permanent, why);
            return self.step_over(turn, alerts, id, over);
        }
        let Some(run) = self.runs.get_mut(id) else { return };
        if let Some(record) = run.open_step() {
            record.outcome = "unknown".into();
            record.message = Some(why);
        }
        self.timers.set(Timer::Step(id.clone()), turn.now + call.settle);
        Remedy::look_at(turn, &call.target);
        call.looked = false;
        run.doing = Doing::Settling(call);
        self.show(turn, id);
    }

    /// selfheal stopped while the call was under way: it may have happened or not. What only looks is done again.
    pub(super) fn call_lost(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let Doing::Calling(mut call) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        call.lost = Lost::Stopped;
        if call.acting {
            self.note_act_ended(id, turn.now);
            return self.call_unknown(turn, alerts, id, call, "selfheal stopped while it was under way".to_owned());
        }
        run.doing = Doing::Pausing(call);
        self.ask_retry(turn, alerts, id);
    }

    /// Whether a call whose end nobody reports may be made again: its adapter declares that the same key twice is the
    /// same as once.
    pub(super) fn may_repeat(&self, turn: &Turn<'_>, id: &RunId) -> bool {
        let Some(Doing::Settling(call)) = self.runs.get(id).map(|run| &run.doing) else { return false };
        let verb = call.own_or_refresh();
        call.lost == Lost::Stopped
            && resolve(&turn.policy, &call.target, &verb).is_ok_and(|resolved| resolved.spec.idempotent)
    }

    /// Makes a lost call again, if the symptom is still there.
    pub(super) fn repeat_lost(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let Doing::Settling(call) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        run.why.push(format!(
            "{} was made again under the same key: selfheal had stopped while it was under way",
            call.id
        ));
        self.timers.clear(&Timer::Step(id.clone()));
        if let Some(run) = self.runs.get_mut(id) {
            run.doing = Doing::Pausing(call);
        }
        self.ask_retry(turn, alerts, id);
    }

    /// The very same attempt: its id, and so its key, stays.
    fn call_same_again(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, mut call: Call) {
        call.lost = Lost::No;
        if let Some(record) = self.runs.get_mut(id).and_then(Run::open_step) {
            record.outcome = "running".into();
            record.message = None;
        }
        let verb = call.own_or_refresh();
        let params = if call.refresh == Refresh::UnderWay { Map::new() } else { call.params.clone() };
        self.release(turn, alerts, id, call, verb, params);
    }

    /// No end has come from the edge although it should have by now.
    pub(super) fn call_overdue(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let Doing::Calling(mut call) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        call.at_large = true;
        turn.effects.push(Effect::CancelStep { id: call.id.clone(), deployment: call.target.clone() });
        if call.acting {
            self.note_act_ended(id, turn.now);
        }
        self.call_unknown(turn, alerts, id, call, "no word came of its end".to_owned());
    }

    /// It could not be told in time whether it happened: the run goes on to its cleaning up and ends inconclusive.
    pub(super) fn not_settled(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, why: &str) {
        let Some((_, name, _)) = self.step_at(id) else { return };
        let Some(run) = self.runs.get_mut(id) else { return };
        if !matches!(run.doing, Doing::Settling(_)) {
            return;
        }
        run.doing = Doing::Sleeping;
        self.note_act_ended(id, turn.now);
        let Some(run) = self.runs.get_mut(id) else { return };
        let what = run.open_step().and_then(|record| record.message.clone()).unwrap_or_default();
        let message = format!("{what}; {why}");
        run.why.push(format!("nobody knows whether step {name} happened: {message}"));
        let over = StepOver { result: StepResult::Unsettled, outcome: "unknown", class: None, message: Some(message) };
        self.step_over(turn, alerts, id, over);
    }

    /// The run's time is over even for cleaning up. A call under way keeps its lease until it has ended or settled.
    pub(super) fn break_off(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get_mut(id).filter(|run| run.is_under_way()) else { return };
        let at_it = |run: &Run| matches!(run.doing, Doing::Calling(_) | Doing::Settling(_));
        let is_at_it = at_it(run);
        let parts = self.parts_of(id);
        if is_at_it || parts.iter().filter_map(|part| self.runs.get(part)).any(at_it) {
            if let Some(run) = self.runs.get_mut(id) {
                run.course.interrupted(Interrupt::Deadline, true);
            }
            self.timers.set(Timer::BreakOff(id.clone()), turn.now + STEP_MARGIN);
            return;
        }
        for part in parts {
            self.leave_step(turn, &part, "broken off");
            self.forget_timers(&part);
            self.runs.remove(&part);
        }
        if let Some(run) = self.runs.get_mut(id) {
            run.course.broken_off();
        }
        self.note(id, "cleaning up was broken off".to_owned());
        self.leave_step(turn, id, "broken off");
        self.advance(turn, alerts, id);
    }
}

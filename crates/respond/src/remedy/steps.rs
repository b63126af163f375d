//! A run's next step: asked about, gated, done. What only the engine does is done here; verbs are in `exec`.

use super::exec::Rendered;
use super::guards::{limits_of, resolve};
use super::start::no_answer;
use super::state::{AskedFor, Asking, Doing, Failed, Part, Run};
use super::{ASK_AGAIN, Remedy, Timer};
use crate::alerts::Alerts;
use crate::guard::{self, Refusal};
use crate::queries::{Purpose, Reply};
use crate::run::{At, Interrupt, StepResult};
use crate::turn::{Turn, Word};
use selfheal_contract::Guard;
use selfheal_contract::effect::Effect;
use selfheal_contract::view::StepView;
use selfheal_messages::{
    Answer, Context, Finding, QueryKind, RenderedMaterial, StepMaterial, ToDetect, WatchId, WatchSubject,
};
use selfheal_model::units::format_duration;
use selfheal_model::{DeploymentId, FailureClass, RunId, StepAttemptId, StepId, Value};
use selfheal_policy::playbook::{Approve, Section, Step, StepKind};
use selfheal_script::Truth;

/// A step that has ended by itself, or why it could not be done.
pub(super) struct StepOver {
    pub result: StepResult,
    pub outcome: &'static str,
    pub class: Option<FailureClass>,
    pub message: Option<String>,
}

impl StepOver {
    pub fn done() -> Self {
        StepOver { result: StepResult::Done, outcome: "done", class: None, message: None }
    }

    pub fn skipped(why: &str) -> Self {
        StepOver { result: StepResult::Skipped, outcome: "skipped", class: None, message: Some(why.to_owned()) }
    }

    pub fn failed(best_effort: bool, class: FailureClass, why: impl Into<String>) -> Self {
        StepOver {
            result: StepResult::Failed { best_effort },
            outcome: "failed",
            class: Some(class),
            message: Some(why.into()),
        }
    }
}

/// What people call the kind of a step: its verb, or what it does.
fn action_word(kind: &StepKind) -> String {
    match kind {
        StepKind::Action { verb, .. } => verb.to_string(),
        StepKind::Wait(_) | StepKind::WaitUntil { .. } => "wait".to_owned(),
        StepKind::Assert { .. } => "assert".to_owned(),
        StepKind::Check { .. } => "check".to_owned(),
        StepKind::Notify { .. } => "notify".to_owned(),
        StepKind::Signal { .. } => "signal".to_owned(),
        StepKind::Approve(_) => "approve".to_owned(),
        StepKind::SetCheck(_) => "set_check".to_owned(),
        StepKind::Silence(_) => "silence".to_owned(),
        StepKind::Playbook { .. } => "playbook".to_owned(),
        StepKind::Parallel(_) => "parallel".to_owned(),
    }
}

/// The name a step goes by in ids and views; an undo has that of the step it undoes.
fn step_name(run: &Run, section: Section, index: usize, step: &Step) -> StepId {
    let prefix = &run.prefix;
    match (section, run.playbook.steps.get(index)) {
        (Section::Undo, Some(undone)) => StepId::new(format!("{prefix}{}-undo", undone.id)),
        _ => StepId::new(format!("{prefix}{}", step.id)),
    }
}

impl Remedy {
    /// The step at the course's place, with its name.
    pub(super) fn step_at(&self, id: &RunId) -> Option<(Section, StepId, Step)> {
        let run = self.runs.get(id)?;
        let At::Step(section, index) = run.course.at() else { return None };
        let step = section.step(&run.playbook, index)?;
        Some((section, step_name(run, section, index, &step), step))
    }

    /// Does whatever the course says is next.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some(run) = self.runs.get(id) else { return };
        match run.course.at() {
            At::Step(..) => self.ask_step(turn, alerts, id),
            At::Verify => self.start_verify(turn, alerts, id),
            At::Ended(verdict) => self.finish(turn, alerts, id, verdict),
        }
    }

    /// The names a step sees; a branch also sees what came before it in its playbook.
    fn context_of(&self, turn: &Turn<'_>, alerts: &Alerts, id: &RunId) -> Context {
        let Some(run) = self.runs.get(id) else { return Context::default() };
        let above = run.parent.as_ref().filter(|_| run.part != Part::Whole).and_then(|above| self.runs.get(above));
        run.context_below(turn, alerts, above.map_or(&[], |above| &above.steps))
    }

    /// Whether this step would act, in the policy as it is now.
    fn is_acting(&self, turn: &Turn<'_>, id: &RunId, step: &Step) -> bool {
        let (StepKind::Action { verb, deployment, .. }, Some(run)) = (&step.kind, self.runs.get(id)) else {
            return false;
        };
        let target = deployment.as_ref().unwrap_or(&run.deployment);
        resolve(&turn.policy, target, verb).is_ok_and(|resolved| resolved.is_acting())
    }

    pub(super) fn ask_step(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some((_, name, step)) = self.step_at(id) else { return };
        let acting = self.is_acting(turn, id, &step);
        let needs_symptom = self.needs_symptom(id);
        let other = match &step.kind {
            StepKind::Action { deployment, .. } => deployment.clone(),
            _ => None,
        };
        if acting && !self.gate(turn, alerts, id, &name, needs_symptom, other) {
            return;
        }
        let Some(run) = self.runs.get_mut(id) else { return };
        let symptom = acting && needs_symptom && run.observed.is_none();
        let symptom = run.alert().filter(|_| symptom).map(|key| run.symptom_level(alerts, key));
        let material = match step.kind {
            StepKind::Action { with, .. } => StepMaterial::Params(with),
            StepKind::Assert { condition, message } => StepMaterial::Assertion { condition, message },
            StepKind::Notify { text, .. } => StepMaterial::Text(text),
            StepKind::Signal { fields, .. } => StepMaterial::Params(fields),
            StepKind::Playbook { with, .. } => StepMaterial::Params(with),
            StepKind::Wait(_)
            | StepKind::WaitUntil { .. }
            | StepKind::Check { .. }
            | StepKind::Approve(_)
            | StepKind::SetCheck(_)
            | StepKind::Silence(_)
            | StepKind::Parallel(_) => StepMaterial::Nothing,
        };
        run.refusal = None;
        run.doing = Doing::Asking(Asking { step: name.clone(), what: AskedFor::Begin });
        if let (None, None, StepMaterial::Nothing) = (&step.if_, &symptom, &material) {
            run.doing = Doing::Sleeping;
            return self.begin_step(turn, alerts, id, &name, None, None, RenderedMaterial::Nothing);
        }
        let context = self.context_of(turn, alerts, id);
        let kind = QueryKind::BeginStep { if_: step.if_, symptom, material };
        turn.query(Purpose::Step { run: id.clone(), step: name }, context, kind);
    }

    /// What holds a step that would act: the kill switch always, and for repairs the mode as it is now.
    fn gate(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        name: &StepId,
        repairs: bool,
        other: Option<DeploymentId>,
    ) -> bool {
        let Some(run) = self.runs.get(id) else { return false };
        if run.observed.is_some() {
            return true;
        }
        let target = other.unwrap_or_else(|| run.deployment.clone());
        if let Err(refusal) = self.may_act() {
            self.hold(turn, id, refusal);
            return false;
        }
        if let Some(refusal) = self.held_here(turn, alerts, id, repairs, &target) {
            self.timers.set(Timer::Again(id.clone()), turn.now + ASK_AGAIN);
            self.hold(turn, id, refusal);
            return false;
        }
        match self.forbidden_by_mode(turn, id, repairs, &target) {
            None => return true,
            // others at the same time are at it, and need the lease
            Some(Refusal::Approve) if !self.is_beside_others(id) => {
                self.begin_approve(turn, id, name, &Approve::default());
            }
            Some(refusal) => self.may_not_act(turn, alerts, id, refusal),
        }
        false
    }

    /// What the mode as it is now has against an acting step of a run. Cleaning up is held by none.
    pub(super) fn forbidden_by_mode(
        &self,
        turn: &Turn<'_>,
        id: &RunId,
        repairs: bool,
        target: &DeploymentId,
    ) -> Option<Refusal> {
        let whole = self.runs.get(&self.root_of(id)).filter(|_| repairs)?;
        whole.forbidden_by_mode(&turn.policy, target)
    }

    /// What holds the next acting step of a run for a while: people who work on the deployment it acts on or its alert is about, and for what acts
    /// by itself a freeze. Cleaning up is held by neither.
    pub(super) fn held_here(
        &self,
        turn: &Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        repairs: bool,
        target: &DeploymentId,
    ) -> Option<Refusal> {
        let whole = self.runs.get(&self.root_of(id)).filter(|_| repairs)?;
        if let Some(who) = self.maintained(&turn.policy, target, turn.now) {
            return Some(Refusal::Pause { who: format!("for {target}, {who}") });
        }
        let about = whole.alert().and_then(|key| self.alert_maintained(&turn.policy, alerts, key, turn.now));
        if let Some((_, who)) = about {
            return Some(Refusal::Pause { who });
        }
        let frozen = guard::frozen(&limits_of(&turn.policy, target).freeze, self.schedules.wall(turn.now));
        frozen.filter(|_| whole.is_automatic() && !whole.overridden.contains(&Guard::Freeze))
    }

    pub(super) fn hold(&mut self, turn: &mut Turn<'_>, id: &RunId, refusal: Refusal) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let moved = run.refusal.as_ref() != Some(&refusal);
        run.doing = Doing::Held;
        run.refusal = Some(refusal);
        if moved {
            self.tell_refused(turn, id);
            self.show(turn, id);
        }
    }

    pub(super) fn resume_held(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        if self.runs.get(id).is_some_and(|run| matches!(run.doing, Doing::Held)) {
            self.advance(turn, alerts, id);
        }
    }

    /// A live guard, or missing data, says that this run takes no further acting step.
    pub(super) fn may_not_act(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, refusal: Refusal) {
        let root = self.root_of(id);
        for id in [&root, id] {
            self.note(id, format!("no further acting step: {refusal}"));
            if let Some(run) = self.runs.get_mut(id) {
                run.refusal = Some(refusal.clone());
                // what it waited for is not why it goes no further
                if matches!(run.doing, Doing::Held | Doing::Regaining) {
                    run.doing = Doing::Sleeping;
                }
            }
        }
        self.interrupt_whole(turn, alerts, id, Interrupt::MayNotAct);
    }

    /// What became of the query about a step. A step that has been left since takes no notice; where there is no answer, the
    /// step asks again, until the deadline of its run.
    pub(super) fn step_replied(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        name: &StepId,
        reply: Reply,
    ) {
        let Some(run) = self.runs.get_mut(id) else { return };
        if !matches!(&run.doing, Doing::Asking(asking) if asking.step == *name) {
            return;
        }
        let Doing::Asking(asking) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        match (asking.what, reply) {
            (AskedFor::Begin, Reply::Answered(Answer::BeginStep { if_, symptom, material })) => {
                self.begin_step(turn, alerts, id, name, if_, symptom, material);
            }
            (AskedFor::Retry(call), Reply::Answered(Answer::RetryStep { symptom })) => {
                self.retry_answered(turn, alerts, id, *call, Some(symptom));
            }
            (AskedFor::CheckVerdict, Reply::Answered(Answer::CheckHealthy { healthy })) => {
                self.check_answered(turn, alerts, id, &healthy);
            }
            (AskedFor::Begin, _) => self.ask_step(turn, alerts, id),
            (AskedFor::Retry(call), _) => {
                run.doing = Doing::Pausing(*call);
                self.ask_retry(turn, alerts, id);
            }
            (AskedFor::CheckVerdict, _) => self.ask_check_verdict(turn, alerts, id),
        }
    }

    /// The step begins with what detect has answered. What holds an acting step is asked again: it may have changed since the
    /// query was sent.
    #[expect(clippy::too_many_arguments, reason = "the parts of one answer")]
    fn begin_step(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        name: &StepId,
        if_: Option<Truth>,
        symptom: Option<Finding>,
        material: RenderedMaterial,
    ) {
        let Some((section, _, step)) = self.step_at(id) else { return };
        if self.is_acting(turn, id, &step) {
            let needs_symptom = self.needs_symptom(id);
            let other = match &step.kind {
                StepKind::Action { deployment, .. } => deployment.clone(),
                _ => None,
            };
            if !self.gate(turn, alerts, id, name, needs_symptom, other) {
                return;
            }
            let watched = |run: &Run| run.observed.is_none() && run.alert().is_some();
            if needs_symptom && symptom.is_none() && self.runs.get(id).is_some_and(watched) {
                // the policy has made it an acting step since
                return self.ask_step(turn, alerts, id);
            }
        }
        self.open_record(turn, id, section, name, &step);
        if step.if_.is_some()
            && let Some(over) = if_answer(&step, if_)
        {
            return self.step_over(turn, alerts, id, over);
        }
        if symptom.is_some() && !self.symptom_is_there(turn, alerts, id, symptom) {
            return;
        }
        self.do_step(turn, alerts, id, name, step, material);
    }

    /// Goes on only where the symptom is known to be there, on evidence young enough to act on.
    pub(super) fn symptom_is_there(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        symptom: Option<Finding>,
    ) -> bool {
        let Some(run) = self.runs.get(id) else { return false };
        let fires = run.alert().is_none_or(|key| alerts.get(key).is_some_and(|alert| alert.firing));
        match symptom {
            Some(Finding { truth: Truth::True, evidence }) if fires => {
                match guard::stale(limits_of(&turn.policy, &run.deployment).max_event_age, turn.now, evidence) {
                    None => return true,
                    Some(refusal) => self.may_not_act(turn, alerts, id, refusal),
                }
            }
            Some(Finding { truth: Truth::True | Truth::False, .. }) => {
                self.note(id, "the symptom is gone".to_owned());
                self.interrupt_whole(turn, alerts, id, Interrupt::SymptomGone);
            }
            Some(Finding { truth, .. }) => {
                let of = no_answer("its alert's condition", &truth);
                self.may_not_act(turn, alerts, id, Refusal::NoData { of });
            }
            None => {
                let of = "detect gave no answer about the symptom".to_owned();
                self.may_not_act(turn, alerts, id, Refusal::NoData { of });
            }
        }
        false
    }

    fn open_record(&mut self, turn: &mut Turn<'_>, id: &RunId, section: Section, name: &StepId, step: &Step) {
        let Some(run) = self.runs.get_mut(id) else { return };
        run.steps.push(StepView {
            id: name.to_string(),
            action: action_word(&step.kind),
            section: section.as_str().into(),
            outcome: "running".into(),
            class: None,
            message: None,
            output: None,
            log: None,
            attempts: 0,
            started_at: turn.now,
            ended_at: None,
            seconds: None,
        });
    }

    fn do_step(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        name: &StepId,
        step: Step,
        material: RenderedMaterial,
    ) {
        let rendered = match Rendered::read(material) {
            Ok(rendered) => rendered,
            Err(why) => {
                let over = StepOver::failed(step.best_effort, FailureClass::Permanent, why);
                return self.step_over(turn, alerts, id, over);
            }
        };
        let goes_on_observed =
            matches!(step.kind, StepKind::Assert { .. } | StepKind::Playbook { .. } | StepKind::Parallel(_));
        if self.runs.get(id).is_some_and(|run| run.observed.is_some()) && !goes_on_observed {
            let would = self.would_do(id, &step, &rendered);
            self.note(id, would.clone());
            return self.step_over(turn, alerts, id, StepOver::skipped(&would));
        }
        let best_effort = step.best_effort;
        match step.kind {
            StepKind::Action { ref verb, ref deployment, .. } => {
                let (verb, deployment) = (verb.clone(), deployment.clone());
                self.begin_call(turn, alerts, id, name, &step, verb, deployment, rendered.params);
            }
            StepKind::Wait(span) => {
                self.timers.set(Timer::Step(id.clone()), turn.now + span);
                self.now_doing(turn, id, Doing::Sleeping);
            }
            StepKind::WaitUntil { until, within } => {
                self.timers.set(Timer::Step(id.clone()), turn.now + within);
                let Some(run) = self.runs.get(id) else { return };
                let mut context = run.context(turn, alerts);
                context.cut = run.last_act_ended;
                turn.watch(WatchId::Wait(id.clone()), context, WatchSubject::Condition(until));
                self.now_doing(turn, id, Doing::WaitingUntil);
            }
            StepKind::Assert { .. } => {
                let over = assert_answer(best_effort, rendered);
                self.step_over(turn, alerts, id, over);
            }
            StepKind::Check { check } => {
                self.timers.set(Timer::Step(id.clone()), turn.now + step.timeout);
                let Some(run) = self.runs.get_mut(id) else { return };
                let attempt = StepAttemptId::of(id, name.as_str(), 1);
                let deployment = run.deployment.clone();
                turn.effects.push(Effect::Probe { deployment, check, attempt: attempt.clone() });
                self.now_doing(turn, id, Doing::Probing(attempt));
            }
            StepKind::Notify { receiver, .. } => {
                let over = match rendered.text {
                    Some(Ok(text)) => {
                        self.tell_as_playbook(turn, id, receiver, text);
                        StepOver::done()
                    }
                    Some(Err(why)) => StepOver::failed(best_effort, FailureClass::Permanent, why),
                    None => StepOver::failed(best_effort, FailureClass::Permanent, "its text was not rendered"),
                };
                self.step_over(turn, alerts, id, over);
            }
            StepKind::Playbook { ref name, .. } => {
                let name = name.clone();
                self.begin_playbook(turn, alerts, id, &step, &name, rendered);
            }
            StepKind::Parallel(_) => self.begin_parallel(turn, alerts, id, &step),
            StepKind::Approve(approve) => self.begin_approve(turn, id, name, &approve),
            StepKind::SetCheck(set) => {
                let deployment = self.runs.get(id).map(|run| run.deployment.clone());
                let known = deployment
                    .as_ref()
                    .and_then(|id| turn.policy.deployments.get(id))
                    .is_some_and(|deployment| deployment.checks.iter().any(|check| check.name == set.check));
                let (Some(deployment), true) = (deployment, known) else {
                    let why = format!("there is no check {} here", set.check);
                    let over = StepOver::failed(best_effort, FailureClass::Unsupported, why);
                    return self.step_over(turn, alerts, id, over);
                };
                for id in self.lineage(id) {
                    if let Some(run) = self.runs.get_mut(&id) {
                        run.eased_until = run.eased_until.max(Some(turn.now + set.for_));
                    }
                }
                turn.send(ToDetect::SetCheck { deployment, set });
                self.step_over(turn, alerts, id, StepOver::done());
            }
            StepKind::Silence(span) => {
                let run = self.runs.get(id);
                let asked = run.and_then(|run| Some((run.alert()?.clone(), format!("playbook {}", run.playbook.name))));
                let over = match asked {
                    Some((key, by)) => {
                        turn.say(Word::SilenceForRepair { key, span, by });
                        StepOver::done()
                    }
                    None => StepOver::skipped("there is no alert to silence"),
                };
                self.step_over(turn, alerts, id, over);
            }
            StepKind::Signal { name, .. } => {
                let over = match self.emit(turn, id, name.as_str(), rendered.params) {
                    Ok(()) => StepOver::done(),
                    Err(why) => StepOver::failed(best_effort, FailureClass::Conflict, why),
                };
                self.step_over(turn, alerts, id, over);
            }
        }
    }

    fn now_doing(&mut self, turn: &mut Turn<'_>, id: &RunId, doing: Doing) {
        if let Some(run) = self.runs.get_mut(id) {
            run.doing = doing;
            self.show(turn, id);
        }
    }

    /// What an observed run says instead of doing it.
    fn would_do(&self, id: &RunId, step: &Step, rendered: &Rendered) -> String {
        let deployment = self.runs.get(id).map(|run| run.deployment.to_string()).unwrap_or_default();
        match &step.kind {
            StepKind::Action { verb, deployment: other, .. } => {
                let target = other.as_ref().map_or(deployment, ToString::to_string);
                let with = if rendered.params.is_empty() {
                    String::new()
                } else {
                    format!(" with {}", Value::Object(rendered.params.clone()))
                };
                format!("would {verb} {target}{with}")
            }
            StepKind::Notify { receiver, .. } => format!("would tell {receiver}"),
            StepKind::Signal { name, .. } => format!("would signal {name}"),
            StepKind::Check { check } => format!("would check {check}"),
            StepKind::Approve(_) => "would ask for approval".to_owned(),
            StepKind::SetCheck(set) => format!("would set check {}", set.check),
            StepKind::Silence(span) => format!("would silence its alert for {}", format_duration(*span)),
            StepKind::Playbook { name, .. } => format!("would run {name}"),
            StepKind::Parallel(steps) => format!("would do {} steps at a time", steps.len()),
            StepKind::Wait(_) | StepKind::WaitUntil { .. } | StepKind::Assert { .. } => "would wait".to_owned(),
        }
    }

    /// The step under way has ended: its record is closed and the course moves.
    pub(super) fn step_over(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, over: StepOver) {
        self.timers.clear(&Timer::Step(id.clone()));
        let Some((section, name, step)) = self.step_at(id) else { return };
        let Some(run) = self.runs.get_mut(id) else { return };
        let now = turn.now;
        if let Some(record) = run.open_step() {
            record.outcome = over.outcome.into();
            record.class = over.class.map(|class| class.as_str().into());
            record.message = over.message.clone().or(record.message.take());
            record.ended_at = Some(now);
            record.seconds = record.seconds.or_else(|| Some(now.since(record.started_at).as_secs_f64()));
        }
        let message = over.message.unwrap_or_default();
        if over.result == (StepResult::Failed { best_effort: false }) {
            run.why.push(format!("step {name} failed: {message}"));
            if run.failed.is_none() {
                run.failed = Some(Failed { id: name.to_string(), message: message.clone() });
            }
        }
        if let (StepResult::Failed { .. }, StepKind::Action { verb, .. }) = (over.result, &step.kind) {
            self.emit_failed(turn, id, verb, &name, over.class, &message);
        }
        if section == Section::Finally && !matches!(over.result, StepResult::Done | StepResult::Skipped) {
            self.tell_clean_up_failed(turn, id, &name, &message);
        }
        if let Some(run) = self.runs.get_mut(id) {
            run.course.step_ended(over.result);
        }
        self.show(turn, id);
        self.advance(turn, alerts, id);
    }

    /// The pause, wait, deadline or settling of the step under way is over.
    pub(super) fn step_timer(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let best_effort = self.step_at(id).is_some_and(|(_, _, step)| step.best_effort);
        let too_late = |why: &str| StepOver::failed(best_effort, FailureClass::Permanent, why);
        let Some(run) = self.runs.get_mut(id) else { return };
        match &run.doing {
            Doing::Calling(_) => self.call_overdue(turn, alerts, id),
            Doing::Pausing(_) => self.ask_retry(turn, alerts, id),
            Doing::Settling(_) => {
                self.not_settled(turn, alerts, id, "nothing that was seen since told whether it happened")
            }
            Doing::Together(_) => self.together_overdue(turn, alerts, id),
            Doing::Sleeping => self.step_over(turn, alerts, id, StepOver::done()),
            Doing::WaitingUntil => {
                turn.unwatch(WatchId::Wait(id.clone()));
                run.doing = Doing::Sleeping;
                self.step_over(turn, alerts, id, too_late("it did not become true in time"));
            }
            Doing::Probing(_) => self.step_over(turn, alerts, id, too_late("the check gave no verdict in time")),
            Doing::Waiting(_)
            | Doing::Asking(_)
            | Doing::Held
            | Doing::Approving
            | Doing::Regaining
            | Doing::Verifying(_)
            | Doing::Ended(_) => {}
        }
    }

    pub(super) fn wait_watched(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, truth: &Truth) {
        let Some(run) = self.runs.get_mut(id) else { return };
        if matches!(run.doing, Doing::WaitingUntil) && truth.is_true() {
            turn.unwatch(WatchId::Wait(id.clone()));
            run.doing = Doing::Sleeping;
            self.step_over(turn, alerts, id, StepOver::done());
        }
    }
}

/// `None`: the step goes on.
fn if_answer(step: &Step, truth: Option<Truth>) -> Option<StepOver> {
    match truth {
        Some(Truth::True) => None,
        Some(Truth::False) => Some(StepOver::skipped("its `if` is false")),
        Some(Truth::Error(why)) => {
            Some(StepOver::failed(step.best_effort, FailureClass::Permanent, format!("its `if` fails: {why}")))
        }
        _ => Some(StepOver::failed(step.best_effort, FailureClass::Permanent, "its `if` has no data")),
    }
}

fn assert_answer(best_effort: bool, rendered: Rendered) -> StepOver {
    let failed = |why: String| StepOver::failed(best_effort, FailureClass::Permanent, why);
    match rendered.truth {
        Some(Truth::True) => StepOver::done(),
        // a message that cannot be rendered must not hide what it was about
        Some(Truth::False) => {
            failed(rendered.text.and_then(Result::ok).unwrap_or_else(|| "what is asserted is false".to_owned()))
        }
        Some(Truth::Error(why)) => failed(format!("the assertion fails: {why}")),
        Some(Truth::NoData) | None => failed("the assertion has no data".to_owned()),
    }
}

//! Second questions about a step: the verdict of a check that was run, and the symptom before another try.

use super::state::{AskedFor, Asking, Call, Doing};
use super::steps::StepOver;
use super::{ASK_AGAIN, Remedy, Timer};
use crate::alerts::Alerts;
use crate::guard::Refusal;
use crate::turn::Turn;
use selfheal_messages::{Ask, AskId, Question, Reply, ToDetect};
use selfheal_model::{CheckName, FailureClass, RunId, Value};
use selfheal_policy::playbook::StepKind;
use selfheal_script::{Condition, Expect, Names, ScriptHost, Truth};

impl Remedy {
    /// A probe has run: only what it said from then on counts.
    pub(super) fn ask_check_verdict(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some((_, name, step)) = self.step_at(id) else { return };
        let StepKind::Check { check } = &step.kind else { return };
        let condition = match verdict_of(check) {
            Ok(condition) => condition,
            Err(why) => {
                let over = StepOver::failed(step.best_effort, FailureClass::Permanent, why);
                return self.step_over(turn, alerts, id, over);
            }
        };
        let Some(run) = self.runs.get_mut(id) else { return };
        let began = run.open_step().map(|record| record.started_at).unwrap_or(turn.now);
        let mut context = run.context(turn, alerts);
        // a verdict of the very instant the probe began is its own
        context.cut = Some(began - std::time::Duration::from_millis(1));
        run.doing =
            Doing::Asking(Asking { step: name.clone(), has_if: false, symptom: false, what: AskedFor::CheckVerdict });
        let questions = vec![Question::Condition(condition)];
        turn.to_detect.push(ToDetect::Ask(Ask { id: AskId::Step { run: id.clone(), step: name }, context, questions }));
    }

    pub(super) fn check_told(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, reply: Option<Reply>) {
        let best_effort = self.step_at(id).is_some_and(|(_, _, step)| step.best_effort);
        let failed = |why: &str| StepOver::failed(best_effort, FailureClass::Permanent, why);
        let over = match reply {
            Some(Reply::Truth { truth: Truth::True, .. }) => StepOver::done(),
            Some(Reply::Truth { truth: Truth::False, .. }) => failed("the check says unhealthy"),
            _ => failed("the check gave no verdict"),
        };
        self.step_over(turn, alerts, id, over);
    }

    /// Before another try of a verb the symptom is asked about again; what was rendered stays.
    pub(super) fn ask_retry(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some((_, name, _)) = self.step_at(id) else { return };
        let needs_symptom = self.needs_symptom(id);
        let Some(run) = self.runs.get_mut(id) else { return };
        let Doing::Pausing(call) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        let acting = call.acting;
        let wanted = acting && needs_symptom;
        let symptom = run.alert().filter(|_| wanted).map(|key| run.symptom_question(alerts, key));
        let context = run.context(turn, alerts);
        run.doing = Doing::Asking(Asking {
            step: name.clone(),
            has_if: false,
            symptom: symptom.is_some(),
            what: AskedFor::Retry(Box::new(call)),
        });
        match symptom {
            Some(question) => {
                let ask = Ask { id: AskId::Step { run: id.clone(), step: name }, context, questions: vec![question] };
                turn.to_detect.push(ToDetect::Ask(ask));
            }
            None => self.step_told(turn, alerts, id, &name, Vec::new()),
        }
    }

    pub(super) fn retry_told(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        call: Call,
        symptom: bool,
        reply: Option<Reply>,
    ) {
        let repairs = self.needs_symptom(id);
        let (target, acting) = (call.target.clone(), call.acting);
        if acting {
            let no = self.may_act().err().or_else(|| self.held_here(turn, alerts, id, repairs, &target));
            if let Some(refusal) = no {
                return self.hold_retry(turn, id, call, refusal);
            }
        }
        // what comes between it and its next try finds it there
        if let Some(run) = self.runs.get_mut(id) {
            run.doing = Doing::Pausing(call);
        }
        if symptom && !self.symptom_is_there(turn, alerts, id, reply) {
            return;
        }
        if acting && let Some(refusal) = self.forbidden_by_mode(turn, id, repairs, &target) {
            return self.may_not_act(turn, alerts, id, refusal);
        }
        let Some(run) = self.runs.get_mut(id) else { return };
        let Doing::Pausing(call) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        run.refusal = None;
        self.call_again(turn, alerts, id, call);
    }

    /// Tried again once it may: what holds a try is not a failure.
    fn hold_retry(&mut self, turn: &mut Turn<'_>, id: &RunId, call: Call, refusal: Refusal) {
        self.timers.set(Timer::Step(id.clone()), turn.now + ASK_AGAIN);
        let Some(run) = self.runs.get_mut(id) else { return };
        let moved = run.refusal.as_ref() != Some(&refusal);
        run.doing = Doing::Pausing(call);
        run.refusal = Some(refusal);
        if moved {
            self.tell_refused(turn, id);
            self.show(turn, id);
        }
    }
}

/// The newest raw verdict of a check.
fn verdict_of(check: &CheckName) -> Result<Condition, String> {
    let cannot = |why: String| format!("check {check} cannot be asked about: {why}");
    let host = ScriptHost::new(&[]).map_err(|_| cannot("no script host".to_owned()))?;
    let source = format!("status({}) == \"healthy\"", Value::from(check.as_str()));
    let compiled = Condition::compile(&host, &source, Expect::Bool, &Names::default());
    compiled
        .map(|(condition, _)| condition)
        .map_err(|problems| cannot(problems.first().map(|problem| problem.message.clone()).unwrap_or_default()))
}

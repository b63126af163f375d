//! Second queries about a step: the verdict of a check that was run, and the symptom before another try.

use super::state::{AskedFor, Asking, Call, Doing};
use super::steps::StepOver;
use super::{ASK_AGAIN, Remedy, Timer};
use crate::alerts::Alerts;
use crate::guard::Refusal;
use crate::queries::Purpose;
use crate::turn::Turn;
use selfheal_messages::{Finding, QueryKind};
use selfheal_model::{FailureClass, RunId};
use selfheal_policy::playbook::StepKind;
use selfheal_script::Truth;

impl Remedy {
    /// A probe has run: only what it said from then on counts.
    pub(super) fn ask_check_verdict(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some((_, name, step)) = self.step_at(id) else { return };
        let StepKind::Check { check } = step.kind else { return };
        let Some(run) = self.runs.get_mut(id) else { return };
        let began = run.open_step().map(|record| record.started_at).unwrap_or(turn.now);
        let mut context = run.context(turn, alerts);
        // a verdict of the very instant the probe began is its own
        context.cut = Some(began - std::time::Duration::from_millis(1));
        run.doing = Doing::Asking(Asking { step: name.clone(), what: AskedFor::CheckVerdict });
        let purpose = Purpose::Step { run: id.clone(), step: name };
        turn.query(purpose, context, QueryKind::CheckHealthy { check });
    }

    pub(super) fn check_answered(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, healthy: &Truth) {
        let best_effort = self.step_at(id).is_some_and(|(_, _, step)| step.best_effort);
        let failed = |why: &str| StepOver::failed(best_effort, FailureClass::Permanent, why);
        let over = match healthy {
            Truth::True => StepOver::done(),
            Truth::False => failed("the check says unhealthy"),
            Truth::NoData | Truth::Error(_) => failed("the check gave no verdict"),
        };
        self.step_over(turn, alerts, id, over);
    }

    /// Before another try of a verb the symptom is asked about again; what was rendered stays.
    pub(super) fn ask_retry(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId) {
        let Some((_, name, _)) = self.step_at(id) else { return };
        let needs_symptom = self.needs_symptom(id);
        let Some(run) = self.runs.get_mut(id) else { return };
        let Doing::Pausing(call) = std::mem::replace(&mut run.doing, Doing::Sleeping) else { return };
        let wanted = call.acting && needs_symptom;
        let symptom = run.alert().filter(|_| wanted).map(|key| run.symptom_level(alerts, key));
        let Some(symptom) = symptom else { return self.retry_answered(turn, alerts, id, call, None) };
        let context = run.context(turn, alerts);
        run.doing = Doing::Asking(Asking { step: name.clone(), what: AskedFor::Retry(Box::new(call)) });
        turn.query(Purpose::Step { run: id.clone(), step: name }, context, QueryKind::RetryStep { symptom });
    }

    /// `symptom`: what detect found of it, where it was asked.
    pub(super) fn retry_answered(
        &mut self,
        turn: &mut Turn<'_>,
        alerts: &Alerts,
        id: &RunId,
        call: Call,
        symptom: Option<Finding>,
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
        if symptom.is_some() && !self.symptom_is_there(turn, alerts, id, symptom) {
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

//! What comes between the steps of a run: a step that only waits is left at once, one that acts is let end.

use super::state::{AskedFor, Asking, Doing};
use super::{Remedy, Timer};
use crate::alerts::Alerts;
use crate::run::{Interrupt, Verdict};
use crate::turn::Turn;
use selfheal_messages::WatchId;
use selfheal_model::RunId;

impl Remedy {
    /// What comes between a part comes between the whole, and so all of it.
    pub(super) fn interrupt_whole(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, why: Interrupt) {
        let root = self.root_of(id);
        self.interrupt(turn, alerts, &root, why);
    }

    /// Something came between: a step that only waits ends at once, one that acts is let end.
    pub(super) fn interrupt(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, why: Interrupt) {
        let Some(run) = self.runs.get_mut(id) else { return };
        match &run.doing {
            Doing::Ended(_) => {}
            Doing::Waiting(_) => {
                let verdict = if why == Interrupt::SymptomGone { Verdict::WentAway } else { Verdict::Cancelled };
                self.end_waiting(turn, alerts, id, verdict);
            }
            Doing::Calling(_) | Doing::Settling(_) => {
                run.course.interrupted(why, true);
            }
            Doing::Together(_) => {
                run.course.interrupted(why, true);
                self.interrupt_parts(turn, alerts, id, why);
            }
            Doing::Pausing(_) | Doing::Asking(Asking { what: AskedFor::Retry(_), .. }) => {
                self.abandon_retry(turn, alerts, id, why);
            }
            Doing::Asking(_)
            | Doing::Held
            | Doing::Approving
            | Doing::Regaining
            | Doing::Sleeping
            | Doing::WaitingUntil
            | Doing::Probing(_)
            | Doing::Verifying(_) => self.cut_short(turn, alerts, id, why),
        }
    }

    fn abandon_retry(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, why: Interrupt) {
        let Some(run) = self.runs.get_mut(id) else { return };
        run.course.interrupted(why, true);
        // cleaning up goes on trying
        if !run.course.is_leaving() {
            return;
        }
        let call = match std::mem::replace(&mut run.doing, Doing::Sleeping) {
            Doing::Pausing(call) => call,
            Doing::Asking(Asking { what: AskedFor::Retry(call), .. }) => *call,
            _ => return,
        };
        if why != Interrupt::MayNotAct {
            // what held the next try holds nothing any more
            run.refusal = None;
        }
        self.not_tried_again(turn, alerts, id, &call);
    }

    fn cut_short(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, id: &RunId, why: Interrupt) {
        let Some(run) = self.runs.get_mut(id) else { return };
        let before = run.course.at();
        if run.course.interrupted(why, false) == before {
            return;
        }
        self.leave_step(turn, id, "cut short");
        self.advance(turn, alerts, id);
    }

    /// Ends the record of a step that is left, and whatever was set up for it.
    pub(super) fn leave_step(&mut self, turn: &mut Turn<'_>, id: &RunId, why: &str) {
        for timer in [Timer::Step(id.clone()), Timer::Hold(id.clone()), Timer::Within(id.clone())] {
            self.timers.clear(&timer);
        }
        self.withdraw(turn, id);
        let Some(run) = self.runs.get_mut(id) else { return };
        match run.doing {
            Doing::WaitingUntil => turn.unwatch(WatchId::Wait(id.clone())),
            Doing::Verifying(_) => turn.unwatch(WatchId::Verify(id.clone())),
            Doing::Held | Doing::Regaining => run.refusal = None,
            _ => {}
        }
        run.doing = Doing::Sleeping;
        let now = turn.now;
        if let Some(record) = run.open_step() {
            // what was called at least once is not "skipped"
            record.outcome = if record.attempts == 0 { "skipped" } else { "failed" }.into();
            record.message.get_or_insert_with(|| why.to_owned());
            record.ended_at = Some(now);
            record.seconds = Some(now.since(record.started_at).as_secs_f64());
        }
    }
}

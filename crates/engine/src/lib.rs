//! The engine: inputs in, effects out. A single writer owns all state.
//!
//! Invariant: what `handle` does depends on its arguments and the state before, on nothing else. Timers fire in
//! order, at their instants, before the next input. `detect` and `judge` share no state, only the messages of
//! [`selfheal_messages`].

#[cfg(test)]
mod dependency_tests;
mod explain;
mod input;
mod saved;

use std::collections::VecDeque;
use std::sync::Arc;

pub use input::Input;

use selfheal_contract::Effect;
use selfheal_detect::Detect;
use selfheal_messages::{ToDetect, ToJudge};
use selfheal_model::Timestamp;
use selfheal_policy::Policy;
use selfheal_respond::Judge;

/// Messages one `handle` may pass between the halves; a rule graph cannot be that deep, so more is a defect.
const MAX_MESSAGES_PER_TURN: usize = 1_000_000;

/// All state, one writer.
pub struct Engine {
    now: Timestamp,
    policy: Arc<Policy>,
    detect: Detect,
    judge: Judge,
}

impl Engine {
    /// An engine that has watched nothing yet.
    pub fn new(start: Timestamp, policy: Arc<Policy>) -> (Engine, Vec<Effect>) {
        let mut engine = Engine {
            now: start,
            detect: Detect::new(start, policy.clone()),
            judge: Judge::new(start, policy.clone()),
            policy: policy.clone(),
        };
        let mut effects = Vec::new();
        engine.handle(start, Input::PolicyReplaced(policy), &mut effects);
        (engine, effects)
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub fn detect(&self) -> &Detect {
        &self.detect
    }

    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// When the engine next wants to be called even if nothing comes in.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [self.detect.next_deadline(), self.judge.next_deadline()].into_iter().flatten().min()
    }

    /// Fires every timer due before `now`, at its own instant, then takes in `input` at `now`. An instant before the
    /// last one counts as the last one: time does not run backwards here.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        let now = now.max(self.now);
        // what ran out while nothing was watched is first moved by the length of the gap
        let due = if let Input::Resumed { from, .. } = &input { now.min(*from) } else { now };
        self.fire_timers(due, effects);
        self.now = now;
        let mut to_judge = VecDeque::new();
        let mut to_detect = VecDeque::new();
        match input {
            Input::Events(events) => self.detect.events(now, events, &mut to_judge, effects),
            Input::Posted(posted) => self.detect.posted(now, posted, &mut to_judge),
            Input::Observed { deployment, observation } => {
                let facts = observation.as_ref().ok().map(|seen| seen.facts.clone());
                self.detect.observed(now, &deployment, observation, &mut to_judge, effects);
                self.judge.observed(now, &deployment, facts.as_ref(), &mut to_detect, effects);
            }
            Input::PolicyReplaced(policy) => {
                self.policy = policy.clone();
                // judge first: it must know a rule before detect's first answer about it
                self.judge.replace_policy(now, policy.clone(), &mut to_detect, effects);
                self.detect.replace_policy(now, policy, &mut to_judge, effects);
            }
            Input::Resumed { from, to, because } => {
                self.detect.resumed(from, to, because, &mut to_judge);
                self.judge.resumed(from, to, because, &mut to_detect, effects);
            }
            Input::Tick => {}
            Input::ClockMoved { offset_ms } => {
                self.detect.clock_moved(now, offset_ms, &mut to_judge);
                self.judge.clock_moved(now, offset_ms, &mut to_detect, effects);
            }
            Input::Storage(storage) => {
                let over = self.detect.storage(now, &storage, &mut to_judge);
                self.judge.storage(now, &storage, over, &mut to_detect, effects);
            }
            Input::Intake(intake) => {
                let over = self.detect.intake(now, intake, &mut to_judge);
                self.judge.unwatched(over);
            }
            Input::PolicyInvalid(diagnostics) => {
                self.judge.policy_invalid(now, diagnostics, &mut to_detect, effects);
            }
            Input::StepEnded(end) => self.judge.step_ended(now, end, &mut to_detect, effects),
            Input::DeliveryEnded { id, attempt, result } => {
                self.judge.delivery_ended(now, &id, attempt, result, &mut to_detect, effects);
            }
            Input::Probed { attempt, .. } => self.judge.probed(now, &attempt, &mut to_detect, effects),
            Input::Operator(operator) => self.judge.operator(now, operator, &mut to_detect, effects),
            Input::Diverged { why } => self.judge.diverged(now, &why, &mut to_detect, effects),
            Input::Upgraded(upgraded) => self.judge.upgraded(now, &upgraded, &mut to_detect, effects),
            Input::Draining => self.judge.draining(now, &mut to_detect, effects),
        }
        self.pump(now, to_detect, to_judge, effects);
        // what became due at this very instant belongs to this turn
        self.fire_timers(now, effects);
    }

    fn fire_timers(&mut self, until: Timestamp, effects: &mut Vec<Effect>) {
        while let Some(due) = self.next_deadline().filter(|due| *due <= until) {
            let at = due.max(self.now);
            self.now = at;
            let mut to_judge = VecDeque::new();
            let mut to_detect = VecDeque::new();
            // at the same instant what is true comes before what follows from it
            if self.detect.next_deadline().is_some_and(|own| own <= due) {
                self.detect.fire(at, &mut to_judge, effects);
            } else {
                self.judge.fire(at, &mut to_detect, effects);
            }
            self.pump(at, to_detect, to_judge, effects);
        }
    }

    /// Passes messages between the halves until both are quiet.
    fn pump(
        &mut self,
        now: Timestamp,
        mut to_detect: VecDeque<ToDetect>,
        mut to_judge: VecDeque<ToJudge>,
        effects: &mut Vec<Effect>,
    ) {
        for _ in 0..MAX_MESSAGES_PER_TURN {
            if let Some(message) = to_judge.pop_front() {
                self.judge.message(now, message, &mut to_detect, effects);
            } else if let Some(message) = to_detect.pop_front() {
                self.detect.message(now, message, &mut to_judge, effects);
            } else {
                return;
            }
        }
        unreachable!("detect and judge sent each other {MAX_MESSAGES_PER_TURN} messages in one turn");
    }
}

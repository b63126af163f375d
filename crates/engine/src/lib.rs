//! The engine: inputs in, effects out. A single writer owns all state.
//!
//! Invariant: what `handle` does depends on its arguments and the state before, on nothing else. Timers fire in
//! order, at their instants, before the next input. `detect` and `judge` share no state, only the messages of
//! [`selfheal_messages`].

#[cfg(test)]
mod dependency_tests;
mod explain;
mod input;
mod link;
mod saved;

use std::sync::Arc;

pub use input::Input;
use link::{Arrived, Delayed, Link, Outbox};

use selfheal_contract::Effect;
use selfheal_detect::Detect;
use selfheal_messages::ToRespond;
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
    link: Link,
}

impl Engine {
    /// An engine that has watched nothing yet.
    pub fn new(start: Timestamp, policy: Arc<Policy>) -> (Engine, Vec<Effect>) {
        let mut engine = Engine {
            now: start,
            detect: Detect::new(start, policy.clone()),
            judge: Judge::new(start, policy.clone()),
            policy: policy.clone(),
            link: Link::default(),
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

    /// From now on the messages between the halves arrive late, each after a time that follows from `seed`; as they would with
    /// the halves on two machines. For tests: whoever recovers such an engine from its journal has to set the same seed.
    pub fn delay_messages(&mut self, seed: u64) {
        self.link = Link::Delayed(Delayed::new(seed));
    }

    /// Messages between the halves that have been sent and have not arrived; live always 0 between two inputs.
    pub fn messages_on_their_way(&self) -> usize {
        match &self.link {
            Link::Immediate => 0,
            Link::Delayed(delayed) => delayed.len(),
        }
    }

    /// When the engine next wants to be called even if nothing comes in.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        [self.detect.next_deadline(), self.judge.next_deadline(), self.next_arrival()].into_iter().flatten().min()
    }

    /// Fires every timer due before `now`, at its own instant, then takes in `input` at `now`. An instant before the
    /// last one counts as the last one: time does not run backwards here.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        let now = now.max(self.now);
        // what ran out while nothing was watched is first moved by the length of the gap
        let due = if let Input::Resumed { from, .. } = &input { now.min(*from) } else { now };
        self.fire_timers(due, effects);
        self.now = now;
        let mut outbox = Outbox::default();
        let Outbox { to_respond, to_detect } = &mut outbox;
        match input {
            Input::Events(events) => self.detect.events(now, events, to_respond, effects),
            Input::Posted(posted) => self.detect.posted(now, posted, to_respond),
            Input::Observed { deployment, observation } => {
                let facts = observation.as_ref().ok().map(|seen| seen.facts.clone());
                self.detect.observed(now, &deployment, observation, to_respond, effects);
                self.judge.observed(now, &deployment, facts.as_ref(), to_detect, effects);
            }
            Input::PolicyReplaced(policy) => {
                self.policy = policy.clone();
                // judge first: it must know a rule before detect's first answer about it
                self.judge.replace_policy(now, policy.clone(), to_detect, effects);
                self.detect.replace_policy(now, policy, to_respond, effects);
            }
            Input::Resumed { from, to, because } => {
                self.detect.resumed(from, to, because, to_respond);
                self.judge.resumed(from, to, because, to_detect, effects);
            }
            Input::Tick => {}
            Input::ClockMoved { offset_ms } => {
                self.detect.clock_moved(now, offset_ms, to_respond);
                self.judge.clock_moved(now, offset_ms, to_detect, effects);
            }
            Input::Storage(storage) => {
                self.detect.storage(now, &storage, to_respond);
                // a span in which nothing was seen is known before anything goes on after it
                if let Link::Immediate = self.link
                    && let Some(first) = to_respond.pop_front_if(|first| matches!(first, ToRespond::Unwatched(_)))
                {
                    self.judge.message(now, first, to_detect, effects);
                }
                self.judge.storage(now, &storage, to_detect, effects);
            }
            Input::Intake(intake) => self.detect.intake(now, intake, to_respond),
            Input::PolicyInvalid(diagnostics) => {
                self.judge.policy_invalid(now, diagnostics, to_detect, effects);
            }
            Input::StepEnded(end) => self.judge.step_ended(now, end, to_detect, effects),
            Input::DeliveryEnded { id, attempt, result } => {
                self.judge.delivery_ended(now, &id, attempt, result, to_detect, effects);
            }
            Input::Probed { attempt, .. } => self.judge.probed(now, &attempt, to_detect, effects),
            Input::Operator(operator) => self.judge.operator(now, operator, to_detect, effects),
            Input::Diverged { why } => self.judge.diverged(now, &why, to_detect, effects),
            Input::Upgraded(upgraded) => self.judge.upgraded(now, &upgraded, to_detect, effects),
            Input::Draining => self.judge.draining(now, to_detect, effects),
        }
        self.exchange(now, outbox, effects);
        // what became due at this very instant belongs to this turn
        self.fire_timers(now, effects);
    }

    fn next_arrival(&self) -> Option<Timestamp> {
        match &self.link {
            Link::Immediate => None,
            Link::Delayed(delayed) => delayed.next_arrival(),
        }
    }

    fn fire_timers(&mut self, until: Timestamp, effects: &mut Vec<Effect>) {
        while let Some(due) = self.next_deadline().filter(|due| *due <= until) {
            let at = due.max(self.now);
            self.now = at;
            let mut outbox = Outbox::default();
            let Outbox { to_respond, to_detect } = &mut outbox;
            let arrived = match &mut self.link {
                Link::Immediate => None,
                Link::Delayed(delayed) => delayed.arrived(due),
            };
            // at the same instant what has arrived comes first, and what is true before what follows from it
            match arrived {
                Some(Arrived::Respond(message)) => self.judge.message(at, message, to_detect, effects),
                Some(Arrived::Detect(message)) => self.detect.message(at, message, to_respond, effects),
                None if self.detect.next_deadline().is_some_and(|own| own <= due) => {
                    self.detect.fire(at, to_respond, effects);
                }
                None => self.judge.fire(at, to_detect, effects),
            }
            self.exchange(at, outbox, effects);
        }
    }

    /// Sends the messages of a turn; with the immediate link until both halves are quiet.
    fn exchange(&mut self, now: Timestamp, mut outbox: Outbox, effects: &mut Vec<Effect>) {
        if let Link::Delayed(delayed) = &mut self.link {
            return delayed.send(now, outbox);
        }
        for _ in 0..MAX_MESSAGES_PER_TURN {
            let Outbox { to_respond, to_detect } = &mut outbox;
            if let Some(message) = to_respond.pop_front() {
                self.judge.message(now, message, to_detect, effects);
            } else if let Some(message) = to_detect.pop_front() {
                self.detect.message(now, message, to_respond, effects);
            } else {
                return;
            }
        }
        unreachable!("detect and respond sent each other {MAX_MESSAGES_PER_TURN} messages in one turn");
    }
}

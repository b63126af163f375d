//! The world a replayed engine acts on: everything it decides is answered as it was recorded, or as one would hope.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::transcript::Transcript;
use selfheal_contract::{DeliveryResult, Effect, Observation, StepEnd};
use selfheal_engine::{Engine, Input};
use selfheal_model::{DeploymentId, Outcome, Timestamp, Value, Verb};

/// A call takes so long where none was recorded.
const CALL_TAKES: Duration = Duration::from_secs(2);
const DELIVERY_TAKES: Duration = Duration::from_millis(50);
const LOOK_TAKES: Duration = Duration::from_millis(20);
/// After the last input so much longer is played, for what is on its way.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// How calls ended, in order; the last one stands for all that come after.
pub type Outcomes = BTreeMap<(DeploymentId, Verb), VecDeque<(Outcome, Duration)>>;

/// What answers.
#[derive(Default)]
pub struct Stage {
    outcomes: Outcomes,
    /// The newest of each deployment.
    seen: BTreeMap<DeploymentId, Observation>,
    due: BTreeMap<(Timestamp, u64), Input>,
    next: u64,
}

impl Stage {
    pub fn answering(outcomes: Outcomes) -> Self {
        Stage { outcomes, ..Stage::default() }
    }

    /// Plays everything that comes before `until`.
    pub fn play(&mut self, engine: &mut Engine, until: Timestamp, transcript: &mut Transcript) {
        loop {
            let answer = self.due.first_key_value().map(|((at, _), _)| *at);
            let timer = engine.next_deadline();
            let Some(next) = answer.into_iter().chain(timer).min().filter(|next| *next <= until) else { return };
            let now = next.max(engine.now());
            let input = match answer {
                Some(at) if at <= next => self.due.pop_first().map(|(_, input)| input),
                _ => None,
            };
            self.hand_over(engine, now, input.unwrap_or(Input::Tick), transcript);
        }
    }

    pub fn hand_over(&mut self, engine: &mut Engine, at: Timestamp, input: Input, transcript: &mut Transcript) {
        if let Input::Observed { deployment, observation: Ok(observation) } = &input {
            self.seen.insert(deployment.clone(), observation.clone());
        }
        let mut effects = Vec::new();
        let at = at.max(engine.now());
        engine.handle(at, input, &mut effects);
        transcript.take(at, &effects);
        self.answer(at, &effects);
    }

    /// What is on its way arrives.
    pub fn finish(&mut self, engine: &mut Engine, last: Timestamp, transcript: &mut Transcript) {
        self.play(engine, last + AFTERWARDS, transcript);
    }

    fn later(&mut self, at: Timestamp, input: Input) {
        self.next += 1;
        self.due.insert((at, self.next), input);
    }

    pub fn answer(&mut self, now: Timestamp, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::StartStep(call) => {
                    let (outcome, took) = self.outcome(&call.deployment.id, &call.verb);
                    let end = StepEnd { id: call.id.clone(), outcome, log: String::new(), took };
                    self.later(now + took, Input::StepEnded(end));
                }
                Effect::Deliver(delivery) => {
                    let (id, attempt) = (delivery.id.clone(), delivery.attempt);
                    let ended = Input::DeliveryEnded { id, attempt, result: DeliveryResult::Delivered };
                    self.later(now + DELIVERY_TAKES, ended);
                }
                Effect::Observe { deployment } => {
                    if let Some(seen) = self.seen.get(deployment).cloned() {
                        let observed = Input::Observed { deployment: deployment.clone(), observation: Ok(seen) };
                        self.later(now + LOOK_TAKES, observed);
                    }
                }
                Effect::Probe { deployment, check, attempt } => {
                    let (deployment, check, attempt) = (deployment.clone(), check.clone(), attempt.clone());
                    self.later(now + LOOK_TAKES, Input::Probed { deployment, check, attempt });
                }
                Effect::CancelStep { id, .. } => {
                    let is_it = |input: &Input| matches!(input, Input::StepEnded(end) if end.id == *id);
                    let place = self.due.iter().find(|(_, input)| is_it(input)).map(|(place, _)| *place);
                    if let Some(Input::StepEnded(end)) = place.and_then(|place| self.due.remove(&place)) {
                        let end = StepEnd { outcome: Outcome::unknown("cancelled"), ..end };
                        self.later(now + LOOK_TAKES, Input::StepEnded(end));
                    }
                }
                Effect::Desired(_) | Effect::Emitted(_) | Effect::Show(_) | Effect::Answer { .. } => {}
            }
        }
    }

    fn outcome(&mut self, deployment: &DeploymentId, verb: &Verb) -> (Outcome, Duration) {
        let recorded = self.outcomes.get_mut(&(deployment.clone(), verb.clone()));
        let found = recorded
            .and_then(|recorded| if recorded.len() > 1 { recorded.pop_front() } else { recorded.front().cloned() });
        found.unwrap_or_else(|| (Outcome::done(Value::Null), CALL_TAKES))
    }
}

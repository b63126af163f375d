//! What the engine asks for: done in this world, and checked.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Behaviour, Call, DELIVERY_TAKES, Due, LOOK_TAKES, World, verdict};
use selfheal_contract::view::{AlertView, Change, RunView};
use selfheal_contract::{DeliveryResult, DesiredDeployment, Effect, StepCall, StepEnd};
use selfheal_engine::Input;
use selfheal_model::{Effectfulness, Event, EventKind, FailureClass, Origin, Outcome, Value};

/// Every byte of an effect that the edges get to see.
pub fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::StartStep(call) => format!(
            "{} {:?} {} {} {:?} {:?} {:?} {} {:?} {}",
            call.id,
            call.attempt,
            call.deployment.id,
            call.verb,
            call.params,
            call.facts,
            call.sick_replicas,
            call.fence,
            call.timeout,
            call.not_after
        ),
        Effect::Deliver(delivery) => format!("{} {} {:?}", delivery.id, delivery.attempt, delivery.notification),
        Effect::CancelStep { id, deployment } => format!("cancel {id} {deployment}"),
        Effect::Observe { deployment } => format!("observe {deployment}"),
        Effect::Probe { deployment, check, attempt } => format!("probe {deployment} {check} {attempt}"),
        Effect::Desired(desired) => {
            let wanted = |one: &DesiredDeployment| format!("{} {:?}", one.deployment.id, one.replicas);
            format!("desired {:?}", desired.deployments.iter().map(wanted).collect::<Vec<_>>())
        }
        Effect::Emitted(event) => format!("emitted {event:?}"),
        Effect::Show(change) => format!("show {change:?}"),
        Effect::Answer { ticket, answer } => format!("answer {ticket} {answer:?}"),
    }
}

impl World {
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartStep(call) => self.start(call),
                Effect::CancelStep { id, .. } => {
                    let key = self.due.iter().find_map(|(key, due)| match due {
                        Due::Step { call, .. } if call.id == id => Some(*key),
                        _ => None,
                    });
                    if let Some(Due::Step { call, behaviour }) = key.and_then(|key| self.due.remove(&key)) {
                        let behaviour = Behaviour { outcome: Outcome::unknown("cancelled"), ..behaviour };
                        self.later(LOOK_TAKES, Due::Step { call, behaviour });
                    }
                }
                Effect::Deliver(delivery) => {
                    let mut words = (*delivery.notification).clone();
                    words.possible_repeat = false;
                    let words = format!("{words:?}");
                    if let Some(before) = self.said.insert(delivery.id.to_string(), words.clone()) {
                        assert_eq!(before, words, "{} says something else now", delivery.id);
                    }
                    let waiting = self.receivers.get_mut(delivery.receiver.as_str());
                    let result = waiting.and_then(VecDeque::pop_front).unwrap_or(DeliveryResult::Delivered);
                    let word = match &result {
                        DeliveryResult::Delivered => "",
                        DeliveryResult::Transient { .. } => " (fails, may work later)",
                        DeliveryResult::Permanent { .. } => " (fails for good)",
                    };
                    let line = format!("sent {}: {}{word}", delivery.receiver, delivery.notification.subject());
                    self.say(line);
                    self.later(DELIVERY_TAKES, Due::Delivered { delivery, result });
                }
                Effect::Observe { deployment } => self.later(LOOK_TAKES, Due::Observe(deployment)),
                Effect::Probe { deployment, check, attempt } => {
                    let status = self.checks.get(&(deployment.as_str().to_owned(), check.as_str().to_owned())).copied();
                    if let Some(status) = status {
                        let event = Event {
                            deployment: deployment.clone(),
                            time: self.wall() + LOOK_TAKES,
                            kind: verdict(check.as_str(), status),
                            origin: Origin::Watched,
                        };
                        self.later(LOOK_TAKES, Due::Input(Input::Events(vec![event])));
                    }
                    self.later(LOOK_TAKES, Due::Input(Input::Probed { deployment, check, attempt }));
                }
                Effect::Desired(desired) => {
                    let with_adapter = desired.deployments.iter().filter(|entry| entry.adapter.is_some());
                    let now: BTreeSet<_> = with_adapter.map(|entry| entry.deployment.id.clone()).collect();
                    for id in now.difference(&self.adapters.clone()) {
                        self.later(LOOK_TAKES, Due::Observe(id.clone()));
                    }
                    self.adapters = now;
                }
                Effect::Emitted(event) => {
                    if let EventKind::Signal { name, .. } = &event.kind {
                        self.say(format!("signal {name} of {}", event.deployment));
                    }
                }
                Effect::Show(change) => self.show(change),
                Effect::Answer { ticket, answer } => {
                    self.answers.insert(ticket, answer);
                }
            }
        }
    }

    fn start(&mut self, call: Box<StepCall>) {
        let deployment = call.deployment.id.as_str().to_owned();
        let verb = call.verb.as_str().to_owned();
        if self.now > call.not_after {
            let outcome = Outcome::failed(FailureClass::Transient, "not begun: too late");
            let end = StepEnd { id: call.id.clone(), outcome, log: String::new(), took: Duration::ZERO };
            self.later(LOOK_TAKES, Due::Input(Input::StepEnded(end)));
            return;
        }
        let effect = call.adapter.verb(&verb).map(|spec| spec.effect);
        if effect != Some(Effectfulness::Read) {
            assert!(!self.paused, "{} acts although all is paused", call.id);
            let acting = self.acting.entry(deployment.clone()).or_default();
            let other = acting.iter().find(|other| other.whole_run() != call.id.whole_run());
            assert!(other.is_none(), "two runs act at once on {deployment}: {other:?} and {}", call.id);
            acting.push(call.id.clone());
            let fence = self.fences.entry(deployment.clone()).or_default();
            assert!(call.fence >= *fence, "the fence of {deployment} went back from {fence} to {}", call.fence);
            *fence = call.fence;
        }
        let params =
            if call.params.is_empty() { String::new() } else { format!(" {}", Value::Object(call.params.clone())) };
        self.say(format!("call {deployment} {verb}{params}"));
        let key = call.idempotency_key();
        self.calls.push(Call {
            deployment: deployment.clone(),
            verb: verb.clone(),
            fence: call.fence,
            key,
            record: self.journalled(),
        });
        let told = self.behaviours.get_mut(&(deployment, verb));
        let behaviour = match told {
            Some(told) if told.len() > 1 => told.pop_front(),
            Some(told) => told.front().cloned(),
            None => None,
        };
        let behaviour = behaviour.unwrap_or_else(Behaviour::done);
        self.later(behaviour.takes, Due::Step { call, behaviour });
    }

    fn show(&mut self, change: Change) {
        match change {
            Change::Alert(view) => {
                let key = format!(
                    "{}{}",
                    view.alert,
                    view.labels.get("deployment").map(|id| format!(" {id}")).unwrap_or_default()
                );
                let word = |view: &AlertView| {
                    let suppressed = view.suppressed.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
                    let without = if view.without_data { " without data" } else { "" };
                    let state = serde_json::to_value(view.state).expect("a word");
                    format!("{} {}{suppressed}{without}", state.as_str().unwrap_or_default(), view.severity)
                };
                let before = self.alerts.get(view.id.as_str()).map(word);
                let after = word(&view);
                if before.as_ref() != Some(&after) {
                    self.say(format!("alert {key}: {after}"));
                }
                self.alerts.insert(view.id.to_string(), *view);
            }
            Change::Run(view) => {
                let word = |view: &RunView| {
                    let refused =
                        view.refused.as_ref().map(|refused| format!(" by {}: {}", refused.guard, refused.figures));
                    let verdict = view.verdict.as_ref().map(|verdict| format!(" {verdict}")).unwrap_or_default();
                    format!("{}{verdict}{}", view.state, refused.unwrap_or_default())
                };
                let before = self.runs.get(view.id.as_str()).map(word);
                let after = word(&view);
                if before.as_ref() != Some(&after) {
                    self.say(format!("run {} {}: {after}", view.id, view.playbook));
                }
                self.runs.insert(view.id.to_string(), *view);
            }
            Change::Audit(entry) => self.say(format!("audit {}: {}", entry.who, entry.what)),
            Change::Engine(view) => self.paused = view.paused.is_some(),
            Change::Approval(view) => {
                self.say(format!("approval {}: {:?}", view.id, view.state));
                self.approvals.insert(view.id.to_string(), *view);
            }
            Change::Silence(view) => {
                self.say(format!("silence {}: {:?}", view.id, view.state));
                self.silences.insert(view.id.to_string(), *view);
            }
            Change::SilenceGone(id) => drop(self.silences.remove(id.as_str())),
            Change::Deployment(_) | Change::DeploymentGone(_) | Change::Delivery(_) => {}
        }
    }
}

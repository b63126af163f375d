//! The names a run's conditions and texts see.

use super::guards::labels_of;
use super::state::{Doing, Run};
use crate::alerts::Alerts;
use crate::run::At;
use crate::turn::Turn;
use selfheal_contract::view::StepView;
use selfheal_messages::{Context, LevelRef};
use selfheal_model::{AlertKey, Map, Value};
use selfheal_policy::playbook::Section;

impl Run {
    /// `above`: the steps of the run this one is a branch of.
    pub(super) fn context_below(&self, turn: &Turn<'_>, alerts: &Alerts, above: &[StepView]) -> Context {
        let alert = self.alert().and_then(|key| alerts.get(key));
        let own_labels = || turn.policy.deployments.get(&self.deployment).map(|deployment| labels_of(deployment));
        let in_rescue = matches!(self.course.at(), At::Step(Section::Rescue, _));
        Context {
            deployment: Some(self.deployment.clone()),
            alert: self.alert().cloned(),
            labels: alert.map(|alert| alert.labels.clone()).or_else(own_labels).unwrap_or_default(),
            value: alert.and_then(|alert| alert.value),
            severity: alert.map(|alert| alert.severity).or(self.level),
            inputs: self.inputs.clone(),
            steps: above
                .iter()
                .chain(&self.steps)
                .map(|step| {
                    let name = step.id.strip_prefix(&self.prefix).unwrap_or(&step.id);
                    (name.to_owned(), Value::Object(picture(step)))
                })
                .collect(),
            failed: self.failed.as_ref().filter(|_| in_rescue).map(|failed| {
                Map::from_iter([
                    ("id".to_owned(), Value::from(failed.id.clone())),
                    ("message".to_owned(), Value::from(failed.message.clone())),
                ])
            }),
            cut: None,
        }
    }

    pub(super) fn context(&self, turn: &Turn<'_>, alerts: &Alerts) -> Context {
        self.context_below(turn, alerts, &[])
    }

    /// The level of the rule at which the symptom is asked about: the level of the ladder, or of the alert where that has fallen lower: a fall stops
    /// nothing.
    pub(super) fn symptom_level(&self, alerts: &Alerts, key: &AlertKey) -> LevelRef {
        let now = alerts.get(key).map(|alert| alert.severity);
        let severity = self.level.into_iter().chain(now).min().unwrap_or_default();
        LevelRef { rule: key.rule.clone(), severity }
    }

    pub(super) fn gave_up(&self) -> bool {
        matches!(&self.doing, Doing::Waiting(waiting) if waiting.gave_up)
    }
}

/// `steps.ID`: a JSON text as output is parsed.
fn picture(step: &StepView) -> Map {
    let output = match &step.output {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.clone())),
        other => other.clone().unwrap_or(Value::Null),
    };
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    Map::from_iter([
        ("outcome".to_owned(), Value::from(step.outcome.as_str())),
        ("class".to_owned(), text(step.class.as_deref())),
        ("message".to_owned(), text(step.message.as_deref())),
        ("output".to_owned(), output),
        ("seconds".to_owned(), step.seconds.map_or(Value::Null, Value::from)),
    ])
}

//! What happened, as people read it and as two policies are compared by it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use selfheal_contract::Effect;
use selfheal_contract::view::{AlertStateWord, AlertView, Change, RunView};
use selfheal_model::Timestamp;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Line {
    pub at: Timestamp,
    pub text: String,
}

/// What a rule came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleSummary {
    pub fired: u64,
    pub seconds_firing: f64,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Transcript {
    pub lines: Vec<Line>,
    pub rules: BTreeMap<String, RuleSummary>,
    /// By playbook and verdict.
    pub playbooks: BTreeMap<String, BTreeMap<String, u64>>,
    /// Messages by receiver.
    pub receivers: BTreeMap<String, u64>,
    /// Runs that a guard refused, by guard.
    pub refused: BTreeMap<String, u64>,
    #[serde(skip)]
    alerts: BTreeMap<String, AlertView>,
    #[serde(skip)]
    runs: BTreeMap<String, String>,
    #[serde(skip)]
    delivered: BTreeSet<String>,
}

/// What only one of two transcripts has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub only_first: Vec<Line>,
    pub only_second: Vec<Line>,
}

impl Transcript {
    pub fn take(&mut self, at: Timestamp, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Show(Change::Alert(view)) => self.alert(at, view),
                Effect::Show(Change::Run(view)) => self.run(at, view),
                Effect::StartStep(call) => {
                    self.say(at, format!("call {} {} ({})", call.deployment.id, call.verb, call.id));
                }
                Effect::Deliver(delivery) => {
                    // one line for a message, however many notifiers and attempts
                    let message = format!("{}/{}", delivery.notification.group, delivery.notification.flush);
                    let key = format!("{}{message}{}", delivery.receiver, delivery.notification.thread_started);
                    if self.delivered.insert(key) {
                        *self.receivers.entry(delivery.receiver.to_string()).or_default() += 1;
                        self.say(at, format!("sent {}: {}", delivery.receiver, delivery.notification.subject()));
                    }
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, at: Timestamp, text: String) {
        self.lines.push(Line { at, text });
    }

    fn alert(&mut self, at: Timestamp, view: &AlertView) {
        let id = view.id.to_string();
        let before = self.alerts.insert(id, view.clone());
        let is_firing = view.state == AlertStateWord::Firing;
        let was_firing = before.as_ref().is_some_and(|before| before.state == AlertStateWord::Firing);
        let same = before.as_ref().is_some_and(|before| {
            (before.state, before.severity, before.without_data) == (view.state, view.severity, view.without_data)
        });
        if same {
            return;
        }
        let summary = self.rules.entry(view.alert.clone()).or_default();
        if is_firing && !was_firing {
            summary.fired += 1;
        }
        if was_firing && !is_firing {
            let since = before.and_then(|before| before.fired_at);
            summary.seconds_firing += since.map_or(0.0, |since| at.since(since).as_secs_f64());
        }
        let state = match view.state {
            AlertStateWord::Pending => "pending",
            AlertStateWord::Firing => "firing",
            AlertStateWord::Resolved => "resolved",
            AlertStateWord::Ended => "ended",
        };
        let place = view.labels.get("deployment").map(|id| format!(" {id}")).unwrap_or_default();
        let without = if view.without_data { ", without data" } else { "" };
        self.say(at, format!("alert {}{place}: {state} ({}{without})", view.alert, view.severity));
    }

    fn run(&mut self, at: Timestamp, view: &RunView) {
        let word = match (&view.verdict, &view.refused) {
            (Some(verdict), _) => verdict.to_string(),
            (None, Some(refused)) => format!("{} by {}", view.state, refused.guard),
            (None, None) => view.state.to_string(),
        };
        let before = self.runs.insert(view.id.to_string(), word.clone());
        if before.as_ref() == Some(&word) {
            return;
        }
        if let Some(verdict) = &view.verdict {
            *self.playbooks.entry(view.playbook.to_string()).or_default().entry(verdict.to_string()).or_default() += 1;
        } else if let Some(refused) = &view.refused {
            *self.refused.entry(refused.guard.to_string()).or_default() += 1;
        }
        self.say(at, format!("run {} {} on {}: {word}", view.id, view.playbook, view.deployment));
    }

    /// What lies between two instants.
    pub fn cut(&mut self, from: Option<Timestamp>, until: Option<Timestamp>) {
        self.lines.retain(|line| from.is_none_or(|from| line.at >= from) && until.is_none_or(|until| line.at <= until));
    }

    /// What the other does otherwise. Lines are compared with their instants.
    pub fn difference(&self, other: &Transcript) -> Difference {
        let count = |transcript: &Transcript| {
            let mut lines: BTreeMap<Line, i64> = BTreeMap::new();
            for line in &transcript.lines {
                *lines.entry(line.clone()).or_default() += 1;
            }
            lines
        };
        let (own, others) = (count(self), count(other));
        let only = |one: &BTreeMap<Line, i64>, two: &BTreeMap<Line, i64>| {
            one.iter()
                .filter(|(line, times)| two.get(line).copied().unwrap_or(0) < **times)
                .map(|(line, _)| line.clone())
                .collect()
        };
        Difference { only_first: only(&own, &others), only_second: only(&others, &own) }
    }
}

impl Difference {
    pub fn is_none(&self) -> bool {
        self.only_first.is_empty() && self.only_second.is_empty()
    }
}

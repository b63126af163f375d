//! What the steps do that are no action.

use std::time::Duration;

use smol_str::SmolStr;

use super::{Call, Part, Steps};
use crate::compile::checks::MIN_EVERY;
use crate::compile::inputs;
use crate::compile::keys::Keys;
use crate::compile::reader::Reader;
use crate::compile::yaml::{Kind, Node};
use crate::playbook::{Approve, SetCheck, StepKind};
use crate::schema;
use selfheal_model::units::format_duration;
use selfheal_model::{CheckName, PlaybookName, ReceiverName, SignalName};
use selfheal_script::Param;

/// An answer that takes longer is none, and what was measured then is history.
const MAX_ANSWER: Duration = Duration::from_secs(7 * 24 * 3600);
/// A check that is relaxed, or an alert that nobody hears, for longer than this is a change of the policy.
const MAX_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Steps at the same time, each with its calls and timers.
const MAX_BRANCHES: usize = 20;
/// Who may be asked for a word: the roles that may act.
const ROLES: [&str; 3] = ["operator", "approver", "admin"];

impl Steps<'_> {
    pub(super) fn wait(&mut self, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        if !matches!(node.kind, Kind::Map(_)) {
            return reader.duration(node).map(StepKind::Wait);
        }
        let keys = Keys::of(reader, &schema::WAIT, node)?;
        let until = keys.raw("until").and_then(|node| self.condition(node, part));
        let within = keys.duration("within");
        Some(StepKind::WaitUntil { until: until?, within })
    }

    pub(super) fn check(&self, node: &Node) -> Option<StepKind> {
        self.check_name(node).map(|check| StepKind::Check { check })
    }

    /// A check that some deployment has.
    fn check_name(&self, node: &Node) -> Option<CheckName> {
        let name = self.scripts.reader.text(node)?;
        let mut known: Vec<&str> = self
            .around
            .deployments
            .values()
            .flat_map(|deployment| deployment.checks.iter().map(|check| check.name.as_str()))
            .collect();
        known.sort_unstable();
        known.dedup();
        if !known.contains(&name.as_str()) && !self.around.deployments.is_empty() {
            self.scripts.reader.unknown(
                node.span,
                "unknown-check",
                "deployment with a check",
                &name,
                known.into_iter(),
            );
            return None;
        }
        Some(CheckName::from(name))
    }

    fn receiver(&self, node: &Node) -> Option<ReceiverName> {
        let reader = self.scripts.reader;
        let name = reader.text(node)?;
        if !self.around.receivers.has(&name) && !reader.configuration_is_unread() {
            reader.unknown(node.span, "unknown-receiver", "receiver", &name, self.around.receivers.names());
            return None;
        }
        Some(ReceiverName::from(name))
    }

    pub(super) fn notify(&self, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, &schema::NOTIFY, node)?;
        let receiver = keys.get("receiver").and_then(|node| self.receiver(node));
        let text = keys.get("text").and_then(|node| self.template(node, part));
        Some(StepKind::Notify { receiver: receiver?, text: text? })
    }

    pub(super) fn signal(&self, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, &schema::SIGNAL, node)?;
        let name = keys.name("name");
        let names = self.names_here(part);
        let fields = match keys.section("fields").map(|node| (node, self.scripts.param(node, &names))) {
            None => Vec::new(),
            Some((_, Some(Param::Map(fields)))) => fields,
            Some((_, None)) => return None,
            Some((node, Some(_))) => {
                reader.wrong_type(node, "a map of fields");
                return None;
            }
        };
        Some(StepKind::Signal { name: SignalName::from(name?), fields })
    }

    pub(super) fn approve(&self, node: &Node) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, &schema::APPROVE, node)?;
        let plain = Approve::default();
        let ask = keys.get("ask").map(|node| self.receiver(node));
        let by = keys.get("by").map(|node| role(reader, node));
        let timeout = at_most(reader, &keys, "timeout", MAX_ANSWER).unwrap_or(plain.timeout);
        if matches!(ask, Some(None)) || matches!(by, Some(None)) {
            return None;
        }
        Some(StepKind::Approve(Approve { ask: ask.flatten(), by: by.flatten().unwrap_or(plain.by), timeout }))
    }

    pub(super) fn set_check(&self, node: &Node) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, &schema::SET_CHECK, node)?;
        let check = keys.get("name").and_then(|node| self.check_name(node));
        let threshold = |key| keys.count_if_written(key);
        let every = at_most(reader, &keys, "every", MAX_FOR);
        if let (Some(every), Some(node)) = (every, keys.section("every"))
            && every < MIN_EVERY
        {
            reader.error(node.span, "out-of-range", "a check runs every 100ms at most");
        }
        let timeout = at_most(reader, &keys, "timeout", MAX_FOR);
        let (failure_threshold, success_threshold) = (threshold("failure_threshold"), threshold("success_threshold"));
        let for_ = at_most(reader, &keys, "for", MAX_FOR);
        const FIGURES: [&str; 4] = ["timeout", "every", "failure_threshold", "success_threshold"];
        if node.entries()?.iter().all(|entry| matches!(entry.key.as_str(), "name" | "for")) {
            let message = format!("`set_check` sets nothing: say at least one of {}", FIGURES.join(", "));
            reader.error(node.span, "missing-key", message);
            return None;
        }
        let check = check?;
        Some(StepKind::SetCheck(SetCheck { check, every, timeout, failure_threshold, success_threshold, for_: for_? }))
    }

    pub(super) fn silence(&self, node: &Node) -> Option<StepKind> {
        bounded(self.scripts.reader, node, "silence", MAX_FOR).map(StepKind::Silence)
    }

    /// Another playbook; what it takes is checked as that of a rung is.
    pub(super) fn playbook(&mut self, keys: &Keys<'_>, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let name = reader.text(node)?;
        self.playbooks.known(reader, node, &name, std::iter::empty())?;
        self.calls.push(Call { name: name.clone(), span: node.span, beside_others: self.branch_of.is_some() });
        let inputs = self.playbooks.inputs(&name);
        let name = PlaybookName::from(name);
        let with = match inputs {
            Some(inputs) => {
                let names = self.names_here(part);
                inputs::with(self.scripts, &name, inputs, keys.section("with"), node.span, &names)
            }
            None => Vec::new(),
        };
        Some(StepKind::Playbook { name, with })
    }

    /// Steps at the same time. None of them can name another; whatever comes after can name all.
    pub(super) fn parallel(&mut self, node: &Node, part: Part, id: &str) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let items = reader.list(node, "a list of steps that run at the same time");
        if matches!(node.kind, Kind::List(_)) && !(2..=MAX_BRANCHES).contains(&items.len()) {
            let message = format!("`parallel` has from 2 to {MAX_BRANCHES} steps, not {}", items.len());
            reader.error(node.span, "out-of-range", message);
        }
        let start = self.before.len();
        let mut ids = Vec::new();
        let mut branches = Vec::new();
        self.branch_of = Some(id.to_owned());
        for (index, item) in items.iter().enumerate() {
            branches.push(self.step(item, part, index + 1));
            ids.extend(self.before.drain(start..));
        }
        self.branch_of = None;
        self.before.extend(ids);
        let branches: Vec<_> = branches.into_iter().collect::<Option<_>>()?;
        (!branches.is_empty()).then_some(StepKind::Parallel(branches))
    }
}

fn role(reader: &Reader<'_>, node: &Node) -> Option<SmolStr> {
    let name = reader.text(node)?;
    if !ROLES.contains(&name.as_str()) {
        reader.unknown(node.span, "unknown-role", "role that may approve", &name, ROLES.into_iter());
        return None;
    }
    Some(name.into())
}

/// A span that is longer than nothing and ends.
fn at_most(reader: &Reader<'_>, keys: &Keys<'_>, key: &'static str, most: Duration) -> Option<Duration> {
    keys.get(key).and_then(|node| bounded(reader, node, key, most))
}

fn bounded(reader: &Reader<'_>, node: &Node, key: &str, most: Duration) -> Option<Duration> {
    let span = reader.duration(node)?;
    if span.is_zero() || span > most {
        let message = format!("`{key}` is longer than 0s and at most {}", format_duration(most));
        reader.error(node.span, "out-of-range", message);
        return None;
    }
    Some(span)
}

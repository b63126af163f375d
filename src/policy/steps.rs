//! The steps of a playbook.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fields::{self, Texts};
use super::keys::Keys;
use super::reader::Defined;
use super::rules::note_firing;
use super::scripts::Scripts;
use super::yaml::{Kind, Node, Span};
use crate::model::{
    AdapterDef, CheckName, Deployment, DeploymentId, FieldKind, FieldSpec, ReceiverName, SignalName, StepId, Verb,
    VerbSpec, units,
};
use crate::playbook::{Retry, Step, StepKind};
use crate::script::{Condition, Names, Param, Template};

const ACTION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
const WAIT_WITHIN: Duration = Duration::from_secs(5 * 60);
const MAX_ATTEMPTS: u32 = 100;
const KINDS: [&str; 6] = ["action", "wait", "assert", "check", "notify", "signal"];
const NOT_BUILT: [&str; 5] = ["approve", "set_check", "silence", "playbook", "parallel"];

/// Everything a step may name.
pub(super) struct Surroundings<'a> {
    /// Every verb of the policy's adapters with what each adapter says of it.
    pub verbs: BTreeMap<String, Vec<VerbSpec>>,
    pub deployments: &'a BTreeMap<DeploymentId, std::sync::Arc<Deployment>>,
    pub listed: &'a Defined,
    pub adapters: &'a BTreeMap<crate::model::AdapterName, std::sync::Arc<AdapterDef>>,
    pub receivers: &'a Defined,
    /// An adapter could not be understood: a verb may be its.
    pub verbs_are_whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Main,
    Rescue,
    Finally,
}

/// Reads the steps of one playbook, in order.
pub(super) struct Steps<'a> {
    pub scripts: &'a Scripts<'a>,
    names: &'a Names<'a>,
    around: &'a Surroundings<'a>,
    ids: Defined,
    /// Ids so far: what a later step may name.
    before: Vec<String>,
    pub firing: Vec<(String, Span)>,
    /// A step could not be understood.
    pub broken: bool,
}

impl<'a> Steps<'a> {
    pub fn new(scripts: &'a Scripts<'a>, names: &'a Names<'a>, around: &'a Surroundings<'a>) -> Self {
        let (ids, before, firing) = Default::default();
        Steps { scripts, names, around, ids, before, firing, broken: false }
    }

    /// The names a script at this point may use.
    pub fn names_here(&self, part: Part) -> Names<'_> {
        Names { steps: Some(self.before.as_slice()), in_rescue: part == Part::Rescue, ..self.names.clone() }
    }

    pub fn read(&mut self, node: &Node, part: Part) -> Vec<Step> {
        let mut steps = Vec::new();
        for (index, node) in self.scripts.reader.list(node, "a list of steps").iter().enumerate() {
            match self.step(node, part, index + 1) {
                Some(step) => steps.push(step),
                None => self.broken = true,
            }
        }
        self.broken |= !matches!(node.kind, Kind::List(_));
        steps
    }

    fn step(&mut self, node: &Node, part: Part, number: usize) -> Option<Step> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, "step", node)?;
        let id = self.id(&keys, part, number);
        let if_ = keys.raw("if").map(|node| self.condition(node, part));
        let kind = self.kind(&keys, node, part);
        let best_effort = keys.boolean("best_effort", false);
        let timeout = keys.get("timeout").and_then(|node| {
            reader.duration(node).filter(|span| {
                if span.is_zero() {
                    reader.error(node.span, "out-of-range", "`timeout` must be longer than 0s");
                }
                !span.is_zero()
            })
        });
        let retry = keys.get("retry").map(|node| retry(self.scripts, node));
        for key in ["retry", "undo", "with", "deployment"] {
            if !keys.has("action") && keys.has(key) {
                let span =
                    node.entries()?.iter().find(|entry| entry.key == key).map_or(node.span, |entry| entry.key_span);
                reader.error(span, "conflict", format!("`{key}` belongs to a step with an `action`"));
            }
        }
        self.before.push(id.clone());
        let undo = keys.get("undo").map(|node| self.undo(node, part, &id));
        keys.finish(&NOT_BUILT);
        let kind = kind?;
        if matches!(if_, Some(None)) || matches!(undo, Some(None)) {
            return None;
        }
        Some(Step {
            id: StepId::from(id),
            timeout: timeout.unwrap_or_else(|| default_timeout(&kind)),
            kind,
            if_: if_.flatten(),
            best_effort,
            retry: retry.unwrap_or_default(),
            undo: undo.flatten().map(Box::new),
        })
    }

    fn id(&mut self, keys: &Keys<'_>, part: Part, number: usize) -> String {
        let reader = self.scripts.reader;
        let prefix = match part {
            Part::Main => "step",
            Part::Rescue => "rescue",
            Part::Finally => "finally",
        };
        let own = keys.get("id").and_then(|node| {
            let text = reader.text(node)?;
            let good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
            if text.is_empty() || !text.chars().all(good) {
                let message = format!("`{text}` is no id: letters, digits, `_`, `-` and `.` only");
                reader.error(node.span, "wrong-value", message);
                self.broken = true;
            }
            Some((text, node.span))
        });
        let (id, span) = own.unwrap_or_else(|| (format!("{prefix}-{number}"), keys.span));
        self.broken |= !self.ids.add(reader, "step", &id, span);
        id
    }

    fn condition(&mut self, node: &Node, part: Part) -> Option<Condition> {
        let condition = self.scripts.condition(node, &self.names_here(part))?;
        note_firing(self.scripts, &condition, node, &mut self.firing);
        Some(condition)
    }

    fn template(&self, node: &Node, part: Part) -> Option<Template> {
        self.scripts.template(node, &self.names_here(part))
    }

    fn kind(&mut self, keys: &Keys<'_>, node: &Node, part: Part) -> Option<StepKind> {
        let present: Vec<&str> = KINDS.into_iter().filter(|kind| keys.has(kind)).collect();
        let not_built = NOT_BUILT.iter().any(|kind| keys.has(kind));
        if present.len() != 1 && !(present.is_empty() && not_built) {
            let (code, message) = match present.as_slice() {
                [] => ("missing-key", format!("a step does one thing: one of {}", KINDS.join(", "))),
                several => ("conflict", format!("a step does one thing, not {}", several.join(" and "))),
            };
            self.scripts.reader.error(node.span, code, message);
        }
        let action = keys.raw("action").and_then(|node| self.action(keys, node, part));
        let _ = (keys.raw("with"), keys.raw("deployment"));
        let wait = keys.get("wait").and_then(|node| self.wait(node, part));
        let assert = keys.raw("assert").and_then(|node| {
            let condition = self.condition(node, part)?;
            let message = keys.get("message").map(|node| self.template(node, part));
            match message {
                Some(None) => None,
                message => Some(StepKind::Assert { condition, message: message.flatten() }),
            }
        });
        if let (Some(entry), false) = (keys.entry("message"), keys.has("assert")) {
            self.scripts.reader.error(entry.key_span, "conflict", "`message` belongs to a step with an `assert`");
        }
        let check = keys.get("check").and_then(|node| self.check(node));
        let notify = keys.get("notify").and_then(|node| self.notify(node, part));
        let signal = keys.get("signal").and_then(|node| self.signal(node, part));
        action.or(wait).or(assert).or(check).or(notify).or(signal).filter(|_| present.len() == 1)
    }

    fn action(&mut self, keys: &Keys<'_>, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let verb = reader.text(node)?;
        let deployment = match keys.get("deployment") {
            Some(node) => Some(self.other_deployment(node, &verb)?),
            None => None,
        };
        let specs = self.around.verbs.get(&verb);
        if specs.is_none() && self.around.verbs_are_whole && !reader.configuration_is_unread() {
            let known = self.around.verbs.keys().map(String::as_str);
            reader.unknown(node.span, "unknown-verb", "adapter in this policy with a verb", &verb, known);
            return None;
        }
        let with_node = keys.section("with");
        let names = self.names_here(part);
        let with = match specs.and_then(|specs| common(specs)) {
            Some(fields) => {
                let entries = match with_node.map(|node| (node, node.entries())) {
                    None => &[],
                    Some((_, Some(entries))) => entries,
                    Some((node, None)) => {
                        reader.wrong_type(node, "a map of parameters");
                        return None;
                    }
                };
                let texts = Texts::Templates(self.scripts, &names);
                fields::fields(&texts, &format!("`{verb}`"), &fields, entries, node.span)
            }
            None => match with_node.map(|node| self.scripts.param(node, &names)) {
                None => Vec::new(),
                Some(Some(Param::Map(entries))) => entries,
                Some(None) => return None,
                Some(Some(_)) => {
                    reader.wrong_type(with_node?, "a map of parameters");
                    return None;
                }
            },
        };
        Some(StepKind::Action { verb: Verb::from(verb), with, deployment })
    }

    fn other_deployment(&self, node: &Node, verb: &str) -> Option<DeploymentId> {
        let reader = self.scripts.reader;
        let id = reader.text(node)?;
        if !self.around.listed.has(&id) {
            if !reader.may_be_unread("deployments/") {
                reader.unknown(node.span, "unknown-deployment", "deployment", &id, self.around.listed.names());
            }
            return None;
        }
        let deployment = self.around.deployments.get(id.as_str())?;
        match deployment.adapter.as_ref().map(|name| self.around.adapters.get(name)) {
            None => {
                let message = format!("`{id}` has no adapter: nobody can act on it");
                reader.error(node.span, "unknown-verb", message);
            }
            Some(Some(adapter)) if adapter.verb(verb).is_none() => {
                let message = format!("the adapter `{}` of `{id}` has no verb `{verb}`", adapter.name);
                reader.error(node.span, "unknown-verb", message);
            }
            _ => {}
        }
        Some(DeploymentId::from(id))
    }

    fn undo(&mut self, node: &Node, part: Part, of: &str) -> Option<Step> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, "undo", node)?;
        if !keys.has("action") {
            keys.missing("action");
        }
        let kind = keys.raw("action").and_then(|node| self.action(&keys, node, part));
        let _ = (keys.raw("with"), keys.raw("deployment"));
        let timeout = keys.positive_duration("timeout", ACTION_TIMEOUT);
        let retry = keys.get("retry").map(|node| retry(self.scripts, node)).unwrap_or_default();
        keys.finish(&[]);
        let id = StepId::from(format!("undo-{of}"));
        Some(Step { id, kind: kind?, if_: None, timeout, best_effort: false, retry, undo: None })
    }

    fn wait(&mut self, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        if !matches!(node.kind, Kind::Map(_)) {
            return reader.duration(node).map(StepKind::Wait);
        }
        let keys = Keys::of(reader, "wait", node)?;
        if !keys.has("until") {
            keys.missing("until");
        }
        let until = keys.raw("until").and_then(|node| self.condition(node, part));
        let within = keys.positive_duration("within", WAIT_WITHIN);
        keys.finish(&[]);
        Some(StepKind::WaitUntil { until: until?, within })
    }

    fn check(&self, node: &Node) -> Option<StepKind> {
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
        Some(StepKind::Check { check: CheckName::from(name) })
    }

    fn notify(&self, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, "notify", node)?;
        let receiver = keys.required("receiver").and_then(|node| {
            let name = reader.text(node)?;
            if !self.around.receivers.has(&name) && !reader.configuration_is_unread() {
                reader.unknown(node.span, "unknown-receiver", "receiver", &name, self.around.receivers.names());
                return None;
            }
            Some(ReceiverName::from(name))
        });
        let text = keys.required("text").and_then(|node| self.template(node, part));
        keys.finish(&[]);
        Some(StepKind::Notify { receiver: receiver?, text: text? })
    }

    fn signal(&self, node: &Node, part: Part) -> Option<StepKind> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, "signal", node)?;
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
        keys.finish(&[]);
        Some(StepKind::Signal { name: SignalName::from(name?), fields })
    }
}

fn default_timeout(kind: &StepKind) -> Duration {
    match kind {
        StepKind::Action { .. } => ACTION_TIMEOUT,
        StepKind::Wait(span) => *span,
        StepKind::WaitUntil { within, .. } => *within,
        _ => STEP_TIMEOUT,
    }
}

/// `{ attempts: 3, backoff: 2s..30s }`
fn retry(scripts: &Scripts<'_>, node: &Node) -> Retry {
    let reader = scripts.reader;
    let mut retry = Retry::default();
    let Some(keys) = Keys::of(reader, "retry", node) else { return retry };
    retry.attempts = keys.count("attempts", 1, MAX_ATTEMPTS, 3);
    if let Some(node) = keys.get("backoff")
        && let Some(text) = reader.text(node)
    {
        let (from, to) = text.split_once("..").unwrap_or((&text, &text));
        match (units::parse_duration(from), units::parse_duration(to)) {
            (Ok(from), Ok(to)) if from <= to => (retry.backoff, retry.backoff_max) = (from, to),
            _ => reader.wrong_type(node, "a span of durations such as 2s..30s"),
        }
    }
    keys.finish(&[]);
    retry
}

/// What every adapter with this verb takes, together; `None`: anything.
fn common(specs: &[VerbSpec]) -> Option<Vec<FieldSpec>> {
    let mut fields: Vec<FieldSpec> = Vec::new();
    for spec in specs {
        for field in spec.params.as_ref()? {
            match fields.iter_mut().find(|known| known.name == field.name) {
                Some(known) if known.kind != field.kind => known.kind = FieldKind::Any,
                Some(_) => {}
                None => fields.push(field.clone()),
            }
        }
    }
    for field in &mut fields {
        field.required = specs.iter().all(|spec| {
            let params = spec.params.as_deref().unwrap_or_default();
            params.iter().any(|own| own.name == field.name && own.required)
        });
    }
    Some(fields)
}

/// The verbs asked of the deployment a run is on, without those of `best_effort` steps.
pub(super) fn asked_verbs<'s>(steps: impl Iterator<Item = &'s Step>) -> Vec<String> {
    let mut verbs = Vec::new();
    let mut add = |step: &Step| {
        if let StepKind::Action { verb, deployment: None, .. } = &step.kind
            && !step.best_effort
            && !verbs.iter().any(|known| known == verb.as_str())
        {
            verbs.push(verb.to_string());
        }
    };
    for step in steps {
        add(step);
        if let Some(undo) = &step.undo {
            add(undo);
        }
    }
    verbs
}

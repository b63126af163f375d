//! The steps of a playbook. What they do that are no action is in `kinds`.

mod kinds;

use std::time::Duration;

use super::fields::{self, Texts};
use super::keys::Keys;
use super::names::{PlaybookNames, Surroundings};
use super::reader::Defined;
use super::scripts::Scripts;
use super::yaml::{Kind, Node, Span};
use crate::playbook::{Retry, Step, StepKind};
use crate::schema;
use selfheal_model::{DeploymentId, FieldKind, FieldSpec, StepId, Verb, VerbSpec, units};
use selfheal_script::{Condition, Names, Param, Template};

const ACTION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// What consists of other steps takes as long as they do: the run's own deadline comes before this.
const PARTS_TIMEOUT: Duration = super::guards::MAX_SPAN;
/// Why an `approve` is not among steps at the same time.
pub(crate) const APPROVE_ALONE: &str =
    "a run that waits for an answer gives its lease back, which the steps beside it need";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Rescue,
    Finally,
}

/// Reads the steps of one playbook, in order.
pub(crate) struct Steps<'a> {
    pub scripts: &'a Scripts<'a>,
    names: &'a Names<'a>,
    around: &'a Surroundings<'a>,
    ids: Defined,
    /// Ids so far: what a later step may name.
    before: Vec<String>,
    pub firing: Vec<(String, Span)>,
    playbooks: &'a PlaybookNames,
    /// The other playbooks that are run.
    pub calls: Vec<Call>,
    /// The `parallel` whose steps are being read.
    branch_of: Option<String>,
    /// A step could not be understood.
    pub broken: bool,
}

/// A step that runs another playbook.
pub(crate) struct Call {
    pub name: String,
    pub span: Span,
    /// It is a step of a `parallel`.
    pub beside_others: bool,
}

impl<'a> Steps<'a> {
    pub fn new(
        scripts: &'a Scripts<'a>,
        names: &'a Names<'a>,
        around: &'a Surroundings<'a>,
        playbooks: &'a PlaybookNames,
    ) -> Self {
        let (ids, before, firing, calls) = Default::default();
        Steps { scripts, names, around, ids, before, firing, playbooks, calls, branch_of: None, broken: false }
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
        let keys = Keys::of(reader, &schema::STEP, node)?;
        let id = self.id(&keys, part, number);
        let if_ = keys.raw("if").map(|node| self.condition(node, part));
        let kind = self.kind(&keys, node, part, &id);
        let best_effort = keys.boolean("best_effort");
        let timeout = keys.get("timeout").and_then(|node| {
            reader.duration(node).filter(|span| {
                if span.is_zero() {
                    reader.error(node.span, "out-of-range", "`timeout` must be longer than 0s");
                }
                !span.is_zero()
            })
        });
        let retry = keys.get("retry").map(|node| retry(self.scripts, node));
        for key in ["retry", "undo", "with", "deployment"].into_iter().filter(|key| keys.has(key)) {
            let takes_inputs = key == "with" && keys.has("playbook");
            if !keys.has("action") && !takes_inputs {
                let to = if key == "with" { "an `action` or a `playbook`" } else { "an `action`" };
                reader.error(key_span(node, key), "conflict", format!("`{key}` belongs to a step with {to}"));
            }
        }
        if keys.has("approve") {
            let wrong = [
                ("timeout", "how long an answer may take stands inside: `approve: { timeout: 30m }`"),
                ("best_effort", "an answer that stops nothing is none: `approve` is never `best_effort`"),
            ];
            for (key, message) in wrong.into_iter().filter(|(key, _)| keys.has(key)) {
                reader.error(key_span(node, key), "conflict", message);
            }
        }
        self.before.push(id.clone());
        let undo = keys.get("undo").map(|node| self.undo(node, part, &id));
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
        let prefix = self.branch_of.as_deref().unwrap_or(prefix);
        let (id, span) = own.unwrap_or_else(|| (format!("{prefix}-{number}"), keys.span));
        self.broken |= !self.ids.add(reader, "step", &id, span);
        id
    }

    fn condition(&mut self, node: &Node, part: Part) -> Option<Condition> {
        let condition = self.scripts.condition(node, &self.names_here(part))?;
        self.scripts.note_firing(&condition, node, &mut self.firing);
        Some(condition)
    }

    fn template(&self, node: &Node, part: Part) -> Option<Template> {
        self.scripts.template(node, &self.names_here(part))
    }

    fn kind(&mut self, keys: &Keys<'_>, node: &Node, part: Part, id: &str) -> Option<StepKind> {
        let present: Vec<&str> = keys.alternatives();
        if present.len() != 1 {
            let (code, message) = match present.as_slice() {
                [] => ("missing-key", format!("a step does one thing: one of {}", schema::STEP.one_of.join(", "))),
                several => ("conflict", format!("a step does one thing, not {}", several.join(" and "))),
            };
            self.scripts.reader.error(node.span, code, message);
        }
        if self.branch_of.is_some() {
            self.alone(keys, node);
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
        let approve = keys.get("approve").and_then(|node| self.approve(node));
        let set_check = keys.get("set_check").and_then(|node| self.set_check(node));
        let silence = keys.get("silence").and_then(|node| self.silence(node));
        let playbook = keys.get("playbook").and_then(|node| self.playbook(keys, node, part));
        let parallel = match self.branch_of {
            None => keys.get("parallel").and_then(|node| self.parallel(node, part, id)),
            Some(_) => keys.raw("parallel").and(None),
        };
        let plain = action.or(wait).or(assert).or(check).or(notify).or(signal);
        let kind = plain.or(approve).or(set_check).or(silence).or(playbook).or(parallel);
        kind.filter(|_| present.len() == 1)
    }

    /// Says what cannot be among steps at the same time.
    fn alone(&self, keys: &Keys<'_>, node: &Node) {
        let wrong = [
            ("approve", format!("`approve` cannot be a step of `parallel`: {APPROVE_ALONE}")),
            ("parallel", "`parallel` cannot be a step of `parallel`; put all its steps into one".to_owned()),
        ];
        for (key, message) in wrong.into_iter().filter(|(key, _)| keys.has(key)) {
            self.scripts.reader.error(key_span(node, key), "conflict", message);
        }
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
        let deployment = self.around.listed_deployment(reader, node, &id)?;
        match deployment.adapter.as_ref().map(|name| self.around.adapters.get(name)) {
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
        let keys = Keys::of(reader, &schema::UNDO, node)?;
        let kind = keys.raw("action").and_then(|node| self.action(&keys, node, part));
        let _ = (keys.raw("with"), keys.raw("deployment"));
        let timeout = keys.duration("timeout");
        let retry = keys.get("retry").map(|node| retry(self.scripts, node)).unwrap_or_default();
        let id = StepId::from(format!("undo-{of}"));
        Some(Step { id, kind: kind?, if_: None, timeout, best_effort: false, retry, undo: None })
    }
}

fn default_timeout(kind: &StepKind) -> Duration {
    match kind {
        StepKind::Action { .. } => ACTION_TIMEOUT,
        StepKind::Wait(span) => *span,
        StepKind::WaitUntil { within, .. } => *within,
        StepKind::Approve(approve) => approve.timeout,
        StepKind::Playbook { .. } | StepKind::Parallel(_) => PARTS_TIMEOUT,
        _ => STEP_TIMEOUT,
    }
}

/// `{ attempts: 3, backoff: 2s..30s }`
fn retry(scripts: &Scripts<'_>, node: &Node) -> Retry {
    let reader = scripts.reader;
    let mut retry = Retry::default();
    let Some(keys) = Keys::of(reader, &schema::RETRY, node) else { return retry };
    retry.attempts = keys.count("attempts");
    if let Some(node) = keys.get("backoff")
        && let Some(text) = reader.text(node)
    {
        let (from, to) = text.split_once("..").unwrap_or((&text, &text));
        match (units::parse_duration(from), units::parse_duration(to)) {
            (Ok(from), Ok(to)) if from <= to => (retry.backoff, retry.backoff_max) = (from, to),
            _ => reader.wrong_type(node, "a span of durations such as 2s..30s"),
        }
    }
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

/// The verbs asked of the deployment a run is on, and the playbooks that are run; without those of `best_effort` steps.
pub(crate) fn asked<'s>(steps: impl Iterator<Item = &'s Step>) -> (Vec<String>, Vec<String>) {
    let (mut verbs, mut playbooks): (Vec<String>, Vec<String>) = Default::default();
    let mut add = |step: &Step| {
        let (into, name) = match &step.kind {
            StepKind::Action { verb, deployment: None, .. } => (&mut verbs, verb.as_str()),
            StepKind::Playbook { name, .. } => (&mut playbooks, name.as_str()),
            _ => return,
        };
        if !step.best_effort && into.iter().all(|known| known != name) {
            into.push(name.to_owned());
        }
    };
    let together = |step: &Step| matches!(step.kind, StepKind::Parallel(_));
    for step in steps.filter(|step| !(together(step) && step.best_effort)).flat_map(Step::with_branches) {
        add(step);
        if let Some(undo) = &step.undo {
            add(undo);
        }
    }
    (verbs, playbooks)
}

fn key_span(node: &Node, key: &str) -> Span {
    let entries = node.entries().unwrap_or_default();
    entries.iter().find(|entry| entry.key == key).map_or(node.span, |entry| entry.key_span)
}

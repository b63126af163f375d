//! `remediate:` of a rule and `ladders:`: which playbooks in which order.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::keys::Keys;
use super::names::{PlaybookNames, RuleNames, Surroundings};
use super::playbooks::ReadPlaybook;
use super::reader::{Defined, Reader};
use super::rules::{Clears, LadderNode, ReadRule, RuleHead};
use super::scripts::{Scripts, is_template};
use super::yaml::{Kind, Node, Span};
use crate::ladder::{self, Ladder, On, Rung};
use crate::schema;
use selfheal_model::{Map, PlaybookName, RuleName};
use selfheal_script::{Names, Param};

/// The shortest time between one run of a rung and the next.
const MIN_REPEAT: Duration = Duration::from_secs(1);

/// The ladders that have a name, of all files.
#[derive(Default)]
pub(crate) struct NamedLadders<'n> {
    names: Defined,
    nodes: BTreeMap<String, &'n Node>,
}

impl<'n> NamedLadders<'n> {
    pub fn add(&mut self, reader: &Reader<'_>, node: &'n Node) {
        let Some(entries) = node.entries() else {
            reader.wrong_type(node, "a map of names to lists of playbooks");
            return;
        };
        for entry in entries {
            if self.names.add(reader, "ladder", &entry.key, entry.key_span) {
                self.nodes.insert(entry.key.clone(), &entry.value);
            }
        }
    }
}

/// Everything a ladder may name.
pub(crate) struct Known<'a> {
    pub playbooks: &'a BTreeMap<String, ReadPlaybook>,
    pub playbook_names: &'a PlaybookNames,
    pub rules: &'a [ReadRule],
    pub rule_names: &'a RuleNames,
    pub ladders: &'a NamedLadders<'a>,
    pub around: &'a Surroundings<'a>,
    /// Named ladders that some rule has.
    pub used: RefCell<BTreeSet<String>>,
}

/// A rung with its place.
pub(crate) struct ReadRung {
    pub rung: Rung,
    pub span: Span,
}

/// What the rungs of one ladder share.
struct Shared<'a> {
    scripts: &'a Scripts<'a>,
    names: Names<'a>,
    give_up: Duration,
}

impl Known<'_> {
    /// The ladder of a rule at one severity.
    pub fn read(&self, scripts: &Scripts<'_>, rule: &RuleHead, ladder: &LadderNode) -> Vec<ReadRung> {
        let reader = scripts.reader;
        let rungs =
            self.rungs_of(scripts, ladder, if rule.routine { ladder::ROUTINE_GIVE_UP } else { ladder::GIVE_UP });
        let for_scope = |read: &&ReadRung| read.rung.on.is_none();
        if !rule.has_deployment()
            && let Some(read) = rungs.iter().find(for_scope)
        {
            let message = format!(
                "`{}` repairs the deployment of the alert's scope, and the scope of `{}` has none",
                read.rung.playbook, rule.name
            );
            let help = "say which deployments with `on`, or put `deployment` into `per`";
            reader.error_with_help(ladder.node.span, "ladder-without-deployment", message, help);
        }
        for read in rungs.iter().filter(|_| ladder.clears == Clears::OnlyWithTime) {
            let playbook = self.playbooks.get(read.rung.playbook.as_str());
            if playbook.is_some_and(|read| read.playbook.verify.until.is_none()) {
                let message = format!(
                    "nothing can prove that `{}` cured: the rule gets clear by the passing of a signal's window alone",
                    read.rung.playbook
                );
                let help = "give the rule a `clear_when`, or the playbook a `verify: { until: … }`";
                reader.error_with_help(read.span, "needs-until", message, help);
            }
        }
        rungs
    }

    /// The ladder for an alert from elsewhere: each rung is for whom it says, else for whom `on` says.
    pub fn read_for_posted(
        &self,
        scripts: &Scripts<'_>,
        settings: &Arc<Map>,
        node: &Node,
        on: Option<&Node>,
    ) -> Vec<ReadRung> {
        let names = Names { settings: Some(settings), ..Names::default() };
        let shared = Shared { scripts, names, give_up: ladder::GIVE_UP };
        let given = on.map(|node| self.on(&shared, node));
        let mut rungs = self.rungs(&shared, node, 0);
        for read in rungs.iter_mut().filter(|read| read.rung.on.is_none()) {
            match &given {
                Some(on) => read.rung.on.clone_from(on),
                None => {
                    let message = format!("it is not said what `{}` is to repair", read.rung.playbook);
                    let help = "write `on: \"{{ labels.deployment }}\"`, or another label that names it";
                    scripts.reader.error_with_help(read.span, "ladder-without-deployment", message, help);
                }
            }
        }
        rungs
    }

    /// Ladders that nobody has, for their mistakes.
    pub fn read_unused(&self, scripts: &Scripts<'_>, settings: &Arc<Map>) {
        let used = self.used.take();
        for (_, node) in self.ladders.nodes.iter().filter(|(name, _)| !used.contains(*name)) {
            let (node, settings) = (Node::clone(node), settings.clone());
            let ladder = LadderNode { node, settings, has_value: true, clears: Clears::OnEvidence };
            self.rungs_of(scripts, &ladder, ladder::GIVE_UP);
        }
    }

    fn rungs_of(&self, scripts: &Scripts<'_>, ladder: &LadderNode, give_up: Duration) -> Vec<ReadRung> {
        let names = Names { settings: Some(&ladder.settings), has_value: ladder.has_value, ..Names::default() };
        self.rungs(&Shared { scripts, names, give_up }, &ladder.node, 0)
    }

    fn rungs(&self, shared: &Shared<'_>, node: &Node, depth: u8) -> Vec<ReadRung> {
        let reader = shared.scripts.reader;
        match &node.kind {
            Kind::List(items) => {
                if items.is_empty() {
                    reader.error(node.span, "empty-value", "a ladder has at least one playbook; leave `remediate` out");
                }
                items.iter().filter_map(|item| self.rung(shared, item)).collect()
            }
            Kind::Scalar { .. } => {
                let Some(name) = reader.text(node) else { return Vec::new() };
                match self.ladders.nodes.get(&name) {
                    Some(_) if self.playbook_names.declared.enabled.has(&name) => {
                        self.used.borrow_mut().insert(name.clone());
                        let message = format!("`{name}` is a ladder and a playbook; give one of them another name");
                        reader.error(node.span, "ambiguous-name", message);
                        Vec::new()
                    }
                    Some(ladder) if depth == 0 => {
                        self.used.borrow_mut().insert(name);
                        self.rungs(shared, ladder, 1)
                    }
                    _ => self.rung(shared, node).into_iter().collect(),
                }
            }
            Kind::Map(_) => self.rung(shared, node).into_iter().collect(),
        }
    }

    fn rung(&self, shared: &Shared<'_>, node: &Node) -> Option<ReadRung> {
        let (scripts, names) = (shared.scripts, &shared.names);
        let reader = scripts.reader;
        if !matches!(node.kind, Kind::Map(_)) {
            let name = reader.text(node)?;
            self.playbook(reader, node, &name)?;
            let with = self.with(shared, &name, None, node.span);
            let rung = Rung { give_up: shared.give_up, ..Rung::plain(PlaybookName::from(name), with) };
            return Some(ReadRung { rung, span: node.span });
        }
        let keys = Keys::of(reader, &schema::RUNG, node)?;
        let playbook = keys.get("playbook");
        let name = playbook.and_then(|node| reader.text(node));
        let known = match (playbook, &name) {
            (Some(node), Some(name)) => self.playbook(reader, node, name),
            _ => None,
        };
        let span = playbook.map_or(node.span, |node| node.span);
        let with_node = keys.section("with");
        let with = match (known, &name) {
            (Some(_), Some(name)) => self.with(shared, name, with_node, span),
            _ => Vec::new(),
        };
        let if_ = keys.raw("if").map(|node| scripts.condition(node, names));
        let on = keys.get("on").map(|node| self.on(shared, node));
        let approval = keys.word("approval", &[("required", true)]).unwrap_or(false);
        let (batch, pause) = batches(reader, &keys);
        let repeat = keys.get("repeat").and_then(|node| repeat(reader, node));
        let give_up = keys.duration_or("give_up", shared.give_up);
        known?;
        if matches!(if_, Some(None)) || matches!(on, Some(None)) || (keys.has("on") && on.is_none()) {
            return None;
        }
        let on = on.flatten();
        if let (None | Some(On::Deployment(_)), Some(_), Some(node)) = (&on, batch, keys.section("batch")) {
            let message = "`batch` says nothing here: the rung is for one deployment";
            let help = "`on: { firing: RULE }` and `on: { select: … }` are for several";
            reader.warn(node.span, "no-effect", message, Some(help.to_owned()));
        }
        let plain = Rung::plain(PlaybookName::from(name?), with);
        let rung = Rung { if_: if_.flatten(), on, approval, batch, pause, repeat, give_up, ..plain };
        Some(ReadRung { rung, span })
    }

    /// An id, a text that comes to one, `{ firing: RULE }` or `{ select: … }`.
    fn on(&self, shared: &Shared<'_>, node: &Node) -> Option<On> {
        let reader = shared.scripts.reader;
        if is_template(node) {
            return shared.scripts.template(node, &shared.names).map(Param::Template).map(On::Deployment);
        }
        if !matches!(node.kind, Kind::Map(_)) {
            let id = reader.text(node)?;
            self.around.listed_deployment(reader, node, &id)?;
            return Some(On::Deployment(Param::Literal(id.into())));
        }
        let keys = Keys::of(reader, &schema::RUNG_ON, node)?;
        let firing = keys.get("firing").map(|node| self.firing(reader, node));
        let select = keys.get("select").map(|node| {
            let select = reader.selector(node)?;
            self.around.warn_of_nobody(reader, node.span, &select);
            Some(select)
        });
        match (firing, select) {
            (Some(rule), None) => rule.map(On::Firing),
            (None, Some(select)) => select.map(On::Select),
            (Some(_), Some(_)) => {
                reader.error(node.span, "conflict", "`on` has `firing` or `select`, not both");
                None
            }
            (None, None) => {
                if node.entries()?.is_empty() {
                    let message = "`on` is an id, `{ firing: RULE }` or `{ select: … }`";
                    reader.error(node.span, "missing-key", message);
                }
                None
            }
        }
    }

    fn firing(&self, reader: &Reader<'_>, node: &Node) -> Option<RuleName> {
        let name = reader.text(node)?;
        self.rule_names.known(reader, node.span, &name)?;
        let rule = self.rules.iter().map(|read| &read.head).find(|rule| rule.name.as_str() == name);
        if rule.is_some_and(|rule| !rule.has_deployment()) {
            let message = format!("`{name}` does not fire on deployments: its `per` has no `deployment`");
            reader.error(node.span, "ladder-without-deployment", message);
        }
        Some(RuleName::from(name))
    }

    fn playbook(&self, reader: &Reader<'_>, node: &Node, name: &str) -> Option<()> {
        self.playbook_names.known(reader, node, name, self.ladders.names.names())
    }

    /// What a rung hands to the playbook's inputs.
    fn with(&self, shared: &Shared<'_>, name: &str, node: Option<&Node>, whole: Span) -> Vec<(String, Param)> {
        // inputs with mistakes of their own say nothing about what they take
        let Some(inputs) = self.playbook_names.inputs(name) else { return Vec::new() };
        super::inputs::with(shared.scripts, &PlaybookName::new(name), inputs, node, whole, &shared.names)
    }
}

fn batches(reader: &Reader<'_>, keys: &Keys<'_>) -> (Option<u32>, Duration) {
    let batch = keys.count_if_written("batch");
    let pause = keys.duration("pause");
    if let (Some(node), false) = (keys.section("pause"), keys.has("batch")) {
        let message = "`pause` is the wait between one batch and the next, and there is no `batch`";
        reader.error(node.span, "conflict", message);
    }
    (batch, pause)
}

fn repeat(reader: &Reader<'_>, node: &Node) -> Option<Duration> {
    let every = reader.duration(node)?;
    if every < MIN_REPEAT {
        reader.error(node.span, "out-of-range", "a rung is run again after 1s at the earliest");
        return None;
    }
    Some(every)
}

pub(crate) fn ladder(rungs: Vec<ReadRung>) -> Option<Arc<Ladder>> {
    let rungs: Vec<Rung> = rungs.into_iter().map(|read| read.rung).collect();
    (!rungs.is_empty()).then(|| Arc::new(Ladder { rungs }))
}

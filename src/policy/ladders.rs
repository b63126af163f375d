//! `remediate:` of a rule and `ladders:`: which playbooks in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::Keys;
use super::playbooks::ReadPlaybook;
use super::reader::{Defined, Reader};
use super::scripts::Scripts;
use super::yaml::{Kind, Node, Span};
use crate::model::{Map, PlaybookName};
use crate::playbook::ladder::{self, Ladder, Rung};
use crate::rule::Level;
use crate::script::{Func, Names, Param};

const NOT_BUILT: [&str; 5] = ["on", "approval", "batch", "pause", "repeat"];

/// How an alert gets clear, as far as it matters for proving a cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clears {
    /// Nothing but the end of a signal's window makes it clear: that proves nothing.
    OnlyWithTime,
    OnEvidence,
}

impl Clears {
    pub fn of(level: Option<&Level>) -> Clears {
        let only_signals = level.is_some_and(|level| {
            level.clear_when.is_none()
                && level.when.reads_are_static()
                && !level.when.reads().is_empty()
                && level.when.reads().iter().all(|read| matches!(read.func, Func::Signal | Func::SignalAge))
        });
        if only_signals { Clears::OnlyWithTime } else { Clears::OnEvidence }
    }
}

/// A ladder as written, for one severity of one rule.
pub(super) struct LadderNode {
    pub node: Node,
    pub settings: Arc<Map>,
    pub has_value: bool,
    pub clears: Clears,
}

/// Everything a ladder may name.
pub(super) struct Known<'a> {
    pub playbooks: &'a BTreeMap<String, ReadPlaybook>,
    pub defined: &'a Defined,
    pub disabled: &'a [String],
    pub ladders: &'a BTreeMap<String, Node>,
}

/// A rung with its place.
pub(super) struct ReadRung {
    pub rung: Rung,
    pub span: Span,
}

impl Known<'_> {
    pub fn read(&self, scripts: &Scripts<'_>, ladder: &LadderNode) -> Vec<ReadRung> {
        let reader = scripts.reader;
        let names = Names { settings: Some(&ladder.settings), has_value: ladder.has_value, ..Names::default() };
        let rungs = self.rungs(scripts, &ladder.node, &names, 0);
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

    fn rungs(&self, scripts: &Scripts<'_>, node: &Node, names: &Names<'_>, depth: u8) -> Vec<ReadRung> {
        let reader = scripts.reader;
        match &node.kind {
            Kind::List(items) => {
                if items.is_empty() {
                    reader.error(node.span, "empty-value", "a ladder has at least one playbook; leave `remediate` out");
                }
                items.iter().filter_map(|item| self.rung(scripts, item, names)).collect()
            }
            Kind::Scalar { .. } => {
                let Some(name) = reader.text(node) else { return Vec::new() };
                match self.ladders.get(&name) {
                    Some(_) if self.defined.has(&name) => {
                        let message = format!("`{name}` is a ladder and a playbook; give one of them another name");
                        reader.error(node.span, "ambiguous-name", message);
                        Vec::new()
                    }
                    Some(ladder) if depth == 0 => self.rungs(scripts, ladder, names, 1),
                    _ => self.rung(scripts, node, names).into_iter().collect(),
                }
            }
            Kind::Map(_) => self.rung(scripts, node, names).into_iter().collect(),
        }
    }

    fn rung(&self, scripts: &Scripts<'_>, node: &Node, names: &Names<'_>) -> Option<ReadRung> {
        let reader = scripts.reader;
        if !matches!(node.kind, Kind::Map(_)) {
            let name = reader.text(node)?;
            self.playbook(reader, node, &name)?;
            let with = self.with(scripts, &name, None, node.span, names);
            let rung = Rung::plain(PlaybookName::from(name), with);
            return Some(ReadRung { rung, span: node.span });
        }
        let keys = Keys::of(reader, "rung", node)?;
        let playbook = keys.required("playbook");
        let name = playbook.and_then(|node| reader.text(node));
        let known = match (playbook, &name) {
            (Some(node), Some(name)) => self.playbook(reader, node, name),
            _ => None,
        };
        let span = playbook.map_or(node.span, |node| node.span);
        let with_node = keys.section("with");
        let with = match (known, &name) {
            (Some(_), Some(name)) => self.with(scripts, name, with_node, span, names),
            _ => Vec::new(),
        };
        let if_ = keys.raw("if").map(|node| scripts.condition(node, names));
        let give_up = keys.positive_duration("give_up", ladder::GIVE_UP);
        keys.finish(&NOT_BUILT);
        known?;
        if matches!(if_, Some(None)) {
            return None;
        }
        let rung = Rung { if_: if_.flatten(), give_up, ..Rung::plain(PlaybookName::from(name?), with) };
        Some(ReadRung { rung, span })
    }

    fn playbook(&self, reader: &Reader<'_>, node: &Node, name: &str) -> Option<()> {
        if self.defined.has(name) {
            return Some(());
        }
        if self.disabled.iter().any(|disabled| disabled == name) {
            let message = format!("the playbook `{name}` is disabled (`enabled: false`)");
            reader.error(node.span, "unknown-playbook", message);
        } else if !reader.may_be_unread("playbooks/") {
            let known = self.defined.names().chain(self.ladders.keys().map(String::as_str));
            reader.unknown(node.span, "unknown-playbook", "playbook", name, known);
        }
        None
    }

    /// What a rung hands to the playbook's inputs.
    fn with(
        &self,
        scripts: &Scripts<'_>,
        name: &str,
        node: Option<&Node>,
        whole: Span,
        names: &Names<'_>,
    ) -> Vec<(String, Param)> {
        // a playbook with mistakes of its own says nothing about its inputs
        let Some(read) = self.playbooks.get(name) else { return Vec::new() };
        super::inputs::with(scripts, &read.playbook.name, &read.playbook.inputs, node, whole, names)
    }
}

pub(super) fn ladder(rungs: Vec<ReadRung>) -> Option<Arc<Ladder>> {
    let rungs: Vec<Rung> = rungs.into_iter().map(|read| read.rung).collect();
    (!rungs.is_empty()).then(|| Arc::new(Ladder { rungs }))
}

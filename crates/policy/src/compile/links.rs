//! What only shows when all files are read: circles of rules, and ladders whose playbooks ask for what the adapter of a
//! deployment cannot do.

use std::collections::{BTreeMap, BTreeSet};

use super::deployments::cycles;
use super::ladders::ReadRung;
use super::names::{RuleNames, Surroundings, takes};
use super::playbooks::ReadPlaybook;
use super::reader::Reader;
use super::rules::{ReadRule, RuleHead};
use super::yaml::Span;
use crate::ladder::On;
use selfheal_model::{AdapterName, Matcher, Selector};

/// Every `firing("X")` names a rule, and no rule waits for itself.
pub(crate) fn check_firing<'p>(
    reader: &Reader<'_>,
    names: &RuleNames,
    rules: &[ReadRule],
    playbooks: impl Iterator<Item = &'p ReadPlaybook>,
) {
    let in_rules = rules.iter().flat_map(|read| &read.firing);
    for (name, span) in in_rules.chain(playbooks.flat_map(|read| &read.firing)) {
        let _ = names.known(reader, *span, name);
    }
    let edges: BTreeMap<&str, Vec<(&str, Span)>> = rules
        .iter()
        .map(|read| (read.head.name.as_str(), read.firing.iter().map(|(name, span)| (name.as_str(), *span)).collect()))
        .collect();
    for (path, span) in cycles(&edges) {
        let message = format!("these rules wait for each other in a circle: {}", path.join(" → "));
        reader.error(span, "cycle", message);
    }
}

/// A rule for no listed deployment. Those that only their events name have no label but `deployment`.
pub(crate) fn check_selects(reader: &Reader<'_>, rules: &[ReadRule], around: &Surroundings<'_>) {
    let by_name = |select: &Selector| select.0.iter().any(|matcher| matcher.label() == "deployment");
    for read in rules.iter().filter(|read| !around.deployments.is_empty() && !by_name(&read.head.select)) {
        if let Some(span) = read.select_span {
            around.warn_of_nobody(reader, span, &read.head.select);
        }
    }
}

/// Whether what is run somewhere is possible there: each pair of a place and an adapter is spoken of once.
pub(crate) struct Possible<'a> {
    reader: &'a Reader<'a>,
    around: &'a Surroundings<'a>,
    said: BTreeSet<(Span, String, AdapterName)>,
}

impl<'a> Possible<'a> {
    pub fn new(reader: &'a Reader<'a>, around: &'a Surroundings<'a>) -> Self {
        Possible { reader, around, said: BTreeSet::new() }
    }

    /// A rung must be possible on every listed deployment it is for. `rule` is whose it is; an alert from elsewhere has none.
    pub fn rung(
        &mut self,
        rule: Option<&RuleHead>,
        read: &ReadRung,
        rules: &[ReadRule],
        playbooks: &BTreeMap<String, ReadPlaybook>,
    ) {
        let Some(playbook) = playbooks.get(read.rung.playbook.as_str()) else { return };
        let narrow = |what: &str| format!("narrow `select` of `{what}`, so that it leaves `{{}}` out");
        match &read.rung.on {
            None => {
                if let Some(rule) = rule {
                    self.check(read.span, playbook, &rule.select, &narrow(rule.name.as_str()));
                }
            }
            Some(On::Firing(name)) => {
                let other = rules.iter().find(|other| other.head.name == *name);
                if let Some(other) = other {
                    self.check(read.span, playbook, &other.head.select, &narrow(name.as_str()));
                }
            }
            Some(On::Select(select)) => {
                self.check(read.span, playbook, select, "narrow `on`, so that it leaves `{}` out");
            }
            Some(on) => {
                if let Some(id) = on.literal() {
                    let only = Selector(vec![Matcher::equal("deployment", id.as_str())]);
                    self.check(read.span, playbook, &only, "`{}` needs an adapter with this verb");
                }
            }
        }
    }

    /// `help` says what to do, with `{}` for the deployment.
    pub fn check(&mut self, span: Span, read: &ReadPlaybook, select: &Selector, help: &str) {
        let (reader, around) = (self.reader, self.around);
        let playbook = &read.playbook.name;
        for deployment in around.deployments.values() {
            let adapter = deployment.adapter.as_ref().and_then(|name| around.adapters.get(name));
            let Some(adapter) = adapter.filter(|_| takes(select, deployment)) else { continue };
            for verb in &read.verbs {
                if !self.said.insert((span, verb.clone(), adapter.name.clone())) {
                    continue;
                }
                let allowed = adapter.allow.verbs.as_ref();
                if adapter.verb(verb).is_none() {
                    let message = format!(
                        "`{playbook}` needs the verb `{verb}`, which the adapter `{}` of `{}` does not have",
                        adapter.name, deployment.id
                    );
                    let help = help.replace("{}", deployment.id.as_str());
                    reader.error_with_help(span, "missing-verb", message, help);
                } else if allowed.is_some_and(|allowed| allowed.iter().all(|one| one.as_str() != verb)) {
                    let message = format!(
                        "`{playbook}` needs the verb `{verb}`, which `allow` of the adapter `{}` forbids",
                        adapter.name
                    );
                    reader.warn(span, "missing-verb", message, None);
                }
            }
        }
    }
}

//! What only shows when all files are read: circles of rules, and ladders whose playbooks ask for what the adapter of a
//! deployment cannot do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::deployments::cycles;
use super::ladders::ReadRung;
use super::playbooks::ReadPlaybook;
use super::reader::Reader;
use super::rules::{ReadRule, RuleFiles};
use super::yaml::Span;
use crate::model::{AdapterDef, AdapterName, Deployment, DeploymentId};

/// Every `firing("X")` names a rule, and no rule waits for itself.
pub(super) fn check_firing<'p>(
    reader: &Reader<'_>,
    files: &RuleFiles,
    rules: &[ReadRule],
    playbooks: impl Iterator<Item = &'p ReadPlaybook>,
) {
    let in_rules = rules.iter().flat_map(|read| &read.firing);
    for (name, span) in in_rules.chain(playbooks.flat_map(|read| &read.firing)) {
        if files.disabled.contains(name) {
            let message = format!("the rule `{name}` is disabled (`enabled: false`)");
            reader.error(*span, "unknown-rule", message);
        } else if !files.defined.has(name) && !reader.may_be_unread("rules/") {
            reader.unknown(*span, "unknown-rule", "rule", name, files.defined.names());
        }
    }
    let edges: BTreeMap<&str, Vec<(&str, Span)>> = rules
        .iter()
        .map(|read| (read.rule.name.as_str(), read.firing.iter().map(|(name, span)| (name.as_str(), *span)).collect()))
        .collect();
    for (path, span) in cycles(&edges) {
        let message = format!("these rules wait for each other in a circle: {}", path.join(" → "));
        reader.error(span, "cycle", message);
    }
}

/// A rung must be possible on every listed deployment its rule selects.
pub(super) fn check_verbs(
    reader: &Reader<'_>,
    read: &ReadRule,
    rungs: &[ReadRung],
    playbooks: &BTreeMap<String, ReadPlaybook>,
    deployments: &BTreeMap<DeploymentId, Arc<Deployment>>,
    adapters: &BTreeMap<AdapterName, Arc<AdapterDef>>,
) {
    let mut said = BTreeSet::new();
    for deployment in deployments.values() {
        let labels = deployment.labels.with_label("deployment", deployment.id.as_str());
        let adapter = deployment.adapter.as_ref().and_then(|name| adapters.get(name));
        let Some(adapter) = adapter.filter(|_| read.rule.select.matches(&labels)) else { continue };
        for rung in rungs {
            let Some(playbook) = playbooks.get(rung.rung.playbook.as_str()) else { continue };
            for verb in &playbook.verbs {
                if !said.insert((rung.span, verb.clone(), adapter.name.clone())) {
                    continue;
                }
                let (playbook, rule) = (&rung.rung.playbook, &read.rule.name);
                if adapter.verb(verb).is_none() {
                    let message = format!(
                        "`{playbook}` needs the verb `{verb}`, which the adapter `{}` of `{}` does not have",
                        adapter.name, deployment.id
                    );
                    let help = format!("narrow `select` of `{rule}`, so that it leaves `{}` out", deployment.id);
                    reader.error_with_help(rung.span, "missing-verb", message, help);
                } else if adapter
                    .allow
                    .verbs
                    .as_ref()
                    .is_some_and(|allowed| allowed.iter().all(|one| one.as_str() != verb))
                {
                    let message = format!(
                        "`{playbook}` needs the verb `{verb}`, which `allow` of the adapter `{}` forbids",
                        adapter.name
                    );
                    reader.warn(rung.span, "missing-verb", message, None);
                }
            }
        }
    }
}

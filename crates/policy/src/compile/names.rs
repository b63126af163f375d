//! What the files of a policy define, by name: the first thing that is known of every file, so that what names it can
//! be checked while another file, or the rest of the same one, has mistakes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::{Defined, Reader};
use super::yaml::{Node, Span};
use crate::playbook::InputSpec;
use selfheal_model::{AdapterDef, AdapterName, Deployment, DeploymentId, Selector, VerbSpec};

/// Names of one kind, with those that `enabled: false` takes out.
#[derive(Default)]
pub(crate) struct Declared {
    pub enabled: Defined,
    pub disabled: Vec<String>,
}

impl Declared {
    fn is_disabled(&self, name: &str) -> bool {
        self.disabled.iter().any(|disabled| disabled == name)
    }
}

/// The rules of all files.
#[derive(Default)]
pub(crate) struct RuleNames(pub Declared);

impl RuleNames {
    /// Whether there is a rule of this name; reports it if not.
    pub fn known(&self, reader: &Reader<'_>, span: Span, name: &str) -> Option<()> {
        if self.0.is_disabled(name) {
            reader.error(span, "unknown-rule", format!("the rule `{name}` is disabled (`enabled: false`)"));
            return None;
        }
        if !self.0.enabled.has(name) {
            if !reader.may_be_unread("rules/") {
                reader.unknown(span, "unknown-rule", "rule", name, self.0.enabled.names());
            }
            return None;
        }
        Some(())
    }
}

/// The playbooks of all files.
#[derive(Default)]
pub(crate) struct PlaybookNames {
    pub declared: Declared,
    /// What each enabled playbook takes; `None` where its inputs have mistakes of their own.
    pub inputs: BTreeMap<String, Option<Vec<InputSpec>>>,
}

impl PlaybookNames {
    /// Whether there is a playbook of this name; reports it if not. `others` could have been meant too.
    pub fn known<'n>(
        &'n self,
        reader: &Reader<'_>,
        node: &Node,
        name: &str,
        others: impl Iterator<Item = &'n str>,
    ) -> Option<()> {
        if self.declared.enabled.has(name) {
            return Some(());
        }
        if self.declared.is_disabled(name) {
            let message = format!("the playbook `{name}` is disabled (`enabled: false`)");
            reader.error(node.span, "unknown-playbook", message);
        } else if !reader.may_be_unread("playbooks/") {
            let known = self.declared.enabled.names().chain(others);
            reader.unknown(node.span, "unknown-playbook", "playbook", name, known);
        }
        None
    }

    /// The inputs of a playbook, where they are known: also while its steps have mistakes.
    pub fn inputs(&self, name: &str) -> Option<&[InputSpec]> {
        self.inputs.get(name)?.as_deref()
    }
}

/// What selfheal.yaml and deployments define, for everything that acts.
pub(crate) struct Surroundings<'a> {
    /// Every verb of the policy's adapters with what each adapter says of it.
    pub verbs: BTreeMap<String, Vec<VerbSpec>>,
    pub deployments: &'a BTreeMap<DeploymentId, Arc<Deployment>>,
    pub listed: &'a Defined,
    pub adapters: &'a BTreeMap<AdapterName, Arc<AdapterDef>>,
    pub receivers: &'a Defined,
    /// Every adapter could be understood; otherwise an unknown verb may be one of theirs.
    pub verbs_are_whole: bool,
}

impl Surroundings<'_> {
    /// A deployment that can be acted on; reports it if there is none.
    pub fn listed_deployment(&self, reader: &Reader<'_>, node: &Node, id: &str) -> Option<&Deployment> {
        if !self.listed.has(id) {
            if !reader.may_be_unread("deployments/") {
                reader.unknown(node.span, "unknown-deployment", "deployment", id, self.listed.names());
            }
            return None;
        }
        let deployment = self.deployments.get(id)?;
        if deployment.adapter.is_none() {
            reader.error(node.span, "unknown-verb", format!("`{id}` has no adapter: nobody can act on it"));
        }
        Some(deployment)
    }

    /// Warns of a selector that takes no listed deployment: others have no adapter, so that nothing can be done on them.
    pub fn warn_of_nobody(&self, reader: &Reader<'_>, span: Span, select: &Selector) {
        let takes_one = self.deployments.values().any(|deployment| takes(select, deployment));
        if !reader.may_be_unread("deployments/") && !takes_one {
            reader.warn(span, "no-effect", "this takes none of the listed deployments", None);
        }
    }
}

/// Whether a selector takes a deployment.
pub(crate) fn takes(select: &Selector, deployment: &Deployment) -> bool {
    select.matches(&deployment.labels.with_label("deployment", deployment.id.as_str()))
}

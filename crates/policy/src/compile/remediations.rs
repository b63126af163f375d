//! `remediations:`, ladders for alerts that come from elsewhere, and `severities:`, other people's words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::keys::Keys;
use super::ladders::{self, Known, ReadRung};
use super::links::Possible;
use super::reader::{Defined, Reader};
use super::scripts::Scripts;
use super::yaml::Node;
use crate::ladder::{Ladder, On};
use crate::schema;
use selfheal_model::{AlertKey, DeploymentId, Labels, Map, Selector, Severity};
use selfheal_script::Param;

/// What is done about alerts that another system raised.
#[derive(Clone)]
pub struct Remediation {
    pub name: SmolStr,
    /// All of them hold of the alert's labels, as they were posted. At least one.
    pub matchers: Selector,
    /// The same at every severity; each rung says which deployments it is for.
    pub ladder: Arc<Ladder>,
    /// As a rule's: firing again within it is a relapse.
    pub cooldown: Duration,
}

impl Remediation {
    /// Whom its first rung is for, as far as the alert's labels alone say it.
    pub fn deployment_of(&self, labels: &Labels) -> Option<DeploymentId> {
        match self.ladder.rungs.first()?.on.as_ref()? {
            On::Deployment(Param::Template(text)) => {
                let inner = text.source().trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
                inner.strip_prefix("labels.").and_then(|name| labels.get(name)).map(DeploymentId::from)
            }
            on => on.literal(),
        }
    }
}

/// In the order in which they are asked: the first that matches is the one.
#[derive(Clone, Default)]
pub struct Remediations(Vec<Arc<Remediation>>);

impl Remediations {
    /// What is done about this alert, if it is one from elsewhere.
    pub fn of(&self, key: &AlertKey) -> Option<&Arc<Remediation>> {
        self.0.iter().find(|one| key.is_posted() && one.matchers.matches(&key.scope))
    }
}

/// What other systems call how bad an alert is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Severities(BTreeMap<SmolStr, Severity>);

impl Severities {
    /// Of an alert from elsewhere, by its label `severity`; a word that nobody explained ranks as warning.
    pub fn of(&self, labels: &Labels) -> Severity {
        let word = labels.get("severity").unwrap_or_default();
        self.0.get(word).copied().or_else(|| word.parse().ok()).unwrap_or(Severity::Warning)
    }
}

/// `severities: { page: critical }`
pub(crate) fn severities(reader: &Reader<'_>, node: Option<&Node>) -> Severities {
    let Some(node) = node else { return Severities::default() };
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of other people's words to severities");
        return Severities::default();
    };
    let words = Severity::ALL.map(|severity| (severity.as_str(), severity));
    let read = entries.iter().filter_map(|entry| {
        if entry.key.parse::<Severity>().is_ok() {
            let message = format!("`{}` is a severity already", entry.key);
            reader.error(entry.key_span, "conflict", message);
            return None;
        }
        Some((SmolStr::new(&entry.key), reader.word(&entry.value, &words)?))
    });
    Severities(read.collect())
}

/// `remediations:`
pub(crate) fn read(
    scripts: &Scripts<'_>,
    known: &Known<'_>,
    settings: &Arc<Map>,
    node: Option<&Node>,
    possible: &mut Possible<'_>,
) -> Remediations {
    let mut names = Defined::default();
    let list = node.map(|node| scripts.reader.list(node, "a list of remediations")).unwrap_or_default();
    let read = list.iter().filter_map(|node| remediation(scripts, known, settings, node, &mut names, possible));
    Remediations(read.map(Arc::new).collect())
}

/// `None` also where it is disabled.
fn remediation(
    scripts: &Scripts<'_>,
    known: &Known<'_>,
    settings: &Arc<Map>,
    node: &Node,
    names: &mut Defined,
    possible: &mut Possible<'_>,
) -> Option<Remediation> {
    let reader = scripts.reader;
    let keys = Keys::of(reader, &schema::REMEDIATION, node)?;
    let span = keys.section("name").map_or(node.span, |node| node.span);
    let name = keys.name("name").filter(|name| names.add(reader, "remediation", name, span));
    let enabled = keys.boolean("enabled");
    let matchers = keys.get("matchers").and_then(|node| reader.selector(node));
    if let (Some(Selector(matchers)), Some(node)) = (&matchers, keys.section("matchers"))
        && matchers.is_empty()
    {
        let help = "write for example `matchers: ['alertname=\"PodDown\"']`";
        reader.error_with_help(node.span, "empty-value", "it would repair for every alert there is", help);
    }
    let on = keys.get("on");
    let ladder = keys.get("remediate").map(|node| known.read_for_posted(scripts, settings, node, on));
    let cooldown = keys.duration("cooldown");
    let rungs: Vec<ReadRung> = ladder?;
    rungs.iter().for_each(|rung| possible.rung(None, rung, known.rules, known.playbooks));
    let ladder = ladders::ladder(rungs)?;
    let remediation = Remediation { name: name?.into(), matchers: matchers?, ladder, cooldown };
    enabled.then_some(remediation)
}

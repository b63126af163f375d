//! What comes in and how: `sources:`, `metrics:`, `stale_after:` and `deployment_from:`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::config::url;
use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::yaml::{Kind, Node};
use crate::schema;
use selfheal_model::{Conversion, Labels, MetricName, NamePattern, Source, SourceKind};

/// The shortest rhythm of a source.
const MIN_EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const STALE_AFTER: Duration = Duration::from_secs(300);
/// A source that is asked seldom goes stale after so many of its rounds, where that is longer.
const STALE_ROUNDS: u32 = 3;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Intake {
    pub sources: Vec<Arc<Source>>,
    /// By the name they come under.
    pub metrics: BTreeMap<MetricName, Conversion>,
    /// The units that `metrics:` says, by the name a metric has in here.
    pub units: BTreeMap<MetricName, SmolStr>,
    /// A newest value is missing once older than this.
    pub stale_after: Duration,
    /// The labels of a foreign sample that say whose it is; the first that is there.
    pub deployment_from: Vec<SmolStr>,
}

impl Default for Intake {
    fn default() -> Self {
        Intake {
            sources: Vec::new(),
            metrics: BTreeMap::new(),
            units: BTreeMap::new(),
            stale_after: STALE_AFTER,
            deployment_from: ["deployment", "service_name", "job"].map(SmolStr::new).to_vec(),
        }
    }
}

impl Intake {
    /// When a newest value is stale that some of the sources give: later where they are asked seldom.
    pub fn stale_after_of(&self, gives: impl Fn(&Source) -> bool) -> Duration {
        let of_it = self.sources.iter().filter(|source| gives(source));
        of_it.map(|source| source.every.saturating_mul(STALE_ROUNDS)).max().unwrap_or_default().max(self.stale_after)
    }
}

pub(crate) fn read(reader: &Reader<'_>, keys: &Keys<'_>) -> Intake {
    let mut intake = Intake { stale_after: keys.duration("stale_after"), ..Intake::default() };
    if let Some(node) = keys.get("deployment_from") {
        intake.deployment_from = labels_in_order(reader, node).unwrap_or_default();
    }
    if let Some(node) = keys.section("metrics") {
        metrics(reader, node, &mut intake);
    }
    let mut names = Defined::default();
    let sources = keys.section("sources").map(|node| reader.list(node, "a list of sources")).unwrap_or_default();
    intake.sources = sources.iter().filter_map(|node| source(reader, node, &mut names)).map(Arc::new).collect();
    intake
}

fn labels_in_order(reader: &Reader<'_>, node: &Node) -> Option<Vec<SmolStr>> {
    let labels = reader.texts(node)?;
    if labels.is_empty() {
        reader.error(node.span, "empty-value", "`deployment_from` names no label");
    }
    Some(labels.into_iter().map(SmolStr::new).collect())
}

/// `metrics: { cpu_usage: { as: cpu_percent, times: 100 } }`
fn metrics(reader: &Reader<'_>, node: &Node, intake: &mut Intake) {
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of metric names");
        return;
    };
    for entry in entries {
        let Some(keys) = Keys::of(reader, &schema::METRIC, &entry.value) else { continue };
        let name = keys.text("as").unwrap_or_else(|| entry.key.clone());
        let times = keys.get("times").and_then(|node| reader.number(node)).unwrap_or(1.0);
        let unit = keys.text("unit");
        if entry.value.entries().is_some_and(|entries| entries.is_empty()) {
            let message = format!("nothing is said of `{}`: write `as`, `times` or `unit`", entry.key);
            reader.error(entry.key_span, "missing-key", message);
        }
        let name = MetricName::new(name);
        if let Some(unit) = unit {
            intake.units.insert(name.clone(), SmolStr::new(unit));
        }
        if name.as_str() != entry.key || times != 1.0 {
            intake.metrics.insert(MetricName::new(&entry.key), Conversion { name, times });
        }
    }
}

fn source(reader: &Reader<'_>, node: &Node, names: &mut Defined) -> Option<Source> {
    let keys = Keys::of(reader, &schema::SOURCE, node)?;
    #[derive(Clone, Copy, PartialEq)]
    enum Type {
        Scrape,
        Host,
    }
    let type_ = keys.word("type", &[("scrape", Type::Scrape), ("host", Type::Host)]);
    let address = keys.get("url").and_then(|node| {
        let text = reader.text(node)?;
        url(reader, node, &text).then_some(text)
    });
    let headers = keys.section("headers").and_then(|node| super::auth::secret_map(reader, node)).unwrap_or_default();
    let ca_file = keys.text("ca_file");
    let verify = keys.boolean("verify");
    if let (false, Some(node)) = (verify, keys.section("verify")) {
        reader.warn(node.span, "unverified", "the server's certificate is not verified: anybody could answer", None);
    }
    if type_ == Some(Type::Scrape) && !keys.has("url") {
        keys.missing("url");
    }
    if type_ == Some(Type::Host) {
        for key in ["url", "headers", "ca_file", "verify"].into_iter().filter(|key| keys.has(key)) {
            reader.error(
                node.span,
                "conflict",
                format!("`{key}` says nothing of this machine; it belongs to `type: scrape`"),
            );
        }
    }
    let every = keys.duration("every");
    if every < MIN_EVERY
        && let Some(node) = keys.section("every")
    {
        reader.error(node.span, "out-of-range", "a source is asked every 1s at most");
    }
    let timeout = keys.duration_or("timeout", TIMEOUT.min(every));
    let labels = keys.section("labels").and_then(|node| reader.text_map(node)).unwrap_or_default();
    let labels: Labels = labels.into_iter().collect();
    let only = keys.get("only").map(|node| match node.kind {
        Kind::List(_) => reader.texts(node).unwrap_or_default(),
        _ => {
            reader.wrong_type(node, "a list of metric names, in which * stands for any letters");
            Vec::new()
        }
    });
    let name = keys.text("name").or_else(|| match type_ {
        Some(Type::Host) => Some("host".to_owned()),
        _ => address.clone(),
    });
    if type_ == Some(Type::Host) && labels.get("deployment").is_none() {
        let message = "nothing says whose the machine's metrics are";
        reader.error_with_help(node.span, "missing-key", message, "write `labels: { deployment: … }`");
    }
    let name = name?;
    let span = keys.section("name").or_else(|| keys.section("url")).map_or(node.span, |node| node.span);
    if !names.add(reader, "source", &name, span) {
        return None;
    }
    let kind = match type_? {
        Type::Host => SourceKind::Host,
        Type::Scrape => SourceKind::Scrape { url: address?, headers, ca_file, verify },
    };
    let only = only.unwrap_or_default().iter().map(|text| NamePattern::new(text)).collect();
    Some(Source { name: SmolStr::new(name), kind, every, timeout, labels, only })
}

//! `deployments:` of selfheal.yaml and the files of `deployments/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::config::Described;
use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::yaml::{Kind, Node, Span};
use super::{checks, fields};
use crate::schema;
use selfheal_model::{AdapterName, Dependency, Deployment, DeploymentId, HealthyWhen, Map, Selector, Value};

/// Every deployment that could be understood, and the ids of all that are listed.
#[derive(Default)]
pub(crate) struct Deployments {
    pub all: BTreeMap<DeploymentId, Arc<Deployment>>,
    pub listed: Defined,
    depends_on: BTreeMap<String, Vec<Needs>>,
}

/// An entry of `depends_on`, with the place of its id.
struct Needs {
    id: String,
    when: Option<Selector>,
    span: Span,
}

pub(crate) struct Adapters<'a> {
    pub described: &'a BTreeMap<AdapterName, Described>,
    pub listed: &'a [String],
}

impl Deployments {
    pub fn read(reader: &Reader<'_>, adapters: &Adapters<'_>, lists: &[&Node]) -> Deployments {
        let mut read = Deployments::default();
        for list in lists {
            for node in reader.list(list, "a list of deployments") {
                read.one(reader, adapters, node);
            }
        }
        read.check_dependencies(reader);
        read
    }

    fn one(&mut self, reader: &Reader<'_>, adapters: &Adapters<'_>, node: &Node) {
        let Some(keys) = Keys::of(reader, &schema::DEPLOYMENT, node) else { return };
        let id = keys.name("id").filter(|id| self.is_new(reader, id, &keys));
        let labels = keys.section("labels").and_then(|node| reader.labels(node)).unwrap_or_default();
        if let Some(entry) = keys.section("labels").and_then(|node| {
            node.entries()?.iter().find(|entry| matches!(entry.key.as_str(), "deployment" | "alertname" | "severity"))
        }) {
            let message = format!("the label `{}` is set by selfheal itself", entry.key);
            reader.error(entry.key_span, "reserved-name", message);
        }
        let (adapter, target) = adapter(reader, adapters, &keys);
        let checks = keys.section("checks").map(|node| checks::read(reader, node)).unwrap_or_default();
        let healthy_when = keys.get("healthy_when").and_then(|node| healthy_when(reader, node)).unwrap_or_default();
        let auth = keys.section("auth").and_then(|node| super::auth::read(reader, node));
        let settings = keys.section("settings").map(|node| own_settings(reader, node)).unwrap_or_default();
        let depends_on = keys.section("depends_on").map(|node| depends_on(reader, node)).unwrap_or_default();
        let Some(id) = id else { return };
        let deployment = Deployment {
            id: DeploymentId::new(&id),
            adapter,
            labels,
            depends_on: depends_on
                .iter()
                .map(|needs| Dependency { when: needs.when.clone(), ..Dependency::from(needs.id.as_str()) })
                .collect(),
            target,
            checks,
            healthy_when,
            auth,
            settings,
            source: Some(reader.source_ref(node.span)),
        };
        self.depends_on.insert(id.clone(), depends_on);
        self.all.insert(DeploymentId::from(id), Arc::new(deployment));
    }

    fn is_new(&mut self, reader: &Reader<'_>, id: &str, keys: &Keys<'_>) -> bool {
        let span = keys.section("id").map_or(keys.span, |node| node.span);
        if id.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "/\"'\\".contains(letter)) {
            reader.error(span, "wrong-value", format!("`{id}` is no id: no spaces, quotes or slashes"));
            return false;
        }
        self.listed.add(reader, "deployment", id, span)
    }

    fn check_dependencies(&self, reader: &Reader<'_>) {
        for needs in self.depends_on.values().flatten().filter(|needs| !self.listed.has(&needs.id)) {
            if !reader.may_be_unread("deployments/") {
                reader.unknown(needs.span, "unknown-deployment", "deployment", &needs.id, self.listed.names());
            }
        }
        let edges: BTreeMap<&str, Vec<(&str, Span)>> = self
            .depends_on
            .iter()
            .map(|(id, needs)| (id.as_str(), needs.iter().map(|other| (other.id.as_str(), other.span)).collect()))
            .collect();
        for (path, span) in cycles(&edges) {
            let message = format!("these deployments depend on each other in a circle: {}", path.join(" → "));
            reader.error(span, "cycle", message);
        }
    }
}

fn adapter(reader: &Reader<'_>, adapters: &Adapters<'_>, keys: &Keys<'_>) -> (Option<AdapterName>, Map) {
    let target = keys.section("target");
    let Some(node) = keys.get("adapter") else {
        if let (Some(target), false) = (target, keys.has("adapter")) {
            let message = "a target without an adapter: nobody would act on it";
            reader.error_with_help(target.span, "missing-key", message, "name an entry of `adapters:` under `adapter`");
        }
        return (None, Map::new());
    };
    let Some(name) = reader.text(node) else { return (None, Map::new()) };
    let Some(described) = adapters.described.get(name.as_str()) else {
        if !adapters.listed.contains(&name) && !reader.may_be_unread("deployments/") {
            reader.unknown(node.span, "unknown-adapter", "adapter", &name, adapters.listed.iter().map(String::as_str));
        }
        return (None, Map::new());
    };
    let whole = target.map_or(node.span, |_| node.span);
    let fields = match (&described.target, target) {
        (Some(specs), target) => fields::plain(reader, &format!("the target of `{name}`"), specs, target, whole),
        (None, Some(target)) => match target.kind {
            Kind::Map(_) => match reader.json(target) {
                Some(Value::Object(fields)) => fields,
                _ => Map::new(),
            },
            _ => {
                reader.wrong_type(target, "a map");
                Map::new()
            }
        },
        (None, None) => Map::new(),
    };
    (Some(AdapterName::from(name)), fields)
}

fn own_settings(reader: &Reader<'_>, node: &Node) -> Map {
    match (&node.kind, fields::setting(reader, node)) {
        (Kind::Map(_), Some(Value::Object(settings))) => settings,
        (Kind::Map(_), _) => Map::new(),
        _ => {
            reader.wrong_type(node, "a map of named values");
            Map::new()
        }
    }
}

/// An id, or `{ id: db, when: ['severity="critical"'] }`.
fn depends_on(reader: &Reader<'_>, node: &Node) -> Vec<Needs> {
    let mut needs = Vec::new();
    for item in reader.list(node, "a list of ids") {
        if !matches!(item.kind, Kind::Map(_)) {
            needs.extend(reader.text(item).map(|id| Needs { id, when: None, span: item.span }));
            continue;
        }
        let Some(keys) = Keys::of(reader, &schema::DEPENDENCY, item) else { continue };
        let id = keys.name("id");
        let span = keys.section("id").map_or(item.span, |node| node.span);
        let when = keys.get("when").and_then(|node| {
            let when = reader.selector(node)?;
            if when.0.is_empty() {
                reader.error(node.span, "empty-value", "`when` names no alert; leave it out, or write a matcher");
            }
            Some(when)
        });
        needs.extend(id.map(|id| Needs { id, when, span }));
    }
    needs
}

fn healthy_when(reader: &Reader<'_>, node: &Node) -> Option<HealthyWhen> {
    let text = reader.text(node)?;
    match text.as_str() {
        "all" => Some(HealthyWhen::All),
        "any" => Some(HealthyWhen::Any),
        other => {
            let ratio = reader.ratio(other).filter(|ratio| *ratio > 0.0);
            if ratio.is_none() {
                reader.wrong_type(node, "all, any or a part such as 50%");
            }
            ratio.map(HealthyWhen::Ratio)
        }
    }
}

/// Every circle of a graph, once, from its first name, with the place of the edge that closes it.
pub(crate) fn cycles(edges: &BTreeMap<&str, Vec<(&str, Span)>>) -> Vec<(Vec<String>, Span)> {
    let mut found = Vec::new();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys() {
        let mut path: Vec<(&str, usize)> = Vec::new();
        if !done.contains(start) {
            path.push((start, 0));
        }
        // depth first without recursion: a policy may be as deep as it likes
        while let Some((name, next)) = path.last_mut() {
            let Some((other, span)) = edges.get(*name).and_then(|out| out.get(*next)) else {
                done.insert(*name);
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(from) = path.iter().position(|(on_path, _)| on_path == other) {
                let mut circle: Vec<String> = path[from..].iter().map(|(name, _)| (*name).to_owned()).collect();
                circle.push((*other).to_owned());
                found.push((circle, *span));
            } else if !done.contains(other) && edges.contains_key(other) {
                path.push((other, 0));
            }
        }
    }
    found
}

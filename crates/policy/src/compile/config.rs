//! `server`, `data_dir`, `adapters` and `settings`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fields;
use super::keys::Keys;
use super::reader::{Defined, Reader, did_you_mean};
use super::yaml::{Entry, Kind, Node, Span};
use crate::schema;
use crate::{Heartbeat, Server};
use selfheal_model::{AdapterCatalog, AdapterDef, AdapterName, Allow, Map, ReceiverName, Value, Verb};

const DEFAULT_LISTEN: &str = "127.0.0.1:9494";

pub(crate) fn server(reader: &Reader<'_>, node: Option<&Node>) -> Server {
    let Some(keys) = node.and_then(|node| Keys::of(reader, &schema::SERVER, node)) else {
        return Server { listen: DEFAULT_LISTEN.to_owned(), external_url: format!("http://{DEFAULT_LISTEN}") };
    };
    let listen = keys.text_or_default("listen");
    if let Some(node) = keys.section("listen")
        && !listen.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    {
        reader.wrong_type(node, "an address such as 127.0.0.1:9494");
    }
    let external_url = keys.text("external_url").unwrap_or_else(|| format!("http://{listen}"));
    if let Some(node) = keys.section("external_url") {
        url(reader, node, &external_url);
    }
    Server { listen, external_url: external_url.trim_end_matches('/').to_owned() }
}

/// Whether a text is an http URL; says so if not.
pub(crate) fn url(reader: &Reader<'_>, node: &Node, text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    // `{{ port }}` is filled in for each replica
    let outside = |text: &str| {
        text.split("{{").map(|part| part.split_once("}}").map_or(part, |(_, after)| after)).collect::<String>()
    };
    let good = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !outside(rest).contains(' '));
    if !good {
        reader.wrong_type(node, "a URL that starts with http:// or https://");
    }
    good
}

/// Every adapter that could be understood, and the names of all that are listed.
pub(crate) fn adapters(
    reader: &Reader<'_>,
    catalog: &dyn AdapterCatalog,
    node: Option<&Node>,
) -> (BTreeMap<AdapterName, Described>, Vec<String>) {
    let mut described = BTreeMap::new();
    let Some(node) = node else { return Default::default() };
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of names to adapters");
        return Default::default();
    };
    for entry in entries {
        if let Some(adapter) = adapter(reader, catalog, entry) {
            described.insert(AdapterName::new(&entry.key), adapter);
        }
    }
    (described, entries.iter().map(|entry| entry.key.clone()).collect())
}

/// An adapter with what its type says of targets.
pub(crate) struct Described {
    pub def: Arc<AdapterDef>,
    pub target: Option<Vec<selfheal_model::FieldSpec>>,
}

fn adapter(reader: &Reader<'_>, catalog: &dyn AdapterCatalog, entry: &Entry) -> Option<Described> {
    let keys = Keys::of(reader, &schema::ADAPTER, &entry.value)?;
    let kind_node = keys.get("type")?;
    let kind = reader.text(kind_node)?;
    let kinds = catalog.kinds();
    if !kinds.contains(&kind.as_str()) {
        if ["docker", "kubernetes", "systemd"].contains(&kind.as_str()) {
            let message = format!("adapters of type `{kind}` are not built yet");
            reader.error_with_help(
                kind_node.span,
                "not-built-yet",
                message,
                format!("there are: {}", kinds.join(", ")),
            );
        } else {
            reader.unknown(kind_node.span, "unknown-adapter-type", "adapter type", &kind, kinds.into_iter());
        }
        return None;
    }
    let allow = keys.get("allow").map(|node| allow(reader, node)).unwrap_or_default();
    let own: Vec<Entry> =
        entry.value.entries()?.iter().filter(|one| !matches!(one.key.as_str(), "type" | "allow")).cloned().collect();
    let asked = own.iter().map(|one| (one.key.clone(), fields::as_asked(reader, &one.value))).collect::<Map>();
    let spec = match catalog.describe(&kind, &asked) {
        Ok(spec) => spec,
        Err(why) => {
            reader.error(
                entry.key_span,
                "adapter",
                format!("adapter `{}` does not say what it can do: {why}", entry.key),
            );
            return None;
        }
    };
    let what = format!("an adapter of type `{kind}`");
    let rest = Node { span: entry.value.span, kind: Kind::Map(own) };
    let options = fields::plain(reader, &what, &spec.options, Some(&rest), entry.key_span);
    if let (Some(verbs), Some(node)) = (&allow.verbs, entry.value.get("allow").and_then(|node| node.get("verbs"))) {
        for verb in verbs.iter().filter(|verb| spec.verbs.iter().all(|one| one.verb != **verb)) {
            let known = spec.verbs.iter().map(|one| one.verb.as_str());
            reader.unknown(node.span, "unknown-verb", &format!("verb of `{}` called", entry.key), verb.as_str(), known);
        }
    }
    let def = AdapterDef { name: AdapterName::new(&entry.key), kind, options, verbs: spec.verbs, allow };
    Some(Described { def: Arc::new(def), target: spec.target })
}

fn allow(reader: &Reader<'_>, node: &Node) -> Allow {
    let Some(keys) = Keys::of(reader, &schema::ALLOW, node) else { return Allow::default() };
    let verbs = keys.get("verbs").and_then(|node| reader.texts(node));
    let select = keys.get("select").and_then(|node| reader.selector(node)).unwrap_or_default();
    Allow { verbs: verbs.map(|verbs| verbs.into_iter().map(Verb::from).collect()), select }
}

/// `heartbeat: { receiver, every }`
pub(crate) fn heartbeat(reader: &Reader<'_>, node: &Node, receivers: &Defined) -> Option<Heartbeat> {
    /// A receiver takes only so many messages.
    const AT_LEAST: Duration = Duration::from_secs(10);
    let keys = Keys::of(reader, &schema::HEARTBEAT, node)?;
    let receiver = keys.get("receiver").and_then(|node| {
        let name = reader.text(node)?;
        if !receivers.has(&name) {
            reader.unknown(node.span, "unknown-receiver", "receiver", &name, receivers.names());
            return None;
        }
        Some(ReceiverName::from(name))
    });
    let every = keys.duration("every");
    if let Some(node) = keys.section("every").filter(|_| every < AT_LEAST) {
        reader.error(node.span, "out-of-range", "`every` is at least 10s");
    }
    Some(Heartbeat { receiver: receiver?, every })
}

/// The settings of rules files, merged; selfheal.yaml's stand above them.
#[derive(Default)]
pub(crate) struct Settings {
    from_rules: Map,
    /// Where each value of a rules file was set, by its path.
    places: BTreeMap<String, Span>,
}

impl Settings {
    /// Two rules files may add to one map, but not set one value twice: the order of files means nothing.
    pub fn add(&mut self, reader: &Reader<'_>, node: &Node) {
        let Some(entries) = node.entries() else {
            reader.wrong_type(node, "a map of named values");
            return;
        };
        self.note(reader, entries, "");
        if let Some(Value::Object(values)) = fields::setting(reader, node) {
            crate::merge(&mut self.from_rules, &values);
        }
    }

    fn note(&mut self, reader: &Reader<'_>, entries: &[Entry], under: &str) {
        for entry in entries {
            let path = format!("{under}{}", entry.key);
            if let Some(inner) = entry.value.entries() {
                self.note(reader, inner, &format!("{path}."));
            } else if let Some(first) = self.places.get(&path) {
                let message = format!("the setting `{path}` is set already, at {}", reader.at(*first));
                let help = "set it once; selfheal.yaml and a deployment may set it anew for themselves";
                reader.error_with_help(entry.key_span, "duplicate-name", message, help);
            } else {
                self.places.insert(path, entry.key_span);
            }
        }
    }

    pub fn with(self, reader: &Reader<'_>, node: Option<&Node>) -> Map {
        let mut all = self.from_rules;
        if let Some(node) = node {
            match node.entries() {
                None => reader.wrong_type(node, "a map of named values"),
                Some(_) => {
                    if let Some(Value::Object(own)) = fields::setting(reader, node) {
                        crate::merge(&mut all, &own);
                    }
                }
            }
        }
        all
    }
}

/// `format: 1`, the first line of selfheal.yaml.
pub(crate) fn format(reader: &Reader<'_>, file: usize, node: &Node) {
    const HELP: &str = "the first line of selfheal.yaml is `format: 1`";
    match node.entries().and_then(|entries| entries.first()) {
        Some(first) if first.key == "format" => {
            if first.value.plain() != Some("1") {
                reader.error_with_help(
                    first.value.span,
                    "format",
                    format!("this build reads format 1, not {}", first.value.describe()),
                    HELP,
                );
            }
        }
        other => {
            let near = other.and_then(|first| did_you_mean(&first.key, ["format"].into_iter()));
            let span = other.map_or(Span { file, start: 0, end: 1 }, |first| first.key_span);
            let message = "the format is not said where it belongs: on the first line";
            reader.error_with_help(span, "format", message, near.unwrap_or_else(|| HELP.to_owned()));
        }
    }
}

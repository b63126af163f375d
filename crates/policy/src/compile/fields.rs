//! Checks the fields an adapter declares: a target's, an entry's options, a verb's parameters.
//!
//! Invariant: what comes out has only declared fields, each of its kind or a template for the run to fill in.

use super::reader::{Reader, did_you_mean};
use super::scripts::{Scripts, is_template};
use super::secrets;
use super::yaml::{Entry, Kind, Node, Span};
use selfheal_model::{Bytes, FieldKind, FieldSpec, Map, Value, units};
use selfheal_script::{Names, Param};

/// What a text of a field may hold.
pub(crate) enum Texts<'a> {
    /// `${…}` where the file allows it; `{{ … }}` is the adapter's own.
    Plain(&'a Reader<'a>),
    /// `{{ … }}` is filled in when the step starts.
    Templates(&'a Scripts<'a>, &'a Names<'a>),
}

impl Texts<'_> {
    fn reader(&self) -> &Reader<'_> {
        match self {
            Texts::Plain(reader) => reader,
            Texts::Templates(scripts, _) => scripts.reader,
        }
    }
}

/// The fields of a map without templates. `whole` is where a missing field is said.
pub(crate) fn plain(reader: &Reader<'_>, what: &str, specs: &[FieldSpec], node: Option<&Node>, whole: Span) -> Map {
    let entries = match node.map(|node| (node, node.entries())) {
        None => &[],
        Some((_, Some(entries))) => entries,
        Some((node, None)) => {
            reader.wrong_type(node, "a map");
            return Map::new();
        }
    };
    fields(&Texts::Plain(reader), what, specs, entries, whole)
        .into_iter()
        .map(|(name, param)| (name, into_value(param)))
        .collect()
}

pub(crate) fn fields(
    texts: &Texts<'_>,
    what: &str,
    specs: &[FieldSpec],
    entries: &[Entry],
    whole: Span,
) -> Vec<(String, Param)> {
    let reader = texts.reader();
    let mut read = Vec::new();
    for entry in entries {
        match specs.iter().find(|spec| spec.name == entry.key) {
            None => unknown(reader, what, specs, entry),
            Some(_) if entry.value.is_null() => {
                reader.error(entry.key_span, "empty-value", format!("`{}` has nothing behind it", entry.key));
            }
            Some(spec) => {
                if let Some(param) = field(texts, &spec.kind, &entry.value) {
                    read.push((entry.key.clone(), param));
                }
            }
        }
    }
    for spec in specs.iter().filter(|spec| spec.required) {
        if entries.iter().all(|entry| entry.key != spec.name) {
            let message = format!("{what} needs `{}`: {}", spec.name, spec.about);
            reader.error(whole, "missing-key", message);
        }
    }
    read
}

fn unknown(reader: &Reader<'_>, what: &str, specs: &[FieldSpec], entry: &Entry) {
    let names = specs.iter().map(|spec| spec.name.as_str());
    let help = did_you_mean(&entry.key, names.clone()).unwrap_or_else(|| {
        let names = names.collect::<Vec<_>>().join(", ");
        if names.is_empty() { "it takes none".to_owned() } else { format!("it takes {names}") }
    });
    reader.error_with_help(entry.key_span, "unknown-key", format!("{what} has no `{}`", entry.key), help);
}

/// One value of one kind.
pub(crate) fn field(texts: &Texts<'_>, kind: &FieldKind, node: &Node) -> Option<Param> {
    let reader = texts.reader();
    if let Texts::Templates(scripts, names) = texts
        && (is_template(node) || *kind == FieldKind::Secret)
    {
        if *kind == FieldKind::Secret {
            return secrets::passed_on(scripts, node, names);
        }
        return scripts.template(node, names).map(Param::Template);
    }
    let text = |node| reader.text(node);
    let literal = |value: Value| Some(Param::Literal(value));
    match kind {
        FieldKind::Text => text(node).map(Value::String).and_then(literal),
        FieldKind::Integer => reader.whole(node, i64::MIN, i64::MAX).map(Value::from).and_then(literal),
        FieldKind::Number => reader.number(node).and_then(|_| reader.json(node)).and_then(literal),
        FieldKind::Boolean => reader.boolean(node).map(Value::Bool).and_then(literal),
        FieldKind::Duration => reader.duration(node).and_then(|_| text(node)).map(Value::String).and_then(literal),
        FieldKind::Size => reader.size(node).and_then(|_| text(node)).map(Value::String).and_then(literal),
        FieldKind::PortRange => port_range(reader, node).map(Value::String).and_then(literal),
        FieldKind::Secret => secret(reader, node),
        FieldKind::OneOf(words) => {
            let words: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
            reader.word(node, &words).map(Value::from).and_then(literal)
        }
        FieldKind::TextList => match &node.kind {
            Kind::List(items) => {
                items.iter().map(|item| field(texts, &FieldKind::Text, item)).collect::<Option<_>>().map(Param::List)
            }
            _ => {
                reader.wrong_type(node, "a list of texts");
                None
            }
        },
        FieldKind::TextMap => {
            let Some(entries) = node.entries() else {
                reader.wrong_type(node, "a map of names to texts");
                return None;
            };
            let one = |entry: &Entry| Some((entry.key.clone(), field(texts, &FieldKind::Text, &entry.value)?));
            entries.iter().map(one).collect::<Option<_>>().map(Param::Map)
        }
        FieldKind::Object(specs) => {
            let Some(entries) = node.entries() else {
                reader.wrong_type(node, "a map");
                return None;
            };
            Some(Param::Map(fields(texts, "this map", specs, entries, node.span)))
        }
        FieldKind::Any => match texts {
            Texts::Plain(reader) => reader.json(node).and_then(literal),
            Texts::Templates(scripts, names) => scripts.param(node, names),
        },
    }
}

/// As written: a reference stays one, for the edge to resolve.
fn secret(reader: &Reader<'_>, node: &Node) -> Option<Param> {
    let Some(raw) = node.scalar() else {
        reader.wrong_type(node, "a secret such as \"${NAME}\"");
        return None;
    };
    if !raw.contains("${") {
        reader.note_secret(node.span);
    }
    Some(Param::Literal(raw.into()))
}

fn port_range(reader: &Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node)?;
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match (port(from), port(to)) {
        (Some(from), Some(to)) if from <= to => Some(text),
        _ => {
            reader.wrong_type(node, "a range of ports such as 9100-9119");
            None
        }
    }
}

/// A parameter without templates as the value it is.
pub(crate) fn into_value(param: Param) -> Value {
    match param {
        Param::Literal(value) => value,
        Param::Template(template) => Value::String(template.source().to_owned()),
        Param::List(items) => Value::Array(items.into_iter().map(into_value).collect()),
        Param::Map(entries) => {
            Value::Object(entries.into_iter().map(|(name, item)| (name, into_value(item))).collect())
        }
    }
}

/// An adapter's options for asking it what they are. References in maps (`env`, `headers`) stay references: the adapter
/// tells by them which values are secret, and none is handed to it. A program's name may be made of one.
pub(crate) fn as_asked(reader: &Reader<'_>, node: &Node) -> Value {
    as_written(reader, node, true)
}

fn as_written(reader: &Reader<'_>, node: &Node, fills: bool) -> Value {
    match &node.kind {
        Kind::List(items) => Value::Array(items.iter().map(|item| as_written(reader, item, fills)).collect()),
        Kind::Map(entries) => {
            let entry = |entry: &Entry| (entry.key.clone(), as_written(reader, &entry.value, false));
            Value::Object(entries.iter().map(entry).collect())
        }
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, .. } => {
            let filled = if fills && text.contains("${") { reader.substitute(text).ok() } else { None };
            match (filled, node.plain()) {
                (Some(filled), _) => Value::String(filled),
                (None, Some(plain)) => super::values::typed(plain),
                (None, None) => Value::String(text.clone()),
            }
        }
    }
}

/// A setting: plain durations become seconds, plain sizes bytes; quoted ones stay texts.
pub(crate) fn setting(reader: &Reader<'_>, node: &Node) -> Option<Value> {
    match &node.kind {
        Kind::List(items) => items.iter().map(|item| setting(reader, item)).collect::<Option<_>>().map(Value::Array),
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| Some((entry.key.clone(), setting(reader, &entry.value)?)))
            .collect::<Option<Map>>()
            .map(Value::Object),
        Kind::Scalar { .. } => {
            let Some(value) = (if node.is_null() { None } else { reader.json(node) }) else {
                if node.is_null() {
                    reader.wrong_type(node, "a value: a setting is never nothing");
                }
                return None;
            };
            let Value::String(text) = &value else { return Some(value) };
            if node.plain().is_none() {
                return Some(value);
            }
            if let Ok(span) = units::parse_duration(text) {
                return Some(seconds(span.as_millis()));
            }
            Some(Bytes::parse(text).map_or(value.clone(), |Bytes(bytes)| bytes.into()))
        }
    }
}

fn seconds(millis: u128) -> Value {
    match u64::try_from(millis) {
        Ok(millis) if millis % 1000 == 0 => (millis / 1000).into(),
        _ => (millis as f64 / 1000.0).into(),
    }
}

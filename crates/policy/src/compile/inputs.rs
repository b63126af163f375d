//! A playbook's inputs, and what is handed to them.

use super::fields::{Texts, field, into_value};
use super::keys::Keys;
use super::reader::Reader;
use super::scripts::{Scripts, is_template};
use super::secrets;
use super::yaml::{Entry, Kind, Node, Span};
use crate::playbook::{InputKind, InputSpec};
use crate::schema;
use selfheal_model::{FieldKind, PlaybookName, Value};
use selfheal_script::{Names, Param};

const KINDS: [(&str, InputKind); 8] = [
    ("string", InputKind::String),
    ("integer", InputKind::Integer),
    ("number", InputKind::Number),
    ("boolean", InputKind::Boolean),
    ("duration", InputKind::Duration),
    ("size", InputKind::Size),
    ("list", InputKind::List),
    ("secret", InputKind::Secret),
];

/// `inputs: { grace: { type: duration, default: 10s } }`
pub(crate) fn read(reader: &Reader<'_>, node: &Node) -> Vec<InputSpec> {
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of names to inputs");
        return Vec::new();
    };
    entries.iter().filter_map(|entry| input(reader, entry)).collect()
}

fn input(reader: &Reader<'_>, entry: &Entry) -> Option<InputSpec> {
    let name = &entry.key;
    let good = name
        .chars()
        .enumerate()
        .all(|(index, letter)| letter == '_' || letter.is_ascii_alphabetic() || (index > 0 && letter.is_ascii_digit()));
    if !good || name.is_empty() {
        let message = format!("`{name}` cannot be written as `inputs.{name}`: letters, digits and `_` only");
        reader.error(entry.key_span, "wrong-value", message);
    }
    let keys = Keys::of(reader, &schema::INPUT, &entry.value)?;
    let kind = keys.word("type", &KINDS);
    let one_of = keys.section("enum").map(|node| {
        let items = reader.list(node, "a list of the values there may be");
        kind.map(|kind| items.iter().filter_map(|item| literal(reader, kind, item)).collect::<Vec<_>>())
    });
    let default = keys.get("default").and_then(|node| {
        if kind == Some(InputKind::Secret) {
            reader.note_secret(node.span);
            reader.error(node.span, "not-a-secret", "a secret has no default: whoever runs the playbook names one");
            return None;
        }
        let value = literal(reader, kind?, node)?;
        check_one_of(reader, node, &value, one_of.as_ref().and_then(Option::as_ref));
        Some(value)
    });
    let _ = keys.raw("description");
    Some(InputSpec { name: name.clone(), kind: kind?, one_of: one_of.flatten().unwrap_or_default(), default })
}

fn check_one_of(reader: &Reader<'_>, node: &Node, value: &Value, one_of: Option<&Vec<Value>>) {
    let Some(one_of) = one_of.filter(|one_of| !one_of.is_empty() && !one_of.contains(value)) else { return };
    let words: Vec<String> =
        one_of.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
    reader.error(node.span, "wrong-value", format!("{} is none of {}", node.describe(), words.join(", ")));
}

fn field_kind(kind: InputKind) -> FieldKind {
    match kind {
        InputKind::String => FieldKind::Text,
        InputKind::Integer => FieldKind::Integer,
        InputKind::Number => FieldKind::Number,
        InputKind::Boolean => FieldKind::Boolean,
        InputKind::Duration => FieldKind::Duration,
        InputKind::Size => FieldKind::Size,
        InputKind::List => FieldKind::Any,
        InputKind::Secret => FieldKind::Secret,
    }
}

fn literal(reader: &Reader<'_>, kind: InputKind, node: &Node) -> Option<Value> {
    if kind == InputKind::List && !matches!(node.kind, Kind::List(_)) {
        reader.wrong_type(node, "a list");
        return None;
    }
    field(&Texts::Plain(reader), &field_kind(kind), node).map(into_value)
}

/// `with:` of a rung against the inputs of its playbook.
pub(crate) fn with(
    scripts: &Scripts<'_>,
    playbook: &PlaybookName,
    inputs: &[InputSpec],
    node: Option<&Node>,
    whole: Span,
    names: &Names<'_>,
) -> Vec<(String, Param)> {
    let reader = scripts.reader;
    let entries = match node.map(|node| (node, node.entries())) {
        None => &[],
        Some((_, Some(entries))) => entries,
        Some((node, None)) => {
            reader.wrong_type(node, "a map of inputs to values");
            return Vec::new();
        }
    };
    let mut read = Vec::new();
    for entry in entries {
        let Some(input) = inputs.iter().find(|input| input.name == entry.key) else {
            let known = inputs.iter().map(|input| input.name.as_str());
            reader.unknown(
                entry.key_span,
                "unknown-input",
                &format!("input of `{playbook}` called"),
                &entry.key,
                known,
            );
            continue;
        };
        read.extend(value(scripts, input, &entry.value, names).map(|param| (entry.key.clone(), param)));
    }
    for input in inputs.iter().filter(|input| input.default.is_none()) {
        if entries.iter().all(|entry| entry.key != input.name) {
            let message = format!("`{playbook}` needs the input `{}`", input.name);
            let help = format!("write {{ playbook: {playbook}, with: {{ {}: … }} }}", input.name);
            reader.error_with_help(whole, "missing-input", message, help);
        }
    }
    read
}

fn value(scripts: &Scripts<'_>, input: &InputSpec, node: &Node, names: &Names<'_>) -> Option<Param> {
    let reader = scripts.reader;
    if input.kind == InputKind::Secret {
        return secrets::passed_on(scripts, node, names);
    }
    if is_template(node) {
        return scripts.template(node, names).map(Param::Template);
    }
    if input.kind == InputKind::List && matches!(node.kind, Kind::List(_)) {
        return scripts.param(node, names);
    }
    let value = literal(reader, input.kind, node)?;
    check_one_of(reader, node, &value, Some(&input.one_of));
    Some(Param::Literal(value))
}

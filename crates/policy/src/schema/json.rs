//! The JSON Schema of a kind of policy file, for editors.
//!
//! It accepts every file that the compiler accepts, and refuses unknown keys, missing keys and wrong types. What needs
//! other files (names, verbs, circles) or a parser of its own (conditions, cron) is left to `selfheal check`.

use serde_json::{Map, Value, json};

use super::{FileKind, Form, Key, Others, Presence, SEVERITIES, Section};
use crate::compile::values::typed;
use crate::compile::yaml::{Kind, Node, parse};
use selfheal_model::{AdapterCatalog, FieldKind, FieldSpec};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The JSON Schema (draft 2020-12) of one kind of file. What adapters take is asked of the catalog; the options of an
/// adapter that cannot be described without its own configuration (`exec`, `http`) are left open.
pub fn json_schema(kind: FileKind, catalog: &dyn AdapterCatalog) -> Value {
    let mut writer = Writer { catalog, definitions: Map::new() };
    let whole = match kind {
        FileKind::Deployments => json!({ "anyOf": [
            writer.map(&super::DEPLOYMENTS_FILE),
            { "type": "array", "items": writer.map(&super::DEPLOYMENT) },
        ] }),
        _ => writer.map(kind.section()),
    };
    let mut schema = json!({
        "$schema": DIALECT,
        "title": kind.section().place,
        "description": kind.section().about,
    });
    schema["$defs"] = Value::Object(std::mem::take(&mut writer.definitions));
    if let (Some(schema), Value::Object(whole)) = (schema.as_object_mut(), whole) {
        schema.extend(whole);
    }
    schema
}

struct Writer<'a> {
    catalog: &'a dyn AdapterCatalog,
    definitions: Map<String, Value>,
}

/// The name of a section in `$defs`: its place, which is unique.
fn name_of(section: &Section) -> String {
    section
        .place
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' })
        .collect()
}

fn any_of(forms: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": forms.into_iter().collect::<Vec<_>>() })
}

fn scalar() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

fn list_of(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn map_of(values: Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

/// `${…}` may stand for a value of any form.
const REFERENCE: &str = r"\$\{";

fn text_like(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": format!("{pattern}|{REFERENCE}") })
}

const DURATION: &str = "^ *([0-9]+(ms|s|m|h|d|w))+ *$";
const SIZE: &str = "^ *[0-9.]+[kKMGTP]?i?B *$";
const RATE: &str = "^ *[1-9][0-9]* */.+$";

impl Writer<'_> {
    /// A reference to a section, which is written into `$defs` when it is first met.
    fn map(&mut self, section: &'static Section) -> Value {
        self.definition(&name_of(section), section, true)
    }

    fn definition(&mut self, name: &str, section: &'static Section, with_required: bool) -> Value {
        if !self.definitions.contains_key(name) {
            self.definitions.insert(name.to_owned(), Value::Null);
            let mut written = self.object(section, with_required);
            if std::ptr::eq(section, &super::RULE) {
                or_null_each(&mut written);
            }
            self.definitions.insert(name.to_owned(), written);
        }
        json!({ "$ref": format!("#/$defs/{name}") })
    }

    fn object(&mut self, section: &'static Section, with_required: bool) -> Value {
        let properties: Map<String, Value> =
            section.keys.iter().map(|key| (key.name.to_owned(), self.property(key))).collect();
        let mut object = json!({ "type": "object", "description": section.about, "properties": properties });
        let required: Vec<&str> =
            section.keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name).collect();
        if with_required && !required.is_empty() {
            object["required"] = json!(required);
        }
        if with_required && !section.one_of.is_empty() {
            object["oneOf"] = section.one_of.iter().map(|key| json!({ "required": [key] })).collect();
        }
        match section.others {
            Others::Refused => object["additionalProperties"] = json!(false),
            Others::Extensions => {
                object["additionalProperties"] = json!(false);
                object["patternProperties"] = json!({ "^x-": true });
            }
            Others::OfTheAdapter => self.adapter_options(&mut object),
        }
        object
    }

    fn property(&mut self, key: &Key) -> Value {
        let mut property = self.form(&key.form);
        if let Some(object) = property.as_object_mut() {
            object.insert("description".to_owned(), json!(key.about));
            if let Presence::Default(text) = key.presence {
                object.insert("default".to_owned(), from_yaml(text));
            }
            if !key.example.is_empty() {
                object.insert("examples".to_owned(), json!([from_yaml(key.example)]));
            }
        }
        property
    }

    fn form(&mut self, form: &Form) -> Value {
        match *form {
            Form::Text | Form::Name | Form::Secret => scalar(),
            Form::Boolean => any_of([json!({ "type": "boolean" }), text_like("^(true|false)$")]),
            Form::Number => any_of([json!({ "type": "number" }), text_like("^[0-9.+-]+$")]),
            Form::Count(least, most) => {
                any_of([json!({ "type": "integer", "minimum": least, "maximum": most }), text_like("^[0-9]+$")])
            }
            Form::Duration | Form::PositiveDuration => text_like(DURATION),
            Form::Size => text_like(SIZE),
            Form::Rate => text_like(RATE),
            Form::Word(words) => any_of([json!({ "enum": words }), text_like("^$")]),
            Form::Words(words) => any_of([json!({ "enum": words }), list_of(json!({ "enum": words }))]),
            Form::WordMap(words) => map_of(json!({ "enum": words })),
            Form::Texts => any_of([scalar(), list_of(scalar())]),
            Form::TextList => json!({ "type": ["array", "null"], "items": scalar() }),
            Form::TextMap | Form::SecretMap | Form::TemplateMap => {
                let value = json!({ "type": ["string", "number", "boolean", "null"] });
                json!({ "type": ["object", "null"], "additionalProperties": value })
            }
            Form::Selector => {
                any_of([map_of(scalar()), list_of(json!({ "type": "string" })), json!({ "type": "string" })])
            }
            Form::Condition | Form::Expression => json!({ "type": ["string", "boolean", "number"] }),
            Form::Template => scalar(),
            Form::Notation(_, pattern) => any_of([
                json!({ "type": "number" }),
                json!({ "type": "string", "pattern": format!("{pattern}|{REFERENCE}") }),
            ]),
            Form::NotationList(_, pattern) => {
                let item = any_of([json!({ "type": "number" }), json!({ "type": "string", "pattern": pattern })]);
                json!({ "type": ["array", "null"], "items": item })
            }
            Form::StatusCodes => {
                let code = json!({ "type": "integer", "minimum": 100, "maximum": 599 });
                any_of([code.clone(), list_of(code)])
            }
            Form::Parameters | Form::Settings => json!({ "type": ["object", "null"] }),
            Form::Anything => json!({ "type": ["string", "number", "boolean", "array", "object"] }),
            Form::AnyList => json!({ "type": ["array", "null"] }),
            Form::Target => self.target(),
            Form::Map(section) => self.or_null(section, |map| map),
            Form::List(section) => self.or_null(section, list_of),
            Form::OneOrMany(section) => {
                let map = self.map(section);
                any_of([map.clone(), list_of(map), json!({ "type": "null" })])
            }
            Form::MapOf(section) => self.or_null(section, map_of),
            Form::Defaults(section) => {
                let name = format!("{}-defaults", name_of(section));
                any_of([self.definition(&name, section, false), json!({ "type": "null" })])
            }
            Form::TextOr(section) => any_of([scalar(), self.map(section)]),
            Form::TextsOrMaps(section) => {
                let item = any_of([scalar(), self.map(section)]);
                json!({ "type": ["array", "null"], "items": item })
            }
            Form::DurationOr(section) => any_of([text_like(DURATION), self.map(section)]),
            Form::Levels(section) => {
                let level = any_of([self.form(&Form::Condition), self.map(section)]);
                let levels: Map<String, Value> =
                    SEVERITIES.iter().map(|severity| ((*severity).to_owned(), level.clone())).collect();
                json!({ "type": "object", "properties": levels, "additionalProperties": false, "minProperties": 1 })
            }
            Form::Ladder(section) => self.ladder(section),
            Form::Ladders(section) => {
                let ladder = self.ladder(section);
                json!({ "type": ["object", "null"], "additionalProperties": ladder })
            }
        }
    }

    fn or_null(&mut self, section: &'static Section, wrap: impl Fn(Value) -> Value) -> Value {
        let map = self.map(section);
        any_of([wrap(map), json!({ "type": "null" })])
    }

    /// `null` takes a default away.
    fn ladder(&mut self, section: &'static Section) -> Value {
        let rung = any_of([scalar(), self.map(section)]);
        any_of([scalar(), self.map(section), list_of(rung), json!({ "type": "null" })])
    }

    /// The options of each adapter type that can be described as it is.
    fn adapter_options(&self, object: &mut Value) {
        let kinds = self.catalog.kinds();
        object["properties"]["type"]["enum"] = json!(kinds);
        let own = |name: &str| matches!(name, "type" | "allow");
        let mut branches = Vec::new();
        for kind in kinds {
            let Ok(spec) = self.catalog.describe(kind, &Map::new()) else { continue };
            let mut options = fields(&spec.options);
            if let Some(properties) = options["properties"].as_object_mut() {
                for key in super::ADAPTER.keys.iter().filter(|key| own(key.name)) {
                    properties.insert(key.name.to_owned(), json!(true));
                }
            }
            branches.push(json!({ "if": { "properties": { "type": { "const": kind } } }, "then": options }));
        }
        if !branches.is_empty() {
            object["allOf"] = json!(branches);
        }
    }

    /// The fields of any adapter: which adapter a deployment has is written elsewhere.
    fn target(&self) -> Value {
        let specs: Vec<_> =
            self.catalog.kinds().into_iter().map(|kind| self.catalog.describe(kind, &Map::new())).collect();
        let declared = || specs.iter().filter_map(|spec| spec.as_ref().ok()?.target.as_deref());
        let mut forms: Vec<Value> = declared().map(fields).collect();
        if declared().count() < specs.len() || forms.is_empty() {
            forms.push(json!({ "type": "object" }));
        }
        forms.push(json!({ "type": "null" }));
        any_of(forms)
    }
}

/// A key of a rule may be null: that takes the default of its file away.
fn or_null_each(object: &mut Value) {
    let Some(properties) = object["properties"].as_object_mut() else { return };
    for property in properties.values_mut() {
        *property = any_of([property.take(), json!({ "type": "null" })]);
    }
}

/// The map of fields that an adapter declares.
fn fields(specs: &[FieldSpec]) -> Value {
    let properties: Map<String, Value> = specs
        .iter()
        .map(|spec| {
            let mut property = field(&spec.kind);
            property["description"] = json!(spec.about);
            (spec.name.clone(), property)
        })
        .collect();
    let required: Vec<&str> = specs.iter().filter(|spec| spec.required).map(|spec| spec.name.as_str()).collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn field(kind: &FieldKind) -> Value {
    match kind {
        FieldKind::Text | FieldKind::Secret | FieldKind::PortRange => scalar(),
        FieldKind::Integer => any_of([json!({ "type": "integer" }), text_like("^[0-9-]+$")]),
        FieldKind::Number => any_of([json!({ "type": "number" }), text_like("^[0-9.+-]+$")]),
        FieldKind::Boolean => any_of([json!({ "type": "boolean" }), text_like("^(true|false)$")]),
        FieldKind::Duration => text_like(DURATION),
        FieldKind::Size => text_like(SIZE),
        FieldKind::OneOf(words) => any_of([json!({ "enum": words }), text_like("^$")]),
        FieldKind::TextList => list_of(scalar()),
        FieldKind::TextMap => map_of(scalar()),
        FieldKind::Object(specs) => fields(specs),
        FieldKind::Any => json!({}),
    }
}

/// A value of a table as JSON, typed as the compiler types plain YAML.
fn from_yaml(text: &str) -> Value {
    parse(0, text).0.first().map_or(Value::Null, value_of)
}

pub(crate) fn value_of(node: &Node) -> Value {
    match &node.kind {
        Kind::List(items) => items.iter().map(value_of).collect(),
        Kind::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), value_of(&entry.value))).collect())
        }
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, .. } => node.plain().map_or_else(|| text.as_str().into(), typed),
    }
}

//! The tables of keys: the reader reads all of them, and what is written from them is true.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::documented::{DOCUMENT, documented};
use super::good::full;
use super::{Catalog, compiled, good};
use crate::compile::keys::read;
use crate::compile::yaml::parse;
use crate::guards::Guards;
use crate::schema::json::json_schema;
use crate::schema::{self, FileKind, Form, Presence, Section, sections};
use selfheal_model::Bytes;
use selfheal_model::units::parse_duration;

/// What neither the documented examples nor the full policy write.
const REST: &str = "format: 1
receivers:
  - { name: a, email: { to: a@b, from: a@b, smtp: { host: h, username: u, password: \"${P}\" } } }
heartbeat: { receiver: a }
deployments:
  - { id: x, auth: { http: { url: \"http://x\" }, deliver: { file: t } } }
  - { id: y, auth: { oauth2: { grant: refresh_token, token_url: \"http://x\", client_id: c, refresh_token: \"${R}\" }, deliver: { file: t } } }
";
const MORE_PLAYBOOKS: &str = "playbook: all
steps:
  - { wait: { until: 'healthy(\"http\")' } }
  - { signal: { name: s, fields: { a: 1 } } }
";

#[test]
fn every_key_of_every_table_is_read() {
    read::taken();
    good(&full());
    documented(DOCUMENT).unwrap_or_else(|found| panic!("{found:#?}"));
    good(&[("selfheal.yaml", REST), ("playbooks/more.yaml", MORE_PLAYBOOKS)]);
    let read = read::taken();
    let tables: BTreeSet<(&str, &str)> =
        sections().into_iter().flat_map(|section| section.names().map(|name| (section.place, name))).collect();
    let unread: Vec<_> = tables.difference(&read).collect();
    assert!(unread.is_empty(), "no reader asks for these keys: {unread:#?}");
}

#[test]
#[should_panic(expected = "the table of a wait has no key `whithin`")]
fn a_key_that_is_in_no_table_cannot_be_read() {
    schema::WAIT.key("whithin");
}

#[test]
fn places_and_keys_are_unique_and_say_what_they_mean() {
    let all = sections();
    let places: BTreeSet<&str> = all.iter().map(|section| section.place).collect();
    assert_eq!(places.len(), all.len(), "each section has a place of its own");
    for section in all {
        let names: BTreeSet<&str> = section.names().collect();
        assert_eq!(names.len(), section.keys.len(), "{}", section.place);
        assert!(section.one_of.iter().all(|name| names.contains(name)), "{}", section.place);
        for key in section.keys {
            let at = format!("{}: {}", section.place, key.name);
            assert!(key.about.ends_with('.') && key.about.len() > 5, "{at} is not explained");
            assert!(!key.example.is_empty(), "{at} has no example");
            assert!(key.only_with.iter().all(|name| names.contains(name)), "{at}");
            let Presence::Default(text) = key.presence else { continue };
            let fits = match key.form {
                Form::Duration => parse_duration(text).is_ok(),
                Form::PositiveDuration => parse_duration(text).is_ok_and(|span| !span.is_zero()),
                Form::Count(least, most) => text.parse().is_ok_and(|count| (least..=most).contains(&count)),
                Form::Size => Bytes::parse(text).is_ok(),
                Form::Boolean => matches!(text, "true" | "false"),
                Form::Word(words) => words.contains(&text),
                _ => true,
            };
            assert!(fits, "{at}: the default `{text}` is none of its form");
        }
    }
}

/// Every key with a default, written out, as YAML in one line.
fn written_out(section: &'static Section) -> String {
    let one = |key: &schema::Key| match (key.presence, key.form) {
        (Presence::Default(text), _) => Some(format!("{}: {text}", key.name)),
        (Presence::Required, Form::Rate) => Some(format!("{}: {}", key.name, key.example)),
        (_, Form::Map(inner)) => Some(format!("{}: {}", key.name, written_out(inner))),
        _ => None,
    };
    format!("{{ {} }}", section.keys.iter().filter_map(one).collect::<Vec<_>>().join(", "))
}

#[test]
fn the_defaults_of_the_tables_are_those_of_the_types() {
    let guards = written_out(&schema::GUARDS);
    let storage = written_out(&schema::STORAGE);
    let text = format!("format: 1\nreceivers: [{{ name: a }}]\nguards: {guards}\nstorage: {storage}\n");
    let policy = good(&[("selfheal.yaml", &text)]);
    assert_eq!(policy.guards, Guards::default(), "{guards}");
    assert_eq!(policy.storage, crate::StorageRules::default(), "{storage}");
    let shortest = good(&[("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\n")]);
    assert_eq!(shortest.intake, crate::Intake::default());
    let send = schema::RECEIVER.key("send").default_text();
    let receiver = format!("format: 1\nreceivers: [{{ name: a, send: {send}, rate: 60/1m, max_age: 1d }}]\n");
    assert_eq!(good(&[("selfheal.yaml", &receiver)]).receivers, shortest.receivers);
}

/// As much of JSON Schema as ours uses. Gives where and why a value does not fit.
fn mismatch(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let schema = schema.as_object()?;
    let fits = |schema: &Value| mismatch(root, schema, value, at).is_none();
    for (keyword, wanted) in schema {
        let is_fine = match keyword.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().expect("a text").trim_start_matches('#');
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{wanted} names nothing"));
                if let Some(why) = mismatch(root, target, value, at) {
                    return Some(why);
                }
                true
            }
            "type" => {
                let is = |name: &Value| match name.as_str().expect("a text") {
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    "null" => value.is_null(),
                    other => panic!("there is no type {other}"),
                };
                wanted.as_array().map_or_else(|| is(wanted), |names| names.iter().any(is))
            }
            "enum" => wanted.as_array().expect("a list").contains(value),
            "const" => wanted == value,
            "pattern" => {
                let pattern = regex_lite::Regex::new(wanted.as_str().expect("a text")).expect("a pattern");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().expect("a number")),
            "minProperties" => {
                value.as_object().is_none_or(|map| map.len() as u64 >= wanted.as_u64().expect("a count"))
            }
            "required" => {
                let names = wanted.as_array().expect("a list");
                let has = |name: &Value| value.get(name.as_str().expect("a text")).is_some();
                !value.is_object() || names.iter().all(has)
            }
            "anyOf" => {
                let forms = wanted.as_array().expect("a list");
                if !forms.iter().any(fits) {
                    let why = |form| mismatch(root, form, value, at).unwrap_or_default();
                    return Some(format!(
                        "{at}: no form fits: {}",
                        forms.iter().map(why).collect::<Vec<_>>().join("; ")
                    ));
                }
                true
            }
            "oneOf" => wanted.as_array().expect("a list").iter().filter(|form| fits(form)).count() == 1,
            "allOf" => wanted.as_array().expect("a list").iter().all(fits),
            "if" => !fits(wanted) || fits(&schema["then"]),
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                let mut wrong =
                    items.filter_map(|(index, item)| mismatch(root, wanted, item, &format!("{at}[{index}]")));
                if let Some(why) = wrong.next() {
                    return Some(why);
                }
                true
            }
            "properties" => {
                for (name, own) in wanted.as_object().expect("a map") {
                    let inner = value.get(name).and_then(|item| mismatch(root, own, item, &format!("{at}.{name}")));
                    if inner.is_some() {
                        return inner;
                    }
                }
                true
            }
            "additionalProperties" => {
                let declared = |name: &str| {
                    let is_extension = schema.contains_key("patternProperties") && name.starts_with("x-");
                    is_extension || schema.get("properties").is_some_and(|own| own.get(name).is_some())
                };
                for (name, item) in value.as_object().into_iter().flatten().filter(|(name, _)| !declared(name)) {
                    let why = match wanted {
                        Value::Bool(false) => Some(format!("{at} has no key {name}")),
                        other => mismatch(root, other, item, &format!("{at}.{name}")),
                    };
                    if why.is_some() {
                        return why;
                    }
                }
                true
            }
            "then" | "patternProperties" | "$schema" | "$defs" | "title" | "description" | "default" | "examples" => {
                true
            }
            other => panic!("the test does not know `{other}`"),
        };
        if !is_fine {
            return Some(format!("{at}: {value} does not fit {keyword}: {wanted}"));
        }
    }
    None
}

fn kind_of(path: &str) -> Option<FileKind> {
    FileKind::ALL.into_iter().find(|kind| match kind {
        FileKind::Config => path == "selfheal.yaml",
        other => path.ends_with(".yaml") && path.starts_with(&format!("{}/", other.as_str())),
    })
}

/// Why the JSON Schema refuses a file, if it does.
fn refused(path: &str, text: &str) -> Option<String> {
    let schema = json_schema(kind_of(path)?, &Catalog);
    let (documents, _) = parse(0, text);
    documents.iter().find_map(|document| mismatch(&schema, &schema, &schema::json::value_of(document), path))
}

/// The rules and playbooks that ship with selfheal, with the kind of folder they are in.
const SHIPPED: [(&str, &str); 8] = [
    ("rules", include_str!("../../../../rules/deployment.yaml")),
    ("rules", include_str!("../../../../rules/tiers.yaml")),
    ("playbooks", include_str!("../../../../playbooks/restart.yaml")),
    ("playbooks", include_str!("../../../../playbooks/scale-out.yaml")),
    ("playbooks", include_str!("../../../../playbooks/scale-up.yaml")),
    ("playbooks", include_str!("../../../../playbooks/rollback.yaml")),
    ("playbooks", include_str!("../../../../playbooks/force-rollback.yaml")),
    ("playbooks", include_str!("../../../../playbooks/refresh-auth.yaml")),
];

#[test]
fn editors_accept_what_the_compiler_accepts() {
    for (path, text) in full().into_iter().chain([("selfheal.yaml", REST), ("playbooks/more.yaml", MORE_PLAYBOOKS)]) {
        assert_eq!(refused(path, text), None);
    }
    for (kind, text) in SHIPPED {
        assert_eq!(refused(&format!("{kind}/shipped.yaml"), text), None, "{text}");
    }
}

#[test]
fn editors_refuse_wrong_keys_and_types_as_the_compiler_does() {
    for (path, text) in [
        ("selfheal.yaml", "format: 1\nrecievers: []\n"),
        ("selfheal.yaml", "receivers: []\n"),
        ("selfheal.yaml", "format: 1\ndeployments: [{ id: a, checks: [{ tcp: 'a:1', http: 'http://x' }] }]\n"),
        ("selfheal.yaml", "format: 1\nguards: { max_running: 0 }\n"),
        ("selfheal.yaml", "format: 1\nadapters: { a: { type: fulll } }\n"),
        ("selfheal.yaml", "format: 1\nadapters: { a: { type: full, endpiont: x } }\n"),
        ("deployments/a.yaml", "- { id: a, healthy_when: some }\n"),
        ("rules/a.yaml", "rules: [{ alert: A, when: 'true', for: 5 }]\n"),
        ("rules/a.yaml", "rules: [{ alert: A, when: 'true', severity: bad }]\n"),
        ("rules/a.yaml", "rules: [{ when: 'true' }]\n"),
        ("rules/a.yaml", "rules: [{ alert: A, levels: { fatal: 'true' } }]\n"),
        ("playbooks/a.yaml", "{ playbook: a, steps: [{ action: x, wait: 1s }] }\n"),
        ("playbooks/a.yaml", "{ playbook: a, steps: [{ set_check: { name: http, timeout: 1s } }] }\n"),
    ] {
        assert!(refused(path, text).is_some(), "{path}: {text}");
        let configuration = ("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\n");
        let with_configuration = [configuration, (path, text)];
        let files = if path == "selfheal.yaml" { &with_configuration[1..] } else { &with_configuration[..] };
        assert!(compiled(files).is_err(), "{path}: {text}");
    }
}

#[test]
fn a_schema_says_its_dialect_and_what_each_key_means() {
    for kind in FileKind::ALL {
        let schema = json_schema(kind, &Catalog);
        assert_eq!(schema["$schema"], json!("https://json-schema.org/draft/2020-12/schema"));
        assert!(schema["$defs"].as_object().is_some_and(|definitions| !definitions.is_empty()));
    }
    let rule = &json_schema(FileKind::Rules, &Catalog)["$defs"]["rules------yaml--rules--"]["properties"]["for"];
    let shown = rule.to_string();
    assert!(shown.contains("must be true before the alert fires") && shown.contains("2m"), "{shown}");
}

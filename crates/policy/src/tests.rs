//! Whole policies: what compiles, and what every mistake is told as and where.

mod checks;
mod documented;
mod good;
mod guards;
mod mistakes;
mod records;
mod remediations;
mod rungs;
mod schedules;
mod schema;
mod scripts;
mod secrets;
mod steps;
mod traps;

use super::{Policy, compile};
use selfheal_contract::{Diagnostic, SourceFile};
use selfheal_model::{AdapterCatalog, AdapterSpec, Effectfulness, FieldKind, FieldSpec, Map, Verb, VerbSpec};

/// Two types: `full` has every verb the tests use, `small` only `restart`.
struct Catalog;

impl AdapterCatalog for Catalog {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["full", "small"]
    }

    fn describe(&self, kind: &str, options: &Map) -> Result<AdapterSpec, String> {
        if options.contains_key("broken") {
            return Err("it does not answer".to_owned());
        }
        let verb = |name: &str, params| VerbSpec {
            verb: Verb::new(name),
            params: Some(params),
            effect: Effectfulness::Disrupt,
            idempotent: false,
            settle: None,
        };
        let mut verbs = vec![verb("restart", vec![FieldSpec::optional("grace", FieldKind::Duration, "how long")])];
        if kind == "full" {
            verbs.push(verb(
                "scale",
                vec![
                    FieldSpec::required("replicas", FieldKind::Integer, "to this many"),
                    FieldSpec::optional("memory", FieldKind::Size, "to this much"),
                ],
            ));
            verbs.push(verb("rollback", vec![FieldSpec::optional("to", FieldKind::Text, "a version")]));
            verbs.push(verb("sign", vec![FieldSpec::required("key", FieldKind::Secret, "never shown")]));
        }
        let target = vec![
            FieldSpec::required("command", FieldKind::TextList, "what is run"),
            FieldSpec::optional("replicas", FieldKind::Integer, "how many"),
            FieldSpec::optional("ports", FieldKind::PortRange, "one for each"),
            FieldSpec::optional("env", FieldKind::TextMap, "environment"),
            FieldSpec::optional("token", FieldKind::Secret, "never shown"),
            FieldSpec::optional("memory", FieldKind::Size, "limit"),
            FieldSpec::optional(
                "ready",
                FieldKind::Object(vec![
                    FieldSpec::optional("http", FieldKind::Text, "a URL"),
                    FieldSpec::optional("within", FieldKind::Duration, "how long"),
                ]),
                "how it is known",
            ),
        ];
        let options = vec![
            FieldSpec::optional("endpoint", FieldKind::Text, "where"),
            FieldSpec::optional("broken", FieldKind::Boolean, "for tests"),
            FieldSpec::optional("key", FieldKind::Secret, "never shown"),
        ];
        Ok(AdapterSpec { options, target: (kind == "full").then_some(target), verbs })
    }
}

fn files(files: &[(&str, &str)]) -> Vec<SourceFile> {
    files.iter().map(|(path, text)| SourceFile { path: (*path).to_owned(), text: (*text).to_owned() }).collect()
}

fn compiled(texts: &[(&str, &str)]) -> Result<Policy, Vec<Diagnostic>> {
    let env = |name: &str| match name {
        "SET" => Some("from-env".to_owned()),
        "PORT" => Some("2525".to_owned()),
        _ => None,
    };
    let file = |path: &str| (path == "there").then(|| "from-file".to_owned());
    compile(&files(texts), &Catalog, &env, &file)
}

#[track_caller]
fn good(texts: &[(&str, &str)]) -> Policy {
    compiled(texts).unwrap_or_else(|mistakes| panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)))
}

#[track_caller]
fn mistakes(texts: &[(&str, &str)]) -> Vec<Diagnostic> {
    match compiled(texts) {
        Ok(_) => panic!("it compiles: {texts:#?}"),
        Err(mistakes) => mistakes,
    }
}

/// As `check` would show them, shortened: `code file:line:column`.
fn places(mistakes: &[Diagnostic]) -> Vec<String> {
    mistakes.iter().map(|one| format!("{} {}:{}:{}", one.code, one.file, one.line, one.column)).collect()
}

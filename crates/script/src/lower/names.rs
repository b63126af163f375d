//! Plain names and their members: reports those that do not exist, with the name that was probably meant.

use rhai::Position;
use smol_str::SmolStr;

use super::{Lowerer, Type};
use crate::ast::{Node, inside};
use crate::functions::{PLAIN, SIGNATURES, signature_of};
use crate::library::LIBRARY;
use crate::names::Names;
use crate::names::Root;
use crate::suggest::{near, not_here, path_problem};
use crate::value::Value;
use selfheal_model::{Map, Value as Json};

impl Lowerer<'_> {
    /// The plain names that exist where the script stands; none inside a function.
    fn roots(&self) -> Vec<(&'static str, Root)> {
        self.names.map(Names::roots).unwrap_or_default()
    }

    pub(crate) fn root(&self, name: &str) -> Option<Root> {
        self.roots().into_iter().find(|(known, _)| *known == name).map(|(_, root)| root)
    }

    /// A plain name with the members after it, checked.
    pub(crate) fn path(&mut self, root: Root, path: Vec<SmolStr>, at: Position) -> (Node, Type) {
        let mut gives = match root {
            Root::Deployment | Root::Severity => Type::Text,
            Root::Value => Type::Number,
            Root::Labels => {
                if path.len() == 1 {
                    Type::Text
                } else {
                    Type::Any
                }
            }
            Root::Settings | Root::Inputs | Root::Steps | Root::Failed => Type::Any,
        };
        if let Some(names) = self.names {
            let settings = names.settings;
            if let Some((code, message, help)) = path_problem(names, root, &path) {
                self.complain(at, code, message, help);
            } else if let (Root::Settings, Some(settings)) = (root, settings) {
                gives = setting_type(settings, &path);
            }
        }
        (Node::Path(root, path), gives)
    }

    /// Reports a plain name that does not exist.
    pub(crate) fn unknown_name(&mut self, name: &str, at: Position) {
        let message = format!("there is no `{name}` here");
        let help = self.help_for_name(name);
        self.complain(at, "unknown-variable", message, help);
    }

    fn help_for_name(&self, name: &str) -> Option<String> {
        if let Some(signature) = signature_of(name) {
            return Some(format!("`{name}` is a function; write {}", signature.shape));
        }
        if let Some((_, shape)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            return Some(format!("`{name}` is a function; write {shape}"));
        }
        let Some(names) = self.names else {
            return Some(match name {
                "settings" => "a function sees its parameters only; write setting(\"path.of.it\")".to_owned(),
                _ => "a function sees its parameters only; hand it over as an argument".to_owned(),
            });
        };
        if let Some(why) = not_here(name) {
            return Some(why);
        }
        if let lower @ ("true" | "false") = name.to_lowercase().as_str() {
            return Some(format!("write {lower}"));
        }
        let locals = self.scope.iter().map(|(local, _)| local.to_string());
        let candidates: Vec<String> = self.roots().into_iter().map(|(root, _)| root.to_owned()).chain(locals).collect();
        if let Some(found) = near(name, candidates.iter().map(String::as_str)) {
            return Some(format!("did you mean `{found}`?"));
        }
        if names.settings.is_some_and(|settings| settings.contains_key(name)) {
            return Some(format!("a setting is written settings.{name}"));
        }
        if names.inputs.is_some_and(|inputs| inputs.iter().any(|input| input == name)) {
            return Some(format!("an input is written inputs.{name}"));
        }
        let functions = SIGNATURES.iter().map(|signature| signature.name);
        if let Some(found) = near(name, functions).and_then(signature_of) {
            return Some(format!("did you mean the function {}?", found.shape));
        }
        Some(format!("a metric is read with last(\"{name}\"), a text is written \"{name}\""))
    }

    /// Reports a function that does not exist.
    pub(crate) fn unknown_function(&mut self, name: &str, at: Position) {
        let own = self.known.keys().map(|(name, _)| name.as_str());
        let candidates = SIGNATURES
            .iter()
            .map(|signature| signature.name)
            .chain(PLAIN.iter().map(|(plain, _)| *plain))
            .chain(LIBRARY.iter().map(|library| library.name))
            .chain(own);
        let found = near(name, candidates).map(str::to_owned);
        let help = match (self.root(name).is_some() || self.local(name).is_some(), found) {
            (true, _) => Some(format!("`{name}` is a value; write it without (…)")),
            (false, Some(found)) => Some(match signature_of(&found) {
                Some(signature) => format!("did you mean {}?", signature.shape),
                None => format!("did you mean `{found}`?"),
            }),
            (false, None) => elsewhere(name).map(str::to_owned),
        };
        self.complain(at, "unknown-function", format!("there is no function `{name}`"), help);
    }

    /// What a setting holds where the script is compiled; a deployment may override it.
    pub(crate) fn setting_now(&self, path: &[SmolStr]) -> Option<Value> {
        let settings = self.names?.settings?;
        Some(inside(settings, path))
    }
}

fn setting_type(settings: &Map, path: &[SmolStr]) -> Type {
    let mut value = None;
    for (index, name) in path.iter().enumerate() {
        value = if index == 0 {
            settings.get(name.as_str())
        } else {
            value.and_then(|value: &Json| value.get(name.as_str()))
        };
    }
    match value {
        Some(Json::Number(_)) => Type::Number,
        Some(Json::Bool(_)) => Type::Bool,
        Some(Json::String(_)) => Type::Text,
        Some(Json::Array(_) | Json::Object(_)) => Type::Holder,
        _ => Type::Any,
    }
}

/// What to write instead of a function of another language.
fn elsewhere(name: &str) -> Option<&'static str> {
    Some(match name {
        "mean" | "average" | "avg_over_time" => "write avg(\"metric\", \"5m\")",
        "latest" | "current" | "value" | "get" | "metric" => "write last(\"metric\")",
        "min_over_time" => "write min(\"metric\", \"5m\")",
        "max_over_time" => "write max(\"metric\", \"5m\")",
        "sum_over_time" => "write sum(\"metric\", \"5m\")",
        "count_over_time" => "write count(\"metric\", \"5m\")",
        "irate" | "increase" => "write rate(\"metric\", \"5m\"), which is per second",
        "exists" | "is_defined" | "defined" => "write has(x)",
        "env" | "now" | "time" | "timestamp" => {
            "a condition knows no clock and no environment; age(\"metric\") gives seconds"
        }
        "print" | "debug" | "sleep" | "exit" | "Fn" | "call" => "a condition only reads evidence and decides",
        _ => return None,
    })
}

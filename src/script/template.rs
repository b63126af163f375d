//! MiniJinja texts, and step parameters that keep their type.

use super::condition::{Names, ScriptProblem};
use super::evidence::{Evidence, Vars};
use crate::model::Value;

/// A text with `{{ … }}` in it, parsed once. Undefined names are errors; whole numbers print without `.0`; filters
/// beside MiniJinja's own: `percent bytes duration`. Cheap to clone.
#[derive(Clone)]
pub struct Template {}

impl Template {
    /// # Errors
    /// What is wrong, at its place in the text.
    pub fn compile(source: &str, names: &Names<'_>) -> Result<Template, Vec<ScriptProblem>> {
        todo!()
    }

    pub fn source(&self) -> &str {
        todo!()
    }

    /// # Errors
    /// An undefined name, a missing value, too much output or too many steps; a sentence for people.
    pub fn render(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<String, String> {
        todo!()
    }

    /// Like [`Template::render`], but a text that is exactly one `{{ … }}` keeps its value's type.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn value(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Value, String> {
        todo!()
    }
}

/// A parameter as written: a literal, a text with templates, or a list or map of such.
#[derive(Clone)]
pub enum Param {
    Literal(Value),
    Template(Template),
    List(Vec<Param>),
    Map(Vec<(String, Param)>),
}

impl Param {
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Value, String> {
        match self {
            Param::Literal(value) => Ok(value.clone()),
            Param::Template(template) => template.value(vars, evidence),
            Param::List(items) => {
                items.iter().map(|item| item.render(vars, evidence)).collect::<Result<_, _>>().map(Value::Array)
            }
            Param::Map(entries) => entries
                .iter()
                .map(|(name, item)| Ok((name.clone(), item.render(vars, evidence)?)))
                .collect::<Result<_, _>>()
                .map(Value::Object),
        }
    }
}

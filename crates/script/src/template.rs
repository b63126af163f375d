//! MiniJinja texts, and parameters of steps that keep their type.

mod check;
mod render;
mod segments;

use std::sync::Arc;

use minijinja::Environment;

use self::render::{BASE, Bounded, explain, to_json, with_answers};
use crate::evidence::{Evidence, Vars};
use crate::limits;
use crate::names::Names;
use crate::problem::ScriptProblem;
use selfheal_model::Value as Json;

/// The name a text has in its own environment.
const NAME: &str = "text";

/// A compiled text with `{{ … }}` in it. Undefined names are errors; whole numbers print without `.0`; filters beside
/// MiniJinja's own are `percent`, `bytes` and `duration`. A clone shares the compiled form.
#[derive(Clone)]
pub struct Template {
    compiled: Arc<Compiled>,
}

struct Compiled {
    source: String,
    form: Form,
}

/// What a text consists of.
enum Form {
    /// No braces at all.
    Plain,
    /// Exactly one `{{ … }}`; the expression inside keeps its type.
    Expression(String, Environment<'static>),
    Mixed(Environment<'static>),
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Template").field(&self.compiled.source).finish()
    }
}

impl Template {
    /// Compiles a text that may use `names`.
    ///
    /// # Errors
    /// Every problem found, each at its place in the text.
    pub fn compile(source: &str, names: &Names<'_>) -> Result<Template, Vec<ScriptProblem>> {
        if source.len() > limits::SOURCE_BYTES {
            let message = format!("the text is longer than {} bytes", limits::SOURCE_BYTES);
            return Err(vec![ScriptProblem::error(0..0, "too-long", message, None)]);
        }
        if !["{{", "{%", "{#"].iter().any(|open| source.contains(open)) {
            return Ok(Template { compiled: Arc::new(Compiled { source: source.to_owned(), form: Form::Plain }) });
        }
        let problems = check::check(source, names);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut env = BASE.clone();
        env.add_template_owned(NAME, source.to_owned())
            .map_err(|error| vec![ScriptProblem::error(0..source.len(), "syntax", explain(&error, source), None)])?;
        let form = match single(source) {
            Some(expression) => Form::Expression(expression.to_owned(), env),
            None => Form::Mixed(env),
        };
        Ok(Template { compiled: Arc::new(Compiled { source: source.to_owned(), form }) })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// Renders the text.
    ///
    /// # Errors
    /// An undefined name, a missing value, more than 64 KiB of output or too many steps; a sentence for people.
    pub fn render(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<String, String> {
        let source = &self.compiled.source;
        let env = match &self.compiled.form {
            Form::Plain => return Ok(source.clone()),
            Form::Expression(_, env) | Form::Mixed(env) => env,
        };
        let bytes = with_answers(
            env,
            vars,
            evidence,
            |env, scene| {
                let mut out = Bounded::default();
                env.get_template(NAME)?.render_captured_to(scene, &mut out)?;
                Ok(out.bytes)
            },
            |error| explain(error, source),
        )?;
        String::from_utf8(bytes).map_err(|_| "the text is no UTF-8".to_owned())
    }

    /// Like [`Template::render`], but a text that is exactly one `{{ … }}` keeps its value's type.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn value(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Json, String> {
        let Form::Expression(expression, env) = &self.compiled.form else {
            return self.render(vars, evidence).map(Json::String);
        };
        let value = with_answers(
            env,
            vars,
            evidence,
            |env, scene| env.compile_expression_owned(expression.clone())?.eval(scene),
            |error| explain(error, expression),
        )?;
        to_json(&value).map_err(|why| format!("`{}`: {why}", expression.trim()))
    }
}

/// The inside of a text that is exactly one `{{ … }}`.
fn single(source: &str) -> Option<&str> {
    let trimmed = source.trim();
    let found = segments::segments(trimmed);
    match found.as_slice() {
        [only] if !only.is_block && only.span == (0..trimmed.len()) => trimmed.get(only.inside.clone()),
        _ => None,
    }
}

/// A parameter of a step, a playbook or a check, as the policy writes it.
#[derive(Clone)]
pub enum Param {
    /// A value without templates.
    Literal(Json),
    /// A text with templates; exactly one `{{ … }}` keeps the type of its value.
    Template(Template),
    /// A list that contains templates.
    List(Vec<Param>),
    /// A map that contains templates, in the order written.
    Map(Vec<(String, Param)>),
}

impl Param {
    /// Renders every template inside.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render(&self, vars: &Vars, evidence: &dyn Evidence) -> Result<Json, String> {
        match self {
            Param::Literal(value) => Ok(value.clone()),
            Param::Template(template) => template.value(vars, evidence),
            Param::List(items) => {
                items.iter().map(|item| item.render(vars, evidence)).collect::<Result<_, _>>().map(Json::Array)
            }
            Param::Map(entries) => entries
                .iter()
                .map(|(name, item)| Ok((name.clone(), item.render(vars, evidence)?)))
                .collect::<Result<_, _>>()
                .map(Json::Object),
        }
    }
}

#[cfg(test)]
mod tests;

//! Own texts: a MiniJinja template over the notification. A broken one is said, and never loses a notification.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use super::text::number;
use selfheal_contract::notification::Notification;
use selfheal_model::Bytes;
use selfheal_model::units::format_duration;

/// Instructions of one rendering: about a hundred alerts with generous loops.
const FUEL: u64 = 500_000;
/// Of includes and macros.
const MAX_DEPTH: usize = 32;
/// Bytes of a rendered text. The built-in ones stay far below.
const MAX_RENDERED: usize = 256 * 1024;

/// Renders `text` (known as `name`) over the notification's fields, plus `subject` and `text`, the built-in ones.
///
/// # Errors
/// A sentence for people: what is wrong, in which line.
pub fn render(name: &str, source: &str, notification: &Notification, built_in: &str) -> Result<String, String> {
    let environment = environment();
    let template = environment.template_from_named_str(name, source).map_err(|error| sentence(name, &error))?;
    let mut names = match serde_json::to_value(notification) {
        Ok(serde_json::Value::Object(names)) => names,
        Ok(_) | Err(_) => return Err(format!("template `{name}`: the notification has no fields")),
    };
    names.insert("subject".to_owned(), notification.subject().into());
    names.insert("text".to_owned(), built_in.into());
    let mut out = Bounded(Vec::new());
    match template.render_captured_to(value_of(&serde_json::Value::Object(names)), &mut out) {
        Ok(_) => String::from_utf8(out.0).map_err(|_| format!("template `{name}`: its text is no UTF-8")),
        Err(_) if out.0.len() >= MAX_RENDERED => {
            Err(format!("template `{name}`: its text is longer than {} KiB", MAX_RENDERED / 1024))
        }
        Err(error) => Err(sentence(name, &error)),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    // lines that hold only a block leave none; a syntax that does not build would be ours and is the default one
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_formatter(|out, state, value| match f64::try_from(value.clone()) {
        Ok(float) if value.kind() == ValueKind::Number && float.fract() == 0.0 && !value.is_integer() => {
            Ok(out.write_str(&number(float))?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("percent", |ratio: f64| format!("{} %", number(ratio * 100.0)));
    environment.add_filter("bytes", |size: f64| Bytes(size.max(0.0) as u64).to_string());
    environment.add_filter("duration", |seconds: f64| {
        std::time::Duration::try_from_secs_f64(seconds)
            .map(format_duration)
            .map_err(|_| minijinja::Error::new(ErrorKind::InvalidOperation, "is no duration in seconds"))
    });
    environment
}

/// A JSON value as a value of MiniJinja.
pub(super) fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(yes) => Value::from(*yes),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(float)) => Value::from(float),
            (None, None) => Value::from(number.to_string()),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(value_of).collect::<Vec<_>>()),
        serde_json::Value::Object(entries) => {
            Value::from_pairs(entries.iter().map(|(name, item)| (name.as_str(), value_of(item))))
        }
    }
}

fn sentence(name: &str, error: &minijinja::Error) -> String {
    let place = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("template `{name}`{place}: {}{detail}", error.kind())
}

/// Refuses what would not fit.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RENDERED {
            // so that the caller can tell this from other failures
            self.0.resize(MAX_RENDERED, b' ');
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

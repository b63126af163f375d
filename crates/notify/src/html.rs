//! The HTML part of a mail: the template `mail.html.j2`, which MiniJinja escapes.
//!
//! Invariant: every text of a notification is escaped; all markup comes from the template.

use std::sync::LazyLock;

use minijinja::{AutoEscape, Environment, HtmlEscape, UndefinedBehavior, Value};

use super::template::value_of;
use super::text::{NotificationContent, is_link, plain};

const TEMPLATE: &str = "mail.html";

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_test("link", |text: &str| is_link(text));
    environment.add_filter("href", |link: &str| href(link));
    environment.add_template(TEMPLATE, include_str!("mail.html.j2")).expect("the built-in template parses");
    environment
});

/// A whole notification as an HTML page.
pub fn page(content: &NotificationContent) -> String {
    let values = serde_json::to_value(content).map(|content| value_of(&content));
    render(values.unwrap_or_default()).unwrap_or_else(|error| {
        tracing::error!(%error, "the built-in template of mails failed; its text is sent instead");
        format!("<pre>{}</pre>\n", HtmlEscape(&plain(content)))
    })
}

/// The text of a receiver's own template as an HTML page.
pub fn page_of_text(subject: &str, text: &str) -> String {
    render(Value::from_pairs([("subject", subject), ("own_text", text)])).unwrap_or_else(|error| {
        tracing::error!(%error, "the built-in template of mails failed; its text is sent instead");
        format!("<pre>{}</pre>\n", HtmlEscape(text))
    })
}

fn render(values: Value) -> Result<String, minijinja::Error> {
    ENVIRONMENT.get_template(TEMPLATE)?.render(values)
}

/// A link for an attribute or for text. MiniJinja would escape its slashes, too, which mail filters take for an attempt
/// to hide an address; `is_link` lets no quote and no angle bracket through.
fn href(link: &str) -> Value {
    if is_link(link) { Value::from_safe_string(link.replace('&', "&amp;")) } else { Value::from(link) }
}

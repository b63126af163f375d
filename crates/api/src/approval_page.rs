//! The page behind a link in a message: what is asked, and two buttons.
//!
//! Invariant: only a POST acts, for mail scanners follow links and browsers fetch them early; nothing of a question is
//! shown before its link is verified; every text is escaped, and the page holds no script.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Api;
use super::links::BadLink;
use selfheal_contract::OperatorCommand;
use selfheal_contract::view::{ApprovalState, ApprovalView};
use selfheal_model::{ApprovalId, Value};

/// Who has answered, for the audit: whoever holds the link.
const WHO: &str = "link";
/// Characters of a reason.
const MAX_REASON: usize = 500;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem;\
                     color:#212121;background:#fff}table{border-collapse:collapse;margin:1rem 0}\
                     th{text-align:left;font-weight:normal;color:#616161;padding:.2rem 1rem .2rem 0;vertical-align:top}\
                     td{padding:.2rem 0;overflow-wrap:anywhere}input{width:100%;box-sizing:border-box;padding:.5rem;\
                     font:inherit;margin:.3rem 0 1rem}button{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}";

/// Nothing may be loaded or run but this style, nor the form be sent or the page be framed elsewhere.
static CONTENT_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// What of a link is behind its path.
#[derive(Deserialize)]
pub struct Signed {
    #[serde(default)]
    until: String,
    #[serde(default)]
    sign: String,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub struct Answer {
    answer: Word,
    #[serde(default)]
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Approve,
    Deny,
}

pub async fn show(State(api): State<Api>, Path(id): Path<String>, Query(signed): Query<Signed>) -> Response {
    match open(&api, &id, &signed) {
        Ok(view) => page(StatusCode::OK, "May selfheal do this?", &question(&view)),
        Err(closed) => closed.into_response(),
    }
}

pub async fn act(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    form: Result<Form<Answer>, FormRejection>,
) -> Response {
    let view = match open(&api, &id, &signed) {
        Ok(view) => view,
        Err(closed) => return closed.into_response(),
    };
    let Form(Answer { answer, reason }) = match form {
        Ok(form) => form,
        Err(_) => {
            return note(StatusCode::BAD_REQUEST, "Nothing was answered", "The form did not arrive as it should.");
        }
    };
    let reason: String = reason.trim().chars().take(MAX_REASON).collect();
    let approval = ApprovalId::new(&id);
    let (command, done) = match answer {
        Word::Approve => (OperatorCommand::Approve { approval, reason }, "Approved"),
        Word::Deny => (OperatorCommand::Deny { approval, reason }, "Denied"),
    };
    match api.backend.operate(WHO.to_owned(), command).await {
        Ok(_) => note(StatusCode::OK, done, &format!("{done}: {} ({}).", view.what, view.id)),
        Err(why) => match open(&api, &id, &signed) {
            // somebody was faster
            Err(closed) => closed.into_response(),
            Ok(_) => note(StatusCode::SERVICE_UNAVAILABLE, "Not answered", &why),
        },
    }
}

/// Why nothing can be answered here.
struct Closed {
    status: StatusCode,
    title: &'static str,
    text: String,
}

impl IntoResponse for Closed {
    fn into_response(self) -> Response {
        note(self.status, self.title, &self.text)
    }
}

/// The question, if the link is good and it still waits.
fn open(api: &Api, id: &str, signed: &Signed) -> Result<ApprovalView, Closed> {
    let closed = |status, title, text: &str| Closed { status, title, text: text.to_owned() };
    let verified = match &api.links {
        Some(links) => links.verify(id, &signed.until, &signed.sign),
        None => Err(BadLink::Forged),
    };
    verified.map_err(|bad| match bad {
        BadLink::Forged => closed(StatusCode::FORBIDDEN, "No good link", &format!("Sorry, {bad}.")),
        BadLink::Expired => {
            let text = format!("Sorry, {bad}. A question that nobody answers in time counts as denied.");
            closed(StatusCode::GONE, "Expired", &text)
        }
    })?;
    let view = api.model.read().approvals.get(id).cloned();
    match view {
        Some(view) if view.state == ApprovalState::Waiting => Ok(view),
        Some(view) => Err(closed(StatusCode::GONE, "Not open any more", &ended(&view))),
        // what was known before a start is being read
        None if !api.backend.is_ready() => {
            let text = "selfheal is starting or stopping; load this page again soon.";
            Err(closed(StatusCode::SERVICE_UNAVAILABLE, "Not yet", text))
        }
        None => Err(closed(StatusCode::GONE, "Not open any more", "This question is not open any more.")),
    }
}

fn ended(view: &ApprovalView) -> String {
    let by = view.answered_by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
    let at = view.answered_at.map(|at| format!(" at {at}")).unwrap_or_default();
    match view.state {
        ApprovalState::Approved => format!("This was approved{by}{at}."),
        ApprovalState::Denied => format!("This was denied{by}{at}."),
        ApprovalState::Expired => "Nobody answered in time, which counts as denied.".to_owned(),
        ApprovalState::Withdrawn | ApprovalState::Waiting => "An answer is not wanted any more.".to_owned(),
    }
}

fn question(view: &ApprovalView) -> String {
    let mut rows = String::new();
    let mut row = |what: &str, text: &str| {
        // writing into a string cannot fail
        let _ = write!(rows, "<tr><th>{}</th><td>{}</td></tr>", escape(what), escape(text));
    };
    row("playbook", view.playbook.as_str());
    row("deployment", view.deployment.as_str());
    if let Some(alert) = &view.alert_name {
        row("alert", alert);
    }
    if let Some(step) = &view.step {
        row("step", step.as_str());
    }
    row("run", view.run.as_str());
    for (name, value) in &view.shown {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        row(&format!("with {name}"), &text);
    }
    row("expires", &view.expires_at.to_string());
    format!(
        "<p>May selfheal {}?</p><table>{rows}</table>\
         <form method=\"post\"><label>Reason (optional)<input name=\"reason\" maxlength=\"{MAX_REASON}\" \
         autocomplete=\"off\"></label><button name=\"answer\" value=\"approve\">Approve</button>\
         <button name=\"answer\" value=\"deny\">Deny</button></form>",
        escape(&view.what)
    )
}

fn note(status: StatusCode, title: &str, text: &str) -> Response {
    page(status, title, &format!("<p>{}</p>", escape(text)))
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    );
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, &CONTENT_POLICY),
        // the link must not reach other sites
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, html).into_response()
}

/// For element content and for attributes in double quotes. Marks that turn the direction of writing are left out:
/// they make a text look like another one.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 8);
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

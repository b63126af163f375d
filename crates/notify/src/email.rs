//! A notification as a mail: text and HTML, in its group's thread.
//!
//! Invariant: the mail is a pure function of the delivery: ids, date and the boundary between its parts come from the
//! delivery's id and frozen facts, never from a clock or a random number.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use sha2::{Digest, Sha256};

use super::{html, template, text};
use selfheal_contract::Delivery;
use selfheal_contract::notification::{GroupStatus, Notification};
use selfheal_contract::receiver::EmailDef;
use selfheal_model::{Severity, Timestamp};

/// 9999-12-31T23:59:59Z: later dates have no form in a mail.
const LAST_DATE: i64 = 253_402_300_799_000;
/// Of a template's text in a mail.
const MAX_OWN_TEXT: usize = 64 * 1024;

/// Why no mail can be made of a definition; it will not get better by itself.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("`{address}` is no mail address: {reason}")]
    Address { address: String, reason: String },
    #[error("the mail cannot be built: {0}")]
    Build(#[from] lettre::error::Error),
}

/// The whole mail.
pub fn compose(delivery: &Delivery, def: &EmailDef) -> Result<Message, MailError> {
    let notification = &delivery.notification;
    let from = mailbox(&def.from)?;
    let domain = from.email.domain().to_owned();
    let root = message_id("thread", &thread_key(notification), &domain);
    let (importance, x_priority) = priority(notification);
    let mut builder = Message::builder()
        .from(from)
        .subject(notification.subject())
        .date(date(notification.at))
        .message_id(Some(message_id("delivery", delivery.id.as_str(), &domain)))
        .in_reply_to(root.clone())
        .references(root);
    for address in &def.to {
        builder = builder.to(mailbox(address)?);
    }
    for (name, value) in [
        (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated"),
        (HeaderName::new_from_ascii_str("Importance"), importance),
        (HeaderName::new_from_ascii_str("X-Priority"), x_priority),
        (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All"),
    ] {
        builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
    }
    let (plain, html) = parts(delivery, def);
    let boundary = format!("selfheal-{}", digest("boundary", delivery.id.as_str()));
    let alternatives = MultiPart::alternative()
        .boundary(boundary)
        .singlepart(part(ContentType::TEXT_PLAIN, plain))
        .singlepart(part(ContentType::TEXT_HTML, html));
    Ok(builder.multipart(alternatives)?)
}

/// Text and HTML. With an own template both show what it renders; a broken one is said at the top of the built-in text.
fn parts(delivery: &Delivery, def: &EmailDef) -> (String, String) {
    let notification = &delivery.notification;
    let mut content = text::content(notification);
    let Some(own) = &def.template else { return (text::plain(&content), html::page(&content)) };
    match template::render(&own.0, &own.1, notification, &text::plain(&content)) {
        Ok(rendered) => {
            let rendered = text::clean(&rendered, MAX_OWN_TEXT);
            let page = html::page_of_text(&content.subject, &rendered);
            (rendered, page)
        }
        Err(why) => {
            tracing::warn!(delivery = %delivery.id, %why, "sending the built-in text instead");
            content.notices.insert(0, format!("This is the built-in text, because the receiver's own failed: {why}"));
            (text::plain(&content), html::page(&content))
        }
    }
}

fn part(kind: ContentType, text: String) -> SinglePart {
    // quoted-printable holds any text in lines that every server takes, and stays readable
    let text = text.replace('\n', "\r\n");
    let body = match Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable) {
        Ok(body) => body,
        Err(raw) => Body::new(raw),
    };
    SinglePart::builder().header(kind).body(body)
}

fn mailbox(address: &str) -> Result<Mailbox, MailError> {
    address.parse().map_err(|error: lettre::address::AddressError| MailError::Address {
        address: address.to_owned(),
        reason: error.to_string(),
    })
}

/// What a thread is: the group, for this receiver, from one first firing to the next.
fn thread_key(notification: &Notification) -> String {
    format!("{}\n{}\n{}", notification.group, notification.receiver, notification.thread_started.as_millis())
}

fn message_id(kind: &str, key: &str, domain: &str) -> String {
    format!("<{kind}.{}@{domain}>", digest(kind, key))
}

/// 32 hex digits.
fn digest(kind: &str, key: &str) -> String {
    let hash = Sha256::digest(format!("{kind}\n{key}").as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// `Importance` and `X-Priority`. What has ended is no hurry.
fn priority(notification: &Notification) -> (&'static str, &'static str) {
    match (notification.status, notification.severity) {
        (GroupStatus::Firing, Severity::Critical) => ("high", "1 (Highest)"),
        (GroupStatus::Firing, Severity::Info) | (GroupStatus::Resolved, _) => ("low", "5 (Lowest)"),
        (GroupStatus::Firing, Severity::Warning) => ("normal", "3 (Normal)"),
    }
}

fn date(at: Timestamp) -> SystemTime {
    let millis = at.as_millis().clamp(0, LAST_DATE);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs())
}

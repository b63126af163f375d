//! `receivers:`, with `smtp` and `from` as the default of all of them, and the texts of `templates/`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::auth::secret_map;
use super::config::url;
use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::yaml::{Kind, Node, Span};
use crate::schema;
use selfheal_contract::notification::NewsKind;
use selfheal_contract::receiver::{
    EmailDef, Notifier, NotifyRate, Receiver, SmtpDef, SmtpTls, WebhookDef, WebhookFormat,
};
use selfheal_model::ReceiverName;

const RATE: NotifyRate = NotifyRate { count: 60, window: Duration::from_secs(60) };
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Who is told when nobody is named.
pub(crate) const NOBODY: &str = "nobody";

const FORMATS: [(&str, WebhookFormat); 7] = [
    ("default", WebhookFormat::Default),
    ("alertmanager", WebhookFormat::Alertmanager),
    ("slack", WebhookFormat::Slack),
    ("discord", WebhookFormat::Discord),
    ("teams", WebhookFormat::Teams),
    ("pagerduty", WebhookFormat::Pagerduty),
    ("cloudevents", WebhookFormat::Cloudevents),
];

/// A notification template: (name, text).
type Named = Arc<(String, String)>;

/// The texts of `templates/`, by their path inside it.
#[derive(Default)]
pub(crate) struct Templates(BTreeMap<String, Named>);

impl Templates {
    pub fn read(reader: &Reader<'_>) -> Templates {
        let mut read = BTreeMap::new();
        for (file, source) in reader.files.iter().enumerate() {
            let Some(name) = source.path.strip_prefix("templates/") else { continue };
            let mut environment = minijinja::Environment::new();
            if let Err(error) = environment.add_template(&source.path, &source.text) {
                let line = error.line().unwrap_or(1).saturating_sub(1);
                let start = source.text.split_inclusive('\n').take(line).map(str::len).sum();
                let span = Span { file, start, end: start + 1 };
                let why = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                reader.error(span, "template", format!("this template cannot be read: {why}"));
            }
            read.insert(name.to_owned(), Arc::new((name.to_owned(), source.text.clone())));
        }
        Templates(read)
    }

    fn get(&self, reader: &Reader<'_>, node: &Node) -> Option<Named> {
        let name = reader.text(node)?;
        let found = self.0.get(name.strip_prefix("templates/").unwrap_or(&name)).cloned();
        if found.is_none() {
            let known = self.0.keys().map(String::as_str);
            reader.unknown(node.span, "unknown-template", "file in templates/ called", &name, known);
        }
        found
    }
}

/// What a receiver's mail has unless it says otherwise.
pub(crate) struct MailDefaults<'n> {
    pub smtp: Option<&'n Node>,
    pub from: Option<String>,
}

/// Every receiver that could be understood, and the names of all that are listed.
pub(crate) fn read(
    reader: &Reader<'_>,
    node: Option<&Node>,
    defaults: &MailDefaults<'_>,
    templates: &Templates,
) -> (BTreeMap<ReceiverName, Arc<Receiver>>, Defined) {
    let mut all = BTreeMap::new();
    let mut listed = Defined::default();
    let items = node.map(|node| reader.list(node, "a list of receivers")).unwrap_or_default();
    for node in items {
        if let Some(receiver) = receiver(reader, node, defaults, templates, &mut listed) {
            all.insert(receiver.name.clone(), Arc::new(receiver));
        }
    }
    (all, listed)
}

/// A receiver that tells nobody.
pub(crate) fn nobody() -> Receiver {
    Receiver {
        name: ReceiverName::new(NOBODY),
        notifiers: Vec::new(),
        send: NewsKind::DEFAULT.into_iter().collect(),
        rate: RATE,
        max_age: MAX_AGE,
    }
}

fn receiver(
    reader: &Reader<'_>,
    node: &Node,
    defaults: &MailDefaults<'_>,
    templates: &Templates,
    listed: &mut Defined,
) -> Option<Receiver> {
    let keys = Keys::of(reader, &schema::RECEIVER, node)?;
    let name = keys.name("name").filter(|name| {
        let span = keys.section("name").map_or(node.span, |node| node.span);
        listed.add(reader, "receiver", name, span)
    });
    let mut notifiers = Vec::new();
    for node in one_or_many(keys.section("email")) {
        notifiers.extend(email(reader, node, defaults, templates).map(Arc::new).map(Notifier::Email));
    }
    for node in one_or_many(keys.section("webhook")) {
        notifiers.extend(webhook(reader, node, templates).map(Arc::new).map(Notifier::Webhook));
    }
    let send = keys.get("send").map(|node| send(reader, node));
    let rate = keys.get("rate").and_then(|node| reader.rate(node));
    let rate = rate.map_or(RATE, |(count, window)| NotifyRate { count, window });
    let max_age = keys.duration("max_age");
    Some(Receiver {
        name: ReceiverName::from(name?),
        notifiers,
        send: send.unwrap_or_else(|| NewsKind::DEFAULT.into_iter().collect()),
        rate,
        max_age,
    })
}

fn one_or_many(node: Option<&Node>) -> &[Node] {
    match node {
        None => &[],
        Some(node) => match &node.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(node),
        },
    }
}

fn send(reader: &Reader<'_>, node: &Node) -> BTreeSet<NewsKind> {
    let words: Vec<(&str, NewsKind)> = NewsKind::ALL.into_iter().map(|kind| (kind.as_str(), kind)).collect();
    one_or_many(Some(node)).iter().filter_map(|item| reader.word(item, &words)).collect()
}

fn email(reader: &Reader<'_>, node: &Node, defaults: &MailDefaults<'_>, templates: &Templates) -> Option<EmailDef> {
    let keys = Keys::of(reader, &schema::EMAIL, node)?;
    let to = keys.get("to").and_then(|node| addresses(reader, node));
    let from = match keys.get("from") {
        Some(node) => reader.text(node).filter(|text| address(reader, node, text)),
        None => {
            if defaults.from.is_none() {
                keys.missing("from");
            }
            defaults.from.clone()
        }
    };
    let smtp = match keys.get("smtp").or(defaults.smtp) {
        Some(node) => smtp(reader, node),
        None => {
            keys.missing("smtp");
            None
        }
    };
    let template = keys.get("template").and_then(|node| templates.get(reader, node));
    Some(EmailDef { to: to?, from: from?, smtp: smtp?, template })
}

fn addresses(reader: &Reader<'_>, node: &Node) -> Option<Vec<String>> {
    let mut read = Vec::new();
    for item in one_or_many(Some(node)) {
        let text = reader.text(item)?;
        if !address(reader, item, &text) {
            return None;
        }
        read.push(text);
    }
    if read.is_empty() {
        reader.error(node.span, "empty-value", "a mail needs someone to go to");
        return None;
    }
    Some(read)
}

/// `a@b` or `Name <a@b>`; the mail library judges the rest.
pub(crate) fn address(reader: &Reader<'_>, node: &Node, text: &str) -> bool {
    let bare = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    let good = bare.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !bare.contains(|letter: char| letter.is_whitespace())
    });
    if !good {
        reader.wrong_type(node, "a mail address such as oncall@example.com");
    }
    good
}

pub(crate) fn smtp(reader: &Reader<'_>, node: &Node) -> Option<SmtpDef> {
    let keys = Keys::of(reader, &schema::SMTP, node)?;
    let host = keys.name("host");
    let words = [("starttls", SmtpTls::Starttls), ("tls", SmtpTls::Tls), ("none", SmtpTls::None)];
    let tls = keys.word("tls", &words).unwrap_or(SmtpTls::Starttls);
    let default_port = match tls {
        SmtpTls::Starttls => 587,
        SmtpTls::Tls => 465,
        SmtpTls::None => 25,
    };
    let port = keys.count_if_written("port").unwrap_or(default_port);
    let username = keys.text("username");
    let password = keys.get("password").and_then(|node| reader.secret(node));
    if username.is_some() != password.is_some() && (keys.has("username") != keys.has("password")) {
        keys.missing(if keys.has("username") { "password" } else { "username" });
    }
    let ca_file = keys.text("ca_file").map(Into::into);
    let timeout = keys.duration("timeout");
    Some(SmtpDef { host: host?, port: u16::try_from(port).ok()?, tls, username, password, ca_file, timeout })
}

fn webhook(reader: &Reader<'_>, node: &Node, templates: &Templates) -> Option<WebhookDef> {
    let keys = Keys::of(reader, &schema::WEBHOOK, node)?;
    let address = keys.get("url").and_then(|node| {
        let text = reader.text(node)?;
        url(reader, node, &text).then_some(text)
    });
    let format = keys.word("format", &FORMATS).unwrap_or_default();
    let secret = keys.get("secret").and_then(|node| reader.secret(node));
    let headers = keys.section("headers").and_then(|node| secret_map(reader, node)).unwrap_or_default();
    let timeout = keys.duration("timeout");
    let template = keys.get("template").and_then(|node| templates.get(reader, node));
    if let (Some(node), true) = (keys.section("format"), template.is_some()) {
        reader.error(node.span, "conflict", "a webhook has a format or a template, not both");
    }
    Some(WebhookDef { url: address?, format, secret, headers, timeout, template })
}

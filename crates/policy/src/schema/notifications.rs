//! Receivers, routes and inhibition.

use super::{Form, Others, Section, key};

pub(crate) static INHIBIT_RULE: Section = Section {
    title: "inhibit rule",
    place: "selfheal.yaml: inhibit_rules[]",
    about: "While a source alert fires, target alerts with the same values of the labels in `equal` are not notified and not repaired. At least one side has matchers.",
    one_of: &[],
    not_built: &["source_match", "source_match_re", "target_match", "target_match_re"],
    others: Others::Refused,
    keys: &[
        key("source_matchers", Form::Selector, "The alerts that suppress others.")
            .unset("every alert")
            .example("['alertname=\"NodeDown\"']"),
        key("target_matchers", Form::Selector, "The alerts that are suppressed.")
            .unset("every alert")
            .example("['severity=~\"warning|info\"']"),
        key("equal", Form::Texts, "Labels that have the same value on both alerts; a missing label counts as empty.")
            .example("[region]"),
    ],
};

pub(crate) static RECEIVER: Section = Section {
    title: "receiver",
    place: "selfheal.yaml: receivers[]",
    about: "Who is notified, and how.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("name", Form::Name, "Unique among the receivers.").required().example("oncall"),
        key("email", Form::OneOrMany(&EMAIL), "Mails.").example("{ to: oncall@example.com }"),
        key("webhook", Form::OneOrMany(&WEBHOOK), "HTTP requests.")
            .example("{ url: \"https://hooks.example.com/x\", format: slack }"),
        key(
            "send",
            Form::Words(&[
                "firing",
                "resolved",
                "severity",
                "started",
                "approval",
                "cured",
                "not_cured",
                "inconclusive",
                "refused",
                "exhausted",
            ]),
            "What the receiver is notified of.",
        )
        .default("[firing, resolved, severity, approval, not_cured, inconclusive, exhausted]")
        .example("[firing, resolved]"),
        key("rate", Form::Rate, "Beyond this rate notifications are merged; none is dropped.")
            .default("60/1m")
            .example("30/1m"),
        key(
            "max_age",
            Form::PositiveDuration,
            "A notification that cannot be delivered for so long is recorded as undelivered.",
        )
        .default("1d")
        .example("2h"),
    ],
};

pub(crate) static EMAIL: Section = Section {
    title: "email",
    place: "selfheal.yaml: receivers[].email",
    about: "A mail for each notification.",
    one_of: &[],
    not_built: &["subject", "html"],
    others: Others::Refused,
    keys: &[
        key("to", Form::Texts, "The addresses.").required().example("[oncall@example.com]"),
        key("from", Form::Text, "The sender.").unset("the top-level `from`").example("selfheal@example.com"),
        key("smtp", Form::Map(&SMTP), "The mail server.")
            .unset("the top-level `smtp`")
            .example("{ host: smtp.example.com }"),
        key("template", Form::Text, "A file in `templates/` that gives the text.")
            .unset("the built-in text")
            .example("mail.j2"),
    ],
};

pub(crate) static SMTP: Section = Section {
    title: "smtp",
    place: "selfheal.yaml: smtp",
    about: "A mail server.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("host", Form::Name, "Its name or address.").required().example("smtp.example.com"),
        key("tls", Form::Word(&["starttls", "tls", "none"]), "How the connection is encrypted.")
            .default("starttls")
            .example("tls"),
        key("port", Form::Count(1, 65_535), "Its port.")
            .unset("587 for `starttls`, 465 for `tls`, 25 for `none`")
            .example("2525"),
        key("username", Form::Text, "The user; `password` is required with it.").example("selfheal"),
        key("password", Form::Secret, "The password; `username` is required with it.").example("\"${SMTP_PASSWORD}\""),
        key("ca_file", Form::Text, "A PEM file of the authorities that are trusted instead of the system's.")
            .unset("the system's authorities")
            .example("internal-ca.pem"),
        key("timeout", Form::PositiveDuration, "The limit of one delivery.").default("30s").example("10s"),
    ],
};

pub(crate) static WEBHOOK: Section = Section {
    title: "webhook",
    place: "selfheal.yaml: receivers[].webhook",
    about: "A POST request for each notification.",
    one_of: &[],
    not_built: &[],
    others: Others::Refused,
    keys: &[
        key("url", Form::Text, "The URL.").required().example("https://hooks.example.com/x"),
        key(
            "format",
            Form::Word(&["default", "alertmanager", "slack", "discord", "teams", "pagerduty", "cloudevents"]),
            "The format of the body.",
        )
        .default("default")
        .example("slack"),
        key("secret", Form::Secret, "The key that signs the request, as in Standard Webhooks.")
            .example("\"${HOOK_SECRET}\""),
        key("headers", Form::SecretMap, "Headers of the request.").example("{ Authorization: \"Bearer ${TOKEN}\" }"),
        key("timeout", Form::PositiveDuration, "The limit of one request.").default("10s").example("3s"),
        key("template", Form::Text, "A file in `templates/` that gives the body, instead of `format`.")
            .example("chat.j2"),
    ],
};

const TIME_INTERVALS: Form = Form::TextList;

pub(crate) static ROUTE: Section = Section {
    title: "route",
    place: "selfheal.yaml: route",
    about: "A node of the routing tree, as in Alertmanager. A child takes what it leaves out from its parent.",
    one_of: &[],
    not_built: &["match", "match_re"],
    others: Others::Refused,
    keys: &[
        key("receiver", Form::Text, "The receiver that is notified. Required at the root.")
            .unset("the parent's")
            .example("oncall"),
        key("group_by", Form::Texts, "Labels whose values form a group; `['...']` is all labels, `[]` one group.")
            .unset("the parent's; `[deployment]` at the root")
            .example("[alertname, region]"),
        key("group_wait", Form::Duration, "The wait before the first notification of a group.")
            .unset("the parent's; 10s at the root")
            .example("30s"),
        key("group_interval", Form::PositiveDuration, "The least time between notifications about changes of a group.")
            .unset("the parent's; 5m at the root")
            .example("1m"),
        key("repeat_interval", Form::PositiveDuration, "The time after which an unchanged group is notified again.")
            .unset("the parent's; 4h at the root")
            .example("12h"),
        key(
            "wait_for_repair",
            Form::Duration,
            "The time for which a firing notification is held back while a ladder works on the alert.",
        )
        .unset("the parent's; 0s at the root")
        .example("5m"),
        key("matchers", Form::Selector, "The alerts that the route takes; all matchers must match. Not at the root.")
            .unset("every alert")
            .example("['severity=\"critical\"']"),
        key("continue", Form::Boolean, "`true` also offers the alert to the routes that follow. Not at the root.")
            .default("false")
            .example("true"),
        key(
            "mute_time_intervals",
            TIME_INTERVALS,
            "Time intervals in which the route sends nothing. Not at the root, and not inherited.",
        )
        .example("[office-hours]"),
        key(
            "active_time_intervals",
            TIME_INTERVALS,
            "Time intervals outside which the route sends nothing. Not at the root, and not inherited.",
        )
        .example("[office-hours]"),
        key(
            "routes",
            Form::List(&ROUTE),
            "The children, at most 32 deep. The first child that takes an alert ends the search.",
        )
        .example("[{ matchers: ['tier=\"db\"'], receiver: dba }]"),
    ],
};

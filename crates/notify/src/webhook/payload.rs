//! The bodies that programs read: Alertmanager's version 4, ours on top of it, CloudEvents, PagerDuty.

use serde_json::json;

use crate::text::{clean, content, plain};
use selfheal_contract::Delivery;
use selfheal_contract::notification::{AlertFacts, AlertStatus, GroupStatus, Notification};
use selfheal_model::{Labels, Map, Severity, Value};

/// What receivers take without complaint. A larger message loses alerts from its end, counted as truncated.
const MAX_BODY: usize = 512 * 1024;
/// Alertmanager's word for "has not ended".
const NEVER: &str = "0001-01-01T00:00:00Z";
/// PagerDuty refuses a longer summary.
const MAX_PAGERDUTY_SUMMARY: usize = 1_000;
/// PagerDuty's custom details: it refuses an event over 512 KB.
const MAX_PAGERDUTY_DETAILS: usize = 64 * 1024;

/// How much of what selfheal knows the payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Alertmanager's fields and no others.
    AlertmanagerOnly,
    /// With `remediation` and `dependency` per alert, `dependents` and `news`.
    Remediation,
}

/// Alertmanager's version 4 payload, as many alerts as fit.
pub fn alertmanager(notification: &Notification, detail: Detail) -> Value {
    let mut shown = notification.alerts.len();
    loop {
        let payload = with_alerts(notification, detail, shown);
        if shown == 0 || payload.to_string().len() <= MAX_BODY {
            return payload;
        }
        shown /= 2;
    }
}

fn with_alerts(notification: &Notification, detail: Detail, shown: usize) -> Value {
    let alerts: Vec<Value> =
        notification.alerts[..shown].iter().map(|alert| alert_value(notification, alert, detail)).collect();
    let mut payload = json!({
        "version": "4",
        "groupKey": notification.group,
        "truncatedAlerts": notification.truncated + (notification.alerts.len() - shown),
        "status": notification.status,
        "receiver": notification.receiver,
        "groupLabels": notification.group_labels,
        "commonLabels": common(notification.alerts.iter().map(|alert| alert.labels.clone())),
        "commonAnnotations": common(notification.alerts.iter().map(annotations)),
        "externalURL": notification.external_url,
        "alerts": alerts,
    });
    if let (Detail::Remediation, Some(payload)) = (detail, payload.as_object_mut()) {
        payload.insert("at".to_owned(), json!(notification.at));
        payload.insert("reason".to_owned(), json!(notification.reason));
        payload.insert("severity".to_owned(), json!(notification.severity));
        payload.insert("dependents".to_owned(), json!(notification.dependents));
        payload.insert("news".to_owned(), json!(notification.news));
        payload.insert("merged".to_owned(), json!(notification.merged));
        payload.insert("possibleRepeat".to_owned(), json!(notification.possible_repeat));
        payload.insert("unwatched".to_owned(), json!(notification.unwatched));
    }
    payload
}

fn alert_value(notification: &Notification, alert: &AlertFacts, detail: Detail) -> Value {
    // formats that only know firing and resolved hear "resolved" of what is no longer watched or told elsewhere
    let status = if alert.status == AlertStatus::Firing { GroupStatus::Firing } else { GroupStatus::Resolved };
    let mut value = json!({
        "status": status,
        "labels": alert.labels,
        "annotations": annotations(alert),
        "startsAt": alert.started_at,
        "endsAt": alert.ended_at.map_or_else(|| NEVER.to_owned(), |ended| ended.to_string()),
        "generatorURL": if alert.generator_url.is_empty() { &notification.external_url } else { &alert.generator_url },
        "fingerprint": alert.id,
    });
    if let (Detail::Remediation, Some(value)) = (detail, value.as_object_mut()) {
        value.insert("state".to_owned(), json!(alert.status));
        value.insert("change".to_owned(), json!(alert.change));
        value.insert("deployment".to_owned(), json!(alert.deployment));
        value.insert("severity".to_owned(), json!(alert.severity));
        value.insert("value".to_owned(), json!(alert.value));
        value.insert("firedAt".to_owned(), json!(alert.fired_at));
        value.insert("relapse".to_owned(), json!(alert.relapse));
        value.insert("withoutData".to_owned(), json!(alert.without_data));
        value.insert("remediation".to_owned(), json!(alert.remediation));
        value.insert("dependency".to_owned(), json!(alert.dependency));
    }
    value
}

/// With the summary, where Alertmanager's users look for it.
fn annotations(alert: &AlertFacts) -> Labels {
    if alert.summary.is_empty() {
        alert.annotations.clone()
    } else {
        alert.annotations.with_label("summary", &alert.summary)
    }
}

/// What all sets have in common; nothing of no sets.
fn common(mut sets: impl Iterator<Item = Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::default() };
    sets.fold(first, |common, set| common.iter().filter(|(name, value)| set.get(name) == Some(value)).collect())
}

/// CloudEvents 1.0, structured mode, around our own payload.
pub fn cloudevent(delivery: &Delivery) -> Value {
    let notification = &delivery.notification;
    let source = if notification.external_url.is_empty() { "/selfheal" } else { notification.external_url.as_str() };
    json!({
        "specversion": "1.0",
        "id": delivery.id,
        "source": source,
        "type": format!("selfheal.notification.{}", notification.status.as_str()),
        "subject": notification.group,
        "time": notification.at,
        "datacontenttype": "application/json",
        "data": alertmanager(notification, Detail::Remediation),
    })
}

/// PagerDuty's Events API 2: one incident per group, opened and closed by the same key.
pub fn pagerduty(delivery: &Delivery, routing_key: &str) -> Value {
    let notification = &delivery.notification;
    let content = content(notification);
    let about: Vec<&AlertFacts> = notification.alerts.iter().collect();
    let deployment = about.iter().find_map(|alert| alert.deployment.as_ref());
    // news without alerts is a page of its own: the group's incident may be closed already
    let (key, action) = match (about.is_empty(), notification.status) {
        (true, _) => (delivery.id.as_str(), "trigger"),
        (false, GroupStatus::Firing) => (notification.group.as_str(), "trigger"),
        (false, GroupStatus::Resolved) => (notification.group.as_str(), "resolve"),
    };
    let severity = match notification.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let mut payload = Map::new();
    payload.insert("summary".to_owned(), json!(clean(&content.subject, MAX_PAGERDUTY_SUMMARY)));
    payload.insert("source".to_owned(), json!(deployment.map_or("selfheal", |deployment| deployment.as_str())));
    payload.insert("severity".to_owned(), json!(severity));
    payload.insert("timestamp".to_owned(), json!(notification.at));
    payload.insert("group".to_owned(), json!(notification.group));
    let details = json!({
        "text": clean(&plain(&content), MAX_PAGERDUTY_DETAILS),
        "labels": notification.group_labels,
        "possible_repeat": notification.possible_repeat,
        "unwatched": notification.unwatched,
    });
    payload.insert("custom_details".to_owned(), details);
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": super::digest(key),
        "client": "selfheal",
        "payload": payload,
    });
    if let (Some(link), Some(event)) = (&content.link, event.as_object_mut()) {
        event.insert("client_url".to_owned(), json!(link));
    }
    event
}

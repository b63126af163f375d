//! Notifiers against small servers that behave as told.

mod mail;
mod texts;
mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Notifiers, NotifiersConfig, Notify};
use selfheal_contract::notification::{
    AlertChangeWord, AlertFacts, AlertStatus, FlushReason, GroupStatus, News, NewsKind, Notification, RemediationFacts,
    RunFacts,
};
use selfheal_contract::receiver::{EmailDef, Notifier, SmtpDef, SmtpTls, WebhookDef, WebhookFormat};
use selfheal_contract::{Delivery, DeliveryResult};
use selfheal_model::{Labels, ResolveSecret, Secret, SecretError, SecretSource, Severity, Timestamp};

/// 2026-11-18T15:46:40Z.
const AT: Timestamp = Timestamp::from_millis(1_795_016_800_000);
const PATIENCE: Duration = Duration::from_secs(10);

struct Literals;

impl ResolveSecret for Literals {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Literal(text) => Ok(text.clone()),
            SecretSource::Env(name) => Err(SecretError::EnvMissing(name.clone())),
            SecretSource::File(path) => {
                Err(SecretError::File { path: path.clone(), reason: "there are no files here".to_owned() })
            }
        }
    }
}

fn literal(text: &str) -> Secret {
    Secret::new(SecretSource::Literal(text.to_owned()))
}

fn notifiers(now: Timestamp) -> Notifiers {
    Notifiers::new(NotifiersConfig {
        secrets: Arc::new(Literals),
        clock: Arc::new(move || now),
        policy_dir: PathBuf::from("."),
    })
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().copied().collect()
}

/// A critical alert of the deployment `checkout`, repaired by one run.
fn alert(name: &str, status: AlertStatus) -> AlertFacts {
    let ended = (status != AlertStatus::Firing).then_some(AT);
    AlertFacts {
        id: "00c0ffee00c0ffee".into(),
        alert: name.to_owned(),
        deployment: Some("checkout".into()),
        labels: labels(&[("alertname", name), ("deployment", "checkout"), ("severity", "critical"), ("tier", "web")]),
        summary: "CPU of checkout at 97.5 %".to_owned(),
        annotations: labels(&[("runbook_url", "https://runbooks.example.com/cpu")]),
        severity: Severity::Critical,
        status,
        change: if ended.is_some() { AlertChangeWord::Ended } else { AlertChangeWord::New },
        value: Some(97.5),
        started_at: AT - Duration::from_secs(300),
        fired_at: AT - Duration::from_secs(240),
        ended_at: ended,
        relapse: 0,
        without_data: false,
        generator_url: String::new(),
        remediation: Some(RemediationFacts {
            state: "resting".into(),
            rung: 0,
            rungs: 2,
            runs: vec![RunFacts {
                run: "checkout-1".into(),
                playbook: "restart".into(),
                deployment: "checkout".into(),
                verdict: "cured".into(),
                why: "clear for 30s".to_owned(),
                started_at: AT - Duration::from_secs(200),
                ended_at: Some(AT - Duration::from_secs(140)),
                steps: vec!["restart: done in 2.1s".to_owned()],
            }],
        }),
        dependency: None,
    }
}

fn notification(alerts: Vec<AlertFacts>) -> Notification {
    let firing = alerts.iter().any(|alert| alert.status == AlertStatus::Firing);
    Notification {
        receiver: "oncall".into(),
        group: "0:{deployment=\"checkout\"}".into(),
        group_labels: labels(&[("deployment", "checkout")]),
        at: AT,
        flush: 1,
        thread_started: AT - Duration::from_secs(240),
        status: if firing { GroupStatus::Firing } else { GroupStatus::Resolved },
        reason: FlushReason::New,
        severity: Severity::Critical,
        alerts,
        truncated: 0,
        dependents: Vec::new(),
        news: Vec::new(),
        merged: 1,
        possible_repeat: false,
        unwatched: None,
        external_url: "http://127.0.0.1:9494".to_owned(),
    }
}

fn firing() -> Notification {
    notification(vec![alert("HighCpu", AlertStatus::Firing)])
}

fn news(kind: NewsKind, text: &str) -> News {
    News {
        kind,
        at: AT,
        alert: None,
        deployment: Some("checkout".into()),
        run: Some("checkout-1".into()),
        approval: None,
        text: text.to_owned(),
    }
}

fn delivery(notifier: Notifier, notification: Notification) -> Delivery {
    Delivery {
        id: "0:{deployment=\"checkout\"}/oncall/0/1".into(),
        attempt: 1,
        receiver: "oncall".into(),
        notifier,
        notification: Arc::new(notification),
    }
}

fn webhook(url: &str) -> WebhookDef {
    WebhookDef {
        url: url.to_owned(),
        format: WebhookFormat::Default,
        secret: None,
        headers: Vec::new(),
        timeout: PATIENCE,
        template: None,
    }
}

fn email(port: u16) -> EmailDef {
    EmailDef {
        to: vec!["oncall@example.com".to_owned()],
        from: "selfheal <selfheal@example.com>".to_owned(),
        smtp: SmtpDef {
            host: "127.0.0.1".to_owned(),
            port,
            tls: SmtpTls::None,
            username: None,
            password: None,
            ca_file: None,
            timeout: PATIENCE,
        },
        template: None,
    }
}

async fn send_webhook(def: WebhookDef, notification: Notification) -> DeliveryResult {
    notifiers(AT).deliver(&delivery(Notifier::Webhook(Arc::new(def)), notification)).await
}

async fn send_mail(def: EmailDef, notification: Notification) -> DeliveryResult {
    notifiers(AT).deliver(&delivery(Notifier::Email(Arc::new(def)), notification)).await
}

fn why(result: &DeliveryResult) -> &str {
    match result {
        DeliveryResult::Delivered => "",
        DeliveryResult::Transient { why, .. } | DeliveryResult::Permanent { why } => why,
    }
}

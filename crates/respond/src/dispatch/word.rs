//! How an alert is put into a message.

use std::collections::BTreeSet;

use super::Known;
use crate::alerts::Alert;
use selfheal_contract::notification::{AlertChangeWord, AlertFacts, AlertStatus, DependentsFacts, Notification};
use selfheal_model::{AlertKey, Labels};

/// The facts of an alert as it is now.
pub(super) fn facts_of(known: &dyn Known, alert: &Alert, status: AlertStatus) -> AlertFacts {
    AlertFacts {
        id: alert.key.id(),
        alert: alert.key.rule.to_string(),
        deployment: alert.deployment.clone(),
        labels: alert.labels.clone(),
        summary: alert.summary.clone(),
        annotations: alert.annotations.clone(),
        severity: alert.severity,
        status,
        change: AlertChangeWord::Same,
        value: alert.value,
        started_at: alert.started_at,
        fired_at: alert.fired_at,
        ended_at: alert.ended_at,
        relapse: alert.relapse,
        without_data: alert.without_data,
        generator_url: alert.generator_url.clone(),
        remediation: known.remediation_of(&alert.key),
        dependency: known.root_of(&alert.key).filter(|_| status == AlertStatus::Firing),
    }
}

/// The facts of the alert that news is about, whether or not it still fires.
pub(super) fn context_of(known: &dyn Known, key: &AlertKey) -> Option<AlertFacts> {
    let alert = known.alert(key)?;
    let status = if alert.firing { AlertStatus::Firing } else { AlertStatus::Resolved };
    Some(facts_of(known, alert, status))
}

/// Whom nobody is told of because something that the message says fires is out.
pub(super) fn dependents_of(known: &dyn Known, notification: &Notification) -> Vec<DependentsFacts> {
    let firing = notification.alerts.iter().filter(|alert| alert.status == AlertStatus::Firing);
    let roots: BTreeSet<_> = firing.filter_map(|alert| alert.deployment.as_ref()).collect();
    roots.into_iter().filter_map(|root| known.held_under(root)).collect()
}

/// What is known of an alert that is forgotten, for routing.
pub(super) fn labels_of(key: &AlertKey) -> Labels {
    key.scope.with_label("alertname", key.rule.as_str())
}

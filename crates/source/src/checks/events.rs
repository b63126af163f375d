//! A run told as events: the verdict itself and the metrics a check gives.

use std::time::Duration;

use super::Job;
use super::verdict::Verdict;
use selfheal_model::{Event, EventKind, Labels, MetricName, Origin, Timestamp};

const UP: &str = "check_up";
const LATENCY_MS: &str = "check_latency_ms";
const TLS_EXPIRES_IN_SECONDS: &str = "tls_expires_in_seconds";

pub(super) fn of(job: &Job, verdict: Verdict, time: Timestamp) -> Vec<Event> {
    let replica = job.key.replica.map(|replica| replica.to_string());
    let labels: Vec<(&str, &str)> = [("check", job.key.check.as_str())]
        .into_iter()
        .chain(replica.as_deref().map(|replica| ("replica", replica)))
        .collect();
    let latency_ms = millis(verdict.latency);
    let of_check = |name: &str, value| metric(name, value, &labels);
    let mut kinds = vec![
        EventKind::Health {
            check: job.key.check.clone(),
            replica: job.key.replica,
            status: verdict.status(),
            latency_ms: Some(latency_ms),
            reason: verdict.fault,
            message: verdict.message,
            confidence: verdict.findings.confidence,
        },
        of_check(UP, truth(verdict.fault.is_none())),
        of_check(LATENCY_MS, latency_ms),
    ];
    if let Some(until) = verdict.findings.expires_at {
        kinds.push(of_check(TLS_EXPIRES_IN_SECONDS, until.as_secs_f64() - time.as_secs_f64()));
    }
    for of_server in &verdict.findings.servers {
        let server = of_server.server.to_string();
        let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("server", server.as_str())]).collect();
        kinds.push(metric(UP, truth(of_server.up), &labels));
        kinds.push(metric(LATENCY_MS, millis(of_server.latency), &labels));
    }
    let event = |kind| Event { deployment: job.key.deployment.clone(), time, kind, origin: Origin::Watched };
    kinds.into_iter().map(event).collect()
}

fn metric(name: &str, value: f64, labels: &[(&str, &str)]) -> EventKind {
    let labels: Labels = labels.iter().copied().collect();
    EventKind::Metric { name: MetricName::from(name), value, labels }
}

fn truth(up: bool) -> f64 {
    if up { 1.0 } else { 0.0 }
}

/// With three digits behind the point.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

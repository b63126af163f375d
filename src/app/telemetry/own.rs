//! selfheal's own figures as series of the deployment `selfheal`, so that rules can watch the watcher.
//!
//! The series have the names, labels and values of the page, and are in the journal like everything selfheal watches.
//! Where the policy says `unknown_deployments: reject`, they are taken in once it lists `selfheal`: nobody is registered
//! against the policy's word, also not selfheal itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Exposition, Kinds, Way};
use crate::app::backend::EngineBackend;
use crate::app::clock;
use crate::app::inbox::Refused;
use selfheal_model::{Event, Labels, OWN_DEPLOYMENT, Origin, Timestamp};
use selfheal_policy::{Policy, UnknownDeployments};
use selfheal_source::attribution::{Attribution, attribute};
use selfheal_source::formats::{Dialect, parse_text};

/// Often enough to alert on within a minute, seldom enough to be nothing beside the journal's own ticks.
pub const OWN_SERIES_EVERY: Duration = Duration::from_secs(15);
/// What of the page is taken in: a fixed number of series, however large the policy is.
pub const SERIES: [&str; 28] = [
    "selfheal_alerts",
    "selfheal_commit_seconds_count",
    "selfheal_commit_seconds_sum",
    "selfheal_deliveries_total",
    "selfheal_deliveries_under_way",
    "selfheal_deployments",
    "selfheal_events_late_total",
    "selfheal_events_refused_total",
    "selfheal_events_taken_total",
    "selfheal_history_dropped_total",
    "selfheal_journal_writable",
    "selfheal_lane_refused_total",
    "selfheal_lane_waiting",
    "selfheal_notifications_ended_total",
    "selfheal_notifications_pending",
    "selfheal_paused",
    "selfheal_policy_refused",
    "selfheal_process_resident_memory_bytes",
    "selfheal_runs",
    "selfheal_runs_ended_total",
    "selfheal_runs_refused_total",
    "selfheal_series",
    "selfheal_steps_total",
    "selfheal_steps_under_way",
    "selfheal_timer_late_seconds_count",
    "selfheal_timer_late_seconds_sum",
    "selfheal_turn_seconds_count",
    "selfheal_turn_seconds_sum",
];

/// Whether the policy has room for the deployment `selfheal`.
pub(super) fn admitted(policy: &Policy) -> bool {
    policy.unknown_deployments != UnknownDeployments::Reject
        || policy.deployments.keys().any(|id| id.as_str() == OWN_DEPLOYMENT)
}

/// The page's part that is taken in.
pub(super) fn events(page: &str, arrival: Timestamp) -> Vec<Event> {
    let labels: Labels = [("deployment", OWN_DEPLOYMENT)].into_iter().collect();
    let attribution = Attribution {
        labels: &labels,
        deployment_from: &[],
        keeps: &|name| SERIES.contains(&name),
        arrival,
        origin: Origin::Watched,
    };
    attribute(parse_text(page, Dialect::OpenMetrics), &attribution).events
}

/// Takes them in, again and again, until the inbox is closed.
pub(in crate::app) async fn feed(exposition: Arc<Exposition>, backend: Arc<EngineBackend>, every: Duration) {
    let mut rhythm = interval_at(Instant::now() + every, every);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        rhythm.tick().await;
        if !admitted(&backend.policy()) {
            continue;
        }
        let mut events = events(&exposition.text().await, clock::wall());
        let kinds = Kinds::of(&events);
        match exposition.inbox.own(&mut events) {
            // one at a time: the next waits until this one is settled
            Ok(stored) => {
                if stored.await.is_ok() {
                    exposition.telemetry.taken(Way::Watched, kinds);
                }
            }
            Err(Refused::Closed) => return,
            // the next round says it
            Err(Refused::Full | Refused::Recovering | Refused::Unwritable(_)) => {}
        }
    }
}

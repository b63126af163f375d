//! Every metric there is, with its name and what it means. docs/api.md has the same list, and a test holds the two
//! together.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

use super::words::{DeliveryOutcome, Kind, Reason, StepOutcome, Way, Words};
use super::{By, Counters, Figure, Gauges, Telemetry, by, process};
use selfheal_contract::Guard;
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_model::Severity;

/// From a tenth of a millisecond to about half a minute.
fn short_times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
}

/// From ten milliseconds to about three minutes.
fn long_times() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 3.0, 10))
}

/// From one event to a quarter of a million.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 10))
}

/// Shows a series at zero.
fn show<const N: usize, M: Default + Clone>(family: &Family<By<N>, M>, labels: &By<N>) {
    family.get_or_create_owned(labels);
}

/// Shows every word at zero.
fn from_zero<W: Words>(counters: &Counters<1>, name: &'static str) {
    for word in W::ALL {
        show(counters, &by(name, word.word()));
    }
}

/// The states of an alert that stands, and those it ends in.
pub(super) const ALERT_STATES: [&str; 2] = ["pending", "firing"];
pub(super) const ALERT_ENDS: [&str; 2] = ["resolved", "ended"];
/// The states of a run that has not ended.
pub(super) const RUN_STATES: [&str; 4] = ["waiting", "approving", "running", "verifying"];
/// What a run comes to.
const VERDICTS: [&str; 9] =
    ["cured", "cured(eased)", "done", "not_cured", "inconclusive", "went_away", "refused", "denied", "cancelled"];
/// What becomes of a notification.
const NOTIFICATION_ENDS: [&str; 3] = ["delivered", "undelivered", "merged"];

/// Puts metrics into a registry as they are made.
struct Register(Registry);

impl Register {
    fn metric<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.metric(name, help, M::default())
    }

    fn with_unit<M: Metric + Clone>(&mut self, name: &str, unit: Unit, help: &str, metric: M) -> M {
        self.0.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        let mut all = Register(Registry::with_prefix("selfheal"));
        let telemetry = Telemetry {
            events_taken: all.plain("events_taken", "Events taken, by kind and way in"),
            events_late: all.plain("events_late", "Events taken that were over a day old"),
            events_refused: all.plain(
                "events_refused",
                "Events refused, or let go after they were taken, by reason; a body refused unread counts as one",
            ),
            lane_waiting: all
                .plain("lane_waiting", "What waits for the engine, by lane: events, or inputs of the others"),
            lane_bound: all.plain("lane_bound", "With so much waiting a lane is full"),
            lane_refused: all.plain("lane_refused", "What was refused because its lane was full, by lane"),
            batches: all.plain("batches", "Batches written to the journal"),
            batch_events: all.metric("batch_events", "Events in a batch", sizes()),
            commit: all.with_unit("commit", Unit::Seconds, "How long a batch took to be on disk", short_times()),
            turn: all.with_unit("turn", Unit::Seconds, "How long a turn of the engine took", short_times()),
            timer_late: all.with_unit("timer_late", Unit::Seconds, "How late the first due timer fired", short_times()),
            journal_writable: all.plain("journal_writable", "1 while the journal takes batches"),
            alerts: all.plain("alerts", "Alerts that stand, by state and severity"),
            alerts_fired: all.plain("alerts_fired", "Times an alert began to fire, by severity"),
            alerts_ended: all.plain("alerts_ended", "Alerts that had fired and ended, by state and severity"),
            runs: all.plain("runs", "Runs that have not ended, by state"),
            runs_ended: all.plain("runs_ended", "Runs that ended, by verdict"),
            runs_refused: all.plain("runs_refused", "Runs that a guard refused, now or for good, by guard"),
            steps: all.plain("steps", "Attempts of steps that ended, by outcome"),
            step_seconds: all.with_unit("step", Unit::Seconds, "How long an attempt of a step took", long_times()),
            steps_under_way: all.plain("steps_under_way", "Attempts of steps under way"),
            deliveries: all.plain("deliveries", "Attempts to deliver a notification that ended, by outcome"),
            delivery_seconds: all.with_unit(
                "delivery",
                Unit::Seconds,
                "How long an attempt to deliver a notification took",
                long_times(),
            ),
            deliveries_under_way: all.plain("deliveries_under_way", "Attempts to deliver a notification under way"),
            notifications_pending: all.plain("notifications_pending", "Notifications not yet delivered nor given up"),
            notifications_ended: all.plain("notifications_ended", "Notifications that ended, by state"),
            history_dropped: all.plain("history_dropped", "Changes that the history could not take"),
            source_up: all.plain("source_up", "1 while a source gives what it is asked for"),
            source_seconds: all.with_unit(
                "source_duration",
                Unit::Seconds,
                "How long the last round of a source took",
                Family::default(),
            ),
            source_rounds: all.plain("source_rounds", "Rounds of a source, by outcome"),
            policy: all.plain("policy_info", "The version of the policy that is live"),
            policy_loaded: all.with_unit(
                "policy_loaded_timestamp",
                Unit::Seconds,
                "When the live policy was loaded",
                Figure::default(),
            ),
            policy_refused: all.plain("policy_refused", "1 while the last save did not compile"),
            policy_errors: all.plain("policy_errors", "Errors of the last save"),
            policy_rules: all.plain("policy_rules", "Rules of the live policy"),
            paused: all.plain("paused", "1 while all automatic action is stopped by a person or for safety"),
            deployments: all.plain("deployments", "Deployments known"),
            series: all.plain("series", "Series known"),
            engine_answers: all.plain("engine_answers", "1 if the engine answered in time for this page"),
            resident: all.with_unit("process_resident_memory", Unit::Bytes, "Resident memory", Default::default()),
            cpu: all.with_unit("process_cpu", Unit::Seconds, "Processor time used", Default::default()),
            started: all.with_unit("process_start_time", Unit::Seconds, "When the process started", Figure::default()),
            let_go: Default::default(),
            registry: Registry::default(),
        };
        let build: Gauges<2> = all.plain("build_info", "The version of selfheal and of its engine");
        let version = [("version", env!("CARGO_PKG_VERSION").into()), ("engine", ENGINE_VERSION.to_string().into())];
        build.get_or_create(&version).set(1);
        telemetry.show_words();
        telemetry.journal_writable.set(1);
        telemetry.started.set(process::started_at());
        Telemetry { registry: all.0, ..telemetry }
    }
}

impl Telemetry {
    fn show_words(&self) {
        for way in Way::ALL {
            // only selfheal's own events come as verdicts or signals on other ways than the first
            let kinds = if matches!(way, Way::Events | Way::Watched) { Kind::ALL } else { &[Kind::Metric] };
            for kind in kinds {
                show(&self.events_taken, &[("kind", kind.word().into()), ("way", way.word().into())]);
            }
        }
        from_zero::<Reason>(&self.events_refused, "reason");
        from_zero::<StepOutcome>(&self.steps, "outcome");
        from_zero::<DeliveryOutcome>(&self.deliveries, "outcome");
        for severity in Severity::ALL.map(Severity::as_str) {
            show(&self.alerts_fired, &by("severity", severity));
            for state in ALERT_STATES {
                show(&self.alerts, &[("state", state.into()), ("severity", severity.into())]);
            }
            for state in ALERT_ENDS {
                show(&self.alerts_ended, &[("state", state.into()), ("severity", severity.into())]);
            }
        }
        for state in RUN_STATES {
            show(&self.runs, &by("state", state));
        }
        for verdict in VERDICTS {
            show(&self.runs_ended, &by("verdict", verdict));
        }
        // a rate of theirs begins at zero
        for guard in Guard::ALL {
            show(&self.runs_refused, &by("guard", guard.as_str()));
        }
        for state in NOTIFICATION_ENDS {
            show(&self.notifications_ended, &by("state", state));
        }
    }
}

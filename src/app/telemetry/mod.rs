//! What selfheal counts of itself, in one registry: shown at `/metrics`, and the part named in `own::SERIES` taken in
//! as series of the deployment `selfheal`.
//!
//! Invariant: everything that is taken, refused or let go is counted here, with its reason. Counting waits for nobody and
//! decides nothing.

mod exposition;
mod own;
mod process;
mod registry;
mod shown;
mod words;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::inbox::Standing;
pub use exposition::Exposition;
pub use own::OWN_SERIES_EVERY;
pub(super) use own::feed;
use selfheal_detect::{Figures, Tally};
use selfheal_model::Timestamp;
use selfheal_source::pull::Poll;
pub use shown::Shows;
pub use words::{DeliveryOutcome, Kind, Kinds, Reason, StepOutcome, Way, Words};

/// Labels of one series.
type By<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters<const N: usize> = Family<By<N>, Counter>;
type Gauges<const N: usize> = Family<By<N>, Gauge>;
/// A gauge that is no whole number.
type Figure = Gauge<f64, AtomicU64>;
type Figures1 = Family<By<1>, Figure>;

/// All figures. Shared by whoever has something to count.
pub struct Telemetry {
    registry: Registry,
    events_taken: Counters<2>,
    events_late: Counter,
    events_refused: Counters<1>,
    lane_waiting: Gauges<1>,
    lane_bound: Gauges<1>,
    lane_refused: Counters<1>,
    batches: Counter,
    batch_events: Histogram,
    commit: Histogram,
    turn: Histogram,
    timer_late: Histogram,
    journal_writable: Gauge,
    alerts: Gauges<2>,
    alerts_fired: Counters<1>,
    alerts_ended: Counters<2>,
    runs: Gauges<1>,
    runs_ended: Counters<1>,
    runs_refused: Counters<1>,
    steps: Counters<1>,
    step_seconds: Histogram,
    steps_under_way: Gauge,
    deliveries: Counters<1>,
    delivery_seconds: Histogram,
    deliveries_under_way: Gauge,
    notifications_pending: Gauge,
    notifications_ended: Counters<1>,
    history_dropped: Counter,
    source_up: Gauges<1>,
    source_seconds: Figures1,
    source_rounds: Counters<2>,
    policy: Gauges<1>,
    policy_loaded: Figure,
    policy_refused: Gauge,
    policy_errors: Gauge,
    policy_rules: Gauge,
    paused: Gauge,
    deployments: Gauge,
    series: Gauge,
    engine_answers: Gauge,
    resident: Gauge,
    cpu: Counter<f64, AtomicU64>,
    started: Figure,
    /// What the engine had let go when it was last asked.
    let_go: Mutex<Tally>,
}

/// What is read at the moment of a look.
pub struct Look<'a> {
    /// `None`: the engine did not answer in time.
    pub engine: Option<Figures>,
    pub lanes: Standing,
    pub sources: &'a [(smol_str::SmolStr, Poll)],
    pub steps_under_way: usize,
    pub deliveries_under_way: usize,
    pub history_dropped: u64,
}

/// A turn of the engine's thread.
#[derive(Clone, Copy, Debug)]
pub struct TurnTaken {
    pub took: Duration,
    /// How late the first timer was that was due, if one was.
    pub timer_late: Option<Duration>,
}

fn by(name: &'static str, word: impl Into<Cow<'static, str>>) -> By<1> {
    [(name, word.into())]
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Telemetry {
    /// What an engine that was brought back has let go before is no news.
    pub fn begin(&self, engine: Figures) {
        *self.let_go.lock().unwrap_or_else(PoisonError::into_inner) = engine.refused;
    }

    pub fn taken(&self, way: Way, kinds: Kinds) {
        for (kind, count) in kinds.iter().filter(|(_, count)| *count > 0) {
            self.events_taken.get_or_create(&[("kind", kind.word().into()), ("way", way.word().into())]).inc_by(count);
        }
    }

    /// Taken, but so old that hardly a window reaches them.
    pub fn late(&self, events: usize) {
        self.events_late.inc_by(events as u64);
    }

    /// A body that was refused before it was read counts as one event: nobody knows how many it held.
    pub fn refused(&self, reason: Reason, events: usize) {
        self.events_refused.get_or_create(&by("reason", reason.word())).inc_by(events as u64);
    }

    pub fn turn_taken(&self, turn: TurnTaken) {
        self.turn.observe(turn.took.as_secs_f64());
        if let Some(late) = turn.timer_late {
            self.timer_late.observe(late.as_secs_f64());
        }
    }

    /// A batch is in the journal.
    pub fn committed(&self, events: usize, took: Duration) {
        self.batches.inc();
        self.batch_events.observe(events as f64);
        self.commit.observe(took.as_secs_f64());
    }

    pub fn journal(&self, is_writable: bool) {
        self.journal_writable.set(i64::from(is_writable));
    }

    pub fn step_ended(&self, outcome: StepOutcome, took: Duration) {
        self.steps.get_or_create(&by("outcome", outcome.word())).inc();
        self.step_seconds.observe(took.as_secs_f64());
    }

    pub fn delivery_ended(&self, outcome: DeliveryOutcome, took: Duration) {
        self.deliveries.get_or_create(&by("outcome", outcome.word())).inc();
        self.delivery_seconds.observe(took.as_secs_f64());
    }

    /// Everything as OpenMetrics text.
    pub fn render(&self, look: &Look<'_>) -> String {
        // one at a time: what is read at the moment of a look is set anew by each
        let mut let_go = self.let_go.lock().unwrap_or_else(PoisonError::into_inner);
        self.engine_answers.set(i64::from(look.engine.is_some()));
        if let Some(figures) = look.engine {
            self.deployments.set(whole(figures.deployments));
            self.series.set(whole(figures.series));
            self.count_let_go(&mut let_go, figures.refused);
        }
        for lane in &look.lanes.lanes {
            self.lane_waiting.get_or_create(&by("lane", lane.name)).set(whole(lane.waiting));
            if let Some(bound) = lane.bound {
                self.lane_bound.get_or_create(&by("lane", lane.name)).set(whole(bound));
                self.lane_refused.get_or_create(&by("lane", lane.name)).inner().store(lane.refused, Ordering::Relaxed);
            }
        }
        self.steps_under_way.set(whole(look.steps_under_way));
        self.deliveries_under_way.set(whole(look.deliveries_under_way));
        self.history_dropped.inner().store(look.history_dropped, Ordering::Relaxed);
        self.set_sources(look.sources);
        if let Some(resident) = process::resident_bytes() {
            self.resident.set(i64::try_from(resident).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = process::cpu_seconds() {
            self.cpu.inner().store(seconds.to_bits(), Ordering::Relaxed);
        }
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            // a String takes everything: a metric that cannot be written is a mistake in here
            tracing::error!(%error, "the metrics could not be written");
        }
        text
    }

    /// What the engine let go since it was last asked.
    fn count_let_go(&self, before: &mut Tally, now: Tally) {
        let counts = [
            (Reason::UnknownDeployment, before.unknown_deployments, now.unknown_deployments),
            (Reason::TooManyDeployments, before.too_many_deployments, now.too_many_deployments),
            (Reason::TooManySeries, before.too_many_series, now.too_many_series),
            (Reason::TooLate, before.too_late, now.too_late),
            (Reason::TooManyChecks, before.too_many_checks, now.too_many_checks),
            (Reason::TooManySignals, before.too_many_signals, now.too_many_signals),
            (Reason::TooManyScopes, before.too_many_scopes, now.too_many_scopes),
            (Reason::TooManyPosted, before.too_many_posted, now.too_many_posted),
        ];
        for (reason, before, now) in counts {
            let more = now.saturating_sub(before);
            self.events_refused.get_or_create(&by("reason", reason.word())).inc_by(more);
        }
        *before = now;
    }

    /// A source that the policy no longer names is not shown any more.
    fn set_sources(&self, sources: &[(smol_str::SmolStr, Poll)]) {
        self.source_up.clear();
        self.source_seconds.clear();
        self.source_rounds.clear();
        for (name, round) in sources {
            let source = || by("source", name.to_string());
            self.source_up.get_or_create(&source()).set(i64::from(round.is_up));
            self.source_seconds.get_or_create(&source()).set(round.took.as_secs_f64());
            for (outcome, count) in [("answered", round.answered), ("failed", round.failed)] {
                let labels = [("source", name.to_string().into()), ("outcome", outcome.into())];
                self.source_rounds.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
            }
        }
    }
}

/// Unix seconds.
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests;

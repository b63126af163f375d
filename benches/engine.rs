//! What detecting costs: the engine alone, on one thread, with all series warm and every window full.
//!
//! `cargo bench --bench engine`; with `-- DEPLOYMENTS RULES ROUNDS` only so much, for a profile. Three rules are interested in each event; the others read metrics that nobody sends.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selfheal_contract::SourceFile;
use selfheal_engine::{Engine, Input};
use selfheal_model::{AdapterCatalog, AdapterSpec, Event, EventKind, Labels, Map, Origin, Timestamp};

/// As many as the first argument says, or so many.
const DEPLOYMENTS: usize = 10_000;
const METRICS: usize = 10;
/// One sample of each series so often, in milliseconds of event time.
const EVERY_MS: usize = 10_000;
/// Rounds until the windows of five minutes are full, and rounds that are measured.
const WARM: usize = 32;
const MEASURED: usize = 20;
/// Events handed over at once.
const BATCH: usize = 1_000;
const START_MS: i64 = 1_795_000_000_000;

struct NoAdapters;

impl AdapterCatalog for NoAdapters {
    fn kinds(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn describe(&self, kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        Err(format!("there is no {kind}"))
    }
}

/// Three rules for each metric, and more for metrics that do not come up to `rules`.
fn engine(rules: usize) -> (Engine, Duration) {
    let mut text = "rules:\n".to_owned();
    for n in 0..rules {
        let metric = n / 3;
        let when = match n % 3 {
            0 => format!("avg(\"m{metric}\", \"5m\") > 99"),
            1 => format!("avg(\"m{metric}\", \"5m\") > 60 && last(\"m{metric}\") > 99.5"),
            _ => format!("sum(\"m{metric}\", \"5m\") > 2900"),
        };
        writeln!(text, "  - {{ alert: R{n}, when: '{when}' }}").expect("a text takes it");
    }
    let config = "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n";
    let files = [("selfheal.yaml", config), ("rules/r.yaml", text.as_str())]
        .map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    let began = Instant::now();
    let policy = match selfheal_policy::compile(&files, &NoAdapters, &|_| None, &|_| None) {
        Ok(policy) => Arc::new(policy),
        Err(mistakes) => panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)),
    };
    let engine = Engine::new(Timestamp::from_millis(START_MS), policy).0;
    (engine, began.elapsed())
}

fn events(deployments: usize, round: usize, batch: usize) -> Vec<Event> {
    (batch * BATCH..(batch + 1) * BATCH)
        .map(|n| {
            // neighbours in time are of different deployments
            let (deployment, metric) = (n % deployments, n / deployments);
            let after = round * EVERY_MS + n * EVERY_MS / (deployments * METRICS);
            Event {
                deployment: format!("web-{deployment}").as_str().into(),
                time: Timestamp::from_millis(START_MS + i64::try_from(after).expect("it fits")),
                kind: EventKind::Metric {
                    name: format!("m{metric}").as_str().into(),
                    value: ((round * 31 + n * 17) % 1_000) as f64 / 10.0,
                    labels: Labels::default(),
                },
                origin: Origin::External,
            }
        })
        .collect()
}

/// Apart, so that a profile can tell the engine from what makes its events.
#[inline(never)]
fn hand_over(engine: &mut Engine, now: Timestamp, events: Vec<Event>) {
    let mut effects = Vec::new();
    engine.handle(now, Input::Events(events), &mut effects);
}

fn play(engine: &mut Engine, deployments: usize, rounds: std::ops::Range<usize>) -> f64 {
    let mut handled = Duration::ZERO;
    let mut count = 0;
    for round in rounds {
        for batch in 0..deployments * METRICS / BATCH {
            let events = events(deployments, round, batch);
            let now = events.last().map_or(Timestamp::default(), |event| event.time);
            count += events.len();
            let began = Instant::now();
            hand_over(engine, now, events);
            handled += began.elapsed();
        }
    }
    count as f64 / handled.as_secs_f64()
}

/// When every window is full.
#[inline(never)]
fn play_full(engine: &mut Engine, deployments: usize, rounds: usize) -> f64 {
    play(engine, deployments, WARM..WARM + rounds)
}

/// Resident memory of this process in bytes, without the pages of its file: those are not of the series.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

fn main() {
    // cargo adds a flag of its own
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let deployments = asked.first().copied().unwrap_or(DEPLOYMENTS);
    let rounds = asked.get(2).copied().unwrap_or(MEASURED);
    let series = deployments * METRICS;
    println!("{series} series of {deployments} deployments, a sample each 10 s, windows of 5 min");
    for rules in asked.get(1).map_or(vec![30, 1_000, 10_000], |rules| vec![*rules]) {
        let before = resident();
        let (mut engine, loaded) = engine(rules);
        let warm = play(&mut engine, deployments, 0..WARM);
        let full = resident() - before;
        let rate = play_full(&mut engine, deployments, rounds);
        let firing = engine.judge().alerts().views().len();
        println!(
            "{rules:>6} rules: {rate:>10.0} events/s (while filling {warm:.0}), loaded in {loaded:.1?}, {:.0} bytes a series, \
             {firing} alerts",
            full / series as f64
        );
    }
}

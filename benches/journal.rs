//! What durability costs: the engine's thread as the driver runs it, with each way to write the journal and with none.
//!
//! `cargo bench --bench journal`. All ways run one after the other in one process, on the same events.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selfheal_contract::SourceFile;
use selfheal_engine::{Engine, Input};
use selfheal_model::{AdapterCatalog, AdapterSpec, Event, EventKind, Labels, Map, Origin, Timestamp};
use selfheal_policy::Durability;
use selfheal_store::journal::{Batch, Journal, MemoryJournal};
use selfheal_store::replay::{self, BatchReplay};
use selfheal_store::{Store, StoreOptions};

/// Events handed over at once: a body of NDJSON.
const BATCH: usize = 1_000;
const BATCHES: usize = 300;
const DEPLOYMENTS: usize = 100;

const POLICY: &str = "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n";
const RULES: &str = "rules:\n  - { alert: Hot, when: 'avg(\"cpu_percent\", \"5m\") > 99' }\n";

struct NoAdapters;

impl AdapterCatalog for NoAdapters {
    fn kinds(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn describe(&self, kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        Err(format!("there is no {kind}"))
    }
}

fn events(batch: usize) -> Vec<Event> {
    (0..BATCH)
        .map(|n| Event {
            deployment: format!("web-{}", n % DEPLOYMENTS).as_str().into(),
            time: Timestamp::from_millis(1_795_000_000_000 + (batch * BATCH + n) as i64),
            kind: EventKind::Metric {
                name: "cpu_percent".into(),
                value: ((batch * 31 + n * 17) % 1_000) as f64 / 10.0,
                labels: Labels::default(),
            },
            origin: Origin::External,
        })
        .collect()
}

fn engine() -> Engine {
    let files = [("selfheal.yaml", POLICY), ("rules/r.yaml", RULES)]
        .map(|(path, text)| SourceFile { path: path.to_owned(), text: text.to_owned() });
    let policy = match selfheal_policy::compile(&files, &NoAdapters, &|_| None, &|_| None) {
        Ok(policy) => Arc::new(policy),
        Err(mistakes) => panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)),
    };
    Engine::new(Timestamp::from_millis(1_795_000_000_000), policy).0
}

/// Events a second, and the longest commit.
fn run(journal: Option<&mut dyn Journal>) -> (f64, Duration) {
    let mut journal = journal;
    let mut engine = engine();
    let mut longest = Duration::ZERO;
    let mut handled = Duration::ZERO;
    for number in 0..BATCHES {
        let events = events(number);
        let now = events.last().map_or(Timestamp::default(), |event| event.time);
        let began = Instant::now();
        let input = Input::Events(events);
        let mut effects = Vec::new();
        let mut batch = Batch::begin(now);
        if journal.is_some() {
            batch.take_in(now, &input);
        }
        engine.handle(now, input, &mut effects);
        if let Some(journal) = &mut journal {
            batch.decide(&effects);
            let committing = Instant::now();
            journal.append(&batch).expect("there is room");
            longest = longest.max(committing.elapsed());
        }
        handled += began.elapsed();
    }
    ((BATCH * BATCHES) as f64 / handled.as_secs_f64(), longest)
}

fn on_disk(dir: &Path, durability: Durability) -> (f64, Duration, f64) {
    let store = Store::at(dir);
    let options = StoreOptions { durability, ..StoreOptions::default() };
    let mut journal = store.journal(options, 0, Box::new(|| {})).expect("the folder can be written");
    let (rate, longest) = run(Some(&mut journal));
    drop(journal);
    let size: u64 = std::fs::read_dir(store.journal_dir())
        .expect("readable")
        .flatten()
        .filter(|file| file.file_name() != "next")
        .map(|file| file.metadata().map_or(0, |file| file.len()))
        .sum();
    (rate, longest, size as f64 / (BATCH * BATCHES) as f64)
}

/// Events a second that a recovery reads, decodes and folds.
fn recovered(dir: &Path) -> f64 {
    let began = Instant::now();
    let mut engine = engine();
    let mut events = 0;
    for batch in Store::at(dir).tail(0).expect("a journal") {
        let batch = batch.expect("readable");
        events += batch.events();
        let policy = engine.policy().clone();
        let folded = replay::apply(&mut engine, batch, &mut |_| Some(policy.clone()), &mut Vec::new());
        assert_eq!(folded, Ok(BatchReplay::Same));
    }
    events as f64 / began.elapsed().as_secs_f64()
}

fn main() {
    let dir = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let (none, _) = run(None);
    let (memory, longest) = run(Some(&mut MemoryJournal::default()));
    println!("{BATCHES} batches of {BATCH} events, {DEPLOYMENTS} deployments, one rule that reads them");
    println!("no journal           {none:>10.0} events/s");
    println!("in memory            {memory:>10.0} events/s, longest commit {longest:?}");
    for (name, durability) in
        [("interval of 100ms", Durability::Interval(Duration::from_millis(100))), ("sync", Durability::Sync)]
    {
        let folder = dir.path().join(name.replace(' ', "-"));
        let (rate, longest, bytes) = on_disk(&folder, durability);
        println!("{name:<20} {rate:>10.0} events/s, longest commit {longest:?}, {bytes:.1} bytes an event");
        println!("  its recovery       {:>10.0} events/s", recovered(&folder));
    }
}

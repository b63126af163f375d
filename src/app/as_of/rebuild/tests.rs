use std::sync::{Arc, Mutex};

use super::*;
use crate::app::policy_archive::PolicyArchive;
use selfheal_adapter::Catalog;
use selfheal_contract::SourceFile;
use selfheal_model::{Event, EventKind, Labels, Origin};
use selfheal_policy::Policy;
use selfheal_policy::record::{Recorded, compile_recording};
use selfheal_store::StoreOptions;
use selfheal_store::journal::{Batch, Journal, Limits, SqliteJournal, segments};
use selfheal_store::snapshot::Snapshot;

const RULES: &str = "rules:\n  - { alert: Hot, when: 'avg(\"heat\", \"5m\") > 80', for: 10s }\n";
const PATIENT: Duration = Duration::from_secs(600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn policy() -> Recorded {
    let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
    let files = [
        file("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\nroute: { receiver: a }\n"),
        file("rules/r.yaml", RULES),
    ];
    compile_recording(&files, &Catalog::new(".".into()), &|_| None, &|_| None)
        .unwrap_or_else(|mistakes| panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)))
}

/// A journal that begins at second 0, and the engine that writes it.
struct Life {
    dir: tempfile::TempDir,
    store: Store,
    archive: SharedArchive,
    journal: SqliteJournal,
    engine: Engine,
    policy: Arc<Policy>,
}

impl Life {
    fn begin() -> Life {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::at(dir.path());
        let archive =
            Arc::new(Mutex::new(PolicyArchive::new(store.open().expect("a new folder").policies, dir.path())));
        let Recorded { policy, record, answers } = policy();
        let policy = Arc::new(policy);
        archive.lock().expect("not poisoned").keep(&record, &answers, &policy, 1).expect("kept");
        let limits = Limits { segment_bytes: 1_000, ..Limits::default() };
        let options = StoreOptions { limits, ..StoreOptions::default() };
        let mut journal = store.journal(options, 0, Box::new(|| {})).expect("writable");
        let (engine, first) = Engine::new(at(0), policy.clone());
        let mut batch = Batch::begin(at(0));
        batch.take_in(at(0), &Input::PolicyReplaced(policy.clone()));
        batch.decide(&first);
        journal.append(&batch).expect("there is room");
        Life { dir, store, archive, journal, engine, policy }
    }

    /// One batch of these.
    fn take(&mut self, inputs: Vec<(Timestamp, Input)>) {
        let mut batch = Batch::begin(inputs[0].0);
        let mut effects = Vec::new();
        for (at, input) in inputs {
            batch.take_in(at, &input);
            self.engine.handle(at, input, &mut effects);
        }
        batch.decide(&effects);
        self.journal.append(&batch).expect("there is room");
    }

    /// A sample every five seconds.
    fn heat(&mut self, seconds: std::ops::Range<i64>) {
        for second in seconds.filter(|second| second % 5 == 0) {
            self.take(vec![(at(second), heat(second))]);
        }
    }

    fn snapshot(&self) {
        let sequence = self.journal.last_sequence();
        let snapshot = Snapshot { sequence, at: self.engine.now(), state: self.engine.save() };
        self.store.snapshots().write(&snapshot).expect("there is room");
    }

    /// As the engine will be at a later instant if nothing comes in.
    fn saved_at(&self, then: Timestamp) -> Vec<u8> {
        let mut twin = Engine::restore(&self.engine.save(), &mut policy_of(&self.archive)).expect("a state");
        twin.handle(then, Input::Tick, &mut Vec::new());
        twin.save()
    }

    fn rebuild(&self, then: Timestamp) -> Result<Rebuilt, NotRebuilt> {
        let patience = Patience { began: Stopwatch::start(), within: PATIENT, stopping: &AtomicBool::new(false) };
        rebuild(&self.store, &self.archive, then, &patience)
    }
}

fn heat(second: i64) -> Input {
    let kind = EventKind::Metric { name: "heat".into(), value: (second * 7 % 160) as f64, labels: Labels::default() };
    Input::Events(vec![Event { deployment: "web".into(), time: at(second), kind, origin: Origin::External }])
}

#[test]
fn what_is_made_anew_is_what_was_byte_for_byte() {
    let mut life = Life::begin();
    life.heat(5..200);
    let early = life.saved_at(at(197));
    life.heat(200..400);
    life.snapshot();
    life.heat(400..500);
    let late = life.saved_at(at(498));
    life.heat(500..600);
    life.snapshot();

    let rebuilt = life.rebuild(at(197)).expect("it is kept");
    assert!(rebuilt.engine.save() == early, "from the journal's beginning");
    assert_eq!((rebuilt.snapshot, rebuilt.batch, rebuilt.batches), (None, Some(40), 40));
    let rebuilt = life.rebuild(at(498)).expect("it is kept");
    assert!(rebuilt.engine.save() == late, "from the newest snapshot that is no later");
    assert_eq!((rebuilt.snapshot, rebuilt.batch, rebuilt.batches), (Some(80), Some(100), 20));
    assert_eq!(rebuilt.notes, [""; 0]);
    assert_eq!(life.engine.now(), at(595), "nobody else notices");
    let damaged = life.dir.path().join(format!("snapshot/{:020}.db", 80));
    std::fs::File::options().write(true).open(damaged).and_then(|file| file.set_len(20_000)).expect("cut");
    let rebuilt = life.rebuild(at(498)).expect("it is kept");
    assert!(rebuilt.engine.save() == late && rebuilt.snapshot.is_none(), "a damaged snapshot is passed over");
}

#[test]
fn a_batch_is_folded_as_far_as_it_had_come() {
    let mut life = Life::begin();
    life.heat(5..50);
    // what could not be written for a while is written as one batch
    life.take((50..70).map(|second| (at(second), heat(second))).collect());
    let mut twin = Life::begin();
    twin.heat(5..50);
    twin.take((50..61).map(|second| (at(second), heat(second))).collect());
    let rebuilt = life.rebuild(at(60)).expect("it is kept");
    assert!(rebuilt.engine.save() == twin.engine.save());
    assert_eq!(rebuilt.notes, [""; 0]);
}

#[test]
fn time_that_nobody_watched_does_not_pass() {
    let mut life = Life::begin();
    life.heat(5..100);
    let before = life.engine.save();
    life.take(vec![(at(900), Input::Resumed { from: at(95), to: at(900), because: Gap::Stopped })]);
    let rebuilt = life.rebuild(at(500)).expect("it is kept");
    assert!(rebuilt.engine.save() == before);
    assert!(rebuilt.notes[0].contains("did not run from 1970-01-01T00:01:35.000Z"), "{:?}", rebuilt.notes);
    // the journal's end is no end of time, up to where a tick would have been written
    assert_eq!(life.rebuild(at(910)).expect("it is kept").notes, [""; 0]);
    let beyond = life.rebuild(at(2_000)).expect("it is kept");
    assert_eq!(beyond.engine.now(), at(900));
    assert!(beyond.notes[0].contains("could not be written down"), "{:?}", beyond.notes);
}

#[test]
fn what_cannot_be_made_anew_says_why() {
    let mut life = Life::begin();
    let known = |result: Result<Rebuilt, NotRebuilt>| result.err().expect("it is refused");
    assert_eq!(known(life.rebuild(at(-1))), NotRebuilt::BeforeBeginning(at(0)));
    life.heat(5..200);
    life.snapshot();
    life.heat(200..300);

    let stopping = AtomicBool::new(true);
    let patience = Patience { began: Stopwatch::start(), within: PATIENT, stopping: &stopping };
    assert_eq!(known(rebuild(&life.store, &life.archive, at(50), &patience)), NotRebuilt::Stopping);
    let patience = Patience { within: Duration::ZERO, stopping: &AtomicBool::new(false), ..patience };
    let too_long = known(rebuild(&life.store, &life.archive, at(50), &patience));
    assert!(matches!(too_long, NotRebuilt::TooLong { .. }), "{too_long}");

    let first = segments(&life.store.journal_dir()).expect("readable").swap_remove(0);
    first.remove().expect("removed");
    let gone = known(life.rebuild(at(50)));
    assert_eq!(gone, NotRebuilt::NotKept { since: Some(at(195)) });
    assert_eq!(
        gone.to_string(),
        "the journal of that time is kept no more; it reaches back to 1970-01-01T00:03:15.000Z"
    );
    assert!(life.rebuild(at(250)).is_ok(), "the snapshot is all it needs");
}

#[test]
fn what_another_version_decided_is_said() {
    let life = Life::begin();
    let mut folding = Folding::begin(&life.store, &life.archive, at(10)).expect("it begins");
    let inputs = vec![(at(0), StoredInput::PolicyReplaced(life.policy.version.clone()))];
    let batch = StoredBatch { sequence: 1, at: at(0), engine_version: ENGINE_VERSION - 1, inputs, decided: Vec::new() };
    folding.take(batch, at(10), &mut policy_of(&life.archive)).expect("it folds");
    let rebuilt = folding.end(&life.store, at(10)).expect("an engine");
    let said = format!("version {} of the engine was running", ENGINE_VERSION - 1);
    assert!(rebuilt.notes[0].contains(&said), "{:?}", rebuilt.notes);
}

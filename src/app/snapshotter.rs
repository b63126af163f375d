//! Makes snapshots beside the live engine: a second engine folds the journal's complete segments and is saved. The live
//! one is never touched, and every snapshot proves anew that the journal replays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};

use super::clock;
use super::policy_archive::{SharedArchive, policy_of};
use super::recovery::recover_until;
use selfheal_engine::Engine;
use selfheal_model::Timestamp;
use selfheal_policy::Keep;
use selfheal_store::snapshot::Snapshot;
use selfheal_store::{Store, retention};

/// What could not be done is tried again at least so often.
const AGAIN: Duration = Duration::from_secs(600);

/// The thread, until it is dropped.
pub struct Snapshotter {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Snapshotter {
    /// # Errors
    /// There is no thread to be had.
    pub fn start(store: Store, archive: SharedArchive, data_dir: &Path, keep: Keep) -> std::io::Result<Self> {
        let (wake, woken) = channel();
        let data_dir = data_dir.to_owned();
        let thread = std::thread::Builder::new()
            .name("snapshotter".to_owned())
            .spawn(move || work(&store, &archive, &data_dir, keep, &woken))?;
        Ok(Snapshotter { wake: Some(wake), thread: Some(thread) })
    }

    /// To be called when a segment is complete.
    pub fn waker(&self) -> Box<dyn FnMut() + Send> {
        let wake = self.wake.clone();
        Box::new(move || {
            if let Some(wake) = &wake {
                // it ends before the journal does
                let _ = wake.send(());
            }
        })
    }

    /// Waits for the work under way.
    pub fn stop(mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // it has logged why it ended
            let _ = thread.join();
        }
    }
}

fn work(store: &Store, archive: &SharedArchive, data_dir: &Path, keep: Keep, woken: &Receiver<()>) {
    let mut needs = Needs::new();
    loop {
        match woken.recv_timeout(AGAIN) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while woken.try_recv().is_ok() {}
        if let Err(error) = advance(store, archive, data_dir, keep, &mut needs) {
            tracing::error!(
                error = format!("{error:#}"),
                "no snapshot could be made; recovery takes longer until one is"
            );
        }
    }
}

/// The policies that each snapshot needs: to read one only for them is much work.
type Needs = BTreeMap<u64, BTreeSet<String>>;

/// One snapshot up to the end of the complete segments, if there is something new, and then what nobody needs any more
/// goes.
fn advance(
    store: &Store,
    archive: &SharedArchive,
    data_dir: &Path,
    keep: Keep,
    needs: &mut Needs,
) -> anyhow::Result<()> {
    let until = store.complete_until()?;
    if store.snapshots().sequences()?.last().is_some_and(|last| *last >= until) || until == 0 {
        return Ok(());
    }
    let mut snapshots = store.snapshot_candidates()?;
    let Some(recovered) = recover_until(store, &mut snapshots, archive, until)? else {
        bail!("the journal has complete segments and no beginning")
    };
    if let Some(divergence) = recovered.divergence {
        bail!("replay came to other decisions than the journal has: {divergence}");
    }
    publish(store, &recovered.engine, recovered.sequence, recovered.at)?;
    tracing::info!(after = recovered.sequence, batches = recovered.batches, "snapshot made");
    needs.insert(recovered.sequence, needed_by(&recovered.engine));
    tidy(store, archive, data_dir, keep, needs)
}

fn needed_by(engine: &Engine) -> BTreeSet<String> {
    engine.policy_versions().iter().map(ToString::to_string).collect()
}

/// Saves an engine as the state after a batch.
///
/// # Errors
/// The snapshot cannot be written; nothing has changed then.
pub fn publish(store: &Store, engine: &Engine, sequence: u64, at: Timestamp) -> anyhow::Result<()> {
    let snapshot = Snapshot { sequence, at: at.max(engine.now()), state: engine.save() };
    Ok(store.snapshots().write(&snapshot)?)
}

/// Lets go of segments and policies that neither a recovery nor whoever asks what was needs.
fn tidy(store: &Store, archive: &SharedArchive, data_dir: &Path, keep: Keep, needs: &mut Needs) -> anyhow::Result<()> {
    let first = retention::retain(store, keep, clock::wall())?;
    let kept: BTreeSet<u64> = store.snapshots().sequences()?.into_iter().collect();
    let to_recover_from = store.snapshots().to_recover_from()?;
    needs.retain(|sequence, _| kept.contains(sequence));
    for sequence in kept {
        if needs.contains_key(&sequence) {
            continue;
        }
        let needed = needed_after(store, archive, sequence);
        match needed.with_context(|| format!("the snapshot after batch {sequence} cannot be used")) {
            Ok(needed) => drop(needs.insert(sequence, needed)),
            Err(error) if to_recover_from.contains(&sequence) => return Err(error),
            // of no use to this version, and no recovery begins with it
            Err(_) => drop(needs.insert(sequence, BTreeSet::new())),
        }
    }
    let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
    let mut needed: BTreeSet<String> = needs.values().flatten().cloned().collect();
    needed.extend(archive.named_since(first)?);
    archive.retain(&needed).with_context(|| format!("cannot tidy {}", data_dir.display()))
}

fn needed_after(store: &Store, archive: &SharedArchive, sequence: u64) -> anyhow::Result<BTreeSet<String>> {
    let snapshot = store.snapshots().read(sequence)?;
    Ok(needed_by(&Engine::restore(&snapshot.state, &mut policy_of(archive))?))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::policy_archive::PolicyArchive;
    use super::super::recovery;
    use super::*;
    use selfheal_adapter::Catalog;
    use selfheal_contract::SourceFile;
    use selfheal_engine::Input;
    use selfheal_model::{Bytes, Event, EventKind, Labels, Origin};
    use selfheal_policy::record::{Recorded, compile_recording};
    use selfheal_store::StoreOptions;
    use selfheal_store::journal::{Batch, Journal, Limits, segments};

    const RULES: &str = "rules:\n  - { alert: Hot, when: 'avg(\"heat\", \"5m\") > 80', for: 10s }\n";

    fn policy() -> Recorded {
        let file = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file("selfheal.yaml", "format: 1\nreceivers: [{ name: a }]\nroute: { receiver: a }\n"),
            file("rules/r.yaml", RULES),
        ];
        compile_recording(&files, &Catalog::new(".".into()), &|_| None, &|_| None)
            .unwrap_or_else(|mistakes| panic!("{}", selfheal_contract::diagnostic::render(&mistakes, false)))
    }

    /// A journal of `count` batches in small segments, and the engine that wrote it.
    fn written(store: &Store, archive: &SharedArchive, count: i64) -> Engine {
        let Recorded { policy, record, answers } = policy();
        let policy = Arc::new(policy);
        archive.lock().expect("not poisoned").keep(&record, &answers, &policy, 1).expect("kept");
        let limits = Limits { segment_bytes: 2_000, ..Limits::default() };
        let options = StoreOptions { limits, ..StoreOptions::default() };
        let mut journal = store.journal(options, 0, Box::new(|| {})).expect("writable");
        let (mut engine, first) = Engine::new(Timestamp::from_millis(0), policy.clone());
        let mut batch = Batch::begin(Timestamp::from_millis(0));
        batch.take_in(Timestamp::from_millis(0), &Input::PolicyReplaced(policy));
        batch.decide(&first);
        journal.append(&batch).expect("there is room");
        for n in 1..=count {
            let at = Timestamp::from_millis(n * 5_000);
            let kind =
                EventKind::Metric { name: "heat".into(), value: (n * 37 % 160) as f64, labels: Labels::default() };
            let event = Event { deployment: "web".into(), time: at, kind, origin: Origin::External };
            let mut batch = Batch::begin(at);
            let input = Input::Events(vec![event]);
            batch.take_in(at, &input);
            let mut effects = Vec::new();
            engine.handle(at, input, &mut effects);
            batch.decide(&effects);
            journal.append(&batch).expect("there is room");
        }
        engine
    }

    #[test]
    fn a_snapshot_of_the_complete_segments_is_where_recovery_begins() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::at(dir.path());
        let opened = store.open().expect("a new folder");
        let archive: SharedArchive = Arc::new(Mutex::new(PolicyArchive::new(opened.policies, dir.path())));
        let live = written(&store, &archive, 200);
        let keep = Keep { age: Duration::from_secs(1), size: Bytes(1) };
        advance(&store, &archive, dir.path(), keep, &mut Needs::new()).expect("a snapshot");
        let sequences = store.snapshots().sequences().expect("readable");
        assert_eq!(sequences, [store.complete_until().expect("readable")]);

        let mut folded = 0;
        let mut snapshots = store.snapshot_candidates().expect("readable");
        let recovered = recovery::recover(&store, &mut snapshots, &archive, &mut |_, _, _| folded += 1)
            .expect("it recovers")
            .expect("there is a state");
        assert_eq!(recovered.engine.save(), live.save(), "snapshot and tail are the state there was");
        assert_eq!((recovered.sequence, folded), (201, 201 - sequences[0]));
        assert!(folded < 60, "only the open segment is folded: {folded}");
        // nobody needs what came before the only snapshot, and it is old
        let left = segments(&store.journal_dir()).expect("readable");
        assert_eq!(left.first().map(|name| name.first), Some(sequences[0] + 1), "{left:?}");
        // there is nothing new to do
        advance(&store, &archive, dir.path(), keep, &mut Needs::new()).expect("nothing");
        assert_eq!(store.snapshots().sequences(), Ok(sequences));
    }

    #[test]
    fn what_is_young_and_small_is_kept_for_replay() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::at(dir.path());
        let opened = store.open().expect("a new folder");
        let archive: SharedArchive = Arc::new(Mutex::new(PolicyArchive::new(opened.policies, dir.path())));
        written(&store, &archive, 100);
        let before = segments(&store.journal_dir()).expect("readable").len();
        let age = Duration::from_secs(100 * 365 * 24 * 3600);
        let keep = Keep { age, size: Bytes(u64::MAX) };
        advance(&store, &archive, dir.path(), keep, &mut Needs::new()).expect("a snapshot");
        assert_eq!(segments(&store.journal_dir()).expect("readable").len(), before);
        assert_eq!(store.begins_at(), Ok(1));
    }
}

//! Makes snapshots beside the live engine: a second engine folds the journal's complete segments and is saved. The live
//! one is never touched, and every snapshot proves anew that the journal replays.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};

use super::clock;
use super::recovery::{SharedShelf, policy_of, recover_until};
use crate::engine::Engine;
use crate::model::Timestamp;
use crate::policy::Keep;
use crate::store::snapshot::Snapshot;
use crate::store::{Store, retention};

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
    pub fn start(store: Store, shelf: SharedShelf, data_dir: &Path, keep: Keep) -> std::io::Result<Self> {
        let (wake, woken) = channel();
        let data_dir = data_dir.to_owned();
        let thread = std::thread::Builder::new()
            .name("snapshotter".to_owned())
            .spawn(move || work(&store, &shelf, &data_dir, keep, &woken))?;
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

fn work(store: &Store, shelf: &SharedShelf, data_dir: &Path, keep: Keep, woken: &Receiver<()>) {
    loop {
        match woken.recv_timeout(AGAIN) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while woken.try_recv().is_ok() {}
        if let Err(error) = advance(store, shelf, data_dir, keep) {
            tracing::error!(
                error = format!("{error:#}"),
                "no snapshot could be made; recovery takes longer until one is"
            );
        }
    }
}

/// One snapshot up to the end of the complete segments, if there is something new, and then what nobody needs any more
/// goes.
fn advance(store: &Store, shelf: &SharedShelf, data_dir: &Path, keep: Keep) -> anyhow::Result<()> {
    let until = store.complete_until()?;
    if store.snapshots().sequences()?.last().is_some_and(|last| *last >= until) || until == 0 {
        return Ok(());
    }
    let mut snapshots = store.snapshot_candidates()?;
    let Some(recovered) = recover_until(store, &mut snapshots, shelf, until)? else {
        bail!("the journal has complete segments and no beginning")
    };
    if let Some(divergence) = recovered.divergence {
        bail!("replay came to other decisions than the journal has: {divergence}");
    }
    publish(store, &recovered.engine, recovered.sequence, recovered.at)?;
    tracing::info!(after = recovered.sequence, batches = recovered.batches, "snapshot made");
    tidy(store, shelf, data_dir, keep, &recovered.engine)
}

/// Saves an engine as the state after a batch.
///
/// # Errors
/// The snapshot cannot be written; nothing has changed then.
pub fn publish(store: &Store, engine: &Engine, sequence: u64, at: Timestamp) -> anyhow::Result<()> {
    let snapshot = Snapshot { sequence, at: at.max(engine.now()), state: engine.save() };
    Ok(store.snapshots().write(&snapshot)?)
}

/// Lets go of segments and policies that neither a recovery nor `replay` needs.
fn tidy(store: &Store, shelf: &SharedShelf, data_dir: &Path, keep: Keep, engine: &Engine) -> anyhow::Result<()> {
    let first = retention::retain(store, keep, clock::wall())?;
    let mut needed: BTreeSet<String> = engine.policy_versions().iter().map(ToString::to_string).collect();
    // the snapshot to fall back to may need others
    let mut notes = Vec::new();
    let mut snapshots = store.snapshot_candidates()?;
    while let Some(snapshot) = snapshots.next(&mut notes) {
        let restored = Engine::restore(&snapshot.state, &mut policy_of(shelf));
        let engine =
            restored.with_context(|| format!("the snapshot after batch {} cannot be used", snapshot.sequence))?;
        needed.extend(engine.policy_versions().iter().map(ToString::to_string));
    }
    let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
    needed.extend(shelf.named_since(first)?);
    shelf.retain(&needed).with_context(|| format!("cannot tidy {}", data_dir.display()))
}

//! `selfheal replay`: what a policy makes, or would have made, of recorded inputs, in virtual time.
//!
//! A journal under its own policies is folded exactly as recovery folds it. Under another policy, and for events out of a
//! file, the events are handed to a new engine and what it decides is answered by a simulated stage: adapters as
//! recorded, deliveries at once.

mod source;
mod stage;
mod transcript;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};

use super::policies::PolicyLoader;
use super::policy_archive::{PolicyArchive, policy_of};
use selfheal_adapter::Catalog;
use selfheal_engine::Engine;
use selfheal_model::Timestamp;
use selfheal_policy::Policy;
use selfheal_store::Store;
use selfheal_store::replay::{self, BatchReplay};
pub use source::Bad;
use source::Recorded;
use stage::Stage;
pub use transcript::{Difference, Transcript};

/// What is replayed.
#[derive(Clone, Debug)]
pub enum Source {
    /// A data folder.
    Journal(PathBuf),
    /// Lines as `POST /api/v1/events` takes them; `-` is stdin.
    Events(PathBuf),
}

/// What came of a replay.
pub struct Replayed {
    pub transcript: Transcript,
    /// Lines that are no events.
    pub bad: Vec<Bad>,
    /// Where the journal's own decisions are not come to again.
    pub divergences: Vec<String>,
}

impl Source {
    /// A folder with a journal is one; everything else is a file of events.
    pub fn of(path: &Path) -> Source {
        if path.join("journal").is_dir() { Source::Journal(path.to_owned()) } else { Source::Events(path.to_owned()) }
    }
}

/// Replays under the policy folder `policy`, or a journal under the policies it was written under.
///
/// # Errors
/// The source cannot be read, the policy does not compile, or events come without a policy.
pub fn replay(source: &Source, policy: Option<&Path>) -> anyhow::Result<Replayed> {
    match (source, policy) {
        (Source::Journal(dir), None) => exactly(dir),
        (Source::Journal(dir), Some(policy)) => {
            let (inputs, outcomes) = source::of_journal(&Store::at(dir))?;
            Ok(under(&load(policy)?, inputs.into_iter().map(Ok), Stage::answering(outcomes)))
        }
        (Source::Events(path), Some(policy)) => {
            let policy = load(policy)?;
            Ok(under(&policy, source::of_file(path)?, Stage::default()))
        }
        (Source::Events(_), None) => bail!("events need a policy: say --policy DIR"),
    }
}

fn load(dir: &Path) -> anyhow::Result<Arc<Policy>> {
    let dir = std::path::absolute(dir)?;
    let loaded = PolicyLoader::new(dir.clone(), Catalog::new(dir)).load();
    Ok(Arc::new(loaded.map_err(|failure| anyhow::anyhow!("{failure}"))?.policy))
}

/// Folds a journal as it is.
fn exactly(dir: &Path) -> anyhow::Result<Replayed> {
    let store = Store::at(dir);
    let mut opened = store.open()?;
    let archive = Arc::new(Mutex::new(PolicyArchive::new(opened.policies, dir)));
    let mut policy_of = policy_of(&archive);
    let mut engine: Option<Engine> = None;
    let mut after = 0;
    if store.begins_at()? > 1 {
        // the beginning is no longer kept: from the oldest state that is
        let mut notes = Vec::new();
        let mut oldest = None;
        while let Some(snapshot) = opened.snapshots.next(&mut notes) {
            oldest = Some(snapshot);
        }
        let snapshot = oldest.context("the journal's beginning is not kept, and no snapshot is")?;
        after = snapshot.sequence;
        engine = Some(Engine::restore(&snapshot.state, &mut policy_of)?);
    }
    let mut replayed = Replayed { transcript: Transcript::default(), bad: Vec::new(), divergences: Vec::new() };
    let mut effects = Vec::new();
    for batch in store.tail(after)? {
        let mut batch = batch?;
        let at = batch.end();
        effects.clear();
        if engine.is_none() {
            let (new, first) = replay::begin(&mut batch, &mut policy_of)?;
            effects.extend(first);
            engine = Some(new);
        }
        let Some(engine) = &mut engine else { bail!("there is no engine to replay with") };
        if let BatchReplay::Diverged(divergence) = replay::apply(engine, batch, &mut policy_of, &mut effects)? {
            replayed.divergences.push(divergence.to_string());
        }
        replayed.transcript.take(at, &effects);
    }
    Ok(replayed)
}

/// Hands recorded inputs to a new engine.
fn under(policy: &Arc<Policy>, inputs: impl Iterator<Item = Result<Recorded, Bad>>, mut stage: Stage) -> Replayed {
    let mut replayed = Replayed { transcript: Transcript::default(), bad: Vec::new(), divergences: Vec::new() };
    let mut engine: Option<Engine> = None;
    let mut last = Timestamp::MIN;
    for input in inputs {
        let Recorded { at, input } = match input {
            Ok(recorded) => recorded,
            Err(bad) => {
                replayed.bad.push(bad);
                continue;
            }
        };
        let engine = engine.get_or_insert_with(|| {
            let (engine, first) = Engine::new(at, policy.clone());
            stage.answer(at, &first);
            replayed.transcript.take(at, &first);
            engine
        });
        stage.play(engine, at, &mut replayed.transcript);
        stage.hand_over(engine, at, input, &mut replayed.transcript);
        last = last.max(at);
    }
    if let Some(engine) = &mut engine {
        stage.finish(engine, last, &mut replayed.transcript);
    }
    replayed
}

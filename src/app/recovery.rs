//! From a data folder to an engine that goes on where the last one ended: the newest good snapshot, and the journal after
//! it through the same `handle`.

use std::sync::Arc;

use super::driver::Opening;
use super::policies::LoadFailure;
use super::policy_archive::{SharedArchive, policy_of};
use selfheal_contract::{Effect, Gap, Upgraded};
use selfheal_engine::{Engine, Input};
use selfheal_model::Timestamp;
use selfheal_policy::Policy;
use selfheal_store::recovery::Candidates;
use selfheal_store::replay::{self, BatchReplay, Divergence};
use selfheal_store::{Store, StoredBatch};

/// How often a long recovery says how far it is.
const TELL_EVERY: u64 = 20_000;

/// What the folder holds, brought back.
pub struct Recovered {
    pub engine: Engine,
    /// The last batch that is in it.
    pub sequence: u64,
    /// The last instant that is known.
    pub at: Timestamp,
    pub divergence: Option<Divergence>,
    /// Where another engine version decided some of it.
    pub upgraded: Option<Upgraded>,
    /// How much was folded.
    pub batches: u64,
    pub events: u64,
}

/// Hears of each batch that is folded: its sequence, its instant and what was decided on it.
pub type OnBatch<'a> = dyn FnMut(u64, Timestamp, &[Effect]) + 'a;

/// Brings back the engine as the journal ends. `None`: there was none.
///
/// # Errors
/// Something is damaged or missing; the message says what can be done.
pub fn recover(
    store: &Store,
    snapshots: &mut Candidates,
    archive: &SharedArchive,
    on_batch: &mut OnBatch<'_>,
) -> anyhow::Result<Option<Recovered>> {
    recover_telling(store, snapshots, archive, u64::MAX, on_batch)
}

/// As it was after the batch `until`.
///
/// # Errors
/// Something is damaged or missing; the message says what can be done.
pub fn recover_until(
    store: &Store,
    snapshots: &mut Candidates,
    archive: &SharedArchive,
    until: u64,
) -> anyhow::Result<Option<Recovered>> {
    recover_telling(store, snapshots, archive, until, &mut |_, _, _| {})
}

fn recover_telling(
    store: &Store,
    snapshots: &mut Candidates,
    archive: &SharedArchive,
    until: u64,
    on_batch: &mut OnBatch<'_>,
) -> anyhow::Result<Option<Recovered>> {
    let mut policy_of = policy_of(archive);
    let mut notes = Vec::new();
    let mut base = None;
    while let Some(snapshot) = snapshots.next(&mut notes) {
        match Engine::restore(&snapshot.state, &mut policy_of) {
            Ok(engine) => {
                base = Some((engine, snapshot));
                break;
            }
            Err(error) => {
                notes.push(format!("the snapshot after batch {} is passed over: {error}", snapshot.sequence));
            }
        }
    }
    for note in notes {
        tracing::error!("{note}");
    }
    let after = base.as_ref().map_or(0, |(_, snapshot)| snapshot.sequence);
    let mut tail = store.tail(after)?;
    let to_come = tail.to_come()?;
    let mut recovered = base.map(|(engine, snapshot)| Recovered {
        engine,
        sequence: snapshot.sequence,
        at: snapshot.at,
        divergence: None,
        upgraded: None,
        batches: 0,
        events: 0,
    });
    let mut effects = Vec::new();
    while recovered.as_ref().is_none_or(|recovered| recovered.sequence < until) {
        let Some(batch) = tail.next().transpose()? else { break };
        let taken = take(recovered, batch, &mut policy_of, &mut effects)?;
        on_batch(taken.sequence, taken.at, &effects);
        recovered = Some(taken);
        if let Some(recovered) = recovered.as_ref().filter(|recovered| recovered.batches.is_multiple_of(TELL_EVERY)) {
            tracing::info!(batches = recovered.batches, of = to_come, events = recovered.events, "recovering");
        }
    }
    Ok(recovered)
}

fn take(
    recovered: Option<Recovered>,
    mut batch: StoredBatch,
    policy_of: &mut replay::PolicyOf<'_>,
    effects: &mut Vec<Effect>,
) -> anyhow::Result<Recovered> {
    effects.clear();
    let events = batch.events() as u64;
    let (sequence, at) = (batch.sequence, batch.end());
    let mut recovered = match recovered {
        Some(recovered) => recovered,
        None => {
            let (engine, first) = replay::begin(&mut batch, policy_of)?;
            effects.extend(first);
            Recovered { engine, sequence: 0, at, divergence: None, upgraded: None, batches: 0, events: 0 }
        }
    };
    match replay::apply(&mut recovered.engine, batch, policy_of, effects)? {
        BatchReplay::Same => {}
        BatchReplay::Mute { engine_version, unknown_steps } => {
            let upgraded = recovered.upgraded.get_or_insert_default();
            upgraded.from = engine_version;
            upgraded.batches += 1;
            upgraded.unknown_steps.extend(unknown_steps);
        }
        // the first is the cause of those that follow
        BatchReplay::Diverged(divergence) => drop(recovered.divergence.get_or_insert(divergence)),
    }
    recovered.sequence = sequence;
    recovered.at = recovered.at.max(at);
    recovered.batches += 1;
    recovered.events += events;
    Ok(recovered)
}

/// How the life begins: with what was known, and the folder's policy, or its mistakes, as one more input.
///
/// # Errors
/// Nothing was known, and the folder has mistakes.
pub fn opening(
    recovered: Option<Recovered>,
    folder: Result<Arc<Policy>, LoadFailure>,
    now: Timestamp,
) -> anyhow::Result<(Engine, Opening)> {
    let Some(Recovered { engine, at, divergence, upgraded, .. }) = recovered else {
        let policy = folder.map_err(|failure| anyhow::anyhow!("{failure}"))?;
        let (engine, effects) = Engine::new(now, policy.clone());
        return Ok((engine, Opening { inputs: vec![Input::PolicyReplaced(policy)], effects, is_first: true }));
    };
    let mut inputs = vec![Input::Resumed { from: at, to: now, because: Gap::Stopped }];
    inputs.push(match folder {
        Ok(policy) => Input::PolicyReplaced(policy),
        Err(failure) => {
            tracing::error!("the policy folder does not compile; what was live before goes on\n{failure}");
            Input::PolicyInvalid(failure.diagnostics())
        }
    });
    if let Some(upgraded) = upgraded {
        tracing::warn!(
            batches = upgraded.batches,
            from = upgraded.from,
            "another engine version decided some of the journal"
        );
        inputs.push(Input::Upgraded(upgraded));
    }
    if let Some(divergence) = divergence {
        tracing::error!(%divergence, "recovery came to other decisions than the journal has; automation is paused");
        inputs.push(Input::Diverged { why: divergence.to_string() });
    }
    Ok((engine, Opening { inputs, effects: Vec::new(), is_first: false }))
}

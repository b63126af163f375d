//! Replays batches of a journal: the engine handles their inputs again, through the same `handle` that made them.
//!
//! Recovery, the snapshotter, `selfheal replay` and the simulator all use [`apply`]; there is no second way.

use std::sync::Arc;

use super::record::{Decided, PolicyMissing, StoredBatch, StoredInput, decided};
use selfheal_contract::Effect;
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_engine::Engine;
use selfheal_model::StepAttemptId;
use selfheal_policy::Policy;

/// Returns a stored policy by its version.
pub type PolicyOf<'a> = dyn FnMut(&str) -> Option<Arc<Policy>> + 'a;

/// Why a journal cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    PolicyMissing(#[from] PolicyMissing),
    #[error("the journal does not begin with a policy")]
    NoBeginning,
}

/// This engine derives other decisions than the one that wrote the batch, although both have the same version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    pub sequence: u64,
    pub journalled: Vec<Decided>,
    pub derived: Vec<Decided>,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "batch {}: the journal has {:?}, replay derives {:?}", self.sequence, self.journalled, self.derived)
    }
}

/// The result of replaying one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchReplay {
    /// The engine derived the decisions in the journal.
    Same,
    /// Another engine version wrote the batch: the state is updated, and decisions are not compared. `unknown_steps` were
    /// started by that version and would not have been by this one.
    Mute {
        engine_version: u32,
        unknown_steps: Vec<StepAttemptId>,
    },
    Diverged(Divergence),
}

/// Makes the engine that a journal begins with, and removes the policy from the first batch.
///
/// # Errors
/// The batch contains no policy, or a policy that is not stored.
pub fn begin(batch: &mut StoredBatch, policy_of: &mut PolicyOf<'_>) -> Result<(Engine, Vec<Effect>), ReplayError> {
    let place = batch.inputs.iter().position(|(_, input)| matches!(input, StoredInput::PolicyReplaced(_)));
    let Some((at, StoredInput::PolicyReplaced(version))) = place.map(|place| batch.inputs.remove(place)) else {
        return Err(ReplayError::NoBeginning);
    };
    let policy = policy_of(&version).ok_or(PolicyMissing(version))?;
    Ok(Engine::new(at, policy))
}

/// Hands every input of the batch to the engine, at its time. `effects` contains the effects that were decided before on
/// this batch, and receives the others.
///
/// # Errors
/// A policy that the batch names is not stored.
pub fn apply(
    engine: &mut Engine,
    batch: StoredBatch,
    policy_of: &mut PolicyOf<'_>,
    effects: &mut Vec<Effect>,
) -> Result<BatchReplay, ReplayError> {
    for (at, input) in batch.inputs {
        engine.handle(at, input.into_input(policy_of)?, effects);
    }
    let derived: Vec<Decided> = decided(effects).collect();
    let (sequence, journalled) = (batch.sequence, batch.decided);
    if batch.engine_version != ENGINE_VERSION {
        let unknown = journalled.into_iter().filter(|one| !derived.contains(one));
        let steps = unknown.filter_map(|one| match one {
            Decided::Step(id) => Some(StepAttemptId::new(id)),
            Decided::Delivery(..) => None,
        });
        return Ok(BatchReplay::Mute { engine_version: batch.engine_version, unknown_steps: steps.collect() });
    }
    if derived != journalled {
        return Ok(BatchReplay::Diverged(Divergence { sequence, journalled, derived }));
    }
    Ok(BatchReplay::Same)
}

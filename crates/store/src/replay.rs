//! Folding: a journal's batch through an engine, by the same `handle` that made it.
//!
//! Recovery, the snapshotter, replay and the simulator all go through [`fold`]; there is no second way.

use std::sync::Arc;

use super::record::{Decided, PolicyMissing, StoredBatch, StoredInput, decided};
use selfheal_contract::Effect;
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_engine::Engine;
use selfheal_model::StepAttemptId;
use selfheal_policy::Policy;

/// Gives a kept policy by its version.
pub type PolicyOf<'a> = dyn FnMut(&str) -> Option<Arc<Policy>> + 'a;

/// Why a journal cannot be folded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    PolicyMissing(#[from] PolicyMissing),
    #[error("the journal does not begin with a policy")]
    NoBeginning,
}

/// This engine decides otherwise than the one that wrote the batch, although both are of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    pub sequence: u64,
    pub journalled: Vec<Decided>,
    pub derived: Vec<Decided>,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "batch {}: the journal has {:?}, recovery comes to {:?}",
            self.sequence, self.journalled, self.derived
        )
    }
}

/// What folding a batch came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchReplay {
    /// The very decisions that are journalled.
    Same,
    /// Another engine version decided: the state moved, and what follows from it is not compared. `unknown_steps` were
    /// started by it and would not have been by this one.
    Mute {
        engine_version: u32,
        unknown_steps: Vec<StepAttemptId>,
    },
    Diverged(Divergence),
}

/// Makes the engine that a journal begins with. The first batch's policy is consumed by it.
///
/// # Errors
/// The batch does not begin with a policy that is kept.
pub fn begin(batch: &mut StoredBatch, policy_of: &mut PolicyOf<'_>) -> Result<(Engine, Vec<Effect>), ReplayError> {
    let place = batch.inputs.iter().position(|(_, input)| matches!(input, StoredInput::PolicyReplaced(_)));
    let Some((at, StoredInput::PolicyReplaced(version))) = place.map(|place| batch.inputs.remove(place)) else {
        return Err(ReplayError::NoBeginning);
    };
    let policy = policy_of(&version).ok_or(PolicyMissing(version))?;
    Ok(Engine::new(at, policy))
}

/// Hands every input to the engine at its instant. `effects` holds what was decided before on this batch, and gets the
/// rest.
///
/// # Errors
/// A policy it names is not kept.
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

//! Folding: a journal's batch through an engine, by the same `handle` that made it.
//!
//! Recovery, the snapshotter, replay and the simulator all go through [`fold`]; there is no second way.

use std::sync::Arc;

use super::record::{Decided, PolicyMissing, StoredBatch, StoredInput, decided};
use crate::engine::{ENGINE_VERSION, Effect, Engine};
use crate::policy::Policy;

/// Gives a kept policy by its version.
pub type PolicyOf<'a> = dyn FnMut(&str) -> Option<Arc<Policy>> + 'a;

/// Why a journal cannot be folded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
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

/// Makes the engine that a journal begins with. The first batch's policy is consumed by it.
///
/// # Errors
/// The batch does not begin with a policy that is kept.
pub fn begin(batch: &mut StoredBatch, policy_of: &mut PolicyOf<'_>) -> Result<(Engine, Vec<Effect>), FoldError> {
    let place = batch.inputs.iter().position(|(_, input)| matches!(input, StoredInput::PolicyReplaced(_)));
    let Some((at, StoredInput::PolicyReplaced(version))) = place.map(|place| batch.inputs.remove(place)) else {
        return Err(FoldError::NoBeginning);
    };
    let policy = policy_of(&version).ok_or(PolicyMissing(version))?;
    Ok(Engine::new(at, policy))
}

/// Hands every input to the engine at its instant. `effects` holds what was decided before on this batch, and gets the
/// rest. A batch of another engine version is folded mute: it moves the state, and what follows from it is not compared.
///
/// # Errors
/// A policy it names is not kept.
pub fn fold(
    engine: &mut Engine,
    batch: StoredBatch,
    policy_of: &mut PolicyOf<'_>,
    effects: &mut Vec<Effect>,
) -> Result<Option<Divergence>, FoldError> {
    for (at, input) in batch.inputs {
        engine.handle(at, input.into_input(policy_of)?, effects);
    }
    if batch.engine_version != ENGINE_VERSION {
        return Ok(None);
    }
    let derived: Vec<Decided> = decided(effects).collect();
    let (sequence, journalled) = (batch.sequence, batch.decided);
    Ok((derived != journalled).then_some(Divergence { sequence, journalled, derived }))
}

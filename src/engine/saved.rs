//! The whole state as bytes and back: what a snapshot holds, and what tests compare.
//!
//! Invariant: equal states give equal bytes; an engine that was restored does with the same inputs what the one that
//! was saved would have done. Policies are no part of it: they are named by version and handed in.

use std::collections::BTreeSet;
use std::sync::Arc;

use smol_str::SmolStr;

use super::{Effect, Engine};
use crate::policy::Policy;

/// Which decisions this engine makes of the same inputs: it grows with every change that makes others.
pub const ENGINE_VERSION: u32 = 1;

/// Why bytes are no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("it was written by engine version {0}, this one is {ENGINE_VERSION}")]
    Version(u32),
    #[error("it cannot be decoded: {0}")]
    Damaged(String),
    #[error("it refers to the policy {0}, which is not kept")]
    PolicyMissing(SmolStr),
}

impl Engine {
    pub fn save(&self) -> Vec<u8> {
        todo!()
    }

    /// `policy_of` gives a kept policy by its version.
    ///
    /// # Errors
    /// The bytes are no state of this version, or name a policy that is not kept.
    pub fn restore(
        bytes: &[u8],
        policy_of: &mut dyn FnMut(&str) -> Option<Arc<Policy>>,
    ) -> Result<Engine, RestoreError> {
        let _ = (bytes, policy_of);
        todo!()
    }

    /// The policies the state needs to be restored: the live one and those that runs are pinned to.
    pub fn policy_versions(&self) -> BTreeSet<SmolStr> {
        todo!()
    }

    /// What is decided and has not ended, to be released again after a restart: what should run at the edges, whole;
    /// delivery attempts and probes under way, under their ids; everything there is to show. Never a step.
    pub fn outstanding(&self) -> Vec<Effect> {
        todo!()
    }
}

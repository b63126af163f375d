//! The version of what the engine saves, and why a saved state is refused.

use smol_str::SmolStr;

/// Which decisions this engine makes of the same inputs: it grows with every change that makes others.
pub const ENGINE_VERSION: u32 = 7;

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

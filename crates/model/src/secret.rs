//! Secrets are references in the core; an edge resolves one at the moment it needs the value.

use std::fmt;
use std::path::PathBuf;

/// Where a secret's value comes from. Parsed from `${NAME}`, `${file:PATH}` or a literal text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file's content, a trailing newline removed. Relative to the policy folder.
    File(PathBuf),
    /// Written out in the policy.
    Literal(String),
}

/// A reference to a secret. Prints and serialises as `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(SecretSource);

/// Why a secret has no value now. Never holds the value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("environment variable `{0}` is not set")]
    EnvMissing(String),
    #[error("cannot read secret file {path}: {reason}")]
    File { path: PathBuf, reason: String },
}

impl Secret {
    pub fn new(source: SecretSource) -> Self {
        Secret(source)
    }

    pub fn source(&self) -> &SecretSource {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// Gives a secret's value now. Implemented at the edge that may read files and the environment.
pub trait ResolveSecret: Send + Sync {
    /// # Errors
    /// The variable is not set or the file cannot be read. Try again later: both may change.
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError>;
}

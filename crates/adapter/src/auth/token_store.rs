//! What is kept of a deployment's credential between starts: when it was issued, when it runs out, and a refresh
//! token that the server rotated.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{AdapterContext, durable};
use selfheal_model::{DeploymentId, Timestamp};

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    issued_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// The newest refresh token, and the hash of the policy's one that it descends from: when the policy's changes,
    /// a person has put in a fresh one, and the old line is dead.
    refresh_token: Option<String>,
    descends_from: Option<String>,
}

impl StoredToken {
    /// With the `newest` refresh token, which came from the policy's `first`.
    pub fn rotated(self, first: &str, newest: &str) -> Self {
        StoredToken { refresh_token: Some(newest.to_owned()), descends_from: Some(hash(first)), ..self }
    }

    /// With the life of the credential just delivered.
    pub fn issued(self, issued_at: Timestamp, expires_at: Option<Timestamp>) -> Self {
        StoredToken { issued_at: Some(issued_at), expires_at, ..self }
    }

    /// The rotated token that came from the policy's `first`.
    pub fn refresh_token_for(&self, first: &str) -> Option<&str> {
        self.refresh_token.as_deref().filter(|_| self.descends_from.as_deref() == Some(hash(first).as_str()))
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn path(context: &AdapterContext, deployment: &DeploymentId) -> PathBuf {
    let mut name = durable::name_of(deployment).into_os_string();
    name.push(".json");
    context.data_dir.join("secrets").join(name)
}

/// `Ok(None)`: nothing is kept yet.
///
/// # Errors
/// The file is there and cannot be read. It may hold the only working refresh token, so it is never written over.
pub fn read(path: &Path) -> Result<Option<StoredToken>, String> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| format!("{} is broken ({error}); move it away to begin anew", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// On disk when it returns.
pub fn write(path: &Path, kept: &StoredToken) -> io::Result<()> {
    durable::write_private(path, &serde_json::to_vec(kept).map_err(io::Error::other)?)
}

//! What is stored of a deployment's credential: when it was issued, when it expires, and the refresh token that the server
//! issued last.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use selfheal_atomic_file::write_private;

use crate::{AdapterContext, file_name};
use selfheal_model::{DeploymentId, Timestamp};

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    issued_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// The newest refresh token, and the hash of the refresh token in the policy that it descends from: when the policy's
    /// token changes, an operator has put in a fresh one, and the stored token is no longer used.
    refresh_token: Option<String>,
    descends_from: Option<String>,
}

impl StoredToken {
    /// The same with the `newest` refresh token, which descends from `first`, the one in the policy.
    pub fn rotated(self, first: &str, newest: &str) -> Self {
        StoredToken { refresh_token: Some(newest.to_owned()), descends_from: Some(hash(first)), ..self }
    }

    /// The same with issue time and expiry of the credential just delivered.
    pub fn issued(self, issued_at: Timestamp, expires_at: Option<Timestamp>) -> Self {
        StoredToken { issued_at: Some(issued_at), expires_at, ..self }
    }

    /// The stored refresh token, if it descends from `first`, the one in the policy.
    pub fn refresh_token_for(&self, first: &str) -> Option<&str> {
        self.refresh_token.as_deref().filter(|_| self.descends_from.as_deref() == Some(hash(first).as_str()))
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn path(context: &AdapterContext, deployment: &DeploymentId) -> PathBuf {
    let mut name = file_name::of_deployment(deployment).into_os_string();
    name.push(".json");
    context.data_dir.join("secrets").join(name)
}

/// Reads the stored token; `Ok(None)` when nothing is stored yet.
///
/// # Errors
/// The file exists and cannot be read. It may contain the only valid refresh token, so it is never overwritten.
pub fn read(path: &Path) -> Result<Option<StoredToken>, String> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| format!("{} is broken ({error}); move it away to begin anew", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// Stores the token. It is on disk when the function returns.
pub fn write(path: &Path, kept: &StoredToken) -> io::Result<()> {
    write_private(path, &serde_json::to_vec(kept).map_err(io::Error::other)?)
}

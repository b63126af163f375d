//! Fetches a deployment's credential and delivers it to its file (SPEC §6.3). What the deployment does about the new
//! credential (reload, restart) is its adapter's to do.
//!
//! Invariant: a refresh token that the server rotated is on disk before anything else happens; the file delivered to
//! holds the old credential or the new one, never a part, and is readable by this user only.

mod fetch;
mod oauth;
mod token_store;
mod verb;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

pub use fetch::Fetched;
pub(crate) use verb::{REFRESH_AUTH, Refreshed, refresh_auth, with_refresh_auth};

use selfheal_atomic_file::write_private;

use super::AdapterContext;
use oauth::OauthClient;
use selfheal_model::{AuthDef, AuthFetch, AuthFormat, DeploymentId, FailureClass, Outcome, Timestamp};
use token_store::StoredToken;

/// Why there is no new credential.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The server, or what stands before it, could not answer now.
    #[error("{0}")]
    Transient(String),
    /// The same request will not work later either: refused credentials, a wrong URL, a broken answer.
    #[error("{0}")]
    Permanent(String),
    /// The request was sent and its answer lost: a refresh token may be used up.
    #[error("{0}")]
    Unknown(String),
}

impl From<AuthError> for Outcome {
    fn from(error: AuthError) -> Outcome {
        match error {
            AuthError::Transient(why) => Outcome::failed(FailureClass::Transient, why),
            AuthError::Permanent(why) => Outcome::failed(FailureClass::Permanent, why),
            AuthError::Unknown(why) => Outcome::unknown(why),
        }
    }
}

/// A credential that lies where it was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub path: PathBuf,
    pub issued_at: Timestamp,
    /// As the server said, or as the token says of itself; `None`: neither did.
    pub expires_at: Option<Timestamp>,
}

/// Fetches a new credential within `within` and delivers it. The redactor knows it from then on.
///
/// # Errors
/// The credential delivered before is untouched, unless the error says that the new one could not be written.
pub async fn refresh(
    context: &AdapterContext,
    deployment: &DeploymentId,
    auth: &AuthDef,
    within: Duration,
) -> Result<Delivered, AuthError> {
    let kept_at = token_store::path(context, deployment);
    let kept = token_store::read(&kept_at).map_err(AuthError::Permanent)?.unwrap_or_default();
    let fetched = match &auth.fetch {
        AuthFetch::ClientCredentials { token_url, client_id, client_secret, scopes } => {
            let secret = resolve(context, client_secret)?;
            let client = OauthClient { token_url, client_id, client_secret: Some(&secret) };
            client.client_credentials(context, scopes, within).await?
        }
        AuthFetch::RefreshToken { token_url, client_id, client_secret, refresh_token } => {
            let secret = client_secret.as_ref().map(|secret| resolve(context, secret)).transpose()?;
            let first = resolve(context, refresh_token)?;
            let current = kept.refresh_token_for(&first).unwrap_or(&first).to_owned();
            context.redactor.learn(&current);
            let client = OauthClient { token_url, client_id, client_secret: secret.as_deref() };
            let fetched = client.refresh_token(context, &current, within).await?;
            if let Some(rotated) = &fetched.refresh_token
                && *rotated != current
            {
                keep(&kept_at, &kept.clone().rotated(&first, rotated))?;
            }
            fetched
        }
        AuthFetch::Command { command } => fetch::command(context, command, within).await?,
        AuthFetch::Http { url, method, headers } => {
            let mut resolved = Vec::with_capacity(headers.len());
            for (name, value) in headers {
                resolved.push((name.clone(), resolve(context, value)?));
            }
            fetch::http(context, url, method, &resolved, within).await?
        }
    };
    context.redactor.learn(&fetched.access_token);
    deliver(context, auth, &kept_at, &fetched)
}

fn deliver(
    context: &AdapterContext,
    auth: &AuthDef,
    kept_at: &Path,
    fetched: &Fetched,
) -> Result<Delivered, AuthError> {
    let issued_at = context.now();
    let expires_at = match fetched.expires_in {
        Some(span) => Some(issued_at + span),
        None => fetch::jwt_expiry(&fetched.access_token),
    };
    let path = context.policy_dir.join(&auth.deliver_to);
    let content = match auth.format {
        AuthFormat::Token => fetched.access_token.clone(),
        AuthFormat::Json => json!({ "access_token": fetched.access_token, "expires_at": expires_at }).to_string(),
    };
    write_private(&path, content.as_bytes()).map_err(|error| {
        AuthError::Permanent(format!("cannot deliver the credential to {}: {error}", path.display()))
    })?;
    let kept = token_store::read(kept_at).map_err(AuthError::Permanent)?.unwrap_or_default();
    keep(kept_at, &kept.issued(issued_at, expires_at))?;
    Ok(Delivered { path, issued_at, expires_at })
}

/// Seconds until the credential delivered last runs out, negative after that; `None`: not known.
pub fn expires_in(context: &AdapterContext, deployment: &DeploymentId) -> Option<f64> {
    let kept = token_store::read(&token_store::path(context, deployment)).ok().flatten()?;
    Some(kept.expires_at?.as_secs_f64() - context.now().as_secs_f64())
}

/// Whether the file the deployment reads its credential from is there.
pub fn is_delivered(context: &AdapterContext, auth: &AuthDef) -> bool {
    context.policy_dir.join(&auth.deliver_to).exists()
}

fn resolve(context: &AdapterContext, secret: &selfheal_model::Secret) -> Result<String, AuthError> {
    context.secrets.resolve(secret).map_err(|error| AuthError::Permanent(error.to_string()))
}

fn keep(path: &Path, kept: &StoredToken) -> Result<(), AuthError> {
    token_store::write(path, kept).map_err(|error| {
        AuthError::Permanent(format!("cannot keep the credential's state in {}: {error}", path.display()))
    })
}

//! Standard Webhooks: who receives a notification can tell that it is from us, whole, and new.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Why nothing can be signed with a secret. Never holds the secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the webhook's `secret` is no signing key: it is `whsec_` and base64, as `openssl rand -base64 24` makes it")]
pub struct BadKey;

/// The value of `webhook-signature`.
///
/// # Errors
/// The secret is not `whsec_<base64>`.
pub fn signature(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String, BadKey> {
    let secret = secret.trim();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).map_err(|_| BadKey)?;
    if key.is_empty() {
        return Err(BadKey);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| BadKey)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

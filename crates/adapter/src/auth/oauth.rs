//! The two OAuth 2 grants that need no person: client credentials and refresh token.
//!
//! Source: RFC 6749, sections 2.3.1 (client authentication), 4.4 and 6 (the grants), 5 (responses).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::byte_serialize;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::AuthError;
use super::fetch::{Fetched, HttpError, TokenDocument, body_of, is_retryable, shown, with_causes};
use crate::AdapterContext;

/// The OAuth 2 client that selfheal is to a token endpoint.
pub(super) struct OauthClient<'a> {
    pub token_url: &'a str,
    pub client_id: &'a str,
    pub client_secret: Option<&'a str>,
}

/// The error document of a token endpoint.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
    error_uri: Option<String>,
}

impl OauthClient<'_> {
    /// Requests an access token with the client's own credentials.
    ///
    /// # Errors
    /// The request can be sent again after every error that is transient.
    pub async fn client_credentials(
        &self,
        context: &AdapterContext,
        scopes: &[String],
        within: Duration,
    ) -> Result<Fetched, AuthError> {
        let scope = scopes.join(" ");
        let mut form = vec![("grant_type", "client_credentials")];
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        let sent = self.post(context, form, within).await;
        self.token_of(sent.map_err(|error| {
            self.http_error(&error).unwrap_or_else(|why| AuthError::Transient(format!("{}: {why}", self.token_url)))
        })?)
    }

    /// Exchanges a refresh token for an access token.
    ///
    /// # Errors
    /// `Unknown` when the response was lost: the server may have replaced the refresh token.
    pub async fn refresh_token(
        &self,
        context: &AdapterContext,
        refresh_token: &str,
        within: Duration,
    ) -> Result<Fetched, AuthError> {
        let form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let sent = self.post(context, form, within).await;
        self.token_of(sent.map_err(|error| {
            self.http_error(&error).unwrap_or_else(|why| {
                AuthError::Unknown(format!(
                    "the response of {} was lost, the refresh token may be used up: {why}",
                    self.token_url
                ))
            })
        })?)
    }

    /// Sends one token request: status and body of the response.
    async fn post(
        &self,
        context: &AdapterContext,
        mut form: Vec<(&str, &str)>,
        within: Duration,
    ) -> Result<(reqwest::StatusCode, Vec<u8>), HttpError> {
        let mut request = context.http.post(self.token_url).timeout(within).header(ACCEPT, "application/json");
        match self.client_secret {
            Some(secret) => request = request.header(AUTHORIZATION, basic(self.client_id, secret)),
            None => form.push(("client_id", self.client_id)),
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let response = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body).send().await?;
        let status = response.status();
        if is_retryable(status) {
            return Err(HttpError::Status(status));
        }
        Ok((status, body_of(response).await?))
    }

    /// What a failed request means, or, if the server may have handled it, what was wrong.
    fn http_error(&self, error: &HttpError) -> Result<AuthError, String> {
        let url = self.token_url;
        match error {
            HttpError::Client(error) if error.is_builder() => {
                Ok(AuthError::Permanent(format!("`{url}` is not a valid URL: {}", with_causes(error))))
            }
            HttpError::Client(error) if error.is_connect() => {
                Ok(AuthError::Transient(format!("cannot reach {url}: {}", with_causes(error))))
            }
            HttpError::Status(status) => Ok(AuthError::Transient(format!("{url} answered status {}", status.as_u16()))),
            error => Err(with_causes(error)),
        }
    }

    fn token_of(&self, (status, body): (reqwest::StatusCode, Vec<u8>)) -> Result<Fetched, AuthError> {
        let url = self.token_url;
        if status != reqwest::StatusCode::OK {
            let why = match serde_json::from_slice::<Refusal>(&body) {
                Ok(refusal) => format!("{url} refused the request: {}", refusal.text()),
                Err(_) => format!("{url} answered status {status}: {}", shown(&body)),
            };
            return Err(AuthError::Permanent(why));
        }
        // the text of a parse error may quote a value of the document, so the token: only the place is shown
        let document: TokenDocument = serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            AuthError::Permanent(format!(
                "the response of {url} is not an OAuth 2 token response: expected a JSON object with a string \
                 `access_token` and a number `expires_in` (line {line}, column {column})"
            ))
        })?;
        let refresh_token = document.refresh_token.clone();
        let fetched = document
            .into_fetched()
            .map_err(|why| AuthError::Permanent(format!("the response of {url} is not usable: it {why}")))?;
        Ok(Fetched { refresh_token, ..fetched })
    }
}

impl Refusal {
    fn text(&self) -> String {
        let mut text = self.error.clone();
        if let Some(description) = &self.error_description {
            text.push_str(&format!(": {description}"));
        }
        if let Some(uri) = &self.error_uri {
            text.push_str(&format!(" (see {uri})"));
        }
        text
    }
}

/// HTTP Basic authentication of a client: RFC 6749 has identifier and secret form-encoded before they are joined.
fn basic(client_id: &str, client_secret: &str) -> HeaderValue {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(client_secret)));
    let mut value = HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_with_special_characters_is_form_encoded_before_base64() {
        let value = basic("me:you", "s e%cret");
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap(), b"me%3Ayou:s+e%25cret");
    }
}

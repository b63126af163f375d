//! Fetches a page of metrics.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, redirect};

use crate::formats::{Dialect, Foreign, MAX_DECOMPRESSED, parse_text};
use selfheal_model::{ResolveSecret, Source, SourceKind};

/// The formats that can be parsed, the preferred one first, as Prometheus sends them.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
/// Redirects that are followed, within one host only: the headers are meant for that host.
const MAX_REDIRECTS: usize = 5;
/// Longer than the interval of most sources, so that their connection stays open.
const KEEP_IDLE: Duration = Duration::from_secs(90);

/// Keeps its HTTP client and connection between polls. The client is rebuilt after a failed poll, so that a renewed
/// `ca_file` is read.
#[derive(Default)]
pub(super) struct Scraper {
    client: Option<Client>,
}

impl Scraper {
    /// Requests the page and parses it.
    ///
    /// # Errors
    /// Why there is no page, as a sentence. It never contains the value of a header.
    pub async fn fetch(&mut self, source: &Source, secrets: &dyn ResolveSecret, dir: &Path) -> Result<Foreign, String> {
        let client = match self.client.take() {
            Some(client) => client,
            None => client_for(source, dir)?,
        };
        let page = get_page(&client, source, secrets).await?;
        self.client = Some(client);
        Ok(page)
    }
}

fn client_for(source: &Source, dir: &Path) -> Result<Client, String> {
    let SourceKind::Scrape { ca_file, verify, url, .. } = &source.kind else {
        return Err("the source is not a scrape".to_owned());
    };
    // only the first call in a process takes effect
    let _ = rustls::crypto::ring::default_provider().install_default();
    let encrypted = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let same_host = redirect::Policy::custom(|attempt| {
        let first =
            attempt.previous().first().map(|url| (url.host_str().map(str::to_owned), url.port_or_known_default()));
        let next = (attempt.url().host_str().map(str::to_owned), attempt.url().port_or_known_default());
        if first != Some(next) {
            attempt.error("the page redirects to another host")
        } else if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("the page redirects too often")
        } else {
            attempt.follow()
        }
    });
    let mut builder = Client::builder()
        .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
        .redirect(same_host)
        .no_proxy()
        .pool_idle_timeout(KEEP_IDLE)
        // plain HTTP needs no certificates, so a system without any does not matter
        .tls_danger_accept_invalid_certs(!*verify || !encrypted);
    if let Some(path) = ca_file {
        let wrong = |why: String| format!("`ca_file` {path}: {why}");
        let pem = std::fs::read(dir.join(path)).map_err(|error| wrong(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("the file has no certificate".to_owned()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| last_cause(&error))
}

async fn get_page(client: &Client, source: &Source, secrets: &dyn ResolveSecret) -> Result<Foreign, String> {
    let SourceKind::Scrape { url, headers, .. } = &source.kind else {
        return Err("the source is not a scrape".to_owned());
    };
    let mut request = client.get(url).header(ACCEPT, ACCEPTED);
    request = request.header(TIMEOUT_HEADER, source.timeout.as_secs_f64().to_string());
    for (name, value) in headers {
        let value = secrets.resolve(value).map_err(|error| format!("its header {name}: {error}"))?;
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header"))?;
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| format!("the header {name} holds a sign no header may"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let mut answer = request.send().await.map_err(|error| last_cause(&error))?;
    if !answer.status().is_success() {
        return Err(format!("it answered {}", answer.status()));
    }
    let dialect = Dialect::of_content_type(answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()));
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| last_cause(&error))? {
        if body.len() + chunk.len() > MAX_DECOMPRESSED {
            return Err(format!("its page is longer than {} MiB", MAX_DECOMPRESSED >> 20));
        }
        body.extend_from_slice(&chunk);
    }
    let parse = move || match String::from_utf8(body) {
        // what half a page does not show has not ended
        Ok(body) => parse_text(&body, dialect).whole().map_err(|why| format!("its page was not read whole: {why}")),
        Err(_) => Err("its page is no UTF-8".to_owned()),
    };
    // a large page takes a while: others are not kept waiting
    tokio::task::spawn_blocking(parse).await.map_err(|error| error.to_string())?
}

/// The innermost reason: the outer ones repeat the address.
fn last_cause(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

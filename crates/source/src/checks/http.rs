//! The http check: one request, evaluated by its status and, if the check says so, its body.
//!
//! Every attempt opens its own connection: a kept one would hide that the server accepts no new ones. Redirects are
//! followed only if the check says so; else a 3xx counts as the status it is. Proxies of the environment are not used: the
//! check is about the deployment itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, Response, Url, redirect};

use super::replica_target::ReplicaTarget;
use super::tls_trust::{Presented, Trusted};
use super::verdict::{Fault, Findings, beneath, chain};
use super::{connect, dns_client};
use selfheal_model::{Check, CheckKind, FailureReason, Trust};

/// Bytes of the body that are read to match it: health pages are small.
const MAX_BODY_READ: usize = 256 * 1024;
/// At most so many redirects in a row are followed; more are a loop.
const MAX_REDIRECTS: usize = 10;
/// The application protocols offered in the TLS handshake (ALPN), the preferred one first.
const PROTOCOLS: &[&[u8]] = if cfg!(feature = "http2") { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };

pub(super) async fn attempt(
    trusted: &Trusted,
    dir: Option<&Path>,
    check: &Check,
    target: &ReplicaTarget<'_>,
    findings: &mut Findings,
) -> Result<String, Fault> {
    let CheckKind::Http { url, status, body_matches, follow_redirects, trust, .. } = &check.kind else {
        unreachable!("called for http checks only");
    };
    let url = target.fill(url)?;
    let url = Url::parse(&url).map_err(|error| Fault::new(FailureReason::Status, format!("no URL: {error}")))?;
    // plain HTTP presents no certificate, so no authorities have to be read
    let may_encrypt = url.scheme() == "https" || *follow_redirects;
    let trust = if may_encrypt { trust } else { &Trust::Anybody };
    let (mut config, presented) = trusted.config(trust, dir).await;
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    let client = client(check, &url, config, target)?;
    let answer = request(client, &check.kind, url, target)?.send().await;
    // after redirects, the certificate that was presented last
    findings.expires_at = presented.expires_at();
    let answer = answer.map_err(|error| fault(&error, &presented))?;
    let code = answer.status();
    let accepted = if status.is_empty() { code.is_success() } else { status.contains(&code.as_u16()) };
    if !accepted {
        return Err(Fault::new(FailureReason::Status, unexpected(code, status)));
    }
    if let Some(pattern) = body_matches {
        matches(answer, pattern, &presented).await?;
    }
    Ok(format!("answered {code}"))
}

fn client(check: &Check, url: &Url, tls: rustls::ClientConfig, target: &ReplicaTarget<'_>) -> Result<Client, Fault> {
    let CheckKind::Http { reach, follow_redirects, .. } = &check.kind else {
        unreachable!("called for http checks only");
    };
    let redirects = if *follow_redirects { redirect::Policy::limited(MAX_REDIRECTS) } else { redirect::Policy::none() };
    let mut builder = Client::builder()
        .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
        .redirect(redirects)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .tls_backend_preconfigured(tls);
    if let Some(span) = check.connect_timeout {
        builder = builder.connect_timeout(span);
    }
    if !reach.servers.is_empty() {
        builder = builder.dns_resolver(ByServers(reach.servers.clone()));
    }
    if let Some(address) = &reach.address {
        let host = url.host_str().unwrap_or_default();
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            let why = "the URL names an address itself, which `address` cannot replace";
            return Err(Fault::new(FailureReason::Refused, why));
        }
        // port 0: that of the URL
        builder = builder.resolve(host, connect::fixed(address, 0, target)?);
    }
    builder.build().map_err(|error| {
        let why = chain(&error).last().map_or_else(String::new, ToString::to_string);
        Fault::new(FailureReason::Status, why)
    })
}

fn request(
    client: Client,
    kind: &CheckKind,
    url: Url,
    target: &ReplicaTarget<'_>,
) -> Result<reqwest::RequestBuilder, Fault> {
    let CheckKind::Http { method, headers, body, .. } = kind else {
        unreachable!("called for http checks only");
    };
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| Fault::new(FailureReason::Status, format!("`{method}` is no HTTP method")))?;
    let mut request = client.request(method, url);
    for (name, value) in headers {
        request = request.header(name, target.fill(value)?);
    }
    Ok(match body {
        Some(body) => request.body(target.fill(body)?),
        None => request,
    })
}

/// Resolves names with the name servers of the check.
struct ByServers(Vec<SocketAddr>);

impl Resolve for ByServers {
    fn resolve(&self, name: Name) -> Resolving {
        let servers = self.0.clone();
        Box::pin(async move {
            let found = dns_client::addresses(name.as_str(), &servers).await?;
            // port 0: that of the URL
            Ok(Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

fn unexpected(code: reqwest::StatusCode, accepted: &[u16]) -> String {
    let expected = match accepted {
        [] => "any 2xx".to_owned(),
        some => some.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "),
    };
    format!("answered {code}, expected {expected}")
}

async fn matches(mut answer: Response, pattern: &str, presented: &Presented) -> Result<(), Fault> {
    let regex = regex_lite::Regex::new(pattern)
        .map_err(|error| Fault::new(FailureReason::Body, format!("`{pattern}` is no regular expression: {error}")))?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| fault(&error, presented))? {
        body.extend_from_slice(&chunk);
        if body.len() >= MAX_BODY_READ {
            body.truncate(MAX_BODY_READ);
            break;
        }
    }
    if regex.is_match(&String::from_utf8_lossy(&body)) {
        return Ok(());
    }
    Err(Fault::new(FailureReason::Body, format!("the body does not match `{pattern}`")))
}

/// Why the request failed, from the innermost cause that is known.
fn fault(error: &reqwest::Error, presented: &Presented) -> Fault {
    if error.is_redirect() {
        return Fault::new(FailureReason::Status, format!("redirects more than {MAX_REDIRECTS} times"));
    }
    // an error of the resolver above
    if let Some(own) = chain(error).find_map(|cause| cause.downcast_ref::<Fault>()) {
        return own.clone();
    }
    for cause in chain(error) {
        let io = cause.downcast_ref::<io::Error>();
        let beneath = io.and_then(beneath);
        if let Some(tls) = cause.downcast_ref().or(beneath.and_then(|cause| cause.downcast_ref::<rustls::Error>())) {
            return Fault::new(FailureReason::Tls, presented.explain(tls));
        }
        let said = cause.to_string();
        if said.starts_with("dns error") || said.starts_with("failed to lookup address") {
            return Fault::new(FailureReason::Dns, "cannot resolve the host's name");
        }
        if said.contains("connection closed before message completed") {
            return Fault::of_io(&io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(io) = io.filter(|io| io.get_ref().is_none()) {
            return Fault::of_io(io);
        }
    }
    if error.is_timeout() {
        return Fault::new(FailureReason::Timeout, "no connection in time");
    }
    let innermost = chain(error).last().map_or_else(String::new, ToString::to_string);
    Fault::new(FailureReason::Status, format!("no HTTP answer: {innermost}"))
}

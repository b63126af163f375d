//! A tls check: does the handshake end, and is the certificate trusted for the name.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::connect;
use super::replica_target::ReplicaTarget;
use super::tls_trust::{Trusted, told};
use super::verdict::{Fault, Findings, beneath};
use selfheal_model::{FailureReason, Reach, Trust};

/// What is asked of a server.
pub(super) struct Handshake<'a> {
    pub address: &'a str,
    pub server_name: Option<&'a str>,
    pub trust: &'a Trust,
    pub reach: &'a Reach,
    pub connect_timeout: Option<Duration>,
}

pub(super) async fn attempt(
    trusted: &Trusted,
    dir: Option<&Path>,
    asked: &Handshake<'_>,
    target: &ReplicaTarget<'_>,
    findings: &mut Findings,
) -> Result<String, Fault> {
    let peer = connect::peer(&target.fill(asked.address)?)?;
    let name = asked.server_name.map_or_else(|| Ok(peer.host.clone()), |name| target.fill(name))?;
    let name = ServerName::try_from(name.as_str())
        .map_err(|_| Fault::new(FailureReason::Tls, format!("`{name}` is no name a certificate can be for")))?
        .to_owned();
    let (config, presented) = trusted.config(asked.trust, dir).await;
    let stream = connect::connected(&peer, asked.reach, asked.connect_timeout, target).await?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let ended = connect::within(asked.connect_timeout, "handshake", handshake).await;
    findings.expires_at = presented.expires_at();
    ended?.map_err(|error| fault(&error, |tls| presented.explain(tls)))?;
    Ok(match (asked.trust, findings.expires_at) {
        (Trust::Anybody, _) => "answers; its certificate was not verified".to_owned(),
        (_, Some(until)) => format!("trusted; the certificate is good until {}", told(until)),
        (_, None) => "trusted".to_owned(),
    })
}

fn fault(error: &io::Error, explain: impl FnOnce(&rustls::Error) -> String) -> Fault {
    match beneath(error).and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(tls) => Fault::new(FailureReason::Tls, explain(tls)),
        None => Fault::of_io(error),
    }
}

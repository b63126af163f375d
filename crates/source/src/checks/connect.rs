//! From the name of a peer to a connection: resolved as the check says, and tried address by address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::dns_client;
use super::replica_target::ReplicaTarget;
use super::verdict::Fault;
use selfheal_model::units::format_duration;
use selfheal_model::{FailureReason, Reach};

/// `host:port`, taken apart.
pub(super) struct Peer {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

/// # Errors
/// It is not `host:port`.
pub(super) fn peer(text: &str) -> Result<Peer, Fault> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.trim().parse().ok()?)));
    let Some((host, port)) = parts.filter(|(host, _)| !host.is_empty()) else {
        return Err(Fault::new(FailureReason::Dns, format!("`{text}` is not host:port")));
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Peer { host: host.to_owned(), port })
}

/// Where `address` of a check leads to, for a peer that is at `port`.
///
/// # Errors
/// Once filled in it is no IP address.
pub(super) fn fixed(address: &str, port: u16, target: &ReplicaTarget<'_>) -> Result<SocketAddr, Fault> {
    let text = target.fill(address)?;
    let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
    let parsed = text.parse().or_else(|_| alone.parse().map(|ip: IpAddr| SocketAddr::new(ip, port)));
    parsed.map_err(|_| Fault::new(FailureReason::Refused, format!("`address: {text}` is no IP address")))
}

/// Every address of the peer, in the order they are tried.
async fn addresses(peer: &Peer, reach: &Reach, target: &ReplicaTarget<'_>) -> Result<Vec<SocketAddr>, Fault> {
    if let Some(address) = &reach.address {
        return Ok(vec![fixed(address, peer.port, target)?]);
    }
    if let Ok(ip) = peer.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, peer.port)]);
    }
    if reach.servers.is_empty() {
        let found = lookup_host((peer.host.as_str(), peer.port))
            .await
            .map_err(|error| Fault::new(FailureReason::Dns, format!("cannot resolve the address: {error}")))?;
        return Ok(found.collect());
    }
    let found = dns_client::addresses(&peer.host, &reach.servers).await?;
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, peer.port)).collect())
}

/// Tries the peer's addresses in turn and is content with the first that takes the connection. Resolving and each
/// address may take `patience`.
///
/// # Errors
/// What the last address said, or that the name has none.
pub(super) async fn connected(
    peer: &Peer,
    reach: &Reach,
    patience: Option<Duration>,
    target: &ReplicaTarget<'_>,
) -> Result<TcpStream, Fault> {
    let resolved = within(patience, "name resolved", addresses(peer, reach, target)).await??;
    let mut fault = Fault::new(FailureReason::Dns, "the name has no address");
    for one in resolved {
        match within(patience, "connection", TcpStream::connect(one)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => fault = Fault::of_io(&error),
            Err(late) => fault = late,
        }
    }
    Err(fault)
}

/// # Errors
/// It took longer than `patience`; `what` there is not yet.
pub(super) async fn within<T>(
    patience: Option<Duration>,
    what: &str,
    doing: impl Future<Output = T>,
) -> Result<T, Fault> {
    let Some(span) = patience else { return Ok(doing.await) };
    timeout(span, doing)
        .await
        .map_err(|_| Fault::new(FailureReason::Timeout, format!("no {what} within {}", format_duration(span))))
}

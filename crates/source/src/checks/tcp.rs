//! A tcp check: can a connection be opened.

use std::time::Duration;

use super::connect;
use super::replica_target::ReplicaTarget;
use super::verdict::Fault;
use selfheal_model::Reach;

pub(super) async fn attempt(
    address: &str,
    reach: &Reach,
    connect_timeout: Option<Duration>,
    target: &ReplicaTarget<'_>,
) -> Result<String, Fault> {
    let peer = connect::peer(&target.fill(address)?)?;
    connect::connected(&peer, reach, connect_timeout, target).await?;
    Ok("connected".to_owned())
}

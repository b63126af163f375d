//! A tcp check: can a connection be opened.

use std::time::Duration;

use super::connect;
use super::place::Place;
use super::verdict::Fault;
use selfheal_model::Reach;

pub(super) async fn attempt(
    address: &str,
    reach: &Reach,
    connect_timeout: Option<Duration>,
    place: &Place<'_>,
) -> Result<String, Fault> {
    let peer = connect::peer(&place.fill(address)?)?;
    connect::connected(&peer, reach, connect_timeout, place).await?;
    Ok("connected".to_owned())
}

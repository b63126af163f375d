//! A tcp check: can a connection be opened.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::place::Place;
use super::verdict::Fault;
use crate::model::FailureReason;
use crate::model::units::format_duration;

/// Tries the host's addresses in turn and is content with the first that takes the connection.
pub(super) async fn attempt(
    address: &str,
    connect_timeout: Option<Duration>,
    place: &Place<'_>,
) -> Result<String, Fault> {
    let address = place.fill(address)?;
    let resolved = lookup_host(&address)
        .await
        .map_err(|error| Fault::new(FailureReason::Dns, format!("cannot resolve the address: {error}")))?;
    let mut fault = Fault::new(FailureReason::Dns, "the name has no address");
    for one in resolved {
        let connecting = TcpStream::connect(one);
        let connected = match connect_timeout {
            None => connecting.await,
            Some(span) => match timeout(span, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    let why = format!("no connection within {}", format_duration(span));
                    fault = Fault::new(FailureReason::Timeout, why);
                    continue;
                }
            },
        };
        match connected {
            Ok(_) => return Ok("connected".to_owned()),
            Err(error) => fault = Fault::of_io(&error),
        }
    }
    Err(fault)
}

//! Queries to name servers, one at a time. The wire format is hickory-proto's.
//!
//! A resolver would not do: it looks for an answer, follows aliases, asks other servers and remembers what they said. A
//! check has to report what each name server itself answers.
//!
//! Invariant: an answer is the server's own: nothing is cached, no hosts file is read, no search domain is tried, no
//! alias is followed, and a response to another query is ignored.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::verdict::Fault;
use selfheal_model::FailureReason;

/// A datagram may get lost: the query is sent again after this.
const RETRANSMIT_AFTER: Duration = Duration::from_secs(1);
/// How long one of several name servers may take before the next one is queried.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The size of the receive buffer: no UDP datagram is longer.
const MAX_DATAGRAM: usize = 64 * 1024;
/// The file that lists the name servers of this machine.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// At most this much of that file is read.
const MAX_RESOLV_CONF: usize = 64 * 1024;
/// At most so many name servers of the file are queried; the resolver of the C library has the same limit.
const MACHINE_SERVERS: usize = 3;

pub(super) const DNS_PORT: u16 = 53;

/// Why a name server gave no records.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("connection refused")]
    Refused,
    #[error("cannot be queried: {0}")]
    Io(io::Error),
    #[error("there is no such name")]
    NoSuchName,
    #[error("answers {0}")]
    ResponseCode(ResponseCode),
    #[error("the response cannot be parsed: {0}")]
    Malformed(String),
    #[error("no answer within {}", selfheal_model::units::format_duration(*.0))]
    TimedOut(Duration),
}

impl QueryError {
    /// Whether another name server may give a different answer.
    fn is_transient(&self) -> bool {
        !matches!(self, QueryError::NoSuchName)
    }

    pub fn fault(&self, server: SocketAddr) -> Fault {
        let reason = match self {
            QueryError::TimedOut(_) => FailureReason::Timeout,
            _ => FailureReason::Dns,
        };
        Fault::new(reason, format!("name server {server}: {self}"))
    }
}

impl From<io::Error> for QueryError {
    fn from(error: io::Error) -> QueryError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => QueryError::Refused,
            _ => QueryError::Io(error),
        }
    }
}

/// Parses a domain name. It is absolute, with or without the dot at its end.
///
/// # Errors
/// The text is not a domain name.
pub(super) fn absolute_name(text: &str) -> Result<Name, Fault> {
    let mut name = Name::from_str_relaxed(text)
        .map_err(|error| Fault::new(FailureReason::Dns, format!("`{text}` is no name: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Queries one name server for the records of a name and type. No records is a successful answer.
///
/// # Errors
/// The server gave no answer within `within`, or answered with an error.
pub(super) async fn query(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    within: Duration,
) -> Result<Vec<Record>, QueryError> {
    let exchange = async {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let bytes = question.to_vec().map_err(|error| QueryError::Malformed(error.to_string()))?;
        let short = over_udp(server, &question, &bytes).await?;
        let answer = if short.metadata.truncation { over_tcp(server, &question, &bytes).await? } else { short };
        match answer.metadata.response_code {
            ResponseCode::NoError => {
                Ok(answer.answers.into_iter().filter(|record| record.record_type() == kind).collect())
            }
            ResponseCode::NXDomain => Err(QueryError::NoSuchName),
            other => Err(QueryError::ResponseCode(other)),
        }
    };
    timeout(within, exchange).await.unwrap_or(Err(QueryError::TimedOut(within)))
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, QueryError> {
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    // a connected socket drops datagrams of other senders and reports when no process listens on the port
    socket.connect(server).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        socket.send(bytes).await?;
        let answer = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // a datagram that cannot be parsed or answers another query may be forged: the real answer can still come
                if let Ok(answer) = Message::from_vec(&buffer[..length])
                    && is_about(&answer, question)
                {
                    return Ok(answer);
                }
            }
        };
        if let Ok(answer) = timeout(RETRANSMIT_AFTER, answer).await {
            return answer;
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, QueryError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|error| QueryError::Malformed(error.to_string()))?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(|error| QueryError::Malformed(error.to_string()))?;
    if is_about(&answer, question) {
        return Ok(answer);
    }
    Err(QueryError::Malformed("it answers another query".to_owned()))
}

fn is_about(answer: &Message, question: &Message) -> bool {
    // an error response may leave the question section out
    let same = answer.queries.is_empty() || answer.queries == question.queries;
    answer.metadata.message_type == MessageType::Response && answer.metadata.id == question.metadata.id && same
}

/// Queries several name servers, one after the other, until one answers; each may take `within`.
///
/// # Errors
/// A server answered that the name does not exist, or no server answered: the error of the last one queried.
pub(super) async fn query_in_turn(
    servers: &[SocketAddr],
    name: &Name,
    kind: RecordType,
    within: Duration,
) -> Result<Vec<Record>, Fault> {
    let mut fault = Fault::new(FailureReason::Dns, "there is no name server to query");
    for server in servers {
        match query(*server, name, kind, within).await {
            Ok(records) => return Ok(records),
            Err(error) => {
                fault = error.fault(*server);
                if !error.is_transient() {
                    break;
                }
            }
        }
    }
    Err(fault)
}

/// Resolves a host to its IPv4 and IPv6 addresses with these name servers.
///
/// # Errors
/// No server has an address of the host.
pub(super) async fn addresses(host: &str, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, Fault> {
    let name = absolute_name(host)?;
    let (four, six) = tokio::join!(
        query_in_turn(servers, &name, RecordType::A, SERVER_TIMEOUT),
        query_in_turn(servers, &name, RecordType::AAAA, SERVER_TIMEOUT)
    );
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let found: Vec<IpAddr> = [&four, &six].into_iter().flatten().flatten().filter_map(address).collect();
    match four.and(six) {
        _ if !found.is_empty() => Ok(found),
        Err(fault) => Err(fault),
        Ok(_) => Err(Fault::new(FailureReason::Dns, format!("`{host}` has no address"))),
    }
}

/// The name servers that this machine is configured to use.
pub(super) async fn of_machine() -> Vec<SocketAddr> {
    let text = tokio::fs::read(RESOLV_CONF).await.unwrap_or_default();
    in_resolv_conf(&String::from_utf8_lossy(&text[..text.len().min(MAX_RESOLV_CONF)]))
}

fn in_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, DNS_PORT))
    };
    let servers: Vec<SocketAddr> = text.lines().filter_map(server).take(MACHINE_SERVERS).collect();
    // without any, the resolver of the C library queries the local host
    if servers.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_servers_of_the_machine_are_those_of_resolv_conf() {
        let text =
            "# nameserver 9.9.9.9\nsearch example.com\nnameserver 10.0.0.1\n nameserver ::1 # own\nnameserver x\n";
        assert_eq!(in_resolv_conf(text), ["10.0.0.1:53".parse().expect("v4"), "[::1]:53".parse().expect("v6")]);
        assert_eq!(in_resolv_conf(""), ["127.0.0.1:53".parse().expect("v4")]);
        assert_eq!(in_resolv_conf(&"nameserver 10.0.0.1\n".repeat(5)).len(), MACHINE_SERVERS);
    }
}

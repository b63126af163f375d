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

/// A datagram may get lost; after this the question is put again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long one of several name servers may take before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer than any datagram.
const MAX_DATAGRAM: usize = 64 * 1024;
/// Where the machine says which name servers it uses.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Of that file: it has a few lines.
const MAX_RESOLV_CONF: usize = 64 * 1024;
/// Name servers of the machine that are asked, as many as its own resolver asks.
const MACHINE_SERVERS: usize = 3;

pub(super) const DNS_PORT: u16 = 53;

/// Why a name server gave no records.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("connection refused")]
    NobodyThere,
    #[error("cannot be asked: {0}")]
    Io(io::Error),
    #[error("there is no such name")]
    NoSuchName,
    #[error("answers {0}")]
    Refusal(ResponseCode),
    #[error("gives no answer that can be read: {0}")]
    Garbled(String),
    #[error("no answer within {}", selfheal_model::units::format_duration(*.0))]
    Silent(Duration),
}

impl AskError {
    /// Whether another server may know better.
    fn is_transient(&self) -> bool {
        !matches!(self, AskError::NoSuchName)
    }

    pub fn fault(&self, server: SocketAddr) -> Fault {
        let reason = match self {
            AskError::Silent(_) => FailureReason::Timeout,
            _ => FailureReason::Dns,
        };
        Fault::new(reason, format!("name server {server}: {self}"))
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> AskError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => AskError::NobodyThere,
            _ => AskError::Io(error),
        }
    }
}

/// A name as written is whole: it ends at the root.
///
/// # Errors
/// It cannot be a name.
pub(super) fn whole_name(text: &str) -> Result<Name, Fault> {
    let mut name = Name::from_str_relaxed(text)
        .map_err(|error| Fault::new(FailureReason::Dns, format!("`{text}` is no name: {error}")))?;
    name.set_fqdn(true);
    Ok(name)
}

/// The records of that name and type at one server. An empty answer is one.
///
/// # Errors
/// Within `patience` the server gave no answer, or said no.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    patience: Duration,
) -> Result<Vec<Record>, AskError> {
    let asking = async {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let bytes = question.to_vec().map_err(|error| AskError::Garbled(error.to_string()))?;
        let short = by_datagram(server, &question, &bytes).await?;
        let answer = if short.metadata.truncation { by_stream(server, &question, &bytes).await? } else { short };
        match answer.metadata.response_code {
            ResponseCode::NoError => {
                Ok(answer.answers.into_iter().filter(|record| record.record_type() == kind).collect())
            }
            ResponseCode::NXDomain => Err(AskError::NoSuchName),
            other => Err(AskError::Refusal(other)),
        }
    };
    timeout(patience, asking).await.unwrap_or(Err(AskError::Silent(patience)))
}

async fn by_datagram(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, AskError> {
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    // connected: the system drops what comes from elsewhere, and tells when nobody listens there
    socket.connect(server).await?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        socket.send(bytes).await?;
        let answer = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // what cannot be read or answers another question may be forged: the right one can still come
                if let Ok(answer) = Message::from_vec(&buffer[..length])
                    && is_about(&answer, question)
                {
                    return Ok(answer);
                }
            }
        };
        if let Ok(answer) = timeout(ASK_AGAIN_AFTER, answer).await {
            return answer;
        }
    }
}

async fn by_stream(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, AskError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|error| AskError::Garbled(error.to_string()))?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(|error| AskError::Garbled(error.to_string()))?;
    if is_about(&answer, question) {
        return Ok(answer);
    }
    Err(AskError::Garbled("it answers another question".to_owned()))
}

fn is_about(answer: &Message, question: &Message) -> bool {
    // a server that says no may leave the question out
    let same = answer.queries.is_empty() || answer.queries == question.queries;
    answer.metadata.message_type == MessageType::Response && answer.metadata.id == question.metadata.id && same
}

/// The first answer of several servers, each given its time.
///
/// # Errors
/// One said that there is no such name, or none answered: what the last of them said.
pub(super) async fn ask_in_turn(
    servers: &[SocketAddr],
    name: &Name,
    kind: RecordType,
    patience: Duration,
) -> Result<Vec<Record>, Fault> {
    let mut fault = Fault::new(FailureReason::Dns, "there is no name server to ask");
    for server in servers {
        match ask(*server, name, kind, patience).await {
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

/// The addresses of a host by these name servers.
///
/// # Errors
/// None of them knows one.
pub(super) async fn addresses(host: &str, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, Fault> {
    let name = whole_name(host)?;
    let (four, six) = tokio::join!(
        ask_in_turn(servers, &name, RecordType::A, PATIENCE),
        ask_in_turn(servers, &name, RecordType::AAAA, PATIENCE)
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

/// The name servers that the machine uses.
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
    // without any, the resolver of the system asks the machine itself
    if servers.is_empty() { vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))] } else { servers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_name_servers_are_those_of_its_file() {
        let text =
            "# nameserver 9.9.9.9\nsearch example.com\nnameserver 10.0.0.1\n nameserver ::1 # own\nnameserver x\n";
        assert_eq!(in_resolv_conf(text), ["10.0.0.1:53".parse().expect("v4"), "[::1]:53".parse().expect("v6")]);
        assert_eq!(in_resolv_conf(""), ["127.0.0.1:53".parse().expect("v4")]);
        assert_eq!(in_resolv_conf(&"nameserver 10.0.0.1\n".repeat(5)).len(), MACHINE_SERVERS);
    }
}

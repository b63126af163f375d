//! The dns check: every name server has records of the name, and they include the expected ones.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::time::Instant;

use super::dns_client;
use super::replica_target::ReplicaTarget;
use super::verdict::{Fault, Findings, OfServer};
use selfheal_model::{DnsRecord, FailureReason};

/// At most so many answers, or servers, are listed in one message.
const MAX_LISTED: usize = 5;

/// The query that the check sends to the name servers.
pub(super) struct Question<'a> {
    pub name: &'a str,
    pub record: DnsRecord,
    pub expect: &'a [String],
    pub servers: &'a [SocketAddr],
}

/// Queries all servers at once. It keeps within `patience` itself, so that the message can name the servers that did not
/// answer.
pub(super) async fn attempt(
    asked: &Question<'_>,
    patience: Duration,
    target: &ReplicaTarget<'_>,
    findings: &mut Findings,
) -> Result<String, Fault> {
    let name = name(&target.fill(asked.name)?, asked.record)?;
    let mut expected = Vec::with_capacity(asked.expect.len());
    for text in asked.expect {
        expected.push(comparable(asked.record, &target.fill(text)?));
    }
    let kind = record_type(asked.record);
    if asked.servers.is_empty() {
        let servers = dns_client::of_machine().await;
        let each = patience / u32::try_from(servers.len()).unwrap_or(1).max(1);
        let records = dns_client::query_in_turn(&servers, &name, kind, each).await?;
        return evaluate(asked.record, &records, &expected).map_err(|why| Fault::new(FailureReason::Dns, why));
    }
    let each = join_all(asked.servers.iter().map(async |server| {
        let began = Instant::now();
        let said = match dns_client::query(*server, &name, kind, patience).await {
            Ok(records) => evaluate(asked.record, &records, &expected)
                .map_err(|why| Fault::new(FailureReason::Dns, format!("name server {server}: {why}"))),
            Err(error) => Err(error.fault(*server)),
        };
        (*server, began.elapsed(), said)
    }))
    .await;
    let of_server = |(server, latency, said): &(SocketAddr, Duration, Result<String, Fault>)| OfServer {
        server: *server,
        up: said.is_ok(),
        latency: *latency,
    };
    findings.servers = each.iter().map(of_server).collect();
    together(each.into_iter().map(|(_, _, said)| said))
}

/// Combines the results of all servers: the first answer, or every fault.
fn together(said: impl Iterator<Item = Result<String, Fault>>) -> Result<String, Fault> {
    let (mut good, mut faults) = (None, Vec::new());
    for said in said {
        match said {
            Ok(answers) => good = good.or(Some(answers)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        return Ok(good.unwrap_or_default());
    }
    let silent = faults.iter().all(|fault| fault.reason == FailureReason::Timeout);
    let reason = if silent { FailureReason::Timeout } else { FailureReason::Dns };
    Err(Fault::new(reason, some_of(faults.into_iter().map(|fault| fault.why), "; ")))
}

/// The name to query. For a PTR record of an address that is its reverse name.
fn name(text: &str, record: DnsRecord) -> Result<Name, Fault> {
    match text.parse::<IpAddr>() {
        Ok(ip) if record == DnsRecord::Ptr => Ok(Name::from(ip)),
        _ => dns_client::absolute_name(text),
    }
}

fn record_type(record: DnsRecord) -> RecordType {
    match record {
        DnsRecord::A => RecordType::A,
        DnsRecord::Aaaa => RecordType::AAAA,
        DnsRecord::Cname => RecordType::CNAME,
        DnsRecord::Mx => RecordType::MX,
        DnsRecord::Txt => RecordType::TXT,
        DnsRecord::Ns => RecordType::NS,
        DnsRecord::Srv => RecordType::SRV,
        DnsRecord::Ptr => RecordType::PTR,
        DnsRecord::Soa => RecordType::SOA,
    }
}

/// The records as text, or why they are not the expected ones.
fn evaluate(record: DnsRecord, records: &[Record], expected: &[String]) -> Result<String, String> {
    let mut answers: Vec<String> = records.iter().map(|one| comparable(record, &text(&one.data))).collect();
    // servers rotate the order of their records; the message must not change with every check
    answers.sort_unstable();
    answers.dedup();
    if answers.is_empty() {
        return Err(format!("it has no {} record", record.as_str()));
    }
    let missing: Vec<&String> = expected.iter().filter(|text| !answers.contains(text)).collect();
    let told = some_of(answers.iter().cloned(), ", ");
    if missing.is_empty() {
        return Ok(told);
    }
    Err(format!("answers {told}, without {}", some_of(missing.into_iter().cloned(), ", ")))
}

fn text(data: &RData) -> String {
    match data {
        RData::OPT(_) => String::new(),
        other => other.to_string(),
    }
}

/// Brings a record into the form in which equal records are equal text: names in lower case without the dot at their
/// end, addresses in their short form. The text of a TXT record stays as it is.
fn comparable(record: DnsRecord, text: &str) -> String {
    match record {
        DnsRecord::Txt => text.to_owned(),
        DnsRecord::A | DnsRecord::Aaaa => {
            text.trim().parse::<IpAddr>().map_or_else(|_| text.trim().to_owned(), |ip| ip.to_string())
        }
        _ => {
            let words = text.split_whitespace().map(|word| word.strip_suffix('.').unwrap_or(word).to_lowercase());
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

fn some_of(texts: impl ExactSizeIterator<Item = String>, between: &str) -> String {
    let more = texts.len().saturating_sub(MAX_LISTED);
    let told = texts.take(MAX_LISTED).collect::<Vec<_>>().join(between);
    if more == 0 { told } else { format!("{told}{between}{more} more") }
}

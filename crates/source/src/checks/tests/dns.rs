//! The dns check against real name servers.

use std::net::SocketAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, PTR, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::tls::metric;
use super::*;
use selfheal_model::DnsRecord;

/// What a name server of the tests does with a question.
#[derive(Clone)]
pub(super) enum Does {
    Answers(Vec<(&'static str, RData)>),
    Says(ResponseCode),
    Nothing,
}

/// A name server on UDP. Before every answer it sends one that is not about the question.
pub(super) async fn name_server(does: Does) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).expect("a question");
            let asked = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.add_query(asked.clone());
            match &does {
                Does::Nothing => continue,
                Does::Says(code) => answer.metadata.response_code = *code,
                Does::Answers(records) => {
                    let own = |(name, data): &(&str, RData)| (zone(name), data.clone());
                    let about = |(name, data): &(Name, RData)| {
                        *name == asked.name
                            && (data.record_type() == asked.query_type || data.record_type() == RecordType::CNAME)
                    };
                    for (name, data) in records.iter().map(own).filter(about) {
                        answer.add_answer(Record::from_rdata(name, 60, data));
                    }
                }
            }
            let mut forged = answer.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.add_answer(Record::from_rdata(asked.name.clone(), 60, RData::A(A::new(6, 6, 6, 6))));
            for message in [forged, answer] {
                let _ = socket.send_to(&message.to_vec().expect("bytes"), from).await;
            }
        }
    });
    address
}

fn zone(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).expect("a name")
}

pub(super) fn a(name: &'static str, last: u8) -> (&'static str, RData) {
    (name, RData::A(A::new(127, 0, 0, last)))
}

fn dns(name: &str, record: DnsRecord, expect: &[&str], servers: &[SocketAddr]) -> Check {
    let expect = expect.iter().map(|text| (*text).to_owned()).collect();
    check(CheckKind::Dns { name: name.to_owned(), record, expect, servers: servers.to_vec() })
}

#[tokio::test]
async fn answers_are_compared_as_what_they_mean() {
    let server = name_server(Does::Answers(vec![
        a("shop.test", 2),
        a("shop.test", 1),
        ("alias.test", RData::CNAME(CNAME(zone("Shop.Test")))),
        ("shop.test", RData::TXT(TXT::new(vec!["v=spf1 ".to_owned(), "-all".to_owned()]))),
        ("shop.test", RData::MX(MX::new(10, zone("Mail.Shop.test")))),
        ("1.0.0.127.in-addr.arpa", RData::PTR(PTR(zone("shop.test")))),
    ]))
    .await;
    for (name, record, expect, reason, message) in [
        ("shop.test", DnsRecord::A, &["127.0.0.1"][..], None, "127.0.0.1, 127.0.0.2"),
        ("SHOP.test.", DnsRecord::A, &["127.0.0.2", "127.0.0.1"], None, "127.0.0.1, 127.0.0.2"),
        ("alias.test", DnsRecord::Cname, &["SHOP.test."], None, "shop.test"),
        ("shop.test", DnsRecord::Txt, &["v=spf1 -all"], None, "v=spf1 -all"),
        ("shop.test", DnsRecord::Mx, &["10  mail.shop.test"], None, "10 mail.shop.test"),
        ("127.0.0.1", DnsRecord::Ptr, &[], None, "shop.test"),
        (
            "shop.test",
            DnsRecord::A,
            &["127.0.0.9", "127.0.0.1"],
            Some(FailureReason::Dns),
            "answers 127.0.0.1, 127.0.0.2, without 127.0.0.9",
        ),
        (
            "shop.test",
            DnsRecord::Txt,
            &["V=SPF1 -all"],
            Some(FailureReason::Dns),
            "answers v=spf1 -all, without V=SPF1 -all",
        ),
        ("shop.test", DnsRecord::Aaaa, &[], Some(FailureReason::Dns), "it has no AAAA record"),
        // only an alias: what it stands for is not in the answer
        ("alias.test", DnsRecord::A, &[], Some(FailureReason::Dns), "it has no A record"),
    ] {
        let seen = probed(dns(name, record, expect, &[server]), vec![]).await;
        let message = match reason {
            None => message.to_owned(),
            Some(_) => format!("{name} {}: name server {server}: {message}", record.as_str()),
        };
        assert_eq!((seen.reason, seen.message), (reason, message));
    }
}

#[tokio::test]
async fn every_name_server_is_asked_and_told_of_by_itself() {
    let good = name_server(Does::Answers(vec![a("shop.test", 1)])).await;
    let wrong = name_server(Does::Answers(vec![a("shop.test", 9)])).await;
    let unknown = name_server(Does::Says(ResponseCode::NXDomain)).await;
    let broken = name_server(Does::Says(ResponseCode::ServFail)).await;
    let silent = name_server(Does::Nothing).await;
    let nobody = UdpSocket::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let servers = [good, wrong, unknown, broken, silent, nobody];
    let hurried = |check: Check| Check { timeout: Duration::from_secs(2), ..check };
    let seen = probed(hurried(dns("shop.test", DnsRecord::A, &["127.0.0.1"], &servers)), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Dns));
    assert_eq!(
        seen.message,
        format!(
            "shop.test A: name server {wrong}: answers 127.0.0.9, without 127.0.0.1; \
             name server {unknown}: there is no such name; name server {broken}: answers Server Failure; \
             name server {silent}: no answer within 2s; name server {nobody}: connection refused"
        )
    );
    assert_eq!(metric(&seen, "check_up", &[("check", "probe")]), Some(0.0));
    for server in servers {
        let labels = [("check", "probe"), ("server", &server.to_string())];
        assert_eq!(metric(&seen, "check_up", &labels), Some(f64::from(u8::from(server == good))));
        assert!(metric(&seen, "check_latency_ms", &labels).is_some_and(|millis| millis >= 0.0));
    }
    let seen = probed(hurried(dns("shop.test", DnsRecord::A, &[], &[good, silent])), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Timeout), "the others did answer");
    assert_eq!(probed(dns("shop.test", DnsRecord::A, &[], &[good, wrong]), vec![]).await.reason, None);
}

#[tokio::test]
async fn a_lost_question_is_put_again_and_a_long_answer_is_fetched_by_stream() {
    let stream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = stream.local_addr().expect("bound");
    let socket = UdpSocket::bind(address).await.expect("the same port");
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        let mut lost = 0;
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            lost += 1;
            if lost > 1 {
                let question = Message::from_vec(&buffer[..length]).expect("a question");
                let mut short = Message::response(question.metadata.id, question.metadata.op_code);
                short.metadata.truncation = true;
                let _ = socket.send_to(&short.to_vec().expect("bytes"), from).await;
            }
        }
    });
    tokio::spawn(async move {
        let (mut stream, _) = stream.accept().await.expect("a connection");
        let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut question).await.expect("a question");
        let question = Message::from_vec(&question).expect("a question");
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_query(question.queries[0].clone());
        for last in 1..=100 {
            let address = RData::A(A::new(10, 0, 0, last));
            answer.add_answer(Record::from_rdata(zone("shop.test"), 60, address));
        }
        let bytes = answer.to_vec().expect("bytes");
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("written");
        stream.write_all(&bytes).await.expect("written");
    });
    let patient = Check { timeout: DEADLINE, ..dns("shop.test", DnsRecord::A, &["10.0.0.77"], &[address]) };
    let seen = probed(patient, vec![]).await;
    assert_eq!(
        (seen.reason, seen.message.as_str()),
        (None, "10.0.0.1, 10.0.0.10, 10.0.0.100, 10.0.0.11, 10.0.0.12, 95 more")
    );
}

//! The tls check against real servers, with certificates made for each test.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// In years: a certificate's validity.
pub(super) const NOW: (i32, i32) = (2020, 2100);
const PAST: (i32, i32) = (2019, 2020);
const FUTURE: (i32, i32) = (2100, 2101);

/// A TLS server that answers every handshake, and HTTP once it is done. Its certificate is for these names.
pub(super) async fn tls_server(authority: &Authority, names: &[&str], years: (i32, i32)) -> SocketAddr {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a key that fits");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = [0; 4096];
                if stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(OK.unwrap_or_default().as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    address
}

fn tls(address: &str, server_name: Option<&str>, trust: Trust) -> CheckKind {
    let server_name = server_name.map(str::to_owned);
    CheckKind::Tls { address: address.to_owned(), server_name, trust, reach: Reach::default() }
}

/// What one check says, with the policy folder at `dir`.
pub(super) async fn probed_in(dir: &std::path::Path, check: Check, replicas: Vec<Replica>) -> Seen {
    let (sender, mut receiver) = mpsc::channel(100);
    let clock = Arc::new(|| Timestamp::from_millis(1_795_000_000_000));
    let checks = Checks::new(sender, clock).in_dir(dir.to_owned());
    checks.running.lock().expect("not poisoned").desired = desired(vec![check], replicas);
    checks.probe(&"web".into(), &"probe".into()).await.expect("it exists");
    next(&mut receiver).await
}

/// An authority and a folder with its certificate in `ca.pem`.
pub(super) fn trusted() -> (Authority, tempfile::TempDir) {
    let authority = authority("Own CA");
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("written");
    (authority, dir)
}

pub(super) fn ca_file() -> Trust {
    Trust::Authorities("ca.pem".into())
}

pub(super) fn metric(seen: &Seen, wanted: &str, with: &[(&str, &str)]) -> Option<f64> {
    let wanted_labels: Labels = with.iter().copied().collect();
    seen.events.iter().find_map(|event| match &event.kind {
        EventKind::Metric { name, value, labels } if name.as_str() == wanted && *labels == wanted_labels => {
            Some(*value)
        }
        _ => None,
    })
}

pub(super) fn expires_in(seen: &Seen) -> Option<f64> {
    metric(seen, "tls_expires_in_seconds", &[("check", "probe")])
}

/// From the tests' clock to the first of January of 2100 and of 2020.
pub(super) const TO_2100: f64 = 4_102_444_800.0 - 1_795_000_000.0;
const TO_2020: f64 = 1_577_836_800.0 - 1_795_000_000.0;

#[tokio::test]
async fn a_certificate_of_a_known_authority_is_trusted_and_its_end_is_told() {
    let (authority, dir) = trusted();
    let address = tls_server(&authority, &["shop.test", "127.0.0.1"], NOW).await;
    for (host, name) in [(address.to_string(), None), (address.to_string(), Some("shop.test"))] {
        let seen = probed_in(dir.path(), check(tls(&host, name, ca_file())), vec![]).await;
        assert_eq!(seen.message, "trusted; the certificate is good until 2100-01-01T00:00:00Z");
        assert_eq!((seen.reason, expires_in(&seen)), (None, Some(TO_2100)));
    }
    let seen = probed_in(dir.path(), check(tls(&address.to_string(), None, Trust::Anybody)), vec![]).await;
    assert_eq!(seen.message, "answers; its certificate was not verified");
    assert_eq!(expires_in(&seen), Some(TO_2100));
}

#[tokio::test]
async fn why_a_certificate_is_not_trusted_is_said_in_words() {
    let (authority, dir) = trusted();
    let other = self::authority("Other CA");
    let names = ["a.test", "*.b.test", "10.0.0.1"];
    for (server, name, why, until) in [
        (
            tls_server(&authority, &names, PAST).await,
            "a.test",
            "the certificate has expired, on 2020-01-01T00:00:00Z",
            Some(TO_2020),
        ),
        (
            tls_server(&authority, &names, FUTURE).await,
            "a.test",
            "the certificate is not valid before 2100-01-01T00:00:00Z",
            Some(TO_2100 + 365.0 * 86_400.0),
        ),
        (
            tls_server(&authority, &names, NOW).await,
            "shop.test",
            "the certificate is not for shop.test; it is for a.test, *.b.test, 10.0.0.1",
            Some(TO_2100),
        ),
        (
            tls_server(&other, &names, NOW).await,
            "a.test",
            "the certificate's issuer is not trusted: CN=Other CA",
            Some(TO_2100),
        ),
    ] {
        let seen = probed_in(dir.path(), check(tls(&server.to_string(), Some(name), ca_file())), vec![]).await;
        assert_eq!(seen.message, format!("{server}: {why}"));
        assert_eq!((seen.reason, expires_in(&seen)), (Some(FailureReason::Tls), until), "{why}");
        let anybody = check(tls(&server.to_string(), Some(name), Trust::Anybody));
        assert_eq!(probed_in(dir.path(), anybody, vec![]).await.status, CheckStatus::Healthy);
    }
    // the machine knows nothing of an authority made a moment ago, or has none at all
    let server = tls_server(&authority, &names, NOW).await;
    let seen = probed_in(dir.path(), check(tls(&server.to_string(), Some("a.test"), Trust::Platform)), vec![]).await;
    assert_eq!((seen.reason, expires_in(&seen)), (Some(FailureReason::Tls), Some(TO_2100)), "{seen:?}");
    let missing = Trust::Authorities("none.pem".into());
    let seen = probed_in(dir.path(), check(tls(&server.to_string(), Some("a.test"), missing)), vec![]).await;
    assert_eq!(seen.message, format!("{server}: ca_file none.pem: No such file or directory (os error 2)"));
    std::fs::write(dir.path().join("empty.pem"), "hello").expect("written");
    let empty = Trust::Authorities("empty.pem".into());
    let seen = probed_in(dir.path(), check(tls(&server.to_string(), Some("a.test"), empty)), vec![]).await;
    assert_eq!(seen.message, format!("{server}: ca_file empty.pem: the file has no certificate"));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_about_is_called_by_its_name() {
    let (_, dir) = trusted();
    let said = async |kind: CheckKind, connect_timeout: Option<Duration>| {
        let seen = probed_in(dir.path(), Check { connect_timeout, ..check(kind) }, vec![]).await;
        assert_eq!(expires_in(&seen), None);
        (seen.reason.expect("unhealthy"), seen.message)
    };
    let closed = format!("127.0.0.1:{}", closed_port().await);
    let (reason, message) = said(tls(&closed, None, ca_file()), None).await;
    assert_eq!((reason, message), (FailureReason::Refused, format!("{closed}: connection refused")));
    let (plain, _) = server(vec![OK]).await;
    let (reason, message) = said(tls(&plain.to_string(), None, ca_file()), None).await;
    assert_eq!((reason, message), (FailureReason::Tls, format!("{plain}: the server does not speak TLS")));
    let (hangs_up, _) = server(vec![None]).await;
    assert_eq!(said(tls(&hangs_up.to_string(), None, ca_file()), None).await.0, FailureReason::Reset);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent = listener.local_addr().expect("bound").to_string();
    let (reason, message) = said(tls(&silent, None, ca_file()), Some(Duration::from_millis(50))).await;
    assert_eq!((reason, message), (FailureReason::Timeout, format!("{silent}: no handshake within 50ms")));
    let hurried = Check { timeout: Duration::from_millis(50), ..check(tls(&silent, None, ca_file())) };
    let seen = probed_in(dir.path(), hurried, vec![]).await;
    assert_eq!((seen.reason, seen.message), (Some(FailureReason::Timeout), format!("{silent}: no answer within 50ms")));
    let host = format!("{}.invalid", "a".repeat(64));
    assert_eq!(said(tls(&format!("{host}:443"), Some("a.test"), ca_file()), None).await.0, FailureReason::Dns);
}

#[tokio::test]
async fn every_replica_shakes_hands_at_its_own_port() {
    let (authority, dir) = trusted();
    let address = tls_server(&authority, &["r3.test"], NOW).await;
    let per_replica = check(tls("127.0.0.1:{{ port }}", Some("r{{ replica }}.test"), ca_file()));
    let seen = probed_in(dir.path(), per_replica, vec![replica(3, Some(address.port()))]).await;
    assert_eq!((seen.replica, seen.reason), (Some(3), None), "{seen:?}");
    let labels = [("check", "probe"), ("replica", "3")];
    assert_eq!(metric(&seen, "tls_expires_in_seconds", &labels), Some(TO_2100));
}

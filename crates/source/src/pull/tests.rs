use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;
use crate::formats::{Dialect, MAX_SAMPLES_PER_BODY, parse_text};
use selfheal_contract::Desired;
use selfheal_model::{EventKind, Labels, NamePattern, Origin, Secret, SecretError, SecretSource, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn source(url: &str, only: &[&str]) -> Source {
    let header = |value: &str| Secret::new(SecretSource::Literal(value.into()));
    Source {
        name: "page".into(),
        kind: SourceKind::Scrape {
            url: url.to_owned(),
            headers: vec![("x-key".to_owned(), header("hunter2"))],
            ca_file: None,
            verify: true,
        },
        every: Duration::from_millis(50),
        timeout: Duration::from_secs(5),
        labels: [("deployment", "shop"), ("zone", "a")].into_iter().collect(),
        only: only.iter().map(|pattern| NamePattern::new(pattern)).collect(),
    }
}

fn polls(only: &[&str]) -> PollState {
    PollState::new(Arc::new(source("http://127.0.0.1/", only)), ["deployment", "job"].map(SmolStr::new).to_vec().into())
}

fn page(text: &str) -> Result<Foreign, String> {
    Ok(parse_text(text, Dialect::Prometheus))
}

/// `deployment name{labels} value`, the source's own figures but for `up` left out.
fn said(events: &[Event]) -> Vec<String> {
    let told = events.iter().filter_map(|event| match &event.kind {
        EventKind::Metric { name, .. } if name.as_str().starts_with("scrape_") => None,
        EventKind::Metric { name, value, labels } => Some(format!("{} {name}{labels} {value}", event.deployment)),
        EventKind::Ended { name, labels } => Some(format!("{} {name}{labels} ended", event.deployment)),
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn a_series_that_is_no_longer_on_the_page_has_ended_and_a_page_that_does_not_come_ends_nothing() {
    let mut polls = polls(&[]);
    let second = Duration::from_secs(1);
    let events = polls.events_of(at(10), second, page("a 1\nb{x=\"1\"} 2\n"));
    let up = "shop up{source=\"page\", zone=\"a\"} 1";
    assert_eq!(said(&events), [up, "shop a{zone=\"a\"} 1", "shop b{x=\"1\", zone=\"a\"} 2"], "`up` finds room first");
    assert!(events.iter().all(|event| event.time == at(10)));
    let events = polls.events_of(at(20), second, Err("refused".into()));
    assert_eq!(said(&events), [up.replace(" 1", " 0")]);
    let events = polls.events_of(at(30), second, page("a 3\n"));
    assert_eq!(said(&events), [up, "shop b{x=\"1\", zone=\"a\"} ended", "shop a{zone=\"a\"} 3"]);
}

#[test]
fn what_a_page_says_of_up_is_not_selfheal_s_own_word() {
    let events = polls(&[]).events_of(at(10), Duration::ZERO, page("up{source=\"page\"} 0\nother 1\n"));
    let ups: Vec<_> = events
        .iter()
        .filter(|event| matches!(&event.kind, EventKind::Metric { name, .. } if name.as_str() == "up"))
        .map(|event| event.origin.clone())
        .collect();
    assert_eq!(ups, [Origin::Watched, Origin::External]);
}

#[test]
fn only_what_is_wanted_is_kept() {
    let events = polls(&["http_*"]).events_of(at(10), Duration::ZERO, page("http_requests 1\ngo_threads 2\n"));
    assert_eq!(said(&events), ["shop up{source=\"page\", zone=\"a\"} 1", "shop http_requests{zone=\"a\"} 1"]);
}

struct Literal;

impl ResolveSecret for Literal {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Literal(text) => Ok(text.to_string()),
            _ => panic!("only literal ones here"),
        }
    }
}

async fn serve() -> String {
    let metrics = |headers: HeaderMap| async move {
        match headers.get("x-key").and_then(|value| value.to_str().ok()) {
            Some("hunter2") => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], "a 1\n").into_response(),
            _ => StatusCode::FORBIDDEN.into_response(),
        }
    };
    let open = ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0")], "a 1 10.5\n# EOF\n");
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/moved", get(|| async { Redirect::temporary("/metrics") }))
        .route("/away", get(|| async { Redirect::temporary("http://127.0.0.2:1/metrics") }))
        .route("/round", get(|| async { Redirect::temporary("/round") }))
        .route("/open", get(move || async move { open }))
        .route("/cut", get(|| async { ([(header::CONTENT_TYPE, "application/openmetrics-text")], "a 1\n") }))
        .route("/over", get(|| async { "a 1\n".repeat(MAX_SAMPLES_PER_BODY + 1) }))
        .route("/half-bad", get(|| async { "a 1\nb one\n" }))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/binary", get(|| async { vec![0xff_u8, 0xfe] }))
        .route("/large", get(|| async { vec![b'#'; (16 << 20) + 1] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_page_is_fetched_with_its_headers_and_what_is_wrong_is_said_without_them() {
    let base = serve().await;
    let dir = std::env::temp_dir();
    let ask = async |path: &str| Scraper::default().fetch(&source(&format!("{base}{path}"), &[]), &Literal, &dir).await;
    for path in ["/metrics", "/moved", "/half-bad"] {
        assert_eq!(ask(path).await.map(|page| page.samples.len()), Ok(1), "{path}");
    }
    assert_eq!(ask("/open").await.map(|page| page.samples[0].time), Ok(Some(Timestamp::from_millis(10_500))));
    for (path, why) in [
        ("/broken", "it answered 500 Internal Server Error"),
        ("/binary", "its page is no UTF-8"),
        ("/large", "its page is longer than 16 MiB"),
        ("/away", "the page redirects to another host"),
        ("/round", "the page redirects too often"),
        ("/cut", "its page was not read whole: the text is truncated: it does not end with `# EOF`"),
        (
            "/over",
            "its page was not read whole: 1 samples were left out: one body may hold 500000 samples and 4000000 labels; \
             send smaller batches",
        ),
    ] {
        assert_eq!(ask(path).await, Err(why.to_owned()), "{path}");
    }
    let gone = Scraper::default().fetch(&source("http://127.0.0.1:1/metrics", &[]), &Literal, &dir).await;
    assert!(gone.is_err_and(|why| why.contains("refused") && !why.contains("hunter2")));
    let no_ca = SourceKind::Scrape { url: base, headers: vec![], ca_file: Some("no.pem".into()), verify: true };
    let without = Scraper::default().fetch(&Source { kind: no_ca, ..source("", &[]) }, &Literal, &dir).await;
    assert!(without.is_err_and(|why| why.starts_with("`ca_file` no.pem")));
}

#[tokio::test]
async fn half_a_page_is_a_failed_round_that_ends_nothing() {
    let times = Arc::new(AtomicUsize::new(0));
    let page = async move || {
        let body = match times.fetch_add(1, Ordering::SeqCst) {
            0 => "a 1\nb 1\n# EOF\n",
            1 => "a 2\n",
            _ => "a 3\n# EOF\n",
        };
        ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0")], body)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(page))).await });
    let (events, mut heard) = mpsc::channel(1);
    let sources = Sources::new(events, Arc::new(|| at(10)), Arc::new(Literal), std::env::temp_dir());
    sources.apply(&Desired { sources: vec![Arc::new(source(&url, &[]))], ..Desired::default() });
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let round = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.expect("it is asked");
        rounds.push(said(&round.expect("events")));
    }
    let up = |value: u8| format!("shop up{{source=\"page\", zone=\"a\"}} {value}");
    assert_eq!(rounds[0], [up(1), "shop a{zone=\"a\"} 1".to_owned(), "shop b{zone=\"a\"} 1".to_owned()]);
    assert_eq!(rounds[1], [up(0)], "no sample of it counts, and `b` has not ended");
    assert_eq!(rounds[2], [up(1), "shop b{zone=\"a\"} ended".to_owned(), "shop a{zone=\"a\"} 3".to_owned()]);
    let asked: Vec<_> = sources.polls().into_iter().map(|(_, round)| (round.answered >= 2, round.failed)).collect();
    assert_eq!(asked, [(true, 1)]);
}

#[tokio::test]
async fn what_is_desired_is_asked_until_it_is_not() {
    let base = serve().await;
    let (events, mut heard) = mpsc::channel(16);
    let sources = Sources::new(events, Arc::new(|| at(10)), Arc::new(Literal), std::env::temp_dir());
    let one = Arc::new(source(&format!("{base}/metrics"), &[]));
    let desired = Desired { sources: vec![one], ..Desired::default() };
    sources.apply(&desired);
    let first = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.expect("it is asked");
    assert!(said(&first.expect("events")).contains(&"shop a{zone=\"a\"} 1".to_owned()));
    sources.apply(&desired);
    sources.apply(&Desired::default());
    // what was under way may still come; then the channel stays empty and its senders are the two held here
    while tokio::time::timeout(Duration::from_millis(300), heard.recv()).await.is_ok_and(|events| events.is_some()) {}
    assert!(heard.is_empty());
}

#[test]
fn the_machine_tells_of_itself() {
    let mut host = host::Host::default();
    let names = |page: &Foreign| page.samples.iter().map(|sample| sample.name.to_string()).collect::<Vec<_>>();
    let first = host.read().expect("there is a /proc");
    for name in ["memory_percent", "memory_total_bytes", "load1", "cpu_count", "disk_percent", "uptime_seconds"] {
        assert!(names(&first).iter().any(|own| own == name), "{name} is missing in {:?}", names(&first));
    }
    assert!(!names(&first).contains(&"cpu_percent".to_owned()), "a share is of the time between two rounds");
    let in_percent = first.samples.iter().filter(|sample| sample.name.ends_with("_percent"));
    for sample in in_percent {
        let crate::formats::ForeignValue::Number(value) = sample.value else { panic!("{sample:?}") };
        assert!((0.0..=100.0).contains(&value), "{sample:?}");
    }
    let labels: Labels = first.samples.iter().flat_map(|sample| sample.labels.iter().cloned()).collect();
    assert!(labels.get("mount").is_some());
}

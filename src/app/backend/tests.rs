use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::app::effects::UnderWay;
use crate::app::inbox::Item;
use selfheal_adapter::Catalog;
use selfheal_api::Api;
use selfheal_api::model::ReadModel;
use selfheal_model::{Event, EventKind, Labels, MetricName, Origin, Timestamp};
use selfheal_source::pull::Sources;
use selfheal_store::secrets::PolicySecrets;

const POLICY: &str = "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n";
const DEADLINE: Duration = Duration::from_secs(40);
/// As many as one lane holds.
const LANE: usize = 200_000;

/// A backend whose engine is this test: what waits is taken by hand.
fn backend(dir: &TempDir) -> EngineBackend {
    let path = dir.path().to_owned();
    std::fs::write(path.join("selfheal.yaml"), POLICY).expect("written");
    let loader = PolicyLoader::new(path.clone(), Catalog::new(path.clone()));
    let policy = Arc::new(loader.load().expect("it compiles").policy);
    let (events, _) = mpsc::channel(1);
    let secrets = Arc::new(PolicySecrets { policy_dir: path.clone() });
    let history = Arc::new(crate::app::history::open(&path, policy.storage.history, clock::wall(), 0));
    let exposition = Exposition {
        telemetry: Arc::default(),
        inbox: Inbox::new(),
        under_way: Arc::new(UnderWay::default()),
        sources: Arc::new(Sources::new(events, Arc::new(clock::wall), secrets, path)),
        history: history.clone(),
    };
    exposition.inbox.open();
    EngineBackend::new(Arc::new(exposition), policy, loader, Tickets::default(), history)
}

fn metric() -> Event {
    let kind = EventKind::Metric { name: MetricName::new("cpu"), value: 1.0, labels: Labels::default() };
    Event { deployment: "checkout".into(), time: Timestamp::from_millis(0), kind, origin: Origin::External }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_counted_also_when_its_sender_has_gone() {
    let dir = TempDir::new().expect("a temporary folder");
    let backend = Arc::new(backend(&dir));
    let body = "{\"type\":\"metric\",\"deployment\":\"checkout\",\"name\":\"cpu\",\"value\":1}";
    let sender = {
        let backend = backend.clone();
        tokio::spawn(async move { backend.ingest(body.into(), Form::Events { content_type: None }).await })
    };
    let inbox = backend.inbox.clone();
    let taken = tokio::task::spawn_blocking(move || inbox.take(DEADLINE)).await.expect("no panic").expect("it is open");
    sender.abort();
    let _ = sender.await;
    for waiting in taken {
        // whoever waits is no longer the sender
        waiting.done.expect("somebody waits").send(Ok(())).expect("it is counted");
    }
    backend.inbox.close();
    let counted = async {
        let line = "selfheal_events_taken_total{kind=\"metric\",way=\"events\"} 1";
        while !Backend::metrics(&*backend).await.lines().any(|own| own == line) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.expect("it is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_metrics_are_too_many_their_sender_is_told_when_to_come_back_and_health_goes_in() {
    let dir = TempDir::new().expect("a temporary folder");
    let backend = Arc::new(backend(&dir));
    let inbox = backend.inbox.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/api/v1/events", listener.local_addr().expect("it is bound"));
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(Api::new(backend.clone(), Arc::new(ReadModel::default())).serve(listener, stopped));
    let _waiting = inbox.events(vec![metric(); LANE]).expect("an empty lane");

    let http = crate::app::start::http_client().expect("a client");
    let cpu = json!({ "type": "metric", "deployment": "checkout", "name": "cpu", "value": 1 });
    let refused = http.post(&url).body(cpu.to_string()).send().await.expect("an answer");
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");

    let health = json!({ "type": "health", "deployment": "checkout", "check": "http", "status": "unhealthy" });
    let posted = tokio::spawn(http.post(&url).body(health.to_string()).send());
    let comes = async {
        while inbox.standing().lanes.iter().all(|lane| lane.name != "urgent" || lane.waiting == 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, comes).await.expect("it is let in");
    let taken = inbox.take(Duration::ZERO).expect("it is open");
    let first = taken.into_iter().next().expect("something waits");
    assert!(matches!(&first.item, Item::Input(Input::Events(events)) if events.len() == 1), "before all metrics");
    first.done.expect("somebody waits").send(Ok(())).expect("the sender waits");
    assert_eq!(posted.await.expect("no panic").expect("an answer").status(), 202);

    // nobody is asked any more
    inbox.close();
    let page = Backend::metrics(&*backend).await;
    for line in [
        "selfheal_events_refused_total{reason=\"full\"} 1",
        "selfheal_lane_refused_total{lane=\"metrics\"} 1",
        "selfheal_lane_refused_total{lane=\"urgent\"} 0",
        "selfheal_events_taken_total{kind=\"health\",way=\"events\"} 1",
        "selfheal_engine_answers 0",
    ] {
        assert!(page.lines().any(|own| own == line), "{line} is missing in\n{page}");
    }
}

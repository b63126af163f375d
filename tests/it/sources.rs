//! Sources that are asked, against pages served here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use crate::harness;

/// A page with more samples than one lane into the engine holds.
fn huge() -> String {
    (0..200_001).map(|n| format!("h{{n=\"{n}\"}} 1\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_page_is_taken_and_holds_up_no_other_source_and_no_check() {
    let has_turned = Arc::new(AtomicBool::new(false));
    let (small, health) = (has_turned.clone(), has_turned.clone());
    let app = Router::new()
        .route("/huge", get(async || huge()))
        .route(
            "/small",
            get(async move || match small.load(Ordering::SeqCst) {
                false => "turned 0\n",
                true => "turned 1\n",
            }),
        )
        .route(
            "/health",
            get(async move || match health.load(Ordering::SeqCst) {
                false => StatusCode::OK,
                true => StatusCode::SERVICE_UNAVAILABLE,
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    let policy = format!(
        "format: 1\nreceivers: [{{ name: nobody }}]\nroute: {{ receiver: nobody }}\n\
         deployments:\n\
         \x20 - {{ id: huge }}\n\
         \x20 - id: small\n\
         \x20   checks: [{{ name: health, http: 'http://{address}/health', every: 1s, timeout: 1s }}]\n\
         sources:\n\
         \x20 - {{ type: scrape, name: huge, url: 'http://{address}/huge', every: 1m, timeout: 1m, labels: {{ deployment: huge }} }}\n\
         \x20 - {{ type: scrape, name: small, url: 'http://{address}/small', every: 1s, labels: {{ deployment: small }} }}\n"
    );
    let rules = "rules:\n\
                 \x20 - { alert: Huge, when: 'last(\"scrape_samples\") > 200000' }\n\
                 \x20 - { alert: Turned, when: 'last(\"turned\") == 1' }\n\
                 \x20 - { alert: Sick, when: 'last(\"check_up\") == 0' }\n";
    let bench = harness::start(&[("selfheal.yaml", &policy), ("rules/r.yaml", rules)]).await;
    bench.wait_for_alert("Huge", "firing").await;
    has_turned.store(true, Ordering::SeqCst);
    bench.wait_for_alert("Turned", "firing").await;
    bench.wait_for_alert("Sick", "firing").await;
    let (status, answer) = bench.post("/api/v1/import/prometheus?deployment=huge", huge()).await;
    assert_eq!(status, 204, "what is posted in one body goes in too: {answer}");
    bench.stop().await;
}

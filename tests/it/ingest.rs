//! Bad input on the way in gets a clear error and loses nothing.

use std::io::Write;

use serde_json::json;

use crate::harness;

const POLICY: &str = r#"format: 1
unknown_deployments: reject
deployments:
  - { id: checkout, labels: { tier: web } }
receivers: [{ name: nobody }]
route: { receiver: nobody }
"#;

fn metric(value: &str) -> String {
    format!(r#"{{"type":"metric","deployment":"checkout","name":"cpu_percent","value":{value}}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn good_events_are_kept_beside_bad_ones_and_each_bad_one_is_named() {
    let bench = harness::start(&[("selfheal.yaml", POLICY)]).await;
    let future =
        r#"{"type":"metric","deployment":"checkout","name":"cpu_percent","value":1,"time":"2050-01-01T00:00:00Z"}"#;
    let body = [
        metric("1"),
        "{\"type\":\"metric\", broken".to_owned(),
        metric("1e999"),
        metric("NaN"),
        future.to_owned(),
        metric("2").replace("checkout", "chekout"),
        metric("3"),
    ]
    .join("\n");
    let (status, answer) = bench.post("/api/v1/events", body).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["accepted"], 2, "{answer}");
    let errors = answer["errors"].as_array().expect("a list of errors");
    let lines: Vec<_> = errors.iter().map(|error| error["line"].as_u64()).collect();
    assert_eq!(lines, [2, 3, 4, 5, 6].map(Some), "{answer:#}");
    assert!(errors[4]["why"].as_str().is_some_and(|why| why.contains("did you mean `checkout`")), "{answer:#}");
    let view = bench.get("/api/v1/deployments/checkout").await;
    assert_eq!(view["metrics"], json!([["cpu_percent", 3.0]]), "{view:#}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_is_read_and_a_body_that_is_too_large_is_refused_also_when_it_hides_in_gzip() {
    let bench = harness::start(&[("selfheal.yaml", POLICY)]).await;
    let zip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    let send = |body: Vec<u8>| {
        bench.http.post(bench.url("/api/v1/events")).header("content-encoding", "gzip").body(body).send()
    };
    let answer = send(zip(metric("42").as_bytes())).await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let huge = zip(&vec![b' '; 100 << 20]);
    assert!(huge.len() < 1 << 20);
    let answer = send(huge).await.expect("an answer");
    assert_eq!(answer.status(), 413);
    // a refusal may come before all of a plain body is sent, which some clients see as a broken pipe
    let plain = bench.http.post(bench.url("/api/v1/events")).body(vec![b' '; 100 << 20]).send().await;
    if let Ok(answer) = plain {
        assert_eq!(answer.status(), 413);
    }
    let view = bench.get("/api/v1/deployments/checkout").await;
    assert_eq!(view["metrics"], json!([["cpu_percent", 42.0]]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_and_a_missing_thing_are_problem_documents() {
    let bench = harness::start(&[("selfheal.yaml", POLICY)]).await;
    for path in ["/api/v1/nothing", "/api/v1/runs/checkout-9", "/api/v1/alerts/abc", "/api/v1/deployments/x"] {
        let answer = bench.http.get(bench.url(path)).send().await.expect("an answer");
        assert_eq!(answer.status(), 404, "{path}");
        let kind = answer.headers().get("content-type").and_then(|value| value.to_str().ok()).map(str::to_owned);
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{path}");
    }
    bench.stop().await;
}

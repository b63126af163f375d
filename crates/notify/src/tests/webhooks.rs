//! What goes out to HTTP receivers, and what their answers mean.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::*;
use selfheal_contract::notification::{DependentsFacts, RootFacts};

const SECRET: &str = "whsec_dGVzdCBrZXkgZm9yIHNpZ25hdHVyZXM=";

type Taken = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;
type Answer = (StatusCode, Vec<(&'static str, &'static str)>, &'static str);

/// A receiver that gives this answer to everything, its URL, and what it has taken.
async fn receiver(answer: Answer) -> (String, Taken) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let taken = Taken::default();
    let take = move |State(taken): State<Taken>, headers: HeaderMap, body: Bytes| {
        taken.lock().expect("no panic").push((headers, body));
        let mut with = HeaderMap::new();
        for (name, value) in answer.1.clone() {
            with.insert(name, value.parse().expect("a header"));
        }
        async move { (answer.0, with, answer.2) }
    };
    let app = axum::Router::new().fallback(take).with_state(taken.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, taken)
}

async fn taking() -> (String, Taken) {
    receiver((StatusCode::OK, Vec::new(), "")).await
}

fn body(taken: &Taken, index: usize) -> Value {
    serde_json::from_slice(&taken.lock().expect("no panic")[index].1).expect("JSON")
}

async fn sent_as(format: WebhookFormat, notification: Notification) -> Value {
    let (url, taken) = taking().await;
    let def = WebhookDef { format, secret: Some(literal(SECRET)), ..webhook(&url) };
    assert_eq!(send_webhook(def, notification).await, DeliveryResult::Delivered);
    body(&taken, 0)
}

#[tokio::test]
async fn the_body_and_the_id_are_the_same_on_every_attempt_and_the_signature_is_right() {
    let (url, taken) = taking().await;
    let def = WebhookDef { secret: Some(literal(SECRET)), ..webhook(&url) };
    let verifier = standardwebhooks::Webhook::new(SECRET).expect("a good key");
    // whoever verifies compares with the time of day
    let today = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    for (attempt, now) in [(1, today - Duration::from_secs(60)), (2, today)] {
        let delivery = Delivery { attempt, ..delivery(Notifier::Webhook(Arc::new(def.clone())), firing()) };
        assert_eq!(notifiers(now).deliver(&delivery).await, DeliveryResult::Delivered);
    }
    let taken = taken.lock().expect("no panic");
    let (first, second) = (&taken[0], &taken[1]);
    assert_eq!(first.1, second.1);
    assert_eq!(first.0["webhook-id"], second.0["webhook-id"]);
    assert_ne!(first.0["webhook-timestamp"], second.0["webhook-timestamp"]);
    assert_eq!(second.0["webhook-timestamp"], (today.as_millis() / 1_000).to_string());
    assert_eq!(first.0["content-type"], "application/json");
    for (headers, body) in taken.iter() {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().parse().expect("a name"), value.as_bytes().try_into().expect("a value"))
            })
            .collect();
        verifier.verify(body, &headers).expect("the signature is right");
        let changed = [&body[..], b" "].concat();
        assert!(verifier.verify(&changed, &headers).is_err());
    }
}

#[tokio::test]
async fn the_default_is_alertmanagers_payload_with_the_remediation() {
    let mut both =
        notification(vec![alert("HighCpu", AlertStatus::Firing), alert("Slow", AlertStatus::NoLongerWatched)]);
    both.news.push(news(NewsKind::Cured, "restart cured it"));
    both.possible_repeat = true;
    both.dependents.push(DependentsFacts { root: "checkout".into(), sick: vec!["api".into()], more: 2 });
    both.alerts[0].dependency = Some(RootFacts { deployment: "db".into(), why: "is unhealthy".to_owned(), since: AT });
    let body = sent_as(WebhookFormat::Default, both.clone()).await;
    assert_eq!(body["version"], "4");
    assert_eq!(body["status"], "firing");
    assert_eq!(
        body["commonLabels"],
        serde_json::json!({ "deployment": "checkout", "severity": "critical", "tier": "web" })
    );
    let first = &body["alerts"][0];
    assert_eq!(first["status"], "firing");
    assert_eq!(first["labels"]["alertname"], "HighCpu");
    assert_eq!(first["annotations"]["summary"], "CPU of checkout at 97.5 %");
    assert_eq!(first["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(first["remediation"]["runs"][0]["verdict"], "cured");
    // "no longer watched" is "resolved" to who knows no more, and itself to who does
    assert_eq!(
        (&body["alerts"][1]["status"], &body["alerts"][1]["state"]),
        (&"resolved".into(), &"no_longer_watched".into())
    );
    assert_eq!(body["dependents"], serde_json::json!([{ "root": "checkout", "sick": ["api"], "more": 2 }]));
    assert_eq!((&first["dependency"]["deployment"], &body["alerts"][1]["dependency"]), (&"db".into(), &().into()));
    assert_eq!((&body["news"][0]["kind"], &body["possibleRepeat"]), (&"cured".into(), &true.into()));

    let body = sent_as(WebhookFormat::Alertmanager, both).await;
    let mut fields: Vec<&str> = body["alerts"][0].as_object().expect("an alert").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["annotations", "endsAt", "fingerprint", "generatorURL", "labels", "startsAt", "status"]);
    assert!(body.get("news").is_none() && body.get("dependents").is_none());
}

#[tokio::test]
async fn a_body_that_grows_too_large_loses_alerts_and_counts_them() {
    let long = "x".repeat(20_000);
    let many =
        (0..100).map(|_| AlertFacts { summary: long.clone(), ..alert("HighCpu", AlertStatus::Firing) }).collect();
    let body = sent_as(WebhookFormat::Default, notification(many)).await;
    let shown = body["alerts"].as_array().expect("alerts").len();
    assert!(shown > 0 && body.to_string().len() <= 512 * 1024, "{shown}");
    assert_eq!(body["truncatedAlerts"], 100 - shown);
}

#[tokio::test]
async fn chats_get_text_that_cannot_call_or_mislead_people() {
    let mut evil = firing();
    evil.alerts[0].summary = "<!channel> @everyone [click](http://evil.example)".to_owned();
    let slack = sent_as(WebhookFormat::Slack, evil.clone()).await;
    let text = slack["attachments"][0]["text"].as_str().expect("text");
    assert!(text.contains("&lt;!channel&gt;") && text.contains("cured") && !text.contains("<!"), "{text}");
    assert!(slack["text"].as_str().is_some_and(|text| text.contains("FIRING") && text.contains("HighCpu")), "{slack}");

    let discord = sent_as(WebhookFormat::Discord, evil.clone()).await;
    assert_eq!(discord["allowed_mentions"]["parse"], serde_json::json!([]));
    let text = discord["embeds"][0]["description"].as_str().expect("text");
    assert!(text.contains("\\[click\\]\\(http"), "{text}");
    assert_eq!(discord["embeds"][0]["color"], 0xc6_28_28);

    let teams = sent_as(WebhookFormat::Teams, evil).await;
    let card = &teams["attachments"][0]["content"];
    let blocks = card["body"].as_array().expect("blocks");
    assert!(blocks.iter().all(|block| block["type"] == "RichTextBlock"), "{card:#}");
    assert!(blocks[0]["inlines"][0]["text"].as_str().is_some_and(|text| text.contains("HighCpu")), "{card:#}");
}

#[tokio::test]
async fn the_longest_message_stays_below_the_limits_of_chats() {
    let many = || (0..100).map(|n| alert(&format!("Alert{n}{}", "[*]".repeat(60)), AlertStatus::Firing)).collect();
    let teams = sent_as(WebhookFormat::Teams, notification(many())).await;
    assert!(teams.to_string().len() < 28 * 1024, "{}", teams.to_string().len());
    let discord = sent_as(WebhookFormat::Discord, notification(many())).await;
    let embed = &discord["embeds"][0];
    let chars = |what: &str| embed[what].as_str().map_or(0, |text| text.encode_utf16().count());
    assert!(chars("title") <= 256 && chars("description") <= 4_096, "{} {}", chars("title"), chars("description"));
    let slack = sent_as(WebhookFormat::Slack, notification(many())).await;
    assert!(slack["attachments"][0]["text"].as_str().is_some_and(|text| text.len() < 40_000));
}

#[tokio::test]
async fn pagerduty_opens_and_closes_one_incident_per_group() {
    let opened = sent_as(WebhookFormat::Pagerduty, firing()).await;
    assert_eq!((&opened["event_action"], &opened["routing_key"]), (&"trigger".into(), &SECRET.into()));
    assert_eq!(opened["payload"]["severity"], "critical");
    let closed = sent_as(WebhookFormat::Pagerduty, notification(vec![alert("HighCpu", AlertStatus::Resolved)])).await;
    assert_eq!(closed["event_action"], "resolve");
    assert_eq!(opened["dedup_key"], closed["dedup_key"]);
    let result =
        send_webhook(WebhookDef { format: WebhookFormat::Pagerduty, ..webhook("http://127.0.0.1:1/") }, firing()).await;
    assert!(matches!(&result, DeliveryResult::Permanent { why } if why.contains("integration key")), "{result:?}");
}

#[tokio::test]
async fn a_cloudevent_wraps_the_default_payload() {
    let event = sent_as(WebhookFormat::Cloudevents, firing()).await;
    assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"selfheal.notification.firing".into()));
    assert_eq!(event["data"]["alerts"][0]["labels"]["alertname"], "HighCpu");
}

#[tokio::test]
async fn a_template_makes_the_body_and_a_broken_one_is_said() {
    let (url, taken) = taking().await;
    let own = |source: &str| WebhookDef {
        template: Some(Arc::new(("own.j2".to_owned(), source.to_owned()))),
        ..webhook(&url)
    };
    let good = r#"{"say": {{ (subject ~ " " ~ alerts[0].value) | tojson }}, "n": {{ alerts | length }}}"#;
    assert_eq!(send_webhook(own(good), firing()).await, DeliveryResult::Delivered);
    assert_eq!(body(&taken, 0)["n"], 1);
    assert!(body(&taken, 0)["say"].as_str().is_some_and(|say| say.contains("HighCpu") && say.ends_with("97.5")));
    for broken in [
        "{{ alerts[0].nonsense.deeper }}",
        "{{ nobody }}",
        "{% for",
        "{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
    ] {
        let before = taken.lock().expect("no panic").len();
        assert_eq!(send_webhook(own(broken), firing()).await, DeliveryResult::Delivered, "{broken}");
        let body = body(&taken, before);
        assert!(body["templateError"].as_str().is_some_and(|why| why.contains("own.j2")), "{broken}: {body}");
        assert_eq!(body["alerts"][0]["labels"]["alertname"], "HighCpu");
    }
}

#[tokio::test]
async fn answers_mean_what_the_contract_says() {
    let wait = |seconds| Some(Duration::from_secs(seconds));
    for (status, headers, transient, retry_after) in [
        (429, vec![("retry-after", "7")], true, wait(7)),
        (503, vec![("retry-after", "Wed, 18 Nov 2026 15:47:40 GMT")], true, wait(60)),
        (429, vec![("retry-after", "99999999")], true, wait(86_400)),
        (503, vec![("retry-after", "soon")], true, None),
        (500, vec![], true, None),
        (408, vec![], true, None),
        (404, vec![], false, None),
        (401, vec![], false, None),
        (301, vec![("location", "http://127.0.0.1:1/elsewhere")], false, None),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        let (url, taken) = receiver((status, headers, "because\nof this")).await;
        let result = send_webhook(webhook(&url), firing()).await;
        assert_eq!(taken.lock().expect("no panic").len(), 1, "one try each");
        let said = if status.is_redirection() { "redirects are not followed" } else { "because of this" };
        assert!(why(&result).contains(said) && why(&result).contains(status.as_str()), "{result:?}");
        match result {
            DeliveryResult::Transient { retry_after: told, .. } => assert_eq!((true, told), (transient, retry_after)),
            DeliveryResult::Permanent { .. } => assert!(!transient, "{status}"),
            DeliveryResult::Delivered => panic!("{status} was taken for delivered"),
        }
    }
}

#[tokio::test]
async fn silence_and_refused_connections_may_work_later() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", hanging.local_addr().expect("bound"));
    let result = send_webhook(WebhookDef { timeout: Duration::from_millis(100), ..webhook(&url) }, firing()).await;
    assert!(matches!(&result, DeliveryResult::Transient { why, .. } if why.contains("100ms")), "{result:?}");
    drop(hanging);
    let result = send_webhook(webhook(&url), firing()).await;
    assert!(matches!(&result, DeliveryResult::Transient { why, .. } if why.contains("connect")), "{result:?}");
}

#[tokio::test]
async fn what_is_said_about_a_failure_holds_no_secret() {
    let (url, taken) =
        receiver((StatusCode::FORBIDDEN, Vec::new(), "no: token-1234 key-5678 path-4321 pass-8765")).await;
    let url = url.replace("http://", "http://user-1111:pass-8765@").replace("/hook", "/path-4321?token=token-1234");
    let def = WebhookDef { headers: vec![("X-Key".to_owned(), literal("key-5678"))], ..webhook(&url) };
    let result = send_webhook(def.clone(), firing()).await;
    for secret in ["token-1234", "key-5678", "pass-8765"] {
        assert!(!why(&result).contains(secret), "{result:?}");
    }
    assert_eq!(taken.lock().expect("no panic")[0].0["x-key"], "key-5678");

    // a URL that cannot be reached is named by its host alone
    let gone = def.url.replace("127.0.0.1", "localhost.invalid");
    let result = send_webhook(WebhookDef { url: gone, ..def }, firing()).await;
    assert!(why(&result).contains("localhost.invalid"), "{result:?}");
    for secret in ["token-1234", "path-4321", "pass-8765", "user-1111"] {
        assert!(!why(&result).contains(secret), "{result:?}");
    }
}

#[tokio::test]
async fn a_secret_that_is_missing_or_no_key_is_loud_and_nothing_goes_out_unsigned() {
    let (url, taken) = taking().await;
    for secret in [Secret::new(SecretSource::Env("HOOK_SECRET".to_owned())), literal("whsec_not base64"), literal("")] {
        let def = WebhookDef { secret: Some(secret), ..webhook(&url) };
        let result = send_webhook(def, firing()).await;
        assert!(matches!(&result, DeliveryResult::Transient { why, .. } if !why.contains("not base64")), "{result:?}");
    }
    assert!(taken.lock().expect("no panic").is_empty());
}

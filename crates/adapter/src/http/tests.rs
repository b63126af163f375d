//! A real server that answers as it is told, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body as AxumBody, to_bytes};
use axum::extract::{Request as Asked, State};
use axum::http::StatusCode as Status;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{Adapters, AdaptersConfig};
use selfheal_contract::{Attempt, DesiredDeployment, StepEnd};
use selfheal_model::{
    AdapterName, Allow, FieldKind, HealthyWhen, ResolveSecret, Secret, SecretError, SecretSource, StepAttemptId,
    Timestamp, Verb,
};

const PATIENCE: Duration = Duration::from_secs(15);

struct Secrets;
impl ResolveSecret for Secrets {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Env(name) if name == "TOKEN" => Ok("hunter2-hunter2".to_owned()),
            SecretSource::Env(name) => Err(SecretError::EnvMissing(name.clone())),
            SecretSource::Literal(text) => Ok(text.clone()),
            SecretSource::File(path) => Err(SecretError::File { path: path.clone(), reason: "none".to_owned() }),
        }
    }
}

/// What the server was asked: method and path, headers, body.
type Seen = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

#[derive(Clone)]
struct Server {
    seen: Seen,
    address: SocketAddr,
}

/// `/answer/STATUS` answers with that status and the request's own headers in its body; `/never` does not answer.
async fn serve() -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { seen: Seen::default(), address: listener.local_addr().unwrap() };
    let app = Router::new().fallback(answer).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    server
}

async fn answer(State(server): State<Server>, asked: Asked) -> Response {
    let (parts, body) = asked.into_parts();
    let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    let path = parts.uri.to_string();
    server.seen.lock().unwrap().push((format!("{} {path}", parts.method), parts.headers.clone(), body));
    if path == "/never" {
        std::future::pending::<()>().await;
    }
    if path == "/long" {
        return AxumBody::from("x".repeat(MAX_ANSWER + 1)).into_response();
    }
    let status = path.strip_prefix("/answer/").and_then(|status| status.parse().ok()).unwrap_or(200);
    let auth = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let document = json!({
        "auth": auth,
        "spec": {"replicas": 3, "version": "v2", "nothing": null},
        "load": {"cpu": 12.5}
    });
    let mut response = (Status::from_u16(status).unwrap(), document.to_string()).into_response();
    if status == 302 {
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
    }
    response
}

struct World {
    server: Server,
    adapters: Adapters,
    deployment: Deployment,
    options: Value,
    _folder: TempDir,
}

impl World {
    /// One with these verbs, and `more` in its entry.
    async fn new(verbs: Value, more: Value) -> World {
        // another test may have installed it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (server, folder) = (serve().await, tempfile::tempdir().unwrap());
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let adapters = Adapters::new(AdaptersConfig {
            policy_dir: folder.path().to_owned(),
            data_dir: folder.path().join("data"),
            secrets: Arc::new(Secrets),
            http,
            clock: Arc::new(|| Timestamp::from_millis(0)),
        });
        let mut options = json!({ "base_url": format!("http://{}", server.address), "verbs": verbs });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        World { server, adapters, deployment: deployment(), options, _folder: folder }
    }

    fn def(&self) -> Arc<AdapterDef> {
        let options = self.options.as_object().unwrap().clone();
        let verbs = spec(&options).unwrap_or_else(|why| panic!("{why}")).verbs;
        Arc::new(AdapterDef {
            name: AdapterName::new("paas"),
            kind: "http".to_owned(),
            options,
            verbs,
            allow: Allow::default(),
        })
    }

    async fn call(&self, verb: &str, params: Value) -> StepEnd {
        let call = StepCall {
            id: StepAttemptId::new("shop-1/restart/1"),
            attempt: Attempt { number: 1, of: 1 },
            deployment: Arc::new(self.deployment.clone()),
            adapter: self.def(),
            verb: Verb::new(verb),
            params: params.as_object().unwrap().clone(),
            facts: Facts([("replicas".into(), json!(3.0))].into()),
            sick_replicas: Vec::new(),
            fence: 1,
            timeout: PATIENCE,
            not_after: Timestamp::MAX,
        };
        self.adapters.call(call).await
    }

    async fn observe(&self) -> Result<Observation, String> {
        let deployment = Arc::new(self.deployment.clone());
        let desired = DesiredDeployment { deployment, adapter: Some(self.def()), replicas: Vec::new() };
        self.adapters.observe(&desired).await
    }

    fn asked(&self) -> Vec<(String, HeaderMap, String)> {
        self.server.seen.lock().unwrap().clone()
    }
}

fn deployment() -> Deployment {
    Deployment {
        id: "shop".into(),
        adapter: Some(AdapterName::new("paas")),
        labels: [("region", "eu")].into_iter().collect(),
        depends_on: Vec::new(),
        target: json!({"app": "shop/a b"}).as_object().unwrap().clone(),
        checks: Vec::new(),
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    }
}

fn class(outcome: &Outcome) -> Result<FailureClass, &str> {
    match outcome {
        Outcome::Failed { class, .. } => Ok(*class),
        other => Err(other.word()),
    }
}

#[tokio::test]
async fn a_verb_is_one_request_filled_in() {
    let world = World::new(
        json!({"scale": {
            "method": "put", "path": "/apps/{{ target.app }}/scale?region={{ labels.region }}",
            "body": {"replicas": "{{ params.replicas }}", "was": "{{ facts.replicas }}", "why": "run {{ idempotency_key }}"},
            "output": "/spec/version"
        }}),
        json!({"headers": {"Authorization": "Bearer ${TOKEN}", "Accept": "application/json"}}),
    )
    .await;
    let end = world.call("scale", json!({"replicas": 4.0})).await;
    assert_eq!(end.outcome, Outcome::done("v2"));
    let asked = world.asked();
    assert_eq!(asked.len(), 1);
    let (line, headers, body) = &asked[0];
    assert_eq!(line, "PUT /apps/shop%2Fa%20b/scale?region=eu");
    assert_eq!(body, r#"{"replicas":4,"was":3,"why":"run shop-1/restart/1@1"}"#);
    for (name, value) in [
        ("idempotency-key", "shop-1/restart/1@1"),
        ("authorization", "Bearer hunter2-hunter2"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "{name}");
    }
    assert!(end.log.starts_with("PUT http://127.0.0.1") && end.log.contains("200 OK"), "{}", end.log);
}

#[tokio::test]
async fn a_secret_does_not_come_back() {
    for header in ["Bearer ${TOKEN}", "Bearer hunter2-hunter2"] {
        let verbs = json!({
            "restart": {"path": "/restart", "output": "/auth"},
            "fail": {"path": "/answer/400"}
        });
        let world = World::new(verbs, json!({"headers": {"Authorization": header}})).await;
        assert_eq!(world.call("restart", json!({})).await.outcome, Outcome::done("Bearer ***"));
        let end = world.call("fail", json!({})).await;
        assert!(matches!(&end.outcome, Outcome::Failed { why, .. } if why.contains("***") && !why.contains("hunter2")));
    }
    let options = json!({"base_url": "http://a", "verbs": {}, "headers": {"A": "${TOKEN}", "B": "b"}});
    let spec = spec(options.as_object().unwrap()).unwrap();
    let headers = spec.options.iter().find(|field| field.name == "headers").unwrap();
    let FieldKind::Object(headers) = &headers.kind else { panic!("{:?}", headers.kind) };
    assert_eq!(headers.iter().map(|field| &field.kind).collect::<Vec<_>>(), [&FieldKind::Secret, &FieldKind::Text]);
    let world = World::new(json!({"restart": {"path": "/"}}), json!({"headers": {"A": "${NOT_THERE}"}})).await;
    assert_eq!(class(&world.call("restart", json!({})).await.outcome), Ok(FailureClass::Permanent));
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn a_status_says_what_came_of_it() {
    use FailureClass::{Conflict, Permanent, Transient, Unauthorized, Unsupported};
    for (status, idempotent, expected) in [
        (200, false, Err("done")),
        (204, false, Err("done")),
        (302, false, Ok(Permanent)),
        (400, false, Ok(Permanent)),
        (401, false, Ok(Unauthorized)),
        (403, false, Ok(Unauthorized)),
        (404, false, Ok(Permanent)),
        (405, false, Ok(Unsupported)),
        (501, true, Ok(Unsupported)),
        (409, false, Ok(Conflict)),
        (429, false, Ok(Transient)),
        (408, false, Err("unknown")),
        (408, true, Ok(Transient)),
        (500, false, Err("unknown")),
        (503, true, Ok(Transient)),
        (504, false, Err("unknown")),
    ] {
        let verb = json!({"restart": {"path": format!("/answer/{status}"), "idempotent": idempotent}});
        let world = World::new(verb, json!({})).await;
        let end = world.call("restart", json!({})).await;
        assert_eq!(class(&end.outcome), expected, "{status}: {:?}", end.outcome);
        assert_eq!(world.asked().len(), 1, "{status}: sent once, no redirect followed");
    }
}

#[tokio::test]
async fn the_codes_that_mean_done_can_be_named() {
    let verb =
        json!({"restart": {"path": "/answer/404", "ok": [202, 404]}, "stop": {"path": "/answer/200", "ok": [202]}});
    let world = World::new(verb, json!({})).await;
    assert_eq!(world.call("restart", json!({})).await.outcome.word(), "done");
    assert_eq!(class(&world.call("stop", json!({})).await.outcome), Ok(FailureClass::Permanent));
}

#[tokio::test]
async fn no_answer_is_unknown_unless_it_may_be_asked_again() {
    let verbs = json!({
        "restart": {"path": "/never"},
        "scale": {"path": "/never", "idempotent": true},
        "logs": {"path": "/never", "effect": "read"}
    });
    let world = World::new(verbs, json!({"timeout": "700ms"})).await;
    assert_eq!(class(&world.call("restart", json!({})).await.outcome), Err("unknown"));
    assert_eq!(class(&world.call("scale", json!({})).await.outcome), Ok(FailureClass::Transient));
    assert_eq!(class(&world.call("logs", json!({})).await.outcome), Ok(FailureClass::Transient));
}

#[tokio::test]
async fn a_service_that_is_not_there_was_asked_nothing() {
    let mut world = World::new(json!({"restart": {"path": "/"}}), json!({})).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.options["base_url"] = json!(format!("http://{free}"));
    assert_eq!(class(&world.call("restart", json!({})).await.outcome), Ok(FailureClass::Transient));
}

#[tokio::test]
async fn what_cannot_be_filled_in_is_not_sent() {
    let verbs = json!({
        "restart": {"path": "/apps/{{ target.name }}"},
        "scale": {"path": "/", "body": {"n": "{{ params.replicas }}"}}
    });
    let world = World::new(verbs, json!({})).await;
    for verb in ["restart", "scale"] {
        assert_eq!(class(&world.call(verb, json!({})).await.outcome), Ok(FailureClass::Permanent), "{verb}");
    }
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_no_use_does_not_undo_what_was_done() {
    let verbs = json!({
        "long": {"path": "/long", "output": "/x"},
        "missing": {"path": "/", "output": "/not/there"}
    });
    let world = World::new(verbs, json!({})).await;
    for (verb, said) in [("long", "longer than"), ("missing", "`/not/there`")] {
        let end = world.call(verb, json!({})).await;
        assert_eq!(end.outcome, Outcome::done(Value::Null), "{verb}");
        assert!(end.log.contains(said), "{verb}: {}", end.log);
    }
}

#[tokio::test]
async fn facts_and_samples_are_places_in_an_answer() {
    let observe = |path: &str| {
        json!({"observe": {
            "path": path,
            "facts": {"replicas": "/spec/replicas", "version": "/spec/version", "none": "/spec/nothing", "gone": "/x"},
            "metrics": {"cpu_percent": "/load/cpu", "odd": "/spec/version"}
        }})
    };
    let world = World::new(json!({}), observe("/apps/{{ target.app }}")).await;
    let seen = world.observe().await.unwrap();
    let facts: Vec<_> = seen.facts.0.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(facts, [("replicas", json!(3)), ("version", json!("v2"))]);
    assert_eq!(seen.metrics, [(MetricName::new("cpu_percent"), 12.5, Labels::default())]);
    assert_eq!(world.asked()[0].0, "GET /apps/shop%2Fa%20b");
    let world = World::new(json!({}), observe("/answer/503")).await;
    assert!(world.observe().await.is_err_and(|why| why.contains("503")));
    let world = World::new(json!({}), json!({})).await;
    assert_eq!(world.observe().await, Ok(Observation::default()));
}

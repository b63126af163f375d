//! The API over real HTTP, in front of a backend that only writes down what it was told.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::links::{LinkKey, Links};
use super::model::ReadModel;
use super::*;
use selfheal_contract::notification::{Asked, FlushReason, GroupStatus, News, NewsKind, Notification};
use selfheal_contract::view::{ApprovalState, ApprovalView, Change, EngineView, MaintenanceView};
use selfheal_model::{ApprovalId, Map, PlaybookName, Severity};

const NOW: i64 = 1_800_000_000_000;
const UNTIL: i64 = NOW + 60_000;

/// Takes each answer once, as the engine does, and shows that it did.
#[derive(Default)]
struct Fake {
    model: Arc<ReadModel>,
    told: Mutex<Vec<(String, OperatorCommand)>>,
}

impl Fake {
    fn told(&self) -> Vec<(String, OperatorCommand)> {
        self.told.lock().expect("nobody panicked").clone()
    }

    fn take(&self, who: String, command: OperatorCommand) -> Result<OperatorAnswer, String> {
        let answer = match &command {
            OperatorCommand::Approve { approval, .. } | OperatorCommand::Deny { approval, .. } => {
                let view = self.model.read().approvals.get(approval).cloned();
                let waiting = view.filter(|view| view.state == ApprovalState::Waiting);
                let mut view = waiting.ok_or_else(|| format!("nothing waits for approval {approval}"))?;
                view.state = ApprovalState::Approved;
                view.answered_by = Some(who.clone());
                let run = view.run.clone();
                self.model.take(Change::Approval(Box::new(view)));
                OperatorAnswer::Run(run)
            }
            OperatorCommand::Maintain { .. } => OperatorAnswer::Id("m-1".into()),
            OperatorCommand::EndMaintenance { id } if id != "m-1" => {
                return Err(format!("there is no maintenance `{id}`"));
            }
            _ => OperatorAnswer::Ok,
        };
        self.told.lock().expect("nobody panicked").push((who, command));
        Ok(answer)
    }
}

impl Backend for Fake {
    fn ingest(&self, _: bytes::Bytes, _: Form) -> BoxFuture<'_, Result<Ingested, NotTaken>> {
        Box::pin(async { Ok(Ingested::default()) })
    }

    fn not_read(&self, _: NotRead) {}

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async { String::new() })
    }

    fn operate(&self, who: String, command: OperatorCommand) -> BoxFuture<'_, Result<OperatorAnswer, String>> {
        Box::pin(async { self.take(who, command) })
    }

    fn reload(self: Arc<Self>) -> BoxFuture<'static, ReloadAnswer> {
        Box::pin(async { ReloadAnswer::Failed(String::new()) })
    }

    fn deployments(&self) -> BoxFuture<'_, Result<Vec<DeploymentView>, Busy>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn explain(&self, _: Explain, _: Option<Timestamp>) -> BoxFuture<'_, Result<Box<Explained>, NotExplained>> {
        Box::pin(async { Err(NotExplained::Unknown(None)) })
    }

    fn history(&self, _: HistoryQuery) -> BoxFuture<'_, Result<HistoryPage, NoHistory>> {
        Box::pin(async { Err(NoHistory::Unavailable("there is none here".to_owned())) })
    }

    fn is_ready(&self) -> bool {
        true
    }
}

struct Bench {
    fake: Arc<Fake>,
    links: Arc<Links>,
    base: String,
    http: reqwest::Client,
    _stop: watch::Sender<bool>,
}

async fn start() -> Bench {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fake = Arc::new(Fake::default());
    let links = Arc::new(Links::new(LinkKey::new([7; 32]), Arc::new(|| Timestamp::from_millis(NOW))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (stop, stopped) = watch::channel(false);
    let api = Api::new(fake.clone(), fake.model.clone()).with_links(links.clone());
    tokio::spawn(api.serve(listener, stopped));
    Bench { fake, links, base, http: reqwest::Client::new(), _stop: stop }
}

fn approval(id: &str, expires_at: i64) -> ApprovalView {
    let shown: Map = [("grace".into(), "<b>10s</b>".into())].into_iter().collect();
    ApprovalView {
        id: id.into(),
        run: "shop-1".into(),
        playbook: PlaybookName::new("restart"),
        deployment: "shop".into(),
        alert: None,
        alert_name: Some("\"><script>alert(1)</script>".to_owned()),
        step: None,
        ask: None,
        by: "approver".into(),
        what: "run restart on shop".to_owned(),
        shown,
        state: ApprovalState::Waiting,
        asked_at: Timestamp::from_millis(NOW),
        expires_at: Timestamp::from_millis(expires_at),
        answered_by: None,
        answered_at: None,
        reason: String::new(),
    }
}

impl Bench {
    fn ask(&self, id: &str, expires_at: i64) {
        self.fake.model.take(Change::Approval(Box::new(approval(id, expires_at))));
    }

    /// As it stands in a message.
    fn link(&self, id: &str, until: i64) -> String {
        let news = News {
            kind: NewsKind::Approval,
            at: Timestamp::MIN,
            alert: None,
            deployment: None,
            run: None,
            approval: Some(Asked { id: ApprovalId::new(id), expires_at: Timestamp::from_millis(until) }),
            text: "May selfheal?".to_owned(),
        };
        let message = Notification {
            receiver: "oncall".into(),
            group: "0".into(),
            group_labels: Labels::default(),
            at: Timestamp::MIN,
            flush: 1,
            thread_started: Timestamp::MIN,
            status: GroupStatus::Firing,
            reason: FlushReason::Urgent,
            severity: Severity::Critical,
            alerts: Vec::new(),
            truncated: 0,
            dependents: Vec::new(),
            news: vec![news],
            merged: 1,
            possible_repeat: false,
            unwatched: None,
            external_url: self.base.clone(),
        };
        let linked = self.links.in_message(&message).expect("it asks");
        linked.message.news[0].text.lines().last().expect("a link").to_owned()
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = self.http.request(method, format!("{}{path}", self.base)).header("x-selfheal-operator", "ana");
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.expect("whole")).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(reqwest::Method::GET, path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(reqwest::Method::POST, path, body).await
    }

    async fn send_form(&self, link: &str, form: &'static str) -> (u16, String) {
        let request = self.http.post(link).header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("whole"))
    }
}

#[tokio::test]
async fn approvals_are_listed_and_answered_once() {
    let bench = start().await;
    bench.ask("shop-1.1", UNTIL);
    bench.ask("shop-1.2", UNTIL - 1);
    let (_, all) = bench.get("/api/v1/approvals?state=waiting").await;
    assert_eq!((all[0]["id"].clone(), all[1]["id"].clone()), (json!("shop-1.2"), json!("shop-1.1")));
    assert_eq!(bench.get("/api/v1/approvals?state=nonsense").await.0, 400);
    let (status, answer) = bench.post("/api/v1/approvals/shop-1.1/approve", json!({ "reason": "go" })).await;
    assert_eq!((status, answer), (200, json!({ "approved": "shop-1.1", "run": "shop-1" })));
    let (status, answer) = bench.post("/api/v1/approvals/shop-1.1/deny", json!({})).await;
    assert_eq!((status, answer["title"].clone()), (409, json!("refused")), "{answer}");
    let expected = OperatorCommand::Approve { approval: "shop-1.1".into(), reason: "go".to_owned() };
    assert_eq!(bench.fake.told(), [("ana".to_owned(), expected)]);
    assert_eq!(bench.get("/api/v1/approvals/shop-1.1").await.1["state"], "approved");
    assert_eq!(bench.get("/api/v1/approvals/shop-1.3").await.0, 404);
    assert_eq!(bench.get("/api/v1/approvals?state=waiting").await.1.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_link_shows_what_is_asked_and_only_a_post_acts() {
    let bench = start().await;
    bench.ask("shop-1.1", UNTIL);
    let link = bench.link("shop-1.1", UNTIL);
    let shown = bench.http.get(&link).send().await.expect("an answer");
    assert_eq!(shown.status(), 200);
    let headers = shown.headers().clone();
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["x-frame-options"], "DENY");
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let page = shown.text().await.expect("whole");
    for part in
        ["run restart on shop", "with grace", "&lt;b&gt;10s&lt;/b&gt;", "&quot;&gt;&lt;script&gt;", "method=\"post\""]
    {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    assert_eq!(bench.http.head(&link).send().await.expect("an answer").status(), 200);
    assert_eq!(bench.fake.told(), [], "looking is no answer");

    assert_eq!(bench.send_form(&link, "answer=perhaps").await.0, 400);
    assert_eq!(bench.fake.told(), []);
    let (status, page) = bench.send_form(&link, "answer=deny&reason=not+now").await;
    assert_eq!(status, 200, "{page}");
    let expected = OperatorCommand::Deny { approval: "shop-1.1".into(), reason: "not now".to_owned() };
    assert_eq!(bench.fake.told(), [("link".to_owned(), expected)]);
    let (status, page) = bench.send_form(&link, "answer=approve").await;
    assert!(status == 410 && page.contains("by link"), "{status} {page}");
    assert_eq!(bench.http.get(&link).send().await.expect("an answer").status(), 410);
    assert_eq!(bench.fake.told().len(), 1);
}

#[tokio::test]
async fn a_forged_or_expired_link_neither_shows_nor_acts() {
    let bench = start().await;
    bench.ask("shop-1.1", UNTIL);
    bench.ask("shop-1.2", UNTIL);
    bench.ask("shop-1.3", NOW);
    let good = bench.link("shop-1.1", UNTIL);
    let (bare, _) = good.split_once('?').expect("a query");
    for (link, expected) in [
        (good.replace("shop-1.1", "shop-1.2"), 403),
        (good.replace(&UNTIL.to_string(), &(UNTIL + 1).to_string()), 403),
        (good[..good.len() - 2].to_owned(), 403),
        (bare.to_owned(), 403),
        (format!("{bare}?until=x&sign=y"), 403),
        (bench.link("shop-1.3", NOW), 410),
        (bench.link("shop-9.9", UNTIL), 410),
    ] {
        let shown = bench.http.get(&link).send().await.expect("an answer");
        assert_eq!(shown.status(), expected, "{link}");
        assert!(!shown.text().await.expect("whole").contains("run restart"), "{link}");
        assert_eq!(bench.send_form(&link, "answer=approve").await.0, expected, "{link}");
    }
    assert_eq!(bench.fake.told(), []);
}

#[tokio::test]
async fn deployments_are_taken_out_of_repair_and_back() {
    let bench = start().await;
    let body =
        |matchers: &[&str], span: &str, reason: &str| json!({ "matchers": matchers, "for": span, "reason": reason });
    for wrong in [
        body(&[], "2h", "moving"),
        body(&["tier"], "2h", "moving"),
        body(&["tier=db"], "soon", "moving"),
        body(&["tier=db"], "0s", "moving"),
        body(&["tier=db"], "31d", "moving"),
        body(&["tier=db"], "2h", " "),
        json!({ "matchers": ["tier=db"], "reason": "moving" }),
    ] {
        let (status, problem) = bench.post("/api/v1/maintenance", wrong.clone()).await;
        assert!(status == 400 && problem["detail"].is_string(), "{wrong} {status} {problem}");
    }
    assert_eq!(bench.fake.told(), []);
    let made = bench.post("/api/v1/maintenance", body(&["tier=db", "region=~\"eu.*\""], "2h", "moving")).await;
    assert_eq!(made, (201, json!({ "id": "m-1" })));
    assert_eq!(bench.call(reqwest::Method::DELETE, "/api/v1/maintenance/m-1", Value::Null).await.0, 200);
    assert_eq!(bench.call(reqwest::Method::DELETE, "/api/v1/maintenance/m-2", Value::Null).await.0, 409);

    let one = |id: &str, until: i64| MaintenanceView {
        id: id.into(),
        matchers: vec!["tier=\"db\"".to_owned()],
        by: "ana".to_owned(),
        reason: "moving".to_owned(),
        since: Timestamp::from_millis(NOW - 10),
        until: Timestamp::from_millis(until),
    };
    bench.fake.model.take(Change::Engine(Box::new(EngineView {
        policy_version: "v1".into(),
        policy_loaded_at: Timestamp::from_millis(NOW),
        policy_errors: Vec::new(),
        rules: 0,
        playbooks: 0,
        paused: None,
        maintenance: vec![one("m-1", NOW), one("m-2", UNTIL)],
        guard_mode: "auto".into(),
    })));
    let (_, status) = bench.get("/api/v1/status").await;
    assert_eq!(status["maintenance"].as_array().map(Vec::len), Some(1), "one is over: {status:#}");
    assert_eq!(status["maintenance"][0]["id"], "m-2");
    assert_eq!(status["maintenance"][0]["matchers"], json!(["tier=\"db\""]));
}

#[tokio::test]
async fn a_ladder_goes_on_and_a_playbook_comes_back_by_a_word() {
    let bench = start().await;
    let reason = json!({ "reason": "fixed" });
    let alert = "1f0c3a5b7d9e2468";
    assert_eq!(bench.post(&format!("/api/v1/alerts/{alert}/retry"), reason.clone()).await.0, 200);
    assert_eq!(bench.post("/api/v1/playbooks/restart/reset", reason).await.0, 200);
    let reason = "fixed".to_owned();
    let told: Vec<_> = bench.fake.told().into_iter().map(|(_, command)| command).collect();
    assert_eq!(
        told,
        [
            OperatorCommand::Retry { alert: alert.into(), reason: reason.clone() },
            OperatorCommand::ResetPlaybook { playbook: PlaybookName::new("restart"), reason },
        ]
    );
}

#[tokio::test]
async fn what_is_to_be_explained_is_said_well_or_named() {
    let bench = start().await;
    let (status, problem) = bench.get("/api/v1/explain?alert=00&at=yesterday").await;
    assert_eq!((status, problem["parameter"].clone()), (400, json!("at")), "{problem}");
    for query in ["", "?rule=Busy", "?alert=00&rule=Busy&deployment=web", "?alert=00&when=now"] {
        let (status, problem) = bench.get(&format!("/api/v1/explain{query}")).await;
        assert_eq!((status, problem["status"].clone()), (400, json!(400)), "{query}: {problem}");
    }
    let (status, problem) = bench.get("/api/v1/explain?alert=00&at=2026-11-23T20:00:00Z").await;
    assert_eq!((status, problem["detail"].clone()), (404, json!("there is no alert `00`")));
}

//! Secrets planted everywhere they may stand, and afterwards looked for in every file of the data folder, every log
//! and every API answer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use selfheal_demo::sinks::{SmtpSink, WebhookSink};
use selfheal_policy::record::PolicyRecord;
use selfheal_store::Store;

const SELFHEAL: &str = env!("CARGO_BIN_EXE_selfheal");
const DEADLINE: Duration = Duration::from_secs(40);

/// By environment variable. What is only in `env:` of an adapter is there, too.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("SMTP_PASSWORD", "planted-smtp-password"),
    ("HOOK_TOKEN", "planted-hook-token"),
    ("ADAPTER_TOKEN", "planted-adapter-token"),
    ("TARGET_TOKEN", "planted-target-token"),
    ("PASSED_ON", "planted-passed-on"),
    ("CLIENT_SECRET", "planted-client-secret"),
    ("HOOK_SECRET", "whsec_cGxhbnRlZHBsYW50ZWRwbGFudGVkcGxhbnRlZA=="),
];
/// What the credential command prints, and literals of the policy.
const LITERALS: [&str; 4] =
    ["planted-issued-token", "planted-literal-header", "planted-literal-smtp", "planted-by-hand"];

const POLICY: &str = r#"format: 1
server: { listen: "127.0.0.1:@PORT@" }
adapters:
  ours: { type: exec, command: [sh, ./adapter.sh], env: { ADAPTER_TOKEN: "${ADAPTER_TOKEN}" } }
deployments:
  - id: web
    adapter: ours
    target: { token: "${TARGET_TOKEN}" }
    auth:
      command: [sh, ./token.sh]
      deliver: { file: token }
secrets: { api: "${PASSED_ON}" }
receivers:
  - name: oncall
    email:
      - to: [a@example.com]
        from: b@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none, username: u, password: "${SMTP_PASSWORD}" }
      - to: [c@example.com]
        from: b@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none, username: u, password: planted-literal-smtp }
    webhook:
      - url: "@WEBHOOK_URL@"
        secret: "${HOOK_SECRET}"
        headers: { Authorization: "Bearer ${HOOK_TOKEN}", X-Key: planted-literal-header }
      - { url: "http://127.0.0.1:1/nowhere", headers: { Authorization: "Bearer ${HOOK_TOKEN}" } }
route: { receiver: oncall, group_wait: 0s, group_interval: 1s }
"#;

const RULES: &str = "rules:\n  - { alert: Bad, when: 'last(\"bad\") == 1', clear_when: 'last(\"bad\") == 0', summary: \"{{ fact('said') }}\" }\n";

const PLAYBOOK: &str = "playbook: leak
inputs: { key: { type: secret } }
steps:
  - { id: look, action: diagnose, best_effort: true }
  - { id: act, action: restart, with: { key: \"{{ inputs.key }}\" }, best_effort: true }
  - { id: renew, action: refresh_auth, best_effort: true }
";

const TOKEN: &str = "echo '{\"access_token\":\"planted-issued-token\",\"expires_in\":3600}'\n";

/// It says everything it knows, everywhere it can.
const ADAPTER: &str = r#"#!/bin/sh
document=$(cat)
case "$document" in
  *'"describe"'*) echo '{"target":[{"name":"token","type":"secret"}],"verbs":[{"verb":"restart","effect":"disrupt","params":[{"name":"key","type":"secret"}]},{"verb":"diagnose","effect":"read"}]}'; exit 0;;
esac
target=$(printf '%s' "$document" | sed -n 's/.*"token" *: *"\([^"]*\)".*/\1/p')
echo "on stderr: $ADAPTER_TOKEN and $target" >&2
case "$document" in
  *'"observe"'*) echo "{\"outcome\":\"done\",\"facts\":{\"said\":\"$ADAPTER_TOKEN $target\",\"replicas\":1}}";;
  *'"diagnose"'*) echo "{\"outcome\":\"done\",\"message\":\"$target\",\"output\":{\"env\":\"$ADAPTER_TOKEN\",\"target\":\"$target\"},\"facts\":{\"said\":\"$target\"},\"events\":[{\"type\":\"signal\",\"name\":\"leaked\",\"fields\":{\"token\":\"$ADAPTER_TOKEN\"}}]}";;
  *) key=$(printf '%s' "$document" | sed -n 's/.*"key" *: *"\([^"]*\)".*/\1/p')
     [ "$key" = planted-passed-on ] && touch passed-on
     echo "{\"outcome\":\"failed\",\"class\":\"permanent\",\"message\":\"refused for $ADAPTER_TOKEN and $target, $key\"}";;
esac
"#;

/// The engine, ended with the test.
struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // it may have ended before
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path) -> Engine {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let child = Command::new(SELFHEAL)
        .args(["run", "--log", "json", "--policy"])
        .arg(dir)
        .env("SELFHEAL_LOG", "debug")
        .envs(ENVIRONMENT)
        .stderr(Stdio::from(log))
        .spawn()
        .expect("selfheal starts");
    Engine(child)
}

async fn get(port: u16, path: &str) -> String {
    match reqwest::get(format!("http://127.0.0.1:{port}{path}")).await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) => String::new(),
    }
}

async fn wait(what: &str, port: u16, path: &str, holds: impl Fn(&str) -> bool) {
    let looking = async {
        while !holds(&get(port, path).await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, looking).await.is_err() {
        panic!("{what} did not come: {}", get(port, path).await);
    }
}

async fn post(port: u16, path: &str, body: Value) {
    let sent =
        reqwest::Client::new().post(format!("http://127.0.0.1:{port}{path}")).body(body.to_string()).send().await;
    let answer = sent.expect("the API answers");
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap_or_default());
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

/// What is packed in rows, as text to look through.
fn unpacked(data: &Path) -> String {
    let store = Store::at(data);
    let mut opened = store.open().expect("it opens");
    let mut text = String::new();
    for batch in store.tail(0).expect("a tail") {
        text += &format!("{:?}\n", batch.expect("readable"));
    }
    let mut notes = Vec::new();
    while let Some(snapshot) = opened.snapshots.next(&mut notes) {
        text += &String::from_utf8_lossy(&snapshot.state);
    }
    for version in opened.policies.versions().expect("readable") {
        let record = opened.policies.get(&version).expect("readable").expect("kept");
        text += &format!("{:?}\n", PolicyRecord::from_bytes(&record).expect("a record"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_secret_is_in_a_file_a_log_or_an_answer() {
    // a second call finds the provider installed
    let _ = rustls::crypto::ring::default_provider().install_default();
    let smtp = SmtpSink::start().await.expect("the mail sink starts");
    let webhook = WebhookSink::start().await.expect("the webhook sink starts");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let dir = TempDir::new().expect("a folder");
    let policy = POLICY
        .replace("@PORT@", &port.to_string())
        .replace("@SMTP_PORT@", &smtp.address().port().to_string())
        .replace("@WEBHOOK_URL@", &webhook.url());
    for (path, text) in [
        ("selfheal.yaml", policy.as_str()),
        ("rules/r.yaml", RULES),
        ("playbooks/p.yaml", PLAYBOOK),
        ("adapter.sh", ADAPTER),
        ("token.sh", TOKEN),
    ] {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    let engine = start(dir.path());
    wait("the start", port, "/readyz", |text| text.contains("ready\n")).await;
    wait("an observation", port, "/api/v1/deployments/web", |text| text.contains("said")).await;
    let event = json!({ "type": "metric", "deployment": "web", "name": "bad", "value": 1 });
    post(port, "/api/v1/events", event).await;
    post(
        port,
        "/api/v1/runs",
        json!({ "playbook": "leak", "deployment": "web", "with": { "key": "api" }, "reason": "to see what it says" }),
    )
    .await;
    wait("the end of the run", port, "/api/v1/runs", |text| text.contains("\"state\":\"ended\"")).await;
    // whoever says a secret instead of naming it is refused, and it is written nowhere
    let said = json!({ "playbook": "leak", "deployment": "web", "with": { "key": "planted-by-hand" } }).to_string();
    let asked = reqwest::Client::new().post(format!("http://127.0.0.1:{port}/api/v1/runs")).body(said).send().await;
    assert!(asked.expect("an answer").status().is_client_error());
    assert!(dir.path().join("passed-on").exists(), "the adapter was given the secret that the playbook passed on");
    harness_until_told(&webhook).await;
    // once more from what was written
    drop(engine);
    let engine = start(dir.path());
    wait("the second start", port, "/readyz", |text| text.contains("ready\n")).await;
    let mut answers = String::new();
    for path in [
        "/api/v1/status",
        "/api/v1/alerts",
        "/api/v1/runs",
        "/api/v1/runs/web-1",
        "/api/v1/deployments",
        "/api/v1/deployments/web",
        "/api/v1/deliveries",
        "/api/v1/audit",
        "/api/v1/history",
        "/api/v1/history?kind=runs",
        "/api/v1/history?kind=deliveries",
        "/api/v1/history?kind=policies",
    ] {
        answers += &get(port, path).await;
    }
    // ended in order, so that a last snapshot is there
    let pid = rustix::process::Pid::from_raw(i32::try_from(engine.0.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let mut engine = engine;
    engine.0.wait().expect("it ends");

    let data = dir.path().join("data");
    assert!(answers.contains("***"), "the adapter said something that was redacted: {answers}");
    let log = std::fs::read_to_string(dir.path().join("log")).expect("a log");
    let unpacked = unpacked(&data);
    assert!(unpacked.contains("refused for ***"), "the journal has what the adapter said: {unpacked}");
    let mut everything = Vec::new();
    files(&data, &mut everything);
    // kept apart, for this user's eyes only
    everything.retain(|path| !path.starts_with(data.join("secrets")));
    for secret in ENVIRONMENT.iter().map(|(_, value)| *value).chain(LITERALS) {
        assert!(!log.contains(secret), "{secret} is in the log: {:?}", log.lines().find(|line| line.contains(secret)));
        assert!(!answers.contains(secret), "{secret} is in an answer of the API");
        assert!(!unpacked.contains(secret), "{secret} is in a row of the journal, a snapshot or a policy");
        for path in &everything {
            let bytes = std::fs::read(path).expect("readable");
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

async fn harness_until_told(webhook: &WebhookSink) {
    crate::harness::until("the webhook", || !webhook.requests().is_empty()).await;
}

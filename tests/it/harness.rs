//! A running engine over a temporary policy folder, talked to as a user would: HTTP in, mails and webhooks out.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use selfheal::app::telemetry::OWN_SERIES_EVERY;
use selfheal::app::{Options, Running};
use selfheal_demo::sinks::{SmtpSink, WebhookSink};

/// A condition that is not met by then fails the test. Generous: the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// One engine with its peers.
pub struct Bench {
    pub dir: TempDir,
    pub running: Running,
    pub smtp: SmtpSink,
    pub webhook: WebhookSink,
    pub http: reqwest::Client,
}

/// `@SMTP_PORT@` and `@WEBHOOK_URL@` in the files are the sinks'.
pub async fn start(files: &[(&str, &str)]) -> Bench {
    start_with(files, |_| {}).await
}

/// With other options than usual.
pub async fn start_with(files: &[(&str, &str)], change: impl FnOnce(&mut Options)) -> Bench {
    let smtp = SmtpSink::start().await.expect("the mail sink starts");
    let webhook = WebhookSink::start().await.expect("the webhook sink starts");
    let dir = TempDir::new().expect("a temporary folder");
    for (path, text) in files {
        let text =
            text.replace("@SMTP_PORT@", &smtp.address().port().to_string()).replace("@WEBHOOK_URL@", &webhook.url());
        write(&dir, path, &text);
    }
    let mut options = options(dir.path().to_owned());
    change(&mut options);
    let running = Running::start(options).await.unwrap_or_else(|error| panic!("the engine does not start: {error:#}"));
    Bench { dir, running, smtp, webhook, http: reqwest::Client::new() }
}

pub fn options(policy_dir: PathBuf) -> Options {
    Options {
        policy_dir,
        listen: Some("127.0.0.1:0".to_owned()),
        data_dir: None,
        allow_unauthenticated: false,
        watch: true,
        accept_clock: false,
        own_series_every: OWN_SERIES_EVERY,
    }
}

/// Writes as an editor does: a new file, renamed over the old one.
pub fn write(dir: &TempDir, path: &str, text: &str) {
    let file = dir.path().join(path);
    std::fs::create_dir_all(file.parent().expect("a file has a folder")).expect("the folder can be made");
    let beside = file.with_extension("tmp~");
    std::fs::write(&beside, text).expect("the file can be written");
    std::fs::rename(&beside, &file).expect("the file can be renamed");
}

impl Bench {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let answer = self.http.post(self.url(path)).body(body).send().await.expect("the API answers");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("the answer is whole");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.url(path)).send().await.expect("the API answers");
        let text = answer.text().await.expect("the answer is whole");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    pub async fn event(&self, event: Value) {
        let (status, answer) = self.post("/api/v1/events", event.to_string()).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// Looks at `path` until `found` gives something.
    pub async fn wait<T>(&self, what: &str, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let mut last = Value::Null;
        let look = async {
            loop {
                last = self.get(path).await;
                if let Some(found) = found(&last) {
                    return found;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(DEADLINE, look).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come within {DEADLINE:?}; {path} says {last:#}"),
        }
    }

    /// The alert of this name in this state.
    pub async fn wait_for_alert(&self, name: &str, state: &str) -> Value {
        self.wait(&format!("alert {name} {state}"), "/api/v1/alerts", |alerts| {
            find(alerts, |alert| alert["alert"] == name && alert["state"] == state)
        })
        .await
    }

    /// The first run of this playbook that has ended.
    pub async fn wait_for_end_of(&self, playbook: &str) -> Value {
        self.wait(&format!("the end of {playbook}"), "/api/v1/runs", |runs| {
            find(runs, |run| run["playbook"] == playbook && !run["ended_at"].is_null())
        })
        .await
    }

    pub async fn stop(self) {
        self.running.drain().await;
    }
}

/// The first element that fits.
pub fn find(list: &Value, fits: impl Fn(&Value) -> bool) -> Option<Value> {
    list.as_array()?.iter().find(|entry| fits(entry)).cloned()
}

/// Waits until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, look).await.is_ok(), "{what} did not come within {DEADLINE:?}");
}

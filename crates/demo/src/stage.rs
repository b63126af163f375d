//! The demo's stage: a temporary policy folder, sinks for mail and webhooks, a token service, and a running engine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Json;
use axum::routing::post;
use serde_json::{Value, json};

use super::faults::Fault;
use super::policy::{self, Peers};
use crate::clock::Clock;
use crate::sinks::{SmtpSink, WebhookSink};
use crate::{Files, Start, Started};
use selfheal_model::Timestamp;

/// How often the demo looks at the API.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// How often the demo tries again to remove its folder.
const REMOVE_TRIES: usize = 20;
/// The service must be healthy within this, at the start and after each cure.
const HEALTHY_WITHIN: Duration = Duration::from_secs(40);
/// The last mail of a cure may come this long after it.
const MAIL_WITHIN: Duration = Duration::from_secs(10);

/// Everything the demo stands on.
pub struct Stage {
    dir: PathBuf,
    selfheal: Started,
    reader: Reader,
    smtp: SmtpSink,
    webhook: WebhookSink,
    token_seconds: Arc<AtomicU64>,
    clock: Clock,
    started: Timestamp,
    /// When the fault under way was caused.
    act_began: Timestamp,
    /// Lines already said in this act.
    said: BTreeSet<String>,
    mails_seen: usize,
}

/// Reads the engine's API. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    http: reqwest::Client,
    url: String,
}

impl Reader {
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    /// The ports of the service's running replicas.
    pub async fn ports(&self) -> anyhow::Result<Vec<u64>> {
        let view = self.get("/api/v1/deployments/shop").await?;
        let replicas = view["replicas"].as_array().cloned().unwrap_or_default();
        Ok(replicas
            .iter()
            .filter(|replica| replica["up"] == true)
            .filter_map(|replica| replica["port"].as_u64())
            .collect())
    }
}

impl Stage {
    /// Sets everything up; the service is starting when this returns.
    pub async fn set(shipped: &[Files], start: Start) -> anyhow::Result<Stage> {
        let clock = Clock::start();
        let started = clock.now();
        let dir = std::env::temp_dir().join(format!("selfheal-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let smtp = SmtpSink::start().await.context("cannot start the mail sink")?;
        let webhook = WebhookSink::start().await.context("cannot start the webhook sink")?;
        let token_seconds = Arc::new(AtomicU64::new(3600));
        let peers = Peers {
            smtp_port: smtp.address().port(),
            webhook_url: webhook.url(),
            token_url: token_service(token_seconds.clone()).await?,
        };
        let program = std::env::current_exe().context("cannot tell where selfheal itself is")?;
        policy::write(&dir, shipped, &program.to_string_lossy(), &peers)?;
        let expires_at = clock.now() + Duration::from_secs(3600);
        std::fs::write(
            dir.join("shop/token.json"),
            json!({ "access_token": "first", "expires_at": expires_at }).to_string(),
        )?;
        std::os::unix::fs::symlink("releases/v1", dir.join("shop/current"))?;
        let selfheal = start(dir.clone()).await?;
        let reader = Reader { http: reqwest::Client::new(), url: format!("http://{}", selfheal.address) };
        let act_began = clock.now();
        Ok(Stage {
            dir,
            selfheal,
            reader,
            smtp,
            webhook,
            token_seconds,
            clock,
            started,
            act_began,
            said: BTreeSet::new(),
            mails_seen: 0,
        })
    }

    pub fn url(&self) -> &str {
        &self.reader.url
    }

    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    pub fn mails(&self) -> usize {
        self.smtp.mails().len()
    }

    pub fn webhooks(&self) -> usize {
        self.webhook.requests().len()
    }

    /// A new act begins.
    pub fn begin(&mut self) {
        self.act_began = self.clock.now();
        self.said.clear();
        self.mails_seen = self.smtp.mails().len();
    }

    /// One line of the narration, with the seconds since the fault.
    pub fn say(&self, what: &str, text: &str) {
        let seconds = self.clock.now().since(self.act_began).as_secs_f64();
        anstream::println!("   {seconds:5.1}s  {what:<9} {text}");
    }

    fn say_once(&mut self, what: &str, text: String) {
        if self.said.insert(format!("{what} {text}")) {
            self.say(what, &text);
        }
    }

    /// New tokens live so long.
    pub fn tokens_live_for(&self, span: Duration) {
        self.token_seconds.store(span.as_secs(), Ordering::SeqCst);
    }

    pub async fn break_replica(&self, index: u64, fault: &str) -> anyhow::Result<()> {
        let view = self.reader.get("/api/v1/deployments/shop").await?;
        let replicas = view["replicas"].as_array().cloned().unwrap_or_default();
        let port = replicas
            .iter()
            .find(|replica| replica["index"] == index)
            .and_then(|replica| replica["port"].as_u64())
            .with_context(|| format!("replica {index} is not there"))?;
        let answer = self.reader.http.post(format!("http://127.0.0.1:{port}/fault/{fault}")).send().await?;
        answer.error_for_status().context("the service did not break as told")?;
        Ok(())
    }

    /// Runs a playbook by hand and waits for its end.
    pub async fn trigger(&self, playbook: &str, with: Value) -> anyhow::Result<()> {
        let body = json!({ "playbook": playbook, "deployment": "shop", "with": with, "reason": "the demo's script" });
        let request = self.reader.http.post(format!("{}/api/v1/runs", self.url())).body(body.to_string());
        let answer: Value = serde_json::from_str(&request.send().await?.text().await?)?;
        let Some(run) = answer["run"].as_str() else { bail!("{playbook} was refused: {}", answer["detail"]) };
        let deadline = self.clock.now() + HEALTHY_WITHIN;
        loop {
            let view = self.reader.get(&format!("/api/v1/runs/{run}")).await?;
            if !view["ended_at"].is_null() {
                return Ok(());
            }
            if self.clock.now() > deadline {
                bail!("{run} did not end");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub async fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let deadline = self.clock.now() + HEALTHY_WITHIN;
        loop {
            let view = self.reader.get("/api/v1/deployments/shop").await?;
            let firing = self.reader.get("/api/v1/alerts?state=firing").await?;
            let quiet = firing.as_array().is_some_and(Vec::is_empty);
            if view["health"] == "healthy" && quiet {
                return Ok(());
            }
            if self.clock.now() > deadline {
                bail!("the service is {} after {}s; firing: {firing}", view["health"], HEALTHY_WITHIN.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells what selfheal sees, decides, does, verifies and sends, until the fault is cured.
    pub async fn narrate_until_cured(&mut self, fault: &Fault, within: Duration) -> anyhow::Result<bool> {
        let deadline = self.act_began + within;
        loop {
            let cured = self.narrate().await?.iter().any(|playbook| fault.cured_by.contains(&playbook.as_str()));
            if cured && self.all_told().await? {
                return Ok(true);
            }
            if self.clock.now() > deadline {
                self.say("failed", "not cured in time");
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Says what is new; gives the playbooks that ended cured in this act.
    async fn narrate(&mut self) -> anyhow::Result<Vec<String>> {
        let in_act = |at: &Value, began: Timestamp| {
            at.as_str().and_then(|at| at.parse().ok()).is_some_and(|at: Timestamp| at >= began)
        };
        let began = self.act_began;
        let alerts = self.reader.get("/api/v1/alerts").await?;
        for alert in alerts.as_array().into_iter().flatten() {
            if alert["state"] == "firing" && in_act(&alert["fired_at"], began) {
                let severity = alert["severity"].as_str().unwrap_or_default();
                let name = format!("{} ({severity})", text(&alert["alert"]));
                // its figures move while it fires; once is enough
                if self.said.insert(format!("seen {name}")) {
                    self.say("seen", &format!("{name}: {}", text(&alert["summary"])));
                }
            }
        }
        let runs = self.reader.get("/api/v1/runs").await?;
        let mut cured = Vec::new();
        for run in runs.as_array().into_iter().flatten().rev() {
            if run["alert_name"].is_null() || !in_act(&run["started_at"], began) {
                continue;
            }
            let playbook = text(&run["playbook"]);
            let id = text(&run["id"]);
            self.say_once("decided", format!("{playbook} ({id}), for {}", text(&run["alert_name"])));
            for step in run["steps"].as_array().into_iter().flatten().filter(|step| !step["ended_at"].is_null()) {
                let seconds = step["seconds"].as_f64().unwrap_or_default();
                let message = step["message"].as_str().map(|message| format!(": {message}")).unwrap_or_default();
                self.say_once(
                    "done",
                    format!("{} {} in {seconds:.1}s{message} ({id})", text(&step["id"]), text(&step["outcome"])),
                );
            }
            if let Some(verdict) = run["verdict"].as_str() {
                let why = run["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
                self.say_once("verified", format!("{playbook} {verdict}{why} ({id})"));
                if verdict == "cured" {
                    cured.push(playbook);
                }
            }
        }
        self.narrate_mails();
        Ok(cured)
    }

    fn narrate_mails(&mut self) {
        let mails = self.smtp.mails();
        for mail in mails.iter().skip(self.mails_seen) {
            self.say("sent", &format!("mail to {}: {}", mail.recipients.join(", "), mail.subject()));
        }
        self.mails_seen = mails.len();
    }

    /// The alert is over and its end was mailed, or that mail is late.
    async fn all_told(&mut self) -> anyhow::Result<bool> {
        let deadline = self.clock.now() + MAIL_WITHIN;
        let mails_before = self.mails_seen;
        loop {
            self.narrate().await?;
            let firing = self.reader.get("/api/v1/alerts?state=firing").await?;
            let quiet = firing.as_array().is_some_and(Vec::is_empty);
            let told = self.smtp.mails().len() > mails_before || self.last_mail_is_an_end();
            if quiet && told {
                self.narrate_mails();
                return Ok(true);
            }
            if self.clock.now() > deadline {
                return Ok(quiet);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn last_mail_is_an_end(&self) -> bool {
        self.smtp.mails().last().is_some_and(|mail| mail.subject().to_lowercase().contains("repaired"))
    }

    /// Ends everything, the service's processes included, and removes the folder.
    pub async fn strike(self) {
        let pids: Vec<u64> = match self.reader.get("/api/v1/deployments/shop").await {
            Ok(view) => view["replicas"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|replica| replica["pid"].as_u64())
                .collect(),
            Err(_) => Vec::new(),
        };
        (self.selfheal.drain)().await;
        for pid in pids {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                // one that has ended meanwhile needs no signal
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
        }
        // processes that were killed a moment ago may still be writing their last line
        let mut removed = std::fs::remove_dir_all(&self.dir);
        for _ in 0..REMOVE_TRIES {
            if removed.is_ok() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            removed = std::fs::remove_dir_all(&self.dir);
        }
        if let Err(error) = removed {
            anstream::eprintln!("{} is left behind: {error}", self.dir.display());
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// An OAuth 2 token endpoint for client credentials, whose tokens live as long as told.
async fn token_service(seconds: Arc<AtomicU64>) -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("cannot start the token service")?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let app = axum::Router::new().route(
        "/token",
        post(move || async move {
            let seconds = seconds.load(Ordering::SeqCst);
            Json(json!({ "access_token": format!("token-for-{seconds}s"), "token_type": "Bearer", "expires_in": seconds }))
        }),
    );
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the demo's token service stopped");
        }
    });
    Ok(url)
}

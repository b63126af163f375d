//! Real crashes: the binary under load from another process, killed at random moments, and afterwards every
//! acknowledged event and every notification accounted for.
//!
//! `SELFHEAL_KILLS` says how often it is killed; `SELFHEAL_OTHER` names another build, which runs every second life.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::journal_reader::{Account, account};
use selfheal_demo::sinks::{SmtpSink, WebhookSink};

const SELFHEAL: &str = env!("CARGO_BIN_EXE_selfheal");
/// How often the engine is killed, where nobody says otherwise.
const KILLS: u64 = 50;
/// One life in so many ends in order instead, as it does for an upgrade.
const STOPPED: u64 = 5;
/// A life lasts from its ready line to its end between these.
const SHORTEST_LIFE_MS: u64 = 20;
const LONGEST_LIFE_MS: u64 = 700;
/// A condition that is not met by then fails the test. Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Numbered samples in one request of the load.
const BATCH: u64 = 20;
/// Deployments that the load breaks and mends.
const BREAKING: u64 = 8;

const POLICY: &str = r#"format: 1
server: { listen: "127.0.0.1:@PORT@" }
receivers:
  - name: oncall
    rate: 1000/1s
    email:
      - to: [oncall@example.com]
        from: selfheal@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none }
    webhook:
      - { url: "@WEBHOOK_URL@" }
route: { receiver: oncall, group_by: [alertname, deployment], group_wait: 0s, group_interval: 1s, repeat_interval: 4h }
"#;

const RULES: &str = r#"rules:
  - alert: Broken
    when: 'last("broken") == 1'
    clear_when: 'last("broken") == 0'
    summary: "{{ deployment }} is broken"
"#;

/// Random moments, the same for the same seed.
struct Moments(u64);

impl Moments {
    /// SplitMix64.
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// A process that ends with the test, however that ends.
struct Owned(Child);

impl Owned {
    /// SIGKILL
    fn kill(&mut self) {
        self.0.kill().expect("it is running");
        self.0.wait().expect("it was killed");
    }
}

impl Owned {
    /// SIGTERM, as an upgrade does it: it drains and ends with a snapshot.
    fn stop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is running");
        let ended = self.0.wait().expect("it ends");
        assert!(ended.success(), "{ended}");
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // it may have ended before
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the library does at its start.
fn install_tls() {
    // a second call finds the provider installed
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The program of one life: with `SELFHEAL_OTHER` every second one is another build, up and down again.
fn build(life: u64) -> String {
    let other = std::env::var("SELFHEAL_OTHER").ok().filter(|_| life % 2 == 1);
    other.unwrap_or_else(|| SELFHEAL.to_owned())
}

fn start(dir: &Path, life: u64) -> Owned {
    let mut child = Command::new(build(life))
        .args(["run", "--log", "json", "--policy"])
        .arg(dir)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("selfheal does not start: {error}"));
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut said = String::new();
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|length| length > 0) {
        let entry: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        if entry["fields"]["message"] == "ready" {
            // the rest is read away, so that the pipe never fills
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Owned(child);
        }
        said.push_str(&line);
        line.clear();
    }
    panic!("selfheal ended before it was ready: {:?}\n{said}", child.wait());
}

/// The load, as a process of its own; see [`load`].
fn start_load(dir: &Path, port: u16) -> Owned {
    let child = Command::new(std::env::current_exe().expect("the test knows itself"))
        .args(["--ignored", "--exact", "crash::load", "--nocapture"])
        .env("SELFHEAL_CRASH_LOAD", format!("{port}"))
        .env("SELFHEAL_CRASH_DIR", dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the load starts");
    Owned(child)
}

/// Sends numbered samples and breaks and mends deployments, each batch until it is acknowledged; then notes it down.
#[tokio::test]
#[ignore = "the load of the test below, started by it"]
async fn load() {
    let Ok(port) = std::env::var("SELFHEAL_CRASH_LOAD") else { return };
    let dir = PathBuf::from(std::env::var("SELFHEAL_CRASH_DIR").expect("set with the port"));
    install_tls();
    let mut acknowledged = std::fs::File::create(dir.join("acknowledged")).expect("a file");
    let http = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}/api/v1/events");
    for batch in 0_u64.. {
        if dir.join("stop").exists() {
            return;
        }
        let mut lines = String::new();
        for number in batch * BATCH..(batch + 1) * BATCH {
            let event = json!({ "type": "metric", "deployment": "load", "name": "number", "value": number });
            lines += &format!("{event}\n");
        }
        let toggled = format!("d{}", batch / 5 % BREAKING);
        let broken = batch / 5 / BREAKING % 2;
        if batch.is_multiple_of(5) {
            let event = json!({ "type": "metric", "deployment": toggled, "name": "broken", "value": broken });
            lines += &format!("{event}\n");
        }
        loop {
            let answer = http.post(&url).body(lines.clone()).send().await;
            if answer.is_ok_and(|answer| answer.status() == 202) {
                break;
            }
            if dir.join("stop").exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut note = json!({ "from": batch * BATCH, "to": (batch + 1) * BATCH });
        if batch.is_multiple_of(5) {
            note["toggled"] = json!([toggled, broken]);
        }
        writeln!(acknowledged, "{note}").expect("noted down");
    }
}

fn notes(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("acknowledged")).unwrap_or_default();
    // the last line may be half written where the load was stopped
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn get(port: u16, path: &str) -> Value {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.expect("the API answers");
    serde_json::from_str(&answer.text().await.expect("a whole answer")).unwrap_or(Value::Null)
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(DEADLINE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come within {DEADLINE:?}"),
    }
}

/// As the email notifier names a delivery.
fn mail_id(delivery: &str) -> String {
    let digest = Sha256::digest(format!("delivery\n{delivery}").as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_and_no_notification_is_lost_by_kills() {
    install_tls();
    let kills = std::env::var("SELFHEAL_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let smtp = SmtpSink::start().await.expect("the mail sink starts");
    let webhook = WebhookSink::start().await.expect("the webhook sink starts");
    let dir = TempDir::new().expect("a temporary folder");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let policy = POLICY
        .replace("@PORT@", &port.to_string())
        .replace("@SMTP_PORT@", &smtp.address().port().to_string())
        .replace("@WEBHOOK_URL@", &webhook.url());
    std::fs::write(dir.path().join("selfheal.yaml"), policy).expect("written");
    std::fs::create_dir(dir.path().join("rules")).expect("made");
    std::fs::write(dir.path().join("rules/broken.yaml"), RULES).expect("written");

    let mut moments = Moments(1);
    let mut engine = start(dir.path(), 0);
    let mut load = start_load(dir.path(), port);
    for number in 0..kills {
        let life = SHORTEST_LIFE_MS + moments.next(LONGEST_LIFE_MS - SHORTEST_LIFE_MS);
        tokio::time::sleep(Duration::from_millis(life)).await;
        if number % STOPPED == STOPPED - 1 {
            engine.stop();
        } else {
            engine.kill();
        }
        engine = start(dir.path(), number + 1);
    }
    let acknowledged = notes(dir.path()).len();
    until("more load after the last kill", async || (notes(dir.path()).len() > acknowledged + 10).then_some(())).await;
    std::fs::write(dir.path().join("stop"), "").expect("written");
    load.0.wait().expect("the load ends");

    let notes = notes(dir.path());
    let toggles: BTreeMap<String, u64> = notes
        .iter()
        .filter_map(|note| Some((note["toggled"][0].as_str()?.to_owned(), note["toggled"][1].as_u64()?)))
        .collect();
    let firing: BTreeSet<&str> =
        toggles.iter().filter(|(_, broken)| **broken == 1).map(|(id, _)| id.as_str()).collect();
    until("the alerts as last acknowledged", async || {
        let alerts = get(port, "/api/v1/alerts?state=firing").await;
        let now: BTreeSet<&str> =
            alerts.as_array()?.iter().filter_map(|alert| alert["labels"]["deployment"].as_str()).collect();
        (now == firing).then_some(())
    })
    .await;
    until("the end of every delivery", async || {
        let deliveries = get(port, "/api/v1/deliveries").await;
        deliveries.as_array()?.iter().all(|delivery| delivery["state"] != "pending").then_some(())
    })
    .await;
    engine.kill();

    let Account { numbers, deliveries, merged, lives } = account(&dir.path().join("data"));
    let mut missing = Vec::new();
    for note in &notes {
        let range = note["from"].as_u64().expect("a number")..note["to"].as_u64().expect("a number");
        missing.extend(range.filter(|number| !numbers.contains(number)));
    }
    assert!(missing.is_empty(), "{} acknowledged events are lost, the first is {}", missing.len(), missing[0]);

    let mut by_id: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for request in webhook.requests() {
        let id = request.headers["webhook-id"].to_str().expect("ASCII").to_owned();
        by_id.entry(id).or_default().insert(request.body.to_vec());
    }
    let mails: BTreeSet<String> = smtp.mails().iter().filter_map(|mail| mail.header("Message-ID")).collect();
    let repeats = webhook.requests().len() - by_id.len();
    for (id, bodies) in &by_id {
        assert_eq!(bodies.len(), 1, "the delivery {id} said different things");
    }
    let arrived = |id: &String| {
        by_id.contains_key(&id.replace(' ', "%20"))
            || mails.iter().any(|mail| mail.contains(&mail_id(id)))
            || merged.contains(id)
    };
    let lost: Vec<&String> = deliveries.iter().filter(|id| !arrived(id)).collect();
    assert!(lost.is_empty(), "{} of {} notifications are lost: {lost:?}", lost.len(), deliveries.len());
    println!(
        "{kills} ends, most of them by SIGKILL, {lives} recoveries: {} acknowledged events and {} notifications accounted for, {repeats} webhooks came twice",
        notes.len() as u64 * BATCH,
        deliveries.len(),
    );
}

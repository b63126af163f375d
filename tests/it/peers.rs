//! What people already run sends to selfheal and is asked by it: a real Prometheus with remote write and with its alerts,
//! real exporters, a real OpenTelemetry SDK, `amtool`.
//!
//! Without those programs these tests say that they were skipped; where `CI` is set they fail instead, so that nobody
//! takes the skipping for passing.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{self, Bench, find};

/// The Python that has the SDK.
const PYTHON: &str = "SELFHEAL_TEST_PYTHON";

/// A program that is stopped when the test ends, however that is.
struct Peer(Child);

impl Peer {
    fn start(program: &str, args: &[&str], log: &Path) -> Peer {
        let log = std::fs::File::create(log).expect("a log");
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        Peer(child.unwrap_or_else(|error| panic!("{program}: {error}")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // one that has ended already is what is wanted
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a program runs here; says loudly if not, and fails where that must not be.
fn there(program: &str, args: &[&str]) -> bool {
    let ran = Command::new(program).args(args).stdin(Stdio::null()).output();
    if ran.is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "`{program} {}` does not run, and CI must not skip this", args.join(" "));
    eprintln!("SKIPPED: `{program} {}` does not run here", args.join(" "));
    false
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

const BASE: &str = "format: 1\nreceivers: [{ name: nobody }]\n";

fn rule(name: &str, when: &str) -> String {
    format!("  - alert: {name}\n    when: '{when}'\n")
}

fn rules(all: &[(&str, &str)]) -> String {
    format!("rules:\n{}", all.iter().map(|(name, when)| rule(name, when)).collect::<String>())
}

async fn wait_for_alert_of(bench: &Bench, name: &str, deployment: &str) -> Value {
    bench
        .wait(&format!("alert {name} of {deployment}"), "/api/v1/alerts", |alerts| {
            find(alerts, |alert| {
                alert["alert"] == name && alert["labels"]["deployment"] == deployment && alert["state"] == "firing"
            })
        })
        .await
}

/// A Prometheus that asks `target` every second and writes what it says to the bench, under the job's name.
fn prometheus(dir: &TempDir, job: &str, target: &str, bench: &Bench) -> Peer {
    let config = format!(
        "global: {{ scrape_interval: 1s }}\n\
         scrape_configs:\n  - job_name: {job}\n    static_configs: [{{ targets: ['{target}'] }}]\n\
         remote_write:\n  - url: {}\n    queue_config: {{ batch_send_deadline: 1s }}\n",
        bench.url("/api/v1/write")
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
    let (file, data) = (dir.path().join("prometheus.yml"), dir.path().join("data"));
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", data.display()),
        format!("--web.listen-address=127.0.0.1:{}", free_port()),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Peer::start("prometheus", &args, &dir.path().join("prometheus.log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_reads_the_page_of_metrics() {
    if !there("prometheus", &["--version"]) {
        return;
    }
    let rules = rules(&[
        ("Read", "last(\"up\") == 1 && last(\"selfheal_journal_writable\") == 1"),
        ("Counted", "rate(\"selfheal_batches_total\", \"1m\") > 0"),
        ("Measured", "max(\"selfheal_commit_seconds_bucket\", \"1m\") > 0"),
    ]);
    let bench = harness::start(&[("selfheal.yaml", BASE), ("rules/r.yaml", &rules)]).await;
    let dir = TempDir::new().expect("a folder");
    let page = bench.running.address.to_string();
    let prometheus = prometheus(&dir, "watcher", &page, &bench);
    for alert in ["Read", "Counted", "Measured"] {
        wait_for_alert_of(&bench, alert, "watcher").await;
    }
    drop(prometheus);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_writes_what_it_scrapes_and_says_when_it_ended() {
    if !there("prometheus", &["--version"]) || !there("prometheus-node-exporter", &["--version"]) {
        return;
    }
    let rules = rules(&[
        ("Loaded", "last(\"node_load1\") >= 0"),
        ("Growing", "rate(\"node_cpu_seconds_total\", \"1m\") > 0"),
        ("Down", "last(\"up\") == 0"),
        // only a stale marker makes the newest value missing while the window is full
        ("Marked", "!has(last(\"node_load1\")) && count(\"node_load1\", \"10m\") > 1"),
    ]);
    let bench = harness::start(&[("selfheal.yaml", BASE), ("rules/r.yaml", &rules)]).await;
    let dir = TempDir::new().expect("a folder");
    let exporter_address = format!("127.0.0.1:{}", free_port());
    let web = format!("--web.listen-address={exporter_address}");
    let exporter = Peer::start("prometheus-node-exporter", &[&web], &dir.path().join("exporter.log"));
    let prometheus = prometheus(&dir, "machine", &exporter_address, &bench);
    wait_for_alert_of(&bench, "Loaded", "machine").await;
    wait_for_alert_of(&bench, "Growing", "machine").await;
    drop(exporter);
    wait_for_alert_of(&bench, "Down", "machine").await;
    wait_for_alert_of(&bench, "Marked", "machine").await;
    drop(prometheus);
    let log = std::fs::read_to_string(dir.path().join("prometheus.log")).expect("its log");
    assert!(!log.contains("non-recoverable"), "Prometheus was refused something:\n{log}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_exporters_are_scraped_and_missed_when_they_are_gone() {
    if !there("prometheus-node-exporter", &["--version"]) || !there("prometheus-blackbox-exporter", &["--version"]) {
        return;
    }
    let dir = TempDir::new().expect("a folder");
    let (node_port, blackbox_port) = (free_port(), free_port());
    let web = format!("--web.listen-address=127.0.0.1:{node_port}");
    let node = Peer::start("prometheus-node-exporter", &[&web], &dir.path().join("node.log"));
    std::fs::write(dir.path().join("blackbox.yml"), "modules: { tcp: { prober: tcp, timeout: 2s } }\n")
        .expect("written");
    let config = format!("--config.file={}", dir.path().join("blackbox.yml").display());
    let web = format!("--web.listen-address=127.0.0.1:{blackbox_port}");
    let blackbox = Peer::start("prometheus-blackbox-exporter", &[&config, &web], &dir.path().join("blackbox.log"));
    let configuration = format!(
        "{BASE}deployments: [{{ id: machine }}, {{ id: shop }}, {{ id: here }}]\n\
         metrics: {{ node_memory_MemTotal_bytes: {{ as: memory_total_mib, times: 0.00000095367431640625 }} }}\n\
         sources:\n\
         \x20 - {{ type: scrape, url: 'http://127.0.0.1:{node_port}/metrics', every: 1s, labels: {{ deployment: machine }} }}\n\
         \x20 - {{ type: scrape, name: probe, every: 1s, labels: {{ deployment: shop }}, only: ['probe_*'],\n\
         \x20     url: 'http://127.0.0.1:{blackbox_port}/probe?module=tcp&target=127.0.0.1:{node_port}' }}\n\
         \x20 - {{ type: host, every: 1s, labels: {{ deployment: here }} }}\n"
    );
    let rules = rules(&[
        ("Loaded", "last(\"node_load1\") >= 0"),
        ("Memory", "last(\"memory_total_mib\") > 100"),
        ("Probed", "last(\"probe_success\") == 1"),
        ("Refused", "last(\"probe_success\") == 0"),
        ("Down", "last(\"up\") == 0"),
        ("Host", "last(\"cpu_percent\") >= 0 && last(\"memory_percent\") > 0 && last(\"disk_percent\", \"max\") > 0"),
    ]);
    let bench = harness::start(&[("selfheal.yaml", &configuration), ("rules/r.yaml", &rules)]).await;
    wait_for_alert_of(&bench, "Loaded", "machine").await;
    wait_for_alert_of(&bench, "Memory", "machine").await;
    wait_for_alert_of(&bench, "Probed", "shop").await;
    wait_for_alert_of(&bench, "Host", "here").await;
    drop(node);
    wait_for_alert_of(&bench, "Down", "machine").await;
    wait_for_alert_of(&bench, "Refused", "shop").await;
    drop(blackbox);
    wait_for_alert_of(&bench, "Down", "shop").await;
    bench.stop().await;
}

const EXPORT: &str = r#"
import sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

exporter = OTLPMetricExporter(endpoint=sys.argv[1], timeout=10)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
provider = MeterProvider(resource=Resource.create({"service.name": "checkout"}), metric_readers=[reader])
meter = provider.get_meter("orders")
orders = meter.create_counter("orders", unit="1")
depth = meter.create_up_down_counter("queue.depth")
latency = meter.create_histogram("request.duration", unit="ms")
others = provider.get_meter("returns").create_counter("orders", unit="1")
for round in range(2):
    orders.add(30, {"kind": "web"})
    others.add(1000, {"kind": "web"})
    depth.add(7)
    latency.record(250.0)
    if not provider.force_flush(10_000):
        sys.exit("not exported")
provider.shutdown()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_real_opentelemetry_sdk_exports_to_it() {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    if !there(&python, &["-c", "import opentelemetry.sdk.metrics, opentelemetry.exporter.otlp.proto.http"]) {
        return;
    }
    let rules = rules(&[
        // two meters have such a counter
        ("Orders", "increase(\"orders_total{otel_scope_name=''orders'',kind=''web''}\", \"5m\") == 30"),
        ("Depth", "last(\"queue_depth\") == 14"),
        ("Slow", "last(\"request_duration_milliseconds_sum\") / last(\"request_duration_milliseconds_count\") == 250"),
    ]);
    let bench = harness::start(&[("selfheal.yaml", BASE), ("rules/r.yaml", &rules)]).await;
    let url = bench.url("/v1/metrics");
    let exported = tokio::task::spawn_blocking(move || {
        Command::new(python).args(["-c", EXPORT, &url]).output().expect("it was there a moment ago")
    });
    let exported = exported.await.expect("it ran");
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    for name in ["Orders", "Depth", "Slow"] {
        wait_for_alert_of(&bench, name, "checkout").await;
    }
    bench.stop().await;
}

/// What is repaired for others' alerts is a file that says so.
const OURS: &str = r#"#!/bin/sh
read -r request
case "$request" in
  *'"verb":"describe"'*)
    echo '{"verbs":[{"verb":"restart","effect":"disrupt","idempotent":true,"params":[]}]}' ;;
  *'"verb":"observe"'*) echo '{"outcome":"done"}' ;;
  *'"verb":"restart"'*) echo "$request" > restarted; echo '{"outcome":"done"}' ;;
esac
"#;

const ELSEWHERE: &str = r#"format: 1
adapters: { ours: { type: exec, command: [/bin/sh, ours.sh] } }
deployments: [{ id: machine, adapter: ours }]
receivers: [{ name: oncall, webhook: [{ url: "@WEBHOOK_URL@" }] }]
route: { receiver: oncall, group_wait: 100ms, group_interval: 300ms }
guards: { start_grace: 0s, act_after: 100ms, grace: 1s }
severities: { page: critical }
remediations:
  - { name: down, matchers: ['alertname="Down"'], on: "{{ labels.job }}", remediate: [restart] }
"#;

const RESTART: &str =
    "playbook: restart\nsteps: [{ id: restart, action: restart }]\nverify: { hold: 1s, within: 35s }\n";

#[tokio::test(flavor = "multi_thread")]
async fn alerts_of_a_real_prometheus_are_repaired_and_its_end_of_them_is_the_cure() {
    let programs = [("prometheus", "--version"), ("prometheus-node-exporter", "--version"), ("amtool", "--version")];
    if !programs.iter().all(|(program, arg)| there(program, &[arg])) {
        return;
    }
    let files = [("selfheal.yaml", ELSEWHERE), ("playbooks/p.yaml", RESTART), ("ours.sh", OURS)];
    let bench = harness::start(&files).await;
    let dir = TempDir::new().expect("a folder");
    let exporter = format!("127.0.0.1:{}", free_port());
    let alerting = "groups:\n  - name: all\n    rules:\n      - alert: Down\n        expr: up == 0\n        \
                    labels: { severity: page }\n        annotations: { summary: \"{{ $labels.job }} is down\" }\n";
    std::fs::write(dir.path().join("rules.yml"), alerting).expect("written");
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [rules.yml]\n\
         scrape_configs:\n  - job_name: machine\n    static_configs: [{{ targets: ['{exporter}'] }}]\n\
         alerting:\n  alertmanagers:\n    - static_configs: [{{ targets: ['{}'] }}]\n",
        bench.running.address
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
    let args = [
        format!("--config.file={}", dir.path().join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{}", free_port()),
        "--rules.alert.resend-delay=1s".to_owned(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let _prometheus = Peer::start("prometheus", &args, &dir.path().join("prometheus.log"));

    let alert = bench.wait_for_alert("Down", "firing").await;
    assert_eq!((&alert["severity"], &alert["labels"]["severity"]), (&"critical".into(), &"page".into()), "{alert:#}");
    assert_eq!(alert["summary"], "machine is down");
    assert!(alert["generator_url"].as_str().is_some_and(|url| url.contains("/graph?")), "{alert:#}");
    let url = format!("--alertmanager.url=http://{}", bench.running.address);
    let asked = Command::new("amtool").args([&url, "alert", "query", "Down"]).output().expect("amtool runs");
    let told = format!("{}{}", String::from_utf8_lossy(&asked.stdout), String::from_utf8_lossy(&asked.stderr));
    assert!(asked.status.success() && told.contains("machine is down"), "{told}");

    harness::until("the restart", || bench.dir.path().join("restarted").exists()).await;
    let web = format!("--web.listen-address={exporter}");
    let _exporter = Peer::start("prometheus-node-exporter", &[&web], &dir.path().join("exporter.log"));
    let run = bench.wait_for_end_of("restart").await;
    assert_eq!((&run["verdict"], &run["deployment"]), (&"cured".into(), &"machine".into()), "{run:#}");
    bench.wait_for_alert("Down", "resolved").await;

    let added =
        Command::new("amtool").args([&url, "alert", "add", "Other", "severity=page"]).output().expect("it runs");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    bench.wait_for_alert("Other", "firing").await;
    bench.stop().await;
}

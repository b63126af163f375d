//! The binary itself: exit codes, what goes to stdout, signals.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub const SELFHEAL: &str = env!("CARGO_BIN_EXE_selfheal");

pub fn selfheal(args: &[&str]) -> Output {
    Command::new(SELFHEAL)
        .args(args)
        .env_remove("SELFHEAL_URL")
        .env_remove("SELFHEAL_POLICY")
        .output()
        .unwrap_or_else(|error| panic!("selfheal does not start: {error}"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts `run` and waits for its `ready` line; gives the address.
pub fn run(policy: &Path) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = Command::new(SELFHEAL)
        .args(["run", "--listen", "127.0.0.1:0", "--log", "json", "--policy"])
        .arg(policy)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("selfheal does not start: {error}"));
    let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|length| length > 0) {
        let entry: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        if entry["fields"]["message"] == "ready" {
            let address = entry["fields"]["address"].as_str().expect("ready names its address").to_owned();
            return (child, address, log);
        }
        line.clear();
    }
    let ended = child.wait();
    panic!("selfheal ended before it was ready: {ended:?}");
}

pub fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is running");
}

#[test]
fn a_wrong_command_line_is_64_and_help_shows_examples() {
    assert_eq!(selfheal(&["frobnicate"]).status.code(), Some(64));
    assert_eq!(selfheal(&["send"]).status.code(), Some(64));
    for wrong in [
        &["pause", "--reason", "x", "--select", "tier=db"][..],
        &["pause", "--reason", "x", "--for", "2h"],
        &["pause", "--select", "tier=db", "--for", "2h"],
        &["pause", "--reason", "x", "--select", "tier=db", "--for", "soon"],
        &["resume"],
        &["resume", "--playbook", "restart"],
        &["resume", "--maintenance", "m-1", "--playbook", "restart"],
        &["trigger", "restart", "checkout", "--override", "grace"],
        &["approve"],
    ] {
        assert_eq!(selfheal(wrong).status.code(), Some(64), "{wrong:?}");
    }
    let verbs = [
        "run",
        "demo",
        "init",
        "check",
        "schema",
        "send",
        "status",
        "alerts",
        "runs",
        "history",
        "trigger",
        "pause",
        "resume",
        "approvals",
        "approve",
        "deny",
        "retry",
        "silence",
        "ack",
        "explain",
        "report",
    ];
    for verb in verbs {
        let help = selfheal(&[verb, "--help"]);
        assert_eq!(help.status.code(), Some(0), "{verb}");
        assert!(text(&help.stdout).contains("Example"), "{verb} --help shows no example");
    }
}

#[test]
fn schema_prints_what_an_editor_needs_for_each_kind_of_file() {
    for kind in ["config", "rules", "playbooks", "deployments"] {
        let printed = selfheal(&["schema", kind]);
        assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
        let schema: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("one JSON document");
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{kind}");
    }
    let printed = text(&selfheal(&["schema", "deployments"]).stdout);
    assert!(printed.contains("healthy_when") && printed.contains("replicas"), "the adapters' targets are in it");
    assert_eq!(selfheal(&["schema", "receivers"]).status.code(), Some(64));
}

#[test]
fn what_init_writes_passes_check_and_init_overwrites_nothing() {
    let dir = TempDir::new().expect("a temporary folder");
    let path = dir.path().to_string_lossy().into_owned();
    let init = selfheal(&["init", &path]);
    assert_eq!(init.status.code(), Some(0), "{}", text(&init.stderr));
    let check = selfheal(&["check", "--policy", &path, "--json"]);
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check.stdout), text(&check.stderr));
    let again = selfheal(&["init", &path]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
}

#[test]
fn check_shows_every_mistake_with_its_place() {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("selfheal.yaml"), "format: 1\ndeployment: []\n").expect("written");
    std::fs::create_dir(dir.path().join("rules")).expect("made");
    std::fs::write(
        dir.path().join("rules/a.yaml"),
        "rules:\n  - alert: A\n    when: 'last(\"cpu\") >> 5 and true'\n    severty: warning\n",
    )
    .expect("written");
    let path = dir.path().to_string_lossy().into_owned();
    let check = selfheal(&["check", "--policy", &path, "--json"]);
    assert_eq!(check.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&check.stdout).expect("one JSON document");
    let places: Vec<_> = document["diagnostics"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| format!("{}:{}", one["file"].as_str().unwrap_or_default(), one["line"]))
        .collect();
    for place in ["selfheal.yaml:2", "rules/a.yaml:3", "rules/a.yaml:4"] {
        assert!(places.iter().any(|found| found == place), "{place} is missing in {places:?}");
    }
    let shown = text(&selfheal(&["check", "--policy", &path]).stderr);
    assert!(shown.contains("rules/a.yaml:4:5") && shown.contains("severity") && shown.contains('^'), "{shown}");
}

#[test]
fn check_explains_what_every_rule_reads_and_how_it_is_evaluated() {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("selfheal.yaml"), "format: 1\nreceivers: [{ name: a }]\n").expect("written");
    std::fs::create_dir(dir.path().join("rules")).expect("made");
    let rules = "rules:\n\
        \x20 - { alert: Busy, when: 'avg(\"cpu\", \"5m\") > 80' }\n\
        \x20 - { alert: Full, when: 'predict(\"disk\", \"1h\", \"4h\") > 95' }\n\
        \x20 - { alert: Many, per: [], when: 'firing(\"Busy\") > 3' }\n\
        \x20 - { alert: Odd, when: '[last(\"cpu\")].filter(|x| x > 5).len() > 0' }\n";
    std::fs::write(dir.path().join("rules/a.yaml"), rules).expect("written");
    let path = dir.path().to_string_lossy().into_owned();
    let check = selfheal(&["check", "--policy", &path, "--explain", "--json"]);
    let document: Value = serde_json::from_slice(&check.stdout).expect("one JSON document");
    let rules = document["rules"].as_array().expect("a list of rules");
    let told: Vec<_> = rules.iter().map(|rule| (rule["rule"].as_str(), rule["way"].as_str())).collect();
    let expected = [("Busy", "arithmetic"), ("Full", "compiled"), ("Many", "compiled"), ("Odd", "compiled")]
        .map(|(rule, way)| (Some(rule), Some(way)));
    assert_eq!(told, expected);
    assert_eq!(rules[0]["reads"], serde_json::json!(["avg(\"cpu\", \"5m\")"]));
    assert_eq!(
        rules[1]["asked"],
        serde_json::json!([
            "when disk comes",
            "every second, for predict(\"disk\", \"1h\", \"4h\") changes by itself",
            "when something leaves a window of up to 1h",
        ])
    );
    assert!(rules[2]["because"].as_str().is_some_and(|why| why.contains("per: []")), "{}", rules[2]);
    assert!(rules.iter().all(|rule| rule["nanoseconds"].as_f64().is_some_and(|cost| cost > 0.0)));
    let shown = text(&selfheal(&["check", "--policy", &path, "--explain"]).stdout);
    assert!(shown.contains("keeps      disk for 1h"), "{shown}");
}

#[test]
fn verbs_without_an_engine_say_so() {
    let status = selfheal(&["status", "--url", "http://127.0.0.1:9"]);
    assert_eq!(status.status.code(), Some(2));
    assert!(text(&status.stderr).contains("no selfheal answers"), "{}", text(&status.stderr));
}

#[test]
fn a_running_engine_is_used_from_the_command_line_and_drains_on_sigterm() {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(
        dir.path().join("selfheal.yaml"),
        "format: 1\nreceivers: [{ name: nobody }]\nroute: { receiver: nobody }\n",
    )
    .expect("written");
    std::fs::create_dir(dir.path().join("rules")).expect("made");
    std::fs::write(dir.path().join("rules/a.yaml"), "rules:\n  - { alert: Hot, when: 'last(\"t\") > 5' }\n")
        .expect("written");
    let (mut child, address, mut log) = run(dir.path());
    let url = format!("http://{address}");

    let second = Command::new(SELFHEAL)
        .args(["run", "--listen", &address, "--policy"])
        .arg(dir.path())
        .output()
        .expect("it starts");
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("in use"), "{}", text(&second.stderr));

    let sent = selfheal(&["send", "--url", &url, "web-1", "t=7"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let alerts = selfheal(&["alerts", "--url", &url, "--json"]);
    let alerts: Value = serde_json::from_slice(&alerts.stdout).expect("one JSON document");
    assert_eq!(alerts[0]["alert"], "Hot", "{alerts:#}");
    assert_eq!(alerts[0]["labels"]["deployment"], "web-1");
    let table = text(&selfheal(&["status", "--url", &url]).stdout);
    assert!(table.contains("web-1") && !table.contains('\u{1b}'), "{table}");

    terminate(&child);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut log, &mut rest).expect("the log is text");
    assert!(child.wait().expect("it ends").success());
    assert!(rest.contains("draining") && rest.contains("stopped"), "{rest}");
}

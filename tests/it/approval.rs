//! A question to people on its whole way: a message with a link, a look that does nothing, and one answer.

use serde_json::{Value, json};

use crate::command_line::{selfheal, text};
use crate::harness::{self, Bench, find, until};

const ADAPTER: &str = r#"#!/bin/sh
read -r request
case "$request" in
  *'"verb":"describe"'*)
    echo '{"verbs":[{"verb":"restart","effect":"disrupt","idempotent":true,"params":[]}]}' ;;
  *'"verb":"observe"'*) echo '{"outcome":"done","facts":{"replicas":1}}' ;;
  *'"verb":"restart"'*) echo done >> restarted; echo '{"outcome":"done"}' ;;
esac
"#;

const POLICY: &str = r#"format: 1
server: { external_url: "https://heal.example.com" }
adapters:
  ours: { type: exec, command: [/bin/sh, ours.sh] }
deployments:
  - { id: checkout, adapter: ours, labels: { tier: web } }
receivers:
  - name: oncall
    email:
      - to: [oncall@example.com]
        from: selfheal@example.com
        smtp: { host: 127.0.0.1, port: @SMTP_PORT@, tls: none }
    webhook: [{ url: "@WEBHOOK_URL@" }]
route: { receiver: oncall, group_wait: 100ms, group_interval: 300ms }
guards: { mode: approve, start_grace: 0s, act_after: 100ms, grace: 1s }
"#;

const RULE: &str = "rules:
  - { alert: Stuck, when: 'last(\"stuck\") == 1', severity: critical, remediate: [restart] }
";

const PLAYBOOK: &str = "playbook: restart
steps: [{ id: restart, action: restart, timeout: 10s }]
verify: { hold: 100ms, within: 20s }
";

async fn start() -> Bench {
    harness::start(&[
        ("selfheal.yaml", POLICY),
        ("rules/stuck.yaml", RULE),
        ("playbooks/restart.yaml", PLAYBOOK),
        ("ours.sh", ADAPTER),
    ])
    .await
}

fn stuck(value: u8) -> Value {
    json!({ "type": "metric", "deployment": "checkout", "name": "stuck", "value": value })
}

/// The links of all messages about questions: those of webhooks and of the text parts of mails.
fn links(bench: &Bench) -> (Vec<String>, Vec<String>) {
    let found = |text: &str| {
        let links = text.match_indices("https://heal.example.com/approve/").filter_map(|(at, _)| {
            let link = text[at..].split(|letter: char| letter.is_whitespace() || "\"<\\".contains(letter)).next()?;
            Some(link.replace("&amp;", "&"))
        });
        links.collect::<Vec<_>>()
    };
    let hooks = bench.webhook.requests().iter().flat_map(|one| found(&String::from_utf8_lossy(&one.body))).collect();
    let mails = bench.smtp.mails().iter().flat_map(|mail| found(&mail.text())).collect();
    (hooks, mails)
}

/// The same link at the address where the engine of this test answers.
fn here(bench: &Bench, link: &str) -> String {
    link.replace("https://heal.example.com", &bench.url(""))
}

async fn form(bench: &Bench, link: &str, form: &'static str) -> (u16, String) {
    let request = bench.http.post(link).header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("whole"))
}

fn restarted(bench: &Bench) -> usize {
    std::fs::read_to_string(bench.dir.path().join("restarted")).map_or(0, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_message_is_looked_at_freely_and_answers_once() {
    let bench = start().await;
    bench.event(stuck(1)).await;
    until("a webhook and a mail with the link", || {
        let (hooks, mails) = links(&bench);
        !hooks.is_empty() && !mails.is_empty()
    })
    .await;
    let (hooks, mails) = links(&bench);
    assert!(mails.iter().all(|link| *link == hooks[0]), "{mails:?} {hooks:?}");
    let anchor = format!("<a href=\"{}\">", hooks[0].replace('&', "&amp;"));
    // as quoted-printable
    let whole = |data: &str| data.replace("=\n", "").replace("=3D", "=");
    assert!(bench.smtp.mails().iter().any(|mail| whole(&mail.data).contains(&anchor)), "no HTML part has {anchor}");
    let link = here(&bench, &hooks[0]);
    assert_eq!(bench.get("/api/v1/approvals?state=waiting").await.as_array().map(Vec::len), Some(1));

    for _ in 0..3 {
        let shown = bench.http.get(&link).send().await.expect("an answer");
        assert_eq!(shown.status(), 200);
        assert!(shown.text().await.expect("whole").contains("run restart on checkout"));
        assert_eq!(bench.http.head(&link).send().await.expect("an answer").status(), 200);
    }
    assert_eq!(bench.get("/api/v1/approvals?state=waiting").await.as_array().map(Vec::len), Some(1));
    assert_eq!(restarted(&bench), 0, "nobody has allowed it");
    let broken = format!("{}0", &link[..link.len() - 1]);
    let broken = if broken == link { format!("{}1", &link[..link.len() - 1]) } else { broken };
    assert_eq!(form(&bench, &broken, "answer=approve").await.0, 403);

    let (status, page) = form(&bench, &link, "answer=approve&reason=go").await;
    assert_eq!(status, 200, "{page}");
    for word in ["answer=approve", "answer=deny"] {
        let (status, page) = form(&bench, &link, word).await;
        assert!(status == 410 && page.contains("approved by link"), "{status} {page}");
    }
    assert_eq!(bench.http.get(&link).send().await.expect("an answer").status(), 410);
    bench.wait("the restart", "/api/v1/runs", |runs| find(runs, |run| run["steps"][0]["outcome"] == "done")).await;
    bench.event(stuck(0)).await;
    let run = bench.wait_for_end_of("restart").await;
    assert_eq!((&run["verdict"], &run["approved_by"]), (&json!("cured"), &json!("link")), "{run:#}");
    assert_eq!(restarted(&bench), 1);

    // whoever can read what is kept cannot answer by it
    let (_, sign) = link.split_once("sign=").expect("a signature");
    for path in ["runs", "alerts", "deliveries", "audit", "approvals", "history?kind=deliveries", "history?kind=audit"]
    {
        let shown = bench.get(&format!("/api/v1/{path}")).await.to_string();
        assert!(!shown.contains(sign), "{path} shows the link");
    }
    let data = bench.dir.path().join("data");
    let sign = sign.to_owned();
    let dir = bench.dir.path().to_owned();
    let Bench { running, dir: _kept, .. } = bench;
    running.drain().await;
    let mut files = vec![data];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        assert!(!bytes.windows(sign.len()).any(|part| part == sign.as_bytes()), "{} holds the link", path.display());
    }
    assert!(dir.join("data/link.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn people_decide_from_the_command_line() {
    let bench = start().await;
    let url = format!("http://{}", bench.running.address);
    let say = |args: &[&str]| {
        let args: Vec<String> =
            args.iter().map(|arg| (*arg).to_owned()).chain(["--url".to_owned(), url.clone()]).collect();
        async move {
            let run = move || {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let output = selfheal(&args);
                (output.status.code(), text(&output.stdout), text(&output.stderr))
            };
            tokio::task::spawn_blocking(run).await.expect("no panic")
        }
    };
    bench.event(stuck(1)).await;
    let open =
        bench.wait("a question", "/api/v1/approvals?state=waiting", |open| open.as_array()?.first().cloned()).await;
    let (id, run) = (open["id"].as_str().expect("an id"), open["run"].as_str().expect("a run"));
    let (code, shown, _) = say(&["approvals"]).await;
    assert!(code == Some(0) && shown.contains(id) && shown.contains("run restart on checkout"), "{shown}");
    let (_, shown, _) = say(&["runs", run]).await;
    assert!(shown.contains(&format!("selfheal approve {id}")), "{shown}");

    // a run stands for its only question; one that is answered is answered
    let (code, shown, error) = say(&["deny", run, "--reason", "not now"]).await;
    assert!(code == Some(0) && shown.contains("denied"), "{shown}{error}");
    let (code, _, error) = say(&["approve", id]).await;
    assert!(code == Some(2) && error.contains("nothing waits"), "{error}");
    let denied = bench.wait_for_end_of("restart").await;
    assert_eq!(denied["verdict"], "denied", "{denied:#}");

    let alert = bench.wait_for_alert("Stuck", "firing").await;
    let (code, _, error) = say(&["retry", alert["id"].as_str().expect("an id")]).await;
    assert_eq!(code, Some(0), "{error}");
    bench.wait("the question again", "/api/v1/approvals?state=waiting", |open| open.as_array()?.first().cloned()).await;

    let (code, shown, error) = say(&["pause", "--select", "tier=web", "--for", "2h", "--reason", "moving"]).await;
    assert!(code == Some(0) && shown.starts_with("m-1:"), "{shown}{error}");
    let (_, shown, _) = say(&["status"]).await;
    assert!(shown.contains("m-1: no repair of tier=\"web\""), "{shown}");
    assert_eq!(say(&["resume", "--maintenance", "m-1"]).await.0, Some(0));
    assert_eq!(bench.get("/api/v1/status").await["maintenance"], json!([]));
    let (code, _, error) = say(&["resume", "--playbook", "restart", "--reason", "fixed"]).await;
    assert!(code == Some(2) && error.contains("not out of service"), "{error}");
    let (code, _, error) = say(&["trigger", "restart", "checkout", "--override", "pause", "--reason", "x"]).await;
    assert!(code == Some(2) && error.contains("never be overruled"), "{error}");
    let (code, shown, error) = say(&["trigger", "restart", "checkout", "--override", "grace", "--reason", "x"]).await;
    assert_eq!(code, Some(0), "{shown}{error}");
    let by_hand = shown.split_whitespace().next().expect("the run's id").to_owned();
    let (_, shown, _) = say(&["runs", &by_hand]).await;
    assert!(shown.contains("guards") && shown.contains("blast_radius"), "{shown}");
    bench.stop().await;
}

/// The journal of a restart does not hold the key: the file does.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_after_a_restart() {
    let bench = start().await;
    bench.event(stuck(1)).await;
    until("a webhook with the link", || !links(&bench).0.is_empty()).await;
    let link = links(&bench).0[0].clone();
    let Bench { dir, running, smtp, webhook, http } = bench;
    running.drain().await;
    let running = selfheal::app::Running::start(harness::options(dir.path().to_owned())).await.expect("it starts");
    let bench = Bench { dir, running, smtp, webhook, http };
    let (status, page) = form(&bench, &here(&bench, &link), "answer=deny").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(bench.wait_for_end_of("restart").await["verdict"], "denied");
    bench.stop().await;
}

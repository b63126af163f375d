use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use selfheal_model::{
    CheckStatus, Confidence, Deployment, EventKind, HealthyWhen, Labels, Map, Origin, Reach, Replica, Trust,
};

mod dns;
mod reach;
mod tls;

const DEADLINE: Duration = Duration::from_secs(20);

fn check(kind: CheckKind) -> Check {
    Check {
        name: "probe".into(),
        kind,
        every: Duration::from_secs(3600),
        timeout: Duration::from_secs(10),
        connect_timeout: None,
        retries: 0,
        retry_delay: Duration::ZERO,
        failure_threshold: 1,
        success_threshold: 1,
        start_period: Duration::ZERO,
        min_confidence: Confidence::NONE,
    }
}

fn http(url: impl Into<String>) -> CheckKind {
    CheckKind::Http {
        url: url.into(),
        method: "GET".to_owned(),
        headers: Vec::new(),
        body: None,
        status: Vec::new(),
        body_matches: None,
        follow_redirects: false,
        trust: Trust::default(),
        reach: Reach::default(),
    }
}

fn tcp(address: impl Into<String>) -> CheckKind {
    CheckKind::Tcp { address: address.into(), reach: Reach::default() }
}

fn shell(script: &str) -> CheckKind {
    CheckKind::Command { command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()] }
}

fn replica(index: u32, port: Option<u16>) -> Replica {
    Replica { index, port, pid: None, up: port.is_some(), incarnation: 0 }
}

fn desired(checks: Vec<Check>, replicas: Vec<Replica>) -> Arc<Desired> {
    let deployment = Deployment {
        id: "web".into(),
        adapter: None,
        labels: Labels::default(),
        depends_on: Vec::new(),
        target: Map::new(),
        checks,
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    };
    let deployment = DesiredDeployment { deployment: Arc::new(deployment), adapter: None, replicas };
    Arc::new(Desired { deployments: vec![deployment], ..Desired::default() })
}

fn checks() -> (Checks, mpsc::Receiver<Vec<Event>>) {
    let (sender, receiver) = mpsc::channel(100);
    (Checks::new(sender, Arc::new(|| Timestamp::from_millis(1_795_000_000_000))), receiver)
}

/// A verdict, taken apart.
#[derive(Debug)]
struct Seen {
    replica: Option<u32>,
    status: CheckStatus,
    reason: Option<FailureReason>,
    message: String,
    events: Vec<Event>,
}

async fn next(receiver: &mut mpsc::Receiver<Vec<Event>>) -> Seen {
    let events = tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("a verdict in time").expect("a sender");
    let EventKind::Health { replica, status, reason, message, .. } = events[0].kind.clone() else {
        panic!("no verdict: {:?}", events[0])
    };
    Seen { replica, status, reason, message, events }
}

/// What one check of an otherwise quiet deployment says when probed.
async fn probed(check: Check, replicas: Vec<Replica>) -> Seen {
    let (sender, mut receiver) = mpsc::channel(100);
    // its own rhythm stays quiet: nothing is applied to it but the picture
    let checks = Checks::new(sender, Arc::new(Timestamp::default));
    checks.running.lock().expect("not poisoned").desired = desired(vec![check], replicas);
    checks.probe(&"web".into(), &"probe".into()).await.expect("it exists");
    next(&mut receiver).await
}

/// A server that answers each connection with the next of `answers`, the last one for ever. `None`: hangs up.
async fn server(answers: Vec<Option<&'static str>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let index = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            read_head(&mut stream).await;
            if let Some(answer) = answers[index] {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (address, asked)
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    // what begins like TLS never ends like HTTP
    while !head.starts_with(&[0x16]) && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => head.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
}

const OK: Option<&str> = Some("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nall:up\n");
const BAD: Option<&str> = Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
const MOVED: Option<&str> =
    Some("HTTP/1.1 301 Moved Permanently\r\nlocation: /there\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");

/// A port that nobody listens on.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn a_healthy_answer_is_told_with_latency_and_both_metrics() {
    let (address, _) = server(vec![OK]).await;
    let seen = probed(check(http(format!("http://{address}/health"))), vec![]).await;
    assert_eq!((seen.status, seen.reason, seen.replica), (CheckStatus::Healthy, None, None), "{seen:?}");
    let EventKind::Health { latency_ms: Some(latency), .. } = seen.events[0].kind else { panic!("no latency") };
    let metrics: Vec<(String, f64, String)> = seen.events[1..]
        .iter()
        .map(|event| match &event.kind {
            EventKind::Metric { name, value, labels } => (name.to_string(), *value, labels.to_string()),
            other => panic!("no metric: {other:?}"),
        })
        .collect();
    let labels = r#"{check="probe"}"#.to_owned();
    assert_eq!(
        metrics,
        [("check_up".to_owned(), 1.0, labels.clone()), ("check_latency_ms".to_owned(), latency, labels)]
    );
    assert!(seen.events.iter().all(|event| event.origin == Origin::Watched));
}

#[tokio::test]
async fn the_status_decides_and_redirects_are_not_followed() {
    let (address, _) = server(vec![BAD]).await;
    let url = format!("http://{address}/health");
    let seen = probed(check(http(&url)), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Status));
    assert_eq!(seen.message, format!("{url}: answered 503 Service Unavailable, expected any 2xx"));
    let (address, asked) = server(vec![MOVED]).await;
    let seen = probed(check(http(format!("http://{address}/"))), vec![]).await;
    assert_eq!((seen.reason, asked.load(Ordering::SeqCst)), (Some(FailureReason::Status), 1));
    let mut kind = http(format!("http://{address}/"));
    if let CheckKind::Http { status, .. } = &mut kind {
        *status = vec![200, 301];
    }
    assert_eq!(probed(check(kind), vec![]).await.status, CheckStatus::Healthy);
}

#[tokio::test]
async fn the_body_must_match_where_asked_for() {
    let (address, _) = server(vec![OK]).await;
    for (pattern, reason) in [("^all:up", None), ("down", Some(FailureReason::Body)), ("(", Some(FailureReason::Body))]
    {
        let mut kind = http(format!("http://{address}/"));
        if let CheckKind::Http { body_matches, .. } = &mut kind {
            *body_matches = Some(pattern.to_owned());
        }
        let seen = probed(check(kind), vec![]).await;
        assert_eq!(seen.reason, reason, "{pattern}: {seen:?}");
    }
}

#[tokio::test]
async fn what_breaks_on_the_wire_is_called_by_its_name() {
    let port = closed_port().await;
    let seen = probed(check(http(format!("http://127.0.0.1:{port}/"))), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Refused), "{seen:?}");
    let (address, _) = server(vec![None]).await;
    let seen = probed(check(http(format!("http://{address}/"))), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Reset), "{seen:?}");
    let (address, _) = server(vec![Some("SSH-2.0-hello\r\n\r\n")]).await;
    let seen = probed(check(http(format!("http://{address}/"))), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Status), "{seen:?}");
    let (address, _) = server(vec![OK]).await;
    let seen = probed(check(http(format!("https://{address}/"))), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Tls), "{seen:?}");
    // a label of 64 letters is no host name anywhere, so no name server is asked
    let host = format!("{}.invalid", "a".repeat(64));
    let seen = probed(check(http(format!("http://{host}/"))), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Dns), "{seen:?}");
    let seen = probed(check(tcp(format!("{host}:80"))), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Dns), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout_and_its_password_is_not_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut hanging = check(http(format!("http://me:secret@{address}/health")));
    hanging.timeout = Duration::from_millis(50);
    let seen = probed(hanging, vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Timeout));
    assert_eq!(seen.message, format!("http://me:***@{address}/health: no answer within 50ms"));
}

#[tokio::test]
async fn tries_within_a_run_hide_what_passes() {
    let (address, asked) = server(vec![BAD, BAD, OK]).await;
    let mut patient = check(http(format!("http://{address}/")));
    patient.retries = 2;
    assert_eq!(probed(patient.clone(), vec![]).await.status, CheckStatus::Healthy);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let (address, asked) = server(vec![BAD]).await;
    patient.kind = http(format!("http://{address}/"));
    assert_eq!(probed(patient, vec![]).await.status, CheckStatus::Unhealthy);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn each_replica_is_asked_at_its_own_port_and_a_dead_one_refuses() {
    let (address, _) = server(vec![OK]).await;
    let dead = closed_port().await;
    let (checks, mut receiver) = checks();
    let per_replica = check(http("http://127.0.0.1:{{ port }}/{{replica}}"));
    checks.running.lock().expect("not poisoned").desired =
        desired(vec![per_replica], vec![replica(0, Some(address.port())), replica(1, Some(dead)), replica(2, None)]);
    assert_eq!(checks.probe(&"web".into(), &"probe".into()).await, Ok(3));
    let mut seen = [next(&mut receiver).await, next(&mut receiver).await, next(&mut receiver).await];
    seen.sort_by_key(|seen| seen.replica);
    assert_eq!(seen[0].status, CheckStatus::Healthy, "{:?}", seen[0]);
    assert_eq!(seen[1].message, format!("replica 1 (http://127.0.0.1:{dead}/1): connection refused"));
    assert_eq!(seen[2].reason, Some(FailureReason::Refused));
    assert!(seen[2].message.ends_with("the replica has no port"), "{:?}", seen[2]);
    assert!(seen[1].events.iter().all(|event| match &event.kind {
        EventKind::Metric { labels, .. } => labels.get("replica") == Some("1"),
        _ => true,
    }));
}

#[tokio::test]
async fn tcp_is_healthy_where_a_connection_opens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    assert_eq!(probed(check(tcp(address.clone())), vec![]).await.status, CheckStatus::Healthy);
    drop(listener);
    let seen = probed(check(tcp(address.clone())), vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Refused));
    assert_eq!(seen.message, format!("{address}: connection refused"));
}

#[tokio::test]
async fn a_command_speaks_by_its_exit_and_by_json() {
    for (script, reason, message, confidence) in [
        ("echo fine", None, "fine", None),
        (r#"echo '{"status":"healthy","message":"12 rows","confidence":0.9}'"#, None, "12 rows", Some(0.9)),
        (
            r#"echo '{"status":"unhealthy","message":"lag 40s","confidence":0}'"#,
            Some(FailureReason::Exit),
            "sh: says unhealthy: lag 40s",
            Some(0.0),
        ),
        (
            r#"echo '{"status":"healthy","message":"fine","confidence":1}'; exit 1"#,
            Some(FailureReason::Exit),
            "sh: exit code 1: fine",
            Some(1.0),
        ),
        // what is not one such object is a message
        (r#"echo '{"status":"degraded"}'"#, None, r#"{"status":"degraded"}"#, None),
        (r#"echo '{"confidence":2}'"#, None, r#"{"confidence":2}"#, None),
        (r#"echo '{"message":"a"} {"message":"b"}'"#, None, r#"{"message":"a"} {"message":"b"}"#, None),
        (
            r#"echo '{"status":"healthy"}'; echo 'no space' >&2; exit 3"#,
            Some(FailureReason::Exit),
            "sh: exit code 3: no space",
            None,
        ),
        ("echo 'no space' >&2; exit 3", Some(FailureReason::Exit), "sh: exit code 3: no space", None),
        ("kill -9 $$", Some(FailureReason::Exit), "sh: killed by signal 9", None),
    ] {
        let seen = probed(check(shell(script)), vec![]).await;
        assert_eq!((seen.reason, seen.message.as_str()), (reason, message), "{script}");
        let EventKind::Health { confidence: said, .. } = seen.events[0].kind else { panic!("no verdict") };
        assert_eq!(said, confidence.and_then(Confidence::new), "{script}");
    }
    let missing = CheckKind::Command { command: vec!["/no/such/program".to_owned()] };
    let seen = probed(check(missing), vec![]).await;
    assert!(seen.message.starts_with("/no/such/program: cannot start:"), "{seen:?}");
}

#[tokio::test]
async fn a_command_learns_whom_it_is_asked_about() {
    let script = r#"echo "$DEPLOYMENT $CHECK $REPLICA $PORT {{ replica }}""#;
    let seen = probed(check(shell(script)), vec![replica(3, Some(9103))]).await;
    assert_eq!(seen.message, "web probe 3 9103 3");
    let seen = probed(check(shell(r#"echo "${REPLICA-none} ${PORT-none}""#)), vec![]).await;
    assert_eq!(seen.message, "none none");
}

#[tokio::test]
async fn a_command_over_its_time_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().expect("a folder");
    let pids = dir.path().join("pids");
    let script = format!("sleep 600 & echo $! $$ > {}; wait", pids.display());
    let mut endless = check(shell(&script));
    endless.timeout = Duration::from_secs(1);
    let seen = probed(endless, vec![]).await;
    assert_eq!(seen.reason, Some(FailureReason::Timeout), "{seen:?}");
    let pids = std::fs::read_to_string(pids).expect("the script ran");
    for pid in pids.split_whitespace() {
        until(|| !alive(pid), "the process group is gone").await;
    }
}

#[tokio::test]
async fn a_child_left_behind_does_not_hold_up_the_verdict() {
    let seen = probed(check(shell("(exec sleep 30 2>/dev/null) & echo done; exit 0")), vec![]).await;
    assert_eq!((seen.status, seen.message.as_str()), (CheckStatus::Healthy, "done"));
}

/// Running, and not merely waiting to be reaped.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X'])))
}

async fn until(condition: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_applied_runs_on_its_rhythm_and_stops_when_it_is_gone() {
    let (address, _) = server(vec![OK]).await;
    let mut quick = check(http(format!("http://{address}/")));
    quick.every = Duration::from_millis(20);
    let (checks, mut receiver) = checks();
    checks.apply(&desired(vec![quick], vec![]));
    for _ in 0..3 {
        assert_eq!(next(&mut receiver).await.status, CheckStatus::Healthy);
    }
    checks.apply(&Arc::new(Desired::default()));
    assert!(checks.probe(&"web".into(), &"probe".into()).await.is_err());
    drop(checks);
    // every sender is gone once the task is: the channel ends after what was still in it
    tokio::time::timeout(DEADLINE, async { while receiver.recv().await.is_some() {} }).await.expect("it stopped");
}

#[tokio::test]
async fn only_what_changed_begins_anew() {
    let mut first = check(tcp("127.0.0.1:{{ port }}"));
    first.name = "a".into();
    let mut second = first.clone();
    second.name = "b".into();
    let (checks, _receiver) = checks();
    let tasks = |checks: &Checks| -> Vec<(String, Option<u32>, tokio::task::Id)> {
        let running = checks.running.lock().expect("not poisoned");
        running.tasks.iter().map(|(key, task)| (key.check.to_string(), key.replica, task.handle.id())).collect()
    };
    checks.apply(&desired(vec![first.clone(), second.clone()], vec![replica(0, Some(1)), replica(1, Some(2))]));
    let before = tasks(&checks);
    assert_eq!(before.len(), 4);
    let mut restarted = replica(0, Some(1));
    restarted.incarnation = 7;
    second.timeout = Duration::from_secs(1);
    checks.apply(&desired(vec![first, second], vec![restarted, replica(1, Some(3))]));
    let after = tasks(&checks);
    let same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
    assert_eq!(same, [true, false, false, false], "a/0 is as it was; a/1 has a new port; b has a new time-out");
}

#[test]
fn first_runs_are_spread_by_name_and_always_the_same() {
    let key = |replica| JobKey { deployment: "web".into(), check: "http".into(), replica: Some(replica) };
    let spread: Vec<Duration> = (0..200).map(|index| first_run_after(&key(index), Duration::from_secs(60))).collect();
    assert!(spread.iter().all(|wait| *wait < FIRST_RUN_WITHIN));
    assert!(spread.iter().any(|wait| *wait < FIRST_RUN_WITHIN / 4));
    assert!(spread.iter().any(|wait| *wait > FIRST_RUN_WITHIN * 3 / 4));
    assert_eq!(spread[7], first_run_after(&key(7), Duration::from_secs(60)));
    assert!(first_run_after(&key(7), Duration::from_millis(10)) < Duration::from_millis(10));
}

#[tokio::test]
async fn a_probe_of_nothing_says_so() {
    let (checks, _receiver) = checks();
    let per_replica = check(tcp("127.0.0.1:{{ port }}"));
    checks.running.lock().expect("not poisoned").desired = desired(vec![per_replica], vec![]);
    let said = |result: Result<usize, ProbeError>| result.expect_err("nothing to probe").to_string();
    assert_eq!(said(checks.probe(&"web".into(), &"tls".into()).await), "`web` has no check `tls`");
    assert_eq!(said(checks.probe(&"db".into(), &"probe".into()).await), "`db` has no check `probe`");
    assert!(said(checks.probe(&"web".into(), &"probe".into()).await).contains("no replica of `web` is known"));
}

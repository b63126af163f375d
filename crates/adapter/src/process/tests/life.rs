//! Started, adopted, dead, restarted, refused.

use std::fs;
use std::sync::atomic::AtomicBool;

use axum::http::StatusCode;
use procfs::process::Process;

use super::*;
use crate::process::state::State;
use crate::process::system::{Identity, Signalled};

#[tokio::test]
async fn ensure_starts_what_never_ran_in_a_session_of_its_own() {
    let ports = ten_ports();
    let world = World::shell(
        "echo $PORT/$REPLICA/$MEMORY_LIMIT/$MODE/$0/$SECRET_OF_SELFHEAL; while :; do sleep 0.02; done",
        json!({ "ports": format!("{ports}-{}", ports + 9), "replicas": 2, "memory": "64MiB",
                "env": { "MODE": "m{{ replica }}" },
                "command": ["sh", "-c", "echo $PORT/$REPLICA/$MEMORY_LIMIT/$MODE/$0; exec sleep 1000", "p{{ port }}"] }),
    );
    world.ensure().await;
    world.until_up(&[true, true]).await;
    until("both wrote", || !world.log(0).is_empty() && !world.log(1).is_empty()).await;
    assert_eq!(world.log(0), format!("{ports}/0/67108864/m0/p{ports}\n"));
    assert_eq!(world.log(1), format!("{0}/1/67108864/m1/p{0}\n", ports + 1));
    let seen = world.observe().await;
    assert_eq!(seen.facts.get("replicas"), Some(&json!(2)));
    assert_eq!(seen.facts.get("memory_limit"), Some(&json!(67_108_864)));
    assert_eq!(seen.facts.get("over_memory"), Some(&json!(false)));
    assert_eq!(seen.replicas[1].port, Some(ports + 1));
    let pid = seen.replicas[0].pid.unwrap();
    let stat = Process::new(pid as i32).unwrap().stat().unwrap();
    assert_eq!((stat.session, stat.pgrp), (pid as i32, pid as i32), "it outlives selfheal's session");
    // in the moment of its `exec` a process has none
    let deadline = Instant::now() + PATIENCE;
    let has_memory = |seen: &Observation| {
        seen.metrics.iter().any(|(name, value, labels)| {
            name.as_str() == "memory_bytes" && *value > 0.0 && labels.get("replica") == Some("1")
        })
    };
    while !has_memory(&world.observe().await) {
        assert!(Instant::now() < deadline, "no memory_bytes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn cpu_is_measured_between_two_looks() {
    let world = World::shell("while :; do :; done", json!({}));
    world.ensure().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = world.observe().await;
        if let Some((_, percent, labels)) = seen.metrics.iter().find(|(name, ..)| name.as_str() == "cpu_percent") {
            assert!(*percent > 1.0 && *percent < 150.0, "{percent}");
            assert_eq!(labels.get("replica"), Some("0"));
            return;
        }
        assert!(Instant::now() < deadline, "no cpu_percent");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn processes_survive_and_are_adopted_and_a_dead_one_stays_dead() {
    let mut world = World::shell(STAYS, json!({ "replicas": 2 }));
    world.ensure().await;
    world.until_up(&[true, true]).await;
    let before = world.observe().await.replicas;
    world.restart_engine();
    world.ensure().await;
    assert_eq!(world.observe().await.replicas, before);
    Identity::of(before[1].pid.unwrap()).unwrap().signal(Signal::KILL).unwrap();
    world.until_up(&[true, false]).await;
    let state = world.state_dir().join("state.json");
    until("its end is written down", || fs::read_to_string(&state).is_ok_and(|text| text.contains("signal 9"))).await;
    world.restart_engine();
    world.ensure().await;
    let seen = world.observe().await;
    assert_eq!(seen.replicas[0], before[0]);
    assert_eq!((seen.replicas[1].up, seen.replicas[1].pid), (false, None));
    assert_eq!(seen.facts.get("replicas"), Some(&json!(2)));
    let diagnosis = world.done("diagnose", json!({})).await;
    assert_eq!(diagnosis["replicas"][1]["ended"], json!("was ended by signal 9"));
}

#[tokio::test]
async fn a_lost_state_finds_its_processes_again() {
    let mut world = World::shell(STAYS, json!({ "replicas": 2 }));
    world.ensure().await;
    world.until_up(&[true, true]).await;
    let before = world.observe().await.replicas;
    for broken in [None, Some("{ half")] {
        match broken {
            None => fs::remove_file(world.state_dir().join("state.json")).unwrap(),
            Some(text) => fs::write(world.state_dir().join("state.json"), text).unwrap(),
        }
        world.restart_engine();
        world.ensure().await;
        assert_eq!(world.observe().await.replicas, before, "{broken:?}");
    }
}

#[tokio::test]
async fn a_replica_started_just_before_a_kill_is_found_again() {
    let mut world = World::shell(STAYS, json!({}));
    world.ensure().await;
    world.until_up(&[true]).await;
    let before = world.observe().await.replicas;
    let path = world.state_dir().join("state.json");
    let mut state: State = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state.running.get_mut(&0).unwrap().pid = None;
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    world.restart_engine();
    world.ensure().await;
    assert_eq!(world.observe().await.replicas, before);
}

#[tokio::test]
async fn a_pid_that_was_given_away_is_never_signalled() {
    let mut world = World::shell("exec sleep 1000", json!({}));
    world.ensure().await;
    world.until_up(&[true]).await;
    let pid = world.pids().await[0].unwrap();
    let path = world.state_dir().join("state.json");
    let mut state: State = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state.running.get_mut(&0).unwrap().start += 1;
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    world.restart_engine();
    world.ensure().await;
    world.until_up(&[false]).await;
    let stranger = Identity::of(pid).unwrap();
    let mistaken = Identity { start: stranger.start + 1, ..stranger };
    assert_eq!(mistaken.signal(Signal::KILL).unwrap(), Signalled::Gone);
    assert_eq!(mistaken.signal_group(Signal::KILL).unwrap(), Signalled::Gone);
    assert!(!mistaken.group_is_alive());
    world.done("restart", json!({})).await;
    assert!(stranger.is_alive(), "the process that has the pid now was left alone");
    stranger.signal_group(Signal::KILL).unwrap();
}

#[tokio::test]
async fn restart_rolls_one_at_a_time_and_starts_what_is_down() {
    let world = World::shell(STAYS, json!({ "replicas": 3, "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.until_up(&[true, true, true]).await;
    let before = world.pids().await;
    Identity::of(before[2].unwrap()).unwrap().signal(Signal::KILL).unwrap();
    world.until_up(&[true, true, false]).await;
    let end = world.call("restart", json!({})).await;
    let Outcome::Done { output, .. } = end.outcome else { panic!("{:?}", end.outcome) };
    assert_eq!(output, json!({ "restarted": [0, 1], "started": [2], "killed": [], "stopped": [] }));
    let order: Vec<&str> = end.log.lines().filter(|line| line.contains("started:")).map(|line| &line[..9]).collect();
    assert_eq!(order, ["replica 2", "replica 0", "replica 1"], "what is down comes first");
    let after = world.observe().await;
    assert!(after.replicas.iter().zip(&before).all(|(now, was)| now.up && now.pid != *was));
    assert_eq!(after.replicas.iter().map(|replica| replica.incarnation).collect::<Vec<_>>(), [5, 6, 4]);
    assert_eq!(after.facts.get("restarts"), Some(&json!(3)));
}

#[tokio::test]
async fn restart_of_sick_ones_leaves_the_others() {
    let world = World::shell(STAYS, json!({ "replicas": 2, "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.until_up(&[true, true]).await;
    let before = world.pids().await;
    let (class, why) = world.fails("restart", json!({ "replicas": "sick" })).await;
    assert_eq!((class, why.as_str()), (FailureClass::Conflict, "no replica is sick or down"));
    let mut step = world.step("restart", json!({ "replicas": "sick" }));
    step.sick_replicas = vec![1];
    let end = world.adapters.call(step).await;
    assert_eq!(end.outcome.word(), "done", "{end:?}");
    let after = world.pids().await;
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_with_all_it_started() {
    // the background child leaves the group of its parent, but not the session
    let world = World::shell(&format!("sleep 1000 & {STUBBORN}"), json!({ "ready": { "after": "10ms" } }));
    world.ensure().await;
    until("it ignores the signal", || world.log(0).contains("up")).await;
    let leader = Identity::of(world.pids().await[0].unwrap()).unwrap();
    assert!(leader.members(&Table::read()).len() >= 2);
    let end = world.call("restart", json!({ "grace": "100ms" })).await;
    let Outcome::Done { output, .. } = &end.outcome else { panic!("{end:?}") };
    assert_eq!(output["killed"], json!([0]));
    assert!(end.log.contains("sent SIGKILL"), "{}", end.log);
    assert!(!leader.group_is_alive());
}

#[tokio::test]
async fn what_a_dead_replica_left_behind_is_ended_before_it_starts_again() {
    let world = World::shell(&format!("({STUBBORN}) & {STAYS}"), json!({ "ready": { "after": "10ms" } }));
    world.ensure().await;
    until("both wrote", || world.log(0).lines().count() >= 2).await;
    let leader = Identity::of(world.pids().await[0].unwrap()).unwrap();
    leader.signal(Signal::KILL).unwrap();
    world.until_up(&[false]).await;
    assert!(leader.group_is_alive(), "the child goes on");
    world.done("restart", json!({ "grace": "50ms" })).await;
    assert!(!leader.group_is_alive());
}

#[tokio::test]
async fn one_that_dies_at_start_stops_the_rolling_and_explains_itself() {
    let mut world = World::shell(STAYS, json!({ "replicas": 2, "ready": { "after": "300ms" } }));
    world.ensure().await;
    world.until_up(&[true, true]).await;
    let before = world.pids().await;
    world.set_target(json!({
        "command": ["sh", "-c", "echo cannot open the database >&2; exit 3"], "replicas": 2, "ready": { "after": "300ms" }
    }));
    let (class, why) = world.fails("restart", json!({})).await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.starts_with("replica 0 exited with code 3"), "{why}");
    assert!(why.ends_with("cannot open the database"), "{why}");
    assert_eq!(world.pids().await, [None, before[1]], "the second was left alone");
}

#[tokio::test]
async fn a_missing_command_is_named_and_starts_later_once_it_is_there() {
    let mut world = World::new(json!({ "command": ["no-such-program-anywhere"] }));
    let error = world.adapters.ensure(&world.desired()).await.unwrap_err();
    assert!(error.contains("`no-such-program-anywhere` is not in PATH"), "{error}");
    let (class, why) = world.fails("restart", json!({})).await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.contains("no-such-program-anywhere"), "{why}");
    world.set_target(json!({ "command": ["./not-here"], "dir": "nowhere" }));
    assert!(world.fails("restart", json!({})).await.1.contains("does not exist"));
    world.set_target(json!({ "command": ["sleep", "1000"], "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.until_up(&[true]).await;
}

#[tokio::test]
async fn readiness_over_http_and_tcp_is_waited_for() {
    let ready = Arc::new(AtomicBool::new(false));
    let answer = ready.clone();
    let app = axum::Router::new().route(
        "/health",
        axum::routing::get(move || {
            let status = if answer.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            async move { status }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let url = format!("http://{address}/health");
    let mut world = World::shell(STAYS, json!({ "ready": { "http": url, "within": "300ms" } }));
    let (class, why) = world.fails("restart", json!({})).await;
    assert_eq!(class, FailureClass::Transient);
    assert!(why.contains("not ready within 300ms") && why.contains("503"), "{why}");
    assert_eq!(world.fact("ready_replicas").await, json!(0));
    ready.store(true, Ordering::SeqCst);
    world.done("restart", json!({})).await;
    assert_eq!(world.fact("ready_replicas").await, json!(1));
    world.set_target(json!({
        "command": ["sleep", "1000"], "ready": { "tcp": address.to_string(), "within": "300ms" }
    }));
    world.done("restart", json!({})).await;
    server.abort();
    until("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(world.fails("restart", json!({})).await.1.contains("not ready within 300ms"));
}

#[tokio::test]
async fn a_smaller_fence_and_an_old_decision_are_refused() {
    let mut world = World::shell(STAYS, json!({ "ready": { "after": "10ms" } }));
    world.fence = 7;
    world.done("restart", json!({})).await;
    let before = world.pids().await;
    world.restart_engine();
    world.fence = 6;
    let (class, why) = world.fails("restart", json!({})).await;
    assert_eq!(class, FailureClass::Conflict);
    assert!(why.contains("fence 7"), "{why}");
    world.fence = 7;
    let mut late = world.step("restart", json!({}));
    late.not_after = Timestamp::from_millis(world.now.load(Ordering::SeqCst) - 1);
    assert!(matches!(world.adapters.call(late).await.outcome, Outcome::Failed { class: FailureClass::Permanent, .. }));
    assert_eq!(world.pids().await, before);
    world.fence = 0;
    world.done("logs", json!({})).await;
}

#[tokio::test]
async fn a_call_that_runs_out_of_time_is_unknown_once_something_was_done() {
    let world = World::shell(STUBBORN, json!({ "ready": { "after": "10ms" } }));
    world.ensure().await;
    until("it ignores the signal", || world.log(0).contains("up")).await;
    let before = world.pids().await;
    let mut step = world.step("restart", json!({ "grace": "300ms" }));
    step.timeout = Duration::from_millis(100);
    let end = world.adapters.call(step).await;
    assert!(matches!(end.outcome, Outcome::Unknown { .. }), "{end:?}");
    let mut waits = world.step("restart", json!({}));
    waits.timeout = Duration::from_millis(20);
    let end = world.adapters.call(waits).await;
    assert!(matches!(end.outcome, Outcome::Failed { .. }), "the first one is still at it, nothing was begun: {end:?}");
    let deadline = Instant::now() + PATIENCE;
    while world.pids().await[0].is_none_or(|pid| Some(pid) == before[0]) {
        assert!(Instant::now() < deadline, "what was stopped was not started again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn dropping_a_call_stops_after_the_replica_it_is_at() {
    let world = World::shell(STAYS, json!({ "replicas": 2, "ready": { "after": "1s" } }));
    world.ensure().await;
    world.until_up(&[true, true]).await;
    let before = world.pids().await;
    let call = tokio::spawn(world.adapters.call(world.step("restart", json!({}))));
    let deadline = Instant::now() + PATIENCE;
    while world.pids().await[0].is_none_or(|pid| Some(pid) == before[0]) {
        assert!(Instant::now() < deadline, "it never began");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    call.abort();
    // the next verb waits for the end of the one before
    world.done("restart", json!({ "replicas": "all" })).await;
    assert_eq!(world.fact("restarts").await, json!(3), "one before the cancel, two after");
}

#[tokio::test]
async fn logs_are_the_last_lines_of_every_replica_without_secrets() {
    let world = World::shell(
        "for n in 1 2 3 4 5; do echo line $n of $REPLICA with s3cret-value; done; exec sleep 1000",
        json!({ "replicas": 2 }),
    );
    world.adapters.context().redactor.learn("s3cret-value");
    world.ensure().await;
    until("both wrote", || (0..2).all(|index| world.log(index).lines().count() == 5)).await;
    let output = world.done("logs", json!({ "lines": 2 })).await;
    let expected = "== replica 0 ==\nline 4 of 0 with ***\nline 5 of 0 with ***\n\
                    == replica 1 ==\nline 4 of 1 with ***\nline 5 of 1 with ***";
    assert_eq!(output, json!(expected));
    let long =
        World::shell("i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; done; exec sleep 1000", json!({}));
    long.ensure().await;
    until("it wrote", || long.log(0).lines().count() == 2000).await;
    let output = long.done("logs", json!({ "lines": 2000 })).await;
    let text = output.as_str().unwrap();
    assert!(text.len() <= Outcome::MAX_OUTPUT && text.ends_with("line 2000"), "{}", text.len());
}

#[tokio::test]
async fn a_verb_that_is_not_there_or_not_allowed_is_refused() {
    let mut world = World::shell(STAYS, json!({}));
    assert_eq!(world.fails("backup", json!({})).await.0, FailureClass::Unsupported);
    let mut def = (*world.def).clone();
    def.allow.verbs = Some(vec![Verb::new("logs")]);
    world.def = Arc::new(def);
    let (class, why) = world.fails("restart", json!({})).await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.contains("not allowed"), "{why}");
    world.done("logs", json!({})).await;
}

//! A credential that replicas hear of.

use std::os::unix::fs::PermissionsExt;

use super::*;
use selfheal_model::{AuthDef, AuthFetch, AuthFormat, AuthThen};

/// Reads the token at start and at SIGHUP.
const READS: &str = "show() { echo token $(cat ../token 2>/dev/null || cat token); }; trap show HUP; trap 'exit 0' TERM; \
                     show; while :; do sleep 0.02; done";

fn with_auth(world: &mut World, script: &str, then: AuthThen) {
    let mut deployment = (*world.deployment).clone();
    deployment.auth = Some(AuthDef {
        fetch: AuthFetch::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() },
        deliver_to: "token".into(),
        format: AuthFormat::Token,
        then,
    });
    world.deployment = Arc::new(deployment);
}

#[tokio::test]
async fn refresh_auth_delivers_and_reloads() {
    // under nohup SIGHUP is ignored, and what is ignored stays so in every program that is started; what is caught does not
    let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let mut world = World::shell(READS, json!({ "replicas": 2 }));
    let script =
        "echo x >> count; echo '{\"access_token\": \"token-'$(wc -l < count | tr -d ' ')'\", \"expires_in\": 300}'";
    with_auth(&mut world, script, AuthThen::Reload);
    world.ensure().await;
    until("the first credential was there at the start", || (0..2).all(|index| world.log(index) == "token token-1\n"))
        .await;
    let before = world.pids().await;
    let output = world.done("refresh_auth", json!({})).await;
    assert_eq!(output["reloaded"], json!([0, 1]));
    let both = "token token-1\ntoken token-2\n";
    let read =
        tokio::time::timeout(PATIENCE / 2, until("both read it", || (0..2).all(|index| world.log(index) == both)));
    assert!(read.await.is_ok(), "they read {:?} and {:?}", world.log(0), world.log(1));
    assert_eq!(world.pids().await, before);
    let mode = std::fs::metadata(world.path("token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.now.fetch_add(100_000, Ordering::SeqCst);
    world.restart_engine();
    let seen = world.observe().await;
    let expiry = seen.metrics.iter().find(|(name, ..)| name.as_str() == "auth_expires_in_seconds");
    assert_eq!(expiry.map(|(_, seconds, labels)| (*seconds, labels.len())), Some((200.0, 0)));
}

#[tokio::test]
async fn refresh_auth_can_restart_and_its_failure_touches_no_replica() {
    let mut world = World::shell(STAYS, json!({ "ready": { "after": "10ms" } }));
    with_auth(&mut world, "echo a-token", AuthThen::Restart);
    world.ensure().await;
    world.until_up(&[true]).await;
    let before = world.pids().await;
    assert_eq!(world.done("refresh_auth", json!({})).await["restarted"], json!([0]));
    let after = world.pids().await;
    assert_ne!(after, before);
    with_auth(&mut world, "echo a-token is refused >&2; exit 1", AuthThen::Restart);
    let (class, why) = world.fails("refresh_auth", json!({})).await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.contains("*** is refused"), "a delivered token is masked: {why}");
    assert_eq!(world.pids().await, after);
    assert_eq!(std::fs::read_to_string(world.path("token")).unwrap(), "a-token");
}

#[tokio::test]
async fn without_auth_there_is_no_such_verb() {
    let world = World::shell(STAYS, json!({}));
    assert_eq!(world.fails("refresh_auth", json!({})).await.0, FailureClass::Unsupported);
}

//! Rollback by link.

use std::fs;

use super::*;
use crate::process::releases::switch;

const GOOD: &str = "echo $VERSION from $(basename $PWD); exec sleep 1000";
const BAD: &str = "echo broken >&2; exit 1";

fn world(replicas: u32) -> World {
    let world = World::new(json!({
        "command": ["sh", "run.sh"], "dir": "app", "replicas": replicas, "ready": { "after": "200ms" }
    }));
    world.release("v1", GOOD);
    world.release("v2", GOOD);
    switch(&world.path("app"), "v1").unwrap();
    world
}

#[tokio::test]
async fn rollback_goes_to_the_version_before_and_never_forward_again() {
    let mut world = world(2);
    world.ensure().await;
    until("it wrote", || world.log(0) == "v1 from v1\n").await;
    assert_eq!(world.fact("previous_version").await, Value::Null);
    assert!(world.fails("rollback", json!({})).await.1.contains("there are v1, v2"));
    // somebody deploys v2, as they always did
    switch(&world.path("app"), "v2").unwrap();
    world.observe().await;
    world.done("restart", json!({})).await;
    assert_eq!(world.fact("version").await, json!("v2"));
    assert_eq!(world.fact("previous_version").await, json!("v1"));
    world.restart_engine();
    let output = world.done("rollback", json!({ "to": "previous" })).await;
    assert_eq!((&output["version"], &output["version_before"]), (&json!("v1"), &json!("v2")));
    assert_eq!(fs::read_link(world.path("app/current")).unwrap(), PathBuf::from("releases/v1"));
    until("it wrote", || (0..2).all(|index| world.log(index).ends_with("v1 from v1\n"))).await;
    assert!(world.fails("rollback", json!({})).await.1.contains("no version before"));
}

#[tokio::test]
async fn rollback_to_a_named_version_names_those_there_are() {
    let world = world(1);
    world.ensure().await;
    let (class, why) = world.fails("rollback", json!({ "to": "v9" })).await;
    assert_eq!((class, why.as_str()), (FailureClass::Permanent, "there is no version `v9`; there are v1, v2"));
    for name in ["../..", "."] {
        assert_eq!(world.fails("rollback", json!({ "to": name })).await.0, FailureClass::Permanent);
    }
    world.done("rollback", json!({ "to": "v2" })).await;
    assert_eq!(world.fact("version").await, json!("v2"));
    assert_eq!(world.fails("rollback", json!({ "to": "v2" })).await.0, FailureClass::Conflict);
}

#[tokio::test]
async fn a_version_that_does_not_start_stops_the_rolling_unless_it_is_forced() {
    let world = world(2);
    world.release("v0", BAD);
    world.ensure().await;
    world.until_up(&[true, true]).await;
    let before = world.pids().await;
    let (class, why) = world.fails("rollback", json!({ "to": "v0" })).await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.contains("exited with code 1") && why.contains("broken"), "{why}");
    assert_eq!(world.pids().await, [None, before[1]], "the second still runs what it ran");
    let output = world.done("rollback", json!({ "to": "v0", "force": true })).await;
    assert_eq!((&output["forced"], &output["reconciler"]), (&json!(true), &json!("none")));
    world.until_up(&[false, false]).await;
    world.done("rollback", json!({ "to": "v1" })).await;
    world.until_up(&[true, true]).await;
}

#[tokio::test]
async fn without_releases_there_is_nothing_to_roll_back_to() {
    let world = World::shell(STAYS, json!({}));
    assert_eq!(world.fails("rollback", json!({})).await.0, FailureClass::Unsupported);
}

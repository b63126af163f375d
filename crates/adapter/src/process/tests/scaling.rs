//! Scale, ports and configuration.

use std::net::TcpListener;

use super::*;

#[tokio::test]
async fn scale_goes_to_a_value_and_to_the_bound() {
    let world = World::shell(STAYS, json!({ "replicas": 1, "max_replicas": 3, "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.until_up(&[true]).await;
    let first = world.pids().await[0];
    let output = world.done("scale", json!({ "replicas": 9.0 })).await;
    assert_eq!((&output["replicas"], &output["replicas_before"]), (&json!(3), &json!(1)));
    assert_eq!(output["bounded"], json!(["9 replicas are beyond the bound, went to 3"]));
    world.until_up(&[true, true, true]).await;
    assert_eq!(world.pids().await[0], first, "what runs was left alone");
    let (class, why) = world.fails("scale", json!({ "replicas": 4 })).await;
    assert_eq!(class, FailureClass::Conflict);
    assert!(why.contains("already so") && why.contains("beyond the bound"), "{why}");
    let output = world.done("scale", json!({ "replicas": 0 })).await;
    assert_eq!(output["replicas"], json!(1));
    world.until_up(&[true]).await;
    assert_eq!(world.pids().await[0], first);
    assert_eq!(world.fact("replicas").await, json!(1));
}

#[tokio::test]
async fn what_was_scaled_survives_until_the_target_is_edited() {
    let mut world = World::shell(STAYS, json!({ "replicas": 1, "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.done("scale", json!({ "replicas": 2 })).await;
    world.restart_engine();
    world.ensure().await;
    world.done("restart", json!({})).await;
    world.until_up(&[true, true]).await;
    world.set_target(json!({ "command": ["sleep", "1000"], "replicas": 3, "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.until_up(&[true, true]).await;
    world.done("restart", json!({})).await;
    world.until_up(&[true, true, true]).await;
}

#[tokio::test]
async fn memory_is_told_to_new_processes_and_other_resources_are_refused() {
    let world = World::shell(
        "echo limit $MEMORY_LIMIT; exec sleep 1000",
        json!({ "memory": "64MiB", "max_memory": "128MiB", "ready": { "after": "10ms" } }),
    );
    world.ensure().await;
    world.until_up(&[true]).await;
    let output = world.done("scale", json!({ "memory": "1GiB" })).await;
    assert_eq!(output["memory"], json!(134_217_728));
    until("it heard of it", || world.log(0).ends_with("limit 134217728\n")).await;
    assert_eq!(world.fact("memory_limit").await, json!(134_217_728));
    assert_eq!(world.fails("scale", json!({ "cpu": 2 })).await.0, FailureClass::Unsupported);
    assert_eq!(world.fails("scale", json!({})).await.0, FailureClass::Permanent);
    assert_eq!(world.fails("scale", json!({ "replicas": 1.5 })).await.0, FailureClass::Permanent);
}

#[tokio::test]
async fn a_port_in_use_is_skipped_and_a_full_range_says_so() {
    let ports = ten_ports();
    let stranger = TcpListener::bind(("127.0.0.1", ports)).unwrap();
    let range = format!("{ports}-{}", ports + 1);
    let world = World::shell(STAYS, json!({ "ports": range, "max_replicas": 4, "ready": { "after": "10ms" } }));
    world.ensure().await;
    world.until_up(&[true]).await;
    assert_eq!(world.observe().await.replicas[0].port, Some(ports + 1));
    let (class, why) = world.fails("scale", json!({ "replicas": 2 })).await;
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.contains(&format!("no port of {range} is free")) && why.contains(&ports.to_string()), "{why}");
    drop(stranger);
    world.done("restart", json!({})).await;
    let ports_now: Vec<_> = world.observe().await.replicas.iter().map(|replica| replica.port.unwrap()).collect();
    assert_eq!(ports_now, [ports + 1, ports], "a replica keeps its port, the new one takes what is free");
}

#[tokio::test]
async fn an_env_file_is_read_at_every_start_and_configure_holds_over_it() {
    let mut world = World::shell(
        "echo $COLOUR $SHAPE; exec sleep 1000",
        json!({ "env_file": "app.env", "env": { "SHAPE": "round" }, "ready": { "after": "10ms" } }),
    );
    let error = world.adapters.ensure(&world.desired()).await.unwrap_err();
    assert!(error.contains("app.env"), "{error}");
    let file = world.path("app.env");
    std::fs::write(&file, "COLOUR=red\nSHAPE=square\n").unwrap();
    world.done("restart", json!({})).await;
    until("it wrote", || world.log(0).ends_with("red round\n")).await;
    std::fs::write(&file, "COLOUR=blue\n").unwrap();
    world.done("restart", json!({})).await;
    until("it wrote", || world.log(0).ends_with("blue round\n")).await;
    world.done("configure", json!({ "set": { "COLOUR": "green" } })).await;
    until("it wrote", || world.log(0).ends_with("green round\n")).await;
    world.restart_engine();
    world.done("configure", json!({ "set": { "COLOUR": null } })).await;
    until("it wrote", || world.log(0).ends_with("blue round\n")).await;
    let lines = world.log(0).lines().count();
    world.done("configure", json!({ "set": { "COLOUR": "x" }, "then": "nothing" })).await;
    assert_eq!(world.log(0).lines().count(), lines);
    assert_eq!(world.fails("configure", json!({ "set": { "not a name": "x" } })).await.0, FailureClass::Permanent);
}

//! The six faults and how they are caused: from outside, as they would be in the world.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::task::JoinHandle;

use super::stage::Stage;

/// One act of the demo.
pub struct Fault {
    pub title: &'static str,
    pub caused: &'static str,
    pub kind: Kind,
    /// Playbooks of which one must end cured.
    pub cured_by: &'static [&'static str],
}

/// How a fault is caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Crash,
    Hang,
    Leak,
    BadRelease,
    ExpiredToken,
    CpuPressure,
}

/// In the order they are played.
pub const FAULTS: [Fault; 6] = [
    Fault {
        title: "A crash",
        caused: "replica 0 exits with a segmentation fault",
        kind: Kind::Crash,
        cured_by: &["restart"],
    },
    Fault {
        title: "A hang",
        caused: "replica 1 takes connections and answers none",
        kind: Kind::Hang,
        cured_by: &["restart"],
    },
    Fault {
        title: "A memory leak",
        caused: "replica 0 grows by 60 MiB a second, over its 128 MiB",
        kind: Kind::Leak,
        cured_by: &["restart"],
    },
    Fault {
        title: "A bad release",
        caused: "v2 goes live and answers every request with 500",
        kind: Kind::BadRelease,
        cured_by: &["rollback", "force-rollback"],
    },
    Fault {
        title: "An expired token",
        caused: "the token service hands out a token that lives for 2 seconds",
        kind: Kind::ExpiredToken,
        cured_by: &["refresh-auth"],
    },
    Fault {
        title: "CPU pressure",
        caused: "customers arrive: a steady load on all replicas",
        kind: Kind::CpuPressure,
        cured_by: &["scale-out"],
    },
];

/// Requests for work each second, together: on two replicas well over the demo's warning level, on four under it.
const WORK_EVERY: Duration = Duration::from_millis(12);

/// Something that goes on until it is dropped.
pub struct Burden(JoinHandle<()>);

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kind {
    /// Causes the fault.
    pub async fn cause(self, stage: &Stage) -> anyhow::Result<Option<Burden>> {
        match self {
            Kind::Crash => stage.break_replica(0, "crash").await?,
            Kind::Hang => stage.break_replica(1, "hang").await?,
            Kind::Leak => stage.break_replica(0, "leak").await?,
            Kind::BadRelease => stage.trigger("deploy", json!({ "version": "v2" })).await?,
            Kind::ExpiredToken => {
                stage.tokens_live_for(Duration::from_secs(2));
                let triggered = stage.trigger("refresh-auth", json!({})).await;
                stage.tokens_live_for(Duration::from_secs(3600));
                triggered?;
            }
            Kind::CpuPressure => return load(stage).await.map(Some),
        }
        Ok(None)
    }
}

/// A steady stream of requests, spread over whatever replicas there are at the moment.
async fn load(stage: &Stage) -> anyhow::Result<Burden> {
    let client = stage.reader();
    client.ports().await.context("the load generator found no replicas")?;
    Ok(Burden(tokio::spawn(async move {
        let mut tick = tokio::time::interval(WORK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ports = Vec::new();
        let mut turn = 0_usize;
        loop {
            tick.tick().await;
            if turn.is_multiple_of(50) {
                ports = client.ports().await.unwrap_or(ports);
            }
            turn += 1;
            if let Some(port) = ports.get(turn % ports.len().max(1)) {
                let request = client.http().get(format!("http://127.0.0.1:{port}/work"));
                // a request that fails is a customer who comes back later
                tokio::spawn(async move { drop(request.send().await) });
            }
        }
    })))
}

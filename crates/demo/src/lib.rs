//! `selfheal demo`: a real service breaks in six ways, selfheal repairs it and verifies the repair, and mails arrive.
//!
//! The demo is a user of selfheal like any other: it causes faults from outside, and reads what happened from the API and
//! from the mails that arrive. It must never know how selfheal is put together: the program that contains the demo starts
//! selfheal on a policy folder ([`Start`]) and hands over its address.

mod clock;
mod faults;
pub mod fleet;
mod policy;
pub mod service;
pub mod sinks;
mod stage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;

use faults::{FAULTS, Fault};
use stage::Stage;

/// Files of the policy that ships with selfheal: (path inside a policy folder, text).
pub type Files = &'static [(&'static str, &'static str)];

/// A selfheal that was started for the demo.
pub struct Started {
    /// Where its API listens.
    pub address: SocketAddr,
    /// Stops it in order.
    pub drain: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

/// Starts selfheal on a policy folder.
pub type Start = Box<dyn FnOnce(PathBuf) -> BoxFuture<'static, anyhow::Result<Started>> + Send>;

/// A fault that is not cured within this fails the demo.
const CURE_WITHIN: Duration = Duration::from_secs(60);

/// Runs the demo with the `shipped` rules and playbooks; `true` when every fault was cured. With `keep`, selfheal and the
/// service go on running after the last fault until Ctrl-C.
///
/// # Errors
/// The stage could not be set: a port, the temporary folder, the service.
pub async fn run(shipped: &[Files], keep: bool, start: Start) -> anyhow::Result<bool> {
    anstream::println!(
        "selfheal demo: one service, two replicas, two releases; six faults.\n\
         The shipped rules and playbooks, with their waiting times shortened.\n"
    );
    let mut stage = Stage::set(shipped, start).await?;
    let outcome = play(&mut stage).await;
    if let Err(error) = &outcome {
        anstream::eprintln!("the demo broke off: {error:#}");
    }
    let cured = outcome.as_ref().map_or(0, |cured| *cured);
    anstream::println!(
        "{cured} of {} faults cured in {:.0}s; {} mails and {} webhooks received",
        FAULTS.len(),
        stage.elapsed().as_secs_f64(),
        stage.mails(),
        stage.webhooks()
    );
    if keep {
        anstream::println!(
            "\nstill running at {0}; look around with\n  selfheal status --url {0}\n  selfheal runs --url {0}\nCtrl-C ends it",
            stage.url()
        );
        // without a signal handler Ctrl-C would leave the service's processes behind
        tokio::signal::ctrl_c().await?;
    }
    stage.strike().await;
    outcome.map(|cured| cured == FAULTS.len())
}

async fn play(stage: &mut Stage) -> anyhow::Result<usize> {
    stage.wait_until_healthy().await?;
    let mut cured = 0;
    for (number, fault) in FAULTS.iter().enumerate() {
        anstream::println!("{}. {}", number + 1, fault.title);
        if one(stage, fault).await? {
            cured += 1;
        }
        anstream::println!();
    }
    Ok(cured)
}

async fn one(stage: &mut Stage, fault: &Fault) -> anyhow::Result<bool> {
    stage.begin();
    stage.say("caused", fault.caused);
    let burden = fault.kind.cause(stage).await?;
    let cured = stage.narrate_until_cured(fault, CURE_WITHIN).await?;
    drop(burden);
    if cured {
        stage.wait_until_healthy().await?;
    }
    Ok(cured)
}

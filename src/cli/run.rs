//! `selfheal run` and `selfheal demo`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::{DemoArgs, InboxArgs, LogFormat, RunArgs};
use super::exit;
use crate::app::telemetry::OWN_SERIES_EVERY;
use crate::app::{Options, Running, shipped};
use selfheal_api::ReloadAnswer;
use selfheal_demo::sinks::SmtpSink;
use selfheal_demo::{self as demo, Started};

/// What is logged without `SELFHEAL_LOG`.
const DEFAULT_LOG: &str = "selfheal=info,warn";
/// How often the inbox looks for new mail.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Starts the log: the level of each module is set by `SELFHEAL_LOG` (`LEVEL` or `MODULE=LEVEL`, separated by commas),
/// and by `default` where the variable is missing or cannot be parsed.
fn start_log(format: LogFormat, default: &str) {
    let levels = std::env::var("SELFHEAL_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| default.parse().expect("the default levels are valid"));
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(levels);
    // a second start in one process keeps the first log
    let _ = match format {
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
}

pub async fn run(args: RunArgs) -> anyhow::Result<u8> {
    start_log(args.log, DEFAULT_LOG);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let running = Running::start(Options {
        policy_dir: args.policy.policy,
        listen: args.listen,
        data_dir: args.data_dir,
        allow_unauthenticated: args.allow_unauthenticated,
        watch: true,
        accept_clock: args.accept_clock,
        own_series_every: OWN_SERIES_EVERY,
    })
    .await?;
    tracing::info!(address = %running.address, "ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match running.backend.reload().await {
                ReloadAnswer::Unchanged { version } => tracing::info!(version, "SIGHUP: the policy is unchanged"),
                ReloadAnswer::Failed(why) => tracing::error!(why, "SIGHUP: reload failed"),
                // said by the reload itself
                ReloadAnswer::Live { .. } | ReloadAnswer::Refused(_) => {}
            },
        }
    }
    let drained = tokio::select! {
        drained = running.drain() => drained,
        _ = interrupt.recv() => {
            tracing::warn!("stopped at once by a second interrupt");
            return Ok(exit::RUNTIME);
        }
    };
    tracing::info!(
        steps_cut = drained.steps_cut,
        deliveries_cut = drained.deliveries_cut,
        notifications_forgotten = drained.notifications_waiting,
        "stopped; the deployments' processes run on"
    );
    Ok(0)
}

pub async fn demo(args: DemoArgs) -> anyhow::Result<u8> {
    start_log(LogFormat::Text, if args.verbose { DEFAULT_LOG } else { "error" });
    if args.fleet {
        return Ok(if demo::fleet::run()? { 0 } else { exit::FAILED });
    }
    let all_cured = demo::run(&[shipped::RULES, shipped::PLAYBOOKS], args.keep, Box::new(start_for_demo)).await?;
    Ok(if all_cured { 0 } else { exit::FAILED })
}

fn start_for_demo(policy_dir: PathBuf) -> BoxFuture<'static, anyhow::Result<Started>> {
    Box::pin(async move {
        let running = Running::start(Options {
            policy_dir,
            listen: None,
            data_dir: None,
            allow_unauthenticated: false,
            watch: true,
            accept_clock: false,
            own_series_every: OWN_SERIES_EVERY,
        })
        .await?;
        let address = running.address;
        let drain = || -> BoxFuture<'static, ()> {
            Box::pin(async {
                let _ = running.drain().await;
            })
        };
        Ok(Started { address, drain: Box::new(drain) })
    })
}

/// Takes mail on loopback and prints it, until stopped.
pub async fn inbox(args: InboxArgs) -> anyhow::Result<u8> {
    let sink = SmtpSink::bind(("127.0.0.1", args.port))
        .await
        .with_context(|| format!("cannot listen on port {}; choose another with --port", args.port))?;
    anstream::eprintln!("taking mail on {}; Ctrl-C ends it", sink.address());
    let mut seen = 0;
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => return stopped.map(|()| 0).map_err(Into::into),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let mails = sink.mails();
        for mail in mails.iter().skip(seen) {
            anstream::println!("\n── to {}: {}\n{}", mail.recipients.join(", "), mail.subject(), mail.text());
        }
        seen = mails.len();
    }
}

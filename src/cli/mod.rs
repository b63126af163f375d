//! The command line: verbs, their options, and exit codes.
//!
//! Invariant: results go to stdout, everything else to stderr; `--json` prints exactly one document.

mod args;
mod check;
mod client;
mod decide;
mod explain;
mod history;
mod init;
mod output;
mod repair;
mod replay;
mod report;
mod run;
mod schema;
mod send;
mod silence;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Exit codes (SPEC §8).
pub mod exit {
    /// A check or a demo that found something wrong.
    pub const FAILED: u8 = 1;
    /// Something went wrong at run time.
    pub const RUNTIME: u8 = 2;
    /// The command line itself is wrong.
    pub const USAGE: u8 = 64;
}

/// Parses the arguments and runs the verb.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // a closed stdout must not turn help into a panic
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("selfheal: cannot start the runtime: {error}");
            return ExitCode::from(exit::RUNTIME);
        }
    };
    let result = runtime.block_on(dispatch(cli));
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            anstream::eprintln!("selfheal: {error:#}");
            ExitCode::from(exit::RUNTIME)
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Run(args) => run::run(args).await,
        Command::Demo(args) => run::demo(args).await,
        Command::DemoService(args) => selfheal_demo::service::serve(args.port).await.map(|()| 0),
        Command::Init(args) => init::init(&args),
        Command::Check(args) => check::check(&args),
        Command::Schema(args) => schema::schema(&args),
        Command::Inbox(args) => run::inbox(args).await,
        Command::Send(args) => send::send(args).await,
        Command::Status(args) => verbs::status(args).await,
        Command::Alerts(args) => verbs::alerts(args).await,
        Command::Silence(args) => silence::silence(args).await,
        Command::Ack(args) => silence::ack(args).await,
        Command::Runs(args) => verbs::runs(args).await,
        Command::Explain(args) => explain::explain(args).await,
        Command::Report(args) => report::report(args).await,
        Command::History(args) => history::history(args).await,
        Command::Trigger(args) => verbs::trigger(args).await,
        Command::Approvals(args) => decide::approvals(args).await,
        Command::Approve(args) => decide::approve(args).await,
        Command::Deny(args) => decide::deny(args).await,
        Command::Retry(args) => decide::retry(args).await,
        Command::Pause(args) => decide::pause(args).await,
        Command::Resume(args) => decide::resume(args).await,
        Command::Reload(args) => verbs::reload(args).await,
        Command::Repair(args) => repair::repair(&args),
        Command::Replay(args) => replay::replay(&args),
    }
}

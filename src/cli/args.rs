//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use selfheal_model::Timestamp;
use selfheal_model::units::parse_duration;

/// Alerting that repairs: rules over metrics and health events, playbooks that repair, and proof that it helped.
#[derive(Debug, Parser)]
#[command(
    name = "selfheal",
    version,
    after_help = "Examples:\n  selfheal demo                      watch it repair a real service, in under two minutes\n  \
                  selfheal init my-policy            write a commented policy folder\n  \
                  selfheal check --policy my-policy  find every mistake in it\n  \
                  selfheal run --policy my-policy    watch, alert and repair"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch, alert and repair, until stopped
    Run(RunArgs),
    /// Break a small real service in six ways and watch it being repaired
    Demo(DemoArgs),
    /// The small web service of the demo
    #[command(hide = true)]
    DemoService(DemoServiceArgs),
    /// Write a commented policy folder to start from
    Init(InitArgs),
    /// Find every mistake in a policy folder
    Check(CheckArgs),
    /// Print the JSON Schema of a kind of policy file, for editors
    Schema(SchemaArgs),
    /// A mailbox to try with: takes mail on loopback and prints it
    Inbox(InboxArgs),
    /// Send events: from arguments, a file or stdin
    Send(SendArgs),
    /// Show the engine and its deployments, or one deployment
    Status(StatusArgs),
    /// List alerts
    Alerts(ListArgs),
    /// Keep people from being told of some alerts for a while, or list such silences
    Silence(SilenceArgs),
    /// Say that you know of an alert: it is not repeated
    Ack(AckArgs),
    /// List runs, or show one with its steps
    Runs(RunsArgs),
    /// Why something happened, and why it did not: an alert, or a rule and a deployment
    Explain(ExplainArgs),
    /// Look up what happened: alerts, runs, deliveries, the audit, policies
    History(HistoryArgs),
    /// What playbooks and rules have come to: cures, failures, refusals, the noisiest rules
    Report(ReportArgs),
    /// Run a playbook on a deployment by hand, under every guard
    Trigger(TriggerArgs),
    /// Show what waits for a person's word
    Approvals(ApprovalsArgs),
    /// Allow what selfheal asks for
    Approve(AnswerArgs),
    /// Refuse what selfheal asks for
    Deny(AnswerArgs),
    /// Let the repair of an alert go on where it stopped
    Retry(RetryArgs),
    /// Stop all automatic action, or the repair of some deployments for a while; alerting goes on
    Pause(PauseArgs),
    /// Allow automatic action again, end a maintenance, or put a playbook back into service
    Resume(ResumeArgs),
    /// Load the policy folder again
    Reload(ReloadArgs),
    /// What a policy makes of recorded inputs, in virtual time; with two policies, the difference
    Replay(ReplayArgs),
    /// Salvage what is readable of a damaged journal, and say what is lost
    Repair(RepairArgs),
}

/// Where the policy is.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// The policy folder
    #[arg(long, env = "SELFHEAL_POLICY", default_value = ".", value_name = "DIR")]
    pub policy: PathBuf,
}

/// How to reach a running engine.
#[derive(Clone, Debug, Args)]
pub struct EngineArgs {
    /// The running engine
    #[arg(long, env = "SELFHEAL_URL", default_value = "http://127.0.0.1:9494", value_name = "URL")]
    pub url: String,
    /// Sent as a bearer token, for a proxy in front of the engine
    #[arg(long, env = "SELFHEAL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal run --policy my-policy\n  selfheal run --listen 127.0.0.1:9500 --log json\n\n\
                        SIGHUP loads the policy again; SIGTERM drains and stops.\n\
                        SELFHEAL_LOG sets what is logged, e.g. SELFHEAL_LOG=selfheal=debug."
)]
pub struct RunArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Address of the API, over the file's
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Data folder, over the file's
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Listen beyond loopback although the API asks nobody who they are
    #[arg(long)]
    pub allow_unauthenticated: bool,
    /// Go on although the journal ends in what this machine's clock calls the future
    #[arg(long)]
    pub accept_clock: bool,
    /// Log as text or as JSON lines
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal replay my-policy/data                              what happened\n  \
                  selfheal replay my-policy/data --policy new-policy          what would have happened\n  \
                  selfheal replay events.ndjson --policy old --against new    the difference\n\n\
                  Exits 1 when two policies differ.")]
pub struct ReplayArgs {
    /// A data folder with a journal, or a file of events as the API takes them; `-` is stdin
    pub source: PathBuf,
    /// Under this policy folder; a journal without it under its own
    #[arg(long, value_name = "DIR")]
    pub policy: Option<PathBuf>,
    /// Under this one too, and print the difference only
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// Print what happened from then on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Print what happened until then (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Print the summary only
    #[arg(long)]
    pub quiet: bool,
    /// Exit 1 when a line is no event
    #[arg(long)]
    pub strict: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfheal repair --policy my-policy\n\nNothing is deleted: damaged files are moved aside. \
                  Exits 1 when something is lost."
)]
pub struct RepairArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Data folder, over the file's
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal report --since 7d\n  selfheal report --since 2026-11-01T00:00:00Z --json"
)]
pub struct ReportArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What had not ended before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<When>,
    /// What began before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<When>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal explain HighCpu checkout\n  selfheal explain 5f1c0a9e7b3d2468 --json\n  \
                        selfheal explain HighCpu checkout --at 2h\n  \
                        selfheal explain HighCpu checkout --at 2026-11-23T20:00:00Z\n\n\
                        It shows each part of the condition with what it comes to, every timer, every rung with what was\n\
                        tried, and every guard with its figures, as they are now, or as they were at TIME. Where the\n\
                        journal of that time is kept no more, or the alert is forgotten, history tells what it has."
)]
pub struct ExplainArgs {
    /// A rule's name, or an alert's id
    #[arg(value_name = "ALERT|RULE")]
    pub what: String,
    /// With a rule: the deployment
    pub deployment: Option<String>,
    /// As it was then: how long ago (30m, 7d), or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub at: Option<When>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal demo\n  selfheal demo --keep     leave it running, to look around\n\n\
                        Exits 0 only if every fault was cured.")]
pub struct DemoArgs {
    /// Leave it running at the end, until Ctrl-C
    #[arg(long, conflicts_with = "fleet")]
    pub keep: bool,
    /// Two hundred simulated deployments under eight kinds of trouble instead, in virtual time
    #[arg(long)]
    pub fleet: bool,
    /// Show the engine's log too
    #[arg(long)]
    pub verbose: bool,
}

#[derive(Debug, Args)]
pub struct DemoServiceArgs {
    #[arg(long)]
    pub port: u16,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selfheal init my-policy && selfheal check --policy my-policy")]
pub struct InitArgs {
    /// The folder to write; it must not hold a policy yet
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct InboxArgs {
    /// The port on 127.0.0.1
    #[arg(long, default_value_t = 1025)]
    pub port: u16,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal check\n  selfheal check --policy my-policy --json\n\nExits 1 when there are errors."
)]
pub struct CheckArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Say of every rule what it reads, when it is asked, how it is evaluated and what that costs here
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal schema config > selfheal.schema.json\n  selfheal schema rules > rules.schema.json\n\n\
                  An editor with the YAML language server reads it by a first line such as\n  \
                  # yaml-language-server: $schema=rules.schema.json"
)]
pub struct SchemaArgs {
    /// The kind of file
    pub kind: SchemaKind,
}

/// A kind of policy file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemaKind {
    /// selfheal.yaml
    Config,
    /// rules/**/*.yaml
    Rules,
    /// playbooks/**/*.yaml
    Playbooks,
    /// deployments/**/*.yaml
    Deployments,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal send checkout cpu_percent=91.2 memory_percent=50\n  \
                        selfheal send checkout --signal deployment_failed --field version=v42\n  \
                        selfheal send checkout --health http=unhealthy --message timeout\n  \
                        selfheal send --file events.ndjson\n  tail -f log | ./to-events | selfheal send --file -\n\n\
                        One event a line is sent as it comes, in batches. Exits 1 when lines were bad.")]
pub struct SendArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The deployment the event is about
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub deployment: Option<String>,
    /// Metrics, as name=value
    #[arg(value_name = "NAME=VALUE")]
    pub metrics: Vec<String>,
    /// Labels of the metrics, as name=value
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// A signal's name
    #[arg(long, value_name = "NAME")]
    pub signal: Option<String>,
    /// Fields of the signal, as name=value
    #[arg(long = "field", value_name = "NAME=VALUE", requires = "signal")]
    pub fields: Vec<String>,
    /// A check's verdict, as check=healthy or check=unhealthy
    #[arg(long, value_name = "CHECK=STATUS")]
    pub health: Option<String>,
    /// What goes with the verdict
    #[arg(long, requires = "health")]
    pub message: Option<String>,
    /// Events as JSON (an object, an array or NDJSON); `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long to try again when the engine has no room or does not answer
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_duration)]
    pub retry_for: Duration,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal status\n  selfheal status checkout --json")]
pub struct StatusArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Only this deployment, with its checks, facts and metrics
    pub deployment: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal alerts --state firing\n  selfheal alerts --deployment checkout --json")]
pub struct ListArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Only of this deployment
    #[arg(long)]
    pub deployment: Option<String>,
    /// Only in this state
    #[arg(long, value_parser = ["pending", "firing", "resolved", "ended"])]
    pub state: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal runs\n  selfheal runs checkout-3       one run with its steps and logs\n  \
                        selfheal runs --deployment checkout --json"
)]
pub struct RunsArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// One run, with its steps
    pub run: Option<String>,
    /// Only on this deployment
    #[arg(long)]
    pub deployment: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HistoryKind {
    Alerts,
    Runs,
    Deliveries,
    Audit,
    Policies,
    /// Where history itself misses something
    Gaps,
}

impl HistoryKind {
    /// As the API says it.
    pub fn word(self) -> &'static str {
        match self {
            HistoryKind::Alerts => "alerts",
            HistoryKind::Runs => "runs",
            HistoryKind::Deliveries => "deliveries",
            HistoryKind::Audit => "audit",
            HistoryKind::Policies => "policies",
            HistoryKind::Gaps => "gaps",
        }
    }
}

/// A point in time as people say it: how long ago, or when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Ago(Duration),
    At(Timestamp),
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(span) = parse_duration(text) {
        return Ok(When::Ago(span));
    }
    text.parse().map(When::At).map_err(|_| {
        format!("`{text}` is neither how long ago, such as 1h or 7d, nor an RFC 3339 time such as 2026-11-23T20:00:00Z")
    })
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal history --since 1d                    the alerts of the last day\n  \
                  selfheal history runs --state not_cured --since 7d\n  \
                  selfheal history alerts --alert 1f0c3a5b7d9e2468   one alert with every move and why\n  \
                  selfheal history audit --json\n\n\
                  Newest first. --since and --until take how long ago (30m, 7d) or an RFC 3339 time.")]
pub struct HistoryArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What to look up
    #[arg(value_enum, default_value = "alerts")]
    pub kind: HistoryKind,
    /// What had not ended before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<When>,
    /// What began before then
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<When>,
    /// Only of this deployment (alerts, runs, deliveries)
    #[arg(long)]
    pub deployment: Option<String>,
    /// Only of this rule (alerts, runs, deliveries)
    #[arg(long)]
    pub rule: Option<String>,
    /// An alert's state, a run's verdict, a delivery's state
    #[arg(long)]
    pub state: Option<String>,
    /// Only of the alert with this id (alerts, runs); its episodes are shown with every move
    #[arg(long, value_name = "ID")]
    pub alert: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// Go on where the page before ended
    #[arg(long)]
    pub cursor: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal trigger restart checkout --with grace=5s --reason \"stuck since the upgrade\"\n  \
                  selfheal trigger restart checkout --override grace --override per_deployment --reason \"fixed by hand\""
)]
pub struct TriggerArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    pub playbook: String,
    pub deployment: String,
    /// Inputs, as name=value
    #[arg(long = "with", value_name = "NAME=VALUE")]
    pub with: Vec<String>,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    pub reason: String,
    /// A guard that does not hold for this run; may be given several times, and needs --reason
    #[arg(long = "override", value_name = "GUARD", requires = "reason")]
    pub overrides: Vec<String>,
    /// Wait until the run has ended; exits 1 unless it ended cured or done
    #[arg(long)]
    pub wait: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  selfheal silence add deployment=checkout --for 2h --comment \"moving the database\"\n  \
                        selfheal silence add 'region=~\"eu|us\"' --for 30m --comment drill --repair\n  \
                        selfheal silence list --json\n  selfheal silence expire s-3"
)]
pub struct SilenceArgs {
    #[command(subcommand)]
    pub command: SilenceCommand,
}

#[derive(Debug, Subcommand)]
pub enum SilenceCommand {
    /// Silence the alerts that match all of these
    Add(SilenceAddArgs),
    /// List silences, also those that expired in the last days
    List(SilenceListArgs),
    /// End a silence before its time
    Expire(SilenceExpireArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  selfheal silence add alertname=HighCpu deployment=checkout --for 2h --comment \"known\""
)]
pub struct SilenceAddArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What an alert's labels must be: name=value, name!=value, name=~regex, name!~regex
    #[arg(required = true, value_name = "MATCHER")]
    pub matchers: Vec<String>,
    /// How long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub for_: Duration,
    /// Why, for the audit and for everyone who looks
    #[arg(long, required = true)]
    pub comment: String,
    /// Repair goes on
    #[arg(long)]
    pub repair: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SilenceListArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Only in this state
    #[arg(long, value_parser = ["pending", "active", "expired"])]
    pub state: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SilenceExpireArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    pub id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal ack 1f0c3a5b7d9e2468 --comment \"I am on it\"\n  \
                        selfheal ack 1f0c3a5b7d9e2468 --take      nothing repairs it either\n  \
                        selfheal ack 1f0c3a5b7d9e2468 --undo\n\n`selfheal alerts` shows the ids. It holds until the \
                        alert's episode is over.")]
pub struct AckArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The alert, by its id
    pub alert: String,
    /// Take it over: its ladder stops, too
    #[arg(long)]
    pub take: bool,
    /// For the audit and for everyone who looks
    #[arg(long, default_value = "")]
    pub comment: String,
    /// Take an acknowledgement back
    #[arg(long, conflicts_with_all = ["take", "comment"])]
    pub undo: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal approvals\n  selfheal approvals --all --json")]
pub struct ApprovalsArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Also those that were answered or have expired
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal approve checkout-3.1 --reason \"the window is open\"\n  \
                        selfheal approve checkout-3      by the run, when it asks one thing\n  \
                        selfheal deny checkout-3.1")]
pub struct AnswerArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The approval, or a run that waits for exactly one
    #[arg(value_name = "APPROVAL|RUN")]
    pub approval: String,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selfheal retry 1f0c3a5b7d9e2468 --reason \"the disk was replaced\"")]
pub struct RetryArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// The alert's id, as `selfheal alerts --json` shows it
    pub alert: String,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal pause --reason \"moving the database\"     everything\n  \
                        selfheal pause --select tier=db --for 2h --reason \"moving the database\"")]
pub struct PauseArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Only the repair of deployments with these labels: name=value, name!=value, name=~regex, name!~regex
    #[arg(long, value_name = "MATCHER", requires = "for_")]
    pub select: Vec<String>,
    /// How long; it ends by itself
    #[arg(long = "for", id = "for_", value_name = "DURATION", requires = "select", value_parser = parse_duration)]
    pub for_: Option<Duration>,
    /// Why, for the audit and for everyone who looks
    #[arg(long, required = true)]
    pub reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selfheal resume --reason \"the database has moved\"\n  \
                        selfheal resume --maintenance m-1\n  \
                        selfheal resume --playbook restart --reason \"its script is fixed\"")]
pub struct ResumeArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// End this maintenance only
    #[arg(long, value_name = "ID", conflicts_with = "playbook")]
    pub maintenance: Option<String>,
    /// Put this playbook back, which its breaker took out of service
    #[arg(long, value_name = "NAME")]
    pub playbook: Option<String>,
    /// Why, for the audit and for everyone who looks
    #[arg(long, required_unless_present = "maintenance")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReloadArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

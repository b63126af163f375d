//! What the guards say: every "no" there is.

use std::fmt;
use std::time::Duration;

use smol_str::SmolStr;

use selfheal_contract::Guard;
use selfheal_model::units::format_duration;
use selfheal_model::{AdapterName, CheckName, DeploymentId, PlaybookName, RunId, Timestamp, Verb};
use selfheal_policy::guards::Rate;

/// Why a deployment counts as out for those that depend on it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outage {
    Unhealthy,
    InRun(RunId),
    /// An alert that the entry's `when:` matchers name.
    Alert(SmolStr),
}

impl fmt::Display for Outage {
    /// As a sentence about the deployment goes on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outage::Unhealthy => f.write_str("is unhealthy"),
            Outage::InRun(run) => write!(f, "is in run {run}"),
            Outage::Alert(alert) => write!(f, "is out by alert {alert}"),
        }
    }
}

/// What holds an alert back, so that its ladder does nothing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum HeldBy {
    Silence {
        id: SmolStr,
        by: String,
        until: Timestamp,
    },
    /// By this alert.
    Inhibition {
        by: SmolStr,
    },
    /// A person has taken it over.
    Taken {
        by: String,
    },
}

impl HeldBy {
    /// The word views and messages use.
    pub fn word(&self) -> &'static str {
        match self {
            HeldBy::Silence { .. } => "silence",
            HeldBy::Inhibition { .. } => "inhibition",
            HeldBy::Taken { .. } => "acknowledgement",
        }
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldBy::Silence { id, by, until } => write!(f, "silence {id} of {by} holds its alert until {until}"),
            HeldBy::Inhibition { by } => write!(f, "alert {by} inhibits its alert"),
            HeldBy::Taken { by } => write!(f, "{by} has taken its alert over"),
        }
    }
}

/// A guard's "no", with its figures.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    Pause {
        who: String,
    },
    Draining,
    /// Nothing can be written down.
    Storage {
        why: String,
    },
    Observe(Observed),
    /// A time without automatic action; `None`: its end cannot be told.
    Freeze {
        interval: SmolStr,
        until: Option<Timestamp>,
    },
    Stale {
        age: Duration,
        max: Duration,
    },
    StartGrace {
        watched: Duration,
        wanted: Duration,
    },
    ActAfter {
        fired_for: Duration,
        wanted: Duration,
    },
    Sensor {
        sick: u32,
        members: u32,
        within: Duration,
    },
    Storm {
        ladders: u32,
        rate: Rate,
        until: Timestamp,
    },
    Flap {
        deployment: DeploymentId,
        check: CheckName,
        changes_percent: u8,
    },
    Grace {
        deployment: DeploymentId,
        run: RunId,
        until: Timestamp,
    },
    Dependency {
        deployment: DeploymentId,
        on: DeploymentId,
        outage: Outage,
    },
    /// What it depends on is back, and it may get well by itself.
    DependencyBack {
        deployment: DeploymentId,
        on: DeploymentId,
        back_at: Timestamp,
        until: Timestamp,
    },
    Breaker {
        playbook: PlaybookName,
        since: Timestamp,
        /// `None`: a run is trying it.
        probe_at: Option<Timestamp>,
    },
    Recurrence {
        playbook: PlaybookName,
        cured: u32,
        within: Duration,
    },
    PerDeployment {
        deployment: DeploymentId,
        counted: u32,
        rate: Rate,
        next_at: Timestamp,
    },
    PerPlaybook {
        playbook: PlaybookName,
        counted: u32,
        rate: Rate,
        next_at: Timestamp,
    },
    Velocity {
        group: String,
        counted: u32,
        rate: Rate,
        next_at: Timestamp,
    },
    MaxRunning {
        running: u32,
        max: u32,
    },
    BlastRadius {
        deployment: DeploymentId,
        group: String,
        trouble: GroupTrouble,
    },
    Suppressed(HeldBy),
    Lease {
        deployment: DeploymentId,
        holder: RunId,
    },
    /// The condition could not be answered: on no data nothing begins.
    NoData {
        of: String,
    },
    EmptyTarget(NotThere),
    VerbMissing {
        verb: Verb,
        adapter: AdapterName,
        allowed: bool,
    },
    /// The rung's own `if`.
    If,
    /// Since it began a person's word is wanted, and it can be asked for nowhere here.
    Approve,
    /// A playbook out of service is tried on another target of the same rung: the others have their turn, or none, when that is over.
    BreakerBeside {
        playbook: PlaybookName,
        since: Timestamp,
    },
}

/// Which switch says that nothing is done for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Observed {
    Engine,
    Playbook,
}

/// Why a target is none.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NotThere {
    /// The alert's scope names no deployment.
    NoDeployment,
    NotListed(DeploymentId),
    NoAdapter(DeploymentId),
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum GroupTrouble {
    TooManyAtOnce {
        in_run: u32,
        max: u32,
    },
    TooFewHealthy {
        healthy: u32,
        must_stay: u32,
        members: u32,
    },
    /// Below the floor sick ones are repaired one at a time …
    OneAtATime {
        in_run: u32,
    },
    /// … and the next only after a cured.
    NotCuredBefore {
        other: DeploymentId,
    },
}

impl Refusal {
    /// The guard that refuses.
    pub fn guard(&self) -> Guard {
        match self {
            Refusal::Pause { .. } => Guard::Pause,
            Refusal::Draining => Guard::Draining,
            Refusal::Storage { .. } => Guard::Storage,
            Refusal::Observe(_) => Guard::Observe,
            Refusal::Freeze { .. } => Guard::Freeze,
            Refusal::Stale { .. } => Guard::Stale,
            Refusal::StartGrace { .. } => Guard::StartGrace,
            Refusal::ActAfter { .. } => Guard::ActAfter,
            Refusal::Sensor { .. } => Guard::Sensor,
            Refusal::Storm { .. } => Guard::Storm,
            Refusal::Flap { .. } => Guard::Flap,
            Refusal::Grace { .. } => Guard::Grace,
            Refusal::Dependency { .. } | Refusal::DependencyBack { .. } => Guard::Dependency,
            Refusal::Breaker { .. } | Refusal::BreakerBeside { .. } => Guard::Breaker,
            Refusal::Recurrence { .. } => Guard::Recurrence,
            Refusal::PerDeployment { .. } => Guard::PerDeployment,
            Refusal::PerPlaybook { .. } => Guard::PerPlaybook,
            Refusal::Velocity { .. } => Guard::Velocity,
            Refusal::MaxRunning { .. } => Guard::MaxRunning,
            Refusal::BlastRadius { .. } => Guard::BlastRadius,
            Refusal::Suppressed(_) => Guard::Suppressed,
            Refusal::Lease { .. } => Guard::Lease,
            Refusal::NoData { .. } => Guard::NoData,
            Refusal::EmptyTarget(_) => Guard::EmptyTarget,
            Refusal::VerbMissing { .. } => Guard::VerbMissing,
            Refusal::If => Guard::If,
            Refusal::Approve => Guard::Approve,
        }
    }

    /// Whether the same run may be allowed later: then the rung is kept and asks again.
    pub fn may_pass(&self) -> bool {
        !matches!(
            self,
            Refusal::Observe(_)
                | Refusal::Breaker { .. }
                | Refusal::Recurrence { .. }
                | Refusal::EmptyTarget(_)
                | Refusal::VerbMissing { .. }
                | Refusal::If
        )
    }

    /// Whether people hear of it with the alert. Waiting for `act_after` is the ordinary course of things, a suspect sensor
    /// and a storm are told once for all.
    pub fn is_told(&self) -> bool {
        !matches!(self, Refusal::ActAfter { .. } | Refusal::Draining | Refusal::Sensor { .. } | Refusal::Storm { .. })
    }

    /// The instant from which the answer can be another one, where time alone decides.
    pub fn passes_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Refusal::StartGrace { watched, wanted } => Some(now + wanted.saturating_sub(*watched)),
            Refusal::ActAfter { fired_for, wanted } => Some(now + wanted.saturating_sub(*fired_for)),
            Refusal::Grace { until, .. } | Refusal::DependencyBack { until, .. } => Some(*until),
            Refusal::PerDeployment { next_at, .. }
            | Refusal::PerPlaybook { next_at, .. }
            | Refusal::Velocity { next_at, .. } => Some(*next_at),
            Refusal::Storm { until, .. } | Refusal::Suppressed(HeldBy::Silence { until, .. }) => Some(*until),
            Refusal::Freeze { until, .. } => *until,
            _ => None,
        }
        .filter(|at| *at > now)
    }
}

impl fmt::Display for Refusal {
    /// The figures, as a sentence's worth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |span: &Duration| format_duration(*span);
        match self {
            Refusal::Pause { who } => write!(f, "paused {who}"),
            Refusal::Draining => f.write_str("selfheal is shutting down"),
            Refusal::Storage { why } => write!(f, "what is done cannot be written down: {why}"),
            Refusal::Observe(Observed::Engine) => f.write_str("guards.mode is observe: nothing is done for real"),
            Refusal::Observe(Observed::Playbook) => {
                f.write_str("the playbook's mode is observe: nothing is done for real")
            }
            Refusal::Freeze { interval, until: Some(until) } => {
                write!(f, "nothing acts by itself in the time interval {interval}, at least until {until}")
            }
            Refusal::Freeze { interval, until: None } => {
                write!(f, "nothing acts by itself in the time interval {interval}")
            }
            Refusal::Stale { age, max } => {
                write!(f, "the newest evidence is {} old, max_event_age is {}", span(age), span(max))
            }
            Refusal::StartGrace { watched, wanted } if watched < wanted => {
                write!(f, "watched for {} since the start or a gap, start_grace is {}", span(watched), span(wanted))
            }
            Refusal::StartGrace { .. } => f.write_str("no evidence has come since the start or a gap"),
            Refusal::ActAfter { fired_for, wanted } => {
                write!(f, "firing for {}, act_after is {}", span(fired_for), span(wanted))
            }
            Refusal::Sensor { sick, members, within } => {
                write!(f, "{sick} of {members} deployments fell sick within {}: the sensor is suspect", span(within))
            }
            Refusal::Storm { ladders, rate, until } => write!(
                f,
                "{ladders} ladders wanted to start in the last {}, {} are a storm; it is over at {until} if it stays calm",
                span(&rate.window),
                rate.count
            ),
            Refusal::Flap { deployment, check, changes_percent } => {
                write!(f, "check {check} of {deployment} flaps: {changes_percent} % of its verdicts were changes")
            }
            Refusal::Grace { deployment, run, until } => {
                write!(f, "run {run} has acted on {deployment}; its grace ends at {until}")
            }
            Refusal::Dependency { deployment, on, outage } => write!(f, "{deployment} depends on {on}, which {outage}"),
            Refusal::DependencyBack { deployment, on, back_at, until } => {
                write!(f, "{deployment} depends on {on}, which is back since {back_at}; its grace ends at {until}")
            }
            Refusal::Breaker { playbook, since, probe_at: Some(at) } => write!(
                f,
                "{playbook} has failed too often and is out of service since {since}; one run may try it from {at} on"
            ),
            Refusal::Breaker { playbook, since, probe_at: None } => {
                write!(f, "{playbook} is out of service since {since}, and a run is trying whether it cures again")
            }
            Refusal::BreakerBeside { playbook, since } => write!(
                f,
                "{playbook} is out of service since {since}, and its rung tries on one target at a time whether it cures again"
            ),
            Refusal::Recurrence { playbook, cured, within } => {
                write!(f, "{playbook} has cured this {cured} times in {}: that is no cure", span(within))
            }
            Refusal::PerPlaybook { playbook, counted, rate, next_at } => write!(
                f,
                "{counted} of at most {} runs of {playbook} in {}; the next may begin at {next_at}",
                rate.count,
                span(&rate.window)
            ),
            Refusal::Velocity { group, counted, rate, next_at } => write!(
                f,
                "{counted} of at most {} disruptions of group {group} in {}; the next may begin at {next_at}",
                rate.count,
                span(&rate.window)
            ),
            Refusal::Suppressed(held) => held.fmt(f),
            Refusal::PerDeployment { deployment, counted, rate, next_at } => write!(
                f,
                "{counted} of at most {} runs on {deployment} in {}; the next may begin at {next_at}",
                rate.count,
                span(&rate.window)
            ),
            Refusal::MaxRunning { running, max } => write!(f, "{running} runs are under way, max_running is {max}"),
            Refusal::BlastRadius { deployment, group, trouble } => {
                write!(f, "{deployment} in group {group}: {trouble}")
            }
            Refusal::Lease { deployment, holder } => write!(f, "run {holder} holds the lease of {deployment}"),
            Refusal::NoData { of } => write!(f, "no data: {of}"),
            Refusal::EmptyTarget(NotThere::NoDeployment) => f.write_str("the alert's scope names no deployment"),
            Refusal::EmptyTarget(NotThere::NotListed(deployment)) => {
                write!(f, "deployment {deployment} is not listed in the policy")
            }
            Refusal::EmptyTarget(NotThere::NoAdapter(deployment)) => {
                write!(f, "deployment {deployment} has no adapter: it is only watched")
            }
            Refusal::VerbMissing { verb, adapter, allowed: true } => write!(f, "adapter {adapter} has no verb {verb}"),
            Refusal::VerbMissing { verb, adapter, allowed: false } => {
                write!(f, "adapter {adapter} is not allowed to {verb} here")
            }
            Refusal::If => f.write_str("the rung's `if` is false"),
            Refusal::Approve => f.write_str("its mode has become approve, and no person has allowed it"),
        }
    }
}

impl fmt::Display for GroupTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupTrouble::TooManyAtOnce { in_run, max } => {
                write!(f, "{in_run} others are in a run, max_at_once is {max}")
            }
            GroupTrouble::TooFewHealthy { healthy, must_stay, members } => {
                write!(f, "{healthy} of {members} would stay healthy, min_healthy asks for {must_stay}")
            }
            GroupTrouble::OneAtATime { in_run } => {
                write!(f, "too few are healthy, so sick ones are repaired one at a time; {in_run} are in a run")
            }
            GroupTrouble::NotCuredBefore { other } => {
                write!(f, "too few are healthy, and the run on {other} has not cured it")
            }
        }
    }
}

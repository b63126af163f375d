//! What the guards say: the situation they are asked in, and every "no" there is.

use std::fmt;
use std::time::Duration;

use smol_str::SmolStr;

use super::{BlastRadius, GuardMode, Guards, MinHealthy, Rate};
use crate::model::units::format_duration;
use crate::model::{AdapterName, DeploymentId, RunId, Timestamp, Verb};
use crate::playbook::PlaybookMode;

/// All that the guards look at before a run begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    pub now: Timestamp,
    /// Who paused, and why.
    pub paused: Option<String>,
    /// The engine is shutting down.
    pub draining: bool,
    /// Why nothing can be written down: what would be done might be forgotten.
    pub unwritable: Option<String>,
    /// `None`: asked for by hand.
    pub ladder: Option<LadderSituation>,
    /// Since the start, or since the last time in which nothing was watched.
    pub watching_since: Timestamp,
    /// Runs under way, this one not counted.
    pub running: u32,
    /// The deployments it would act on; empty where it only looks.
    pub targets: Vec<TargetSituation>,
}

/// What is special about a run that an alert asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LadderSituation {
    /// Of the newest evidence its condition read; `None`: not asked yet.
    pub evidence: Option<Timestamp>,
    pub fired_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TargetSituation {
    pub deployment: DeploymentId,
    /// The last run that acted on it; `None` where that run was of the same ladder or there was none.
    pub grace: Option<Grace>,
    /// A deployment it depends on, directly or not, that is out.
    pub dependency: Option<(DeploymentId, Outage)>,
    /// When runs counted in its budget, ascending.
    pub counted: Vec<Timestamp>,
    pub lease: Option<RunId>,
    /// `None`: it is in no group, or nothing of the run takes capacity away.
    pub group: Option<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    pub run: RunId,
    pub ended_at: Timestamp,
}

/// Why a deployment counts as out for those that depend on it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Outage {
    Unhealthy,
    InRun(RunId),
}

/// The group of a target, counted without the target itself unless said.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// `tier=web`
    pub name: String,
    /// The target included.
    pub members: u32,
    pub healthy_others: u32,
    pub in_run_others: u32,
    pub target_sick: bool,
    /// Another member that is still not healthy after a run on it that did not cure.
    pub uncured_other: Option<DeploymentId>,
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
    PerDeployment {
        deployment: DeploymentId,
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
    /// The guard's name, as policy, API and messages say it.
    pub fn guard(&self) -> &'static str {
        match self {
            Refusal::Pause { .. } => "pause",
            Refusal::Draining => "draining",
            Refusal::Storage { .. } => "storage",
            Refusal::Observe(_) => "observe",
            Refusal::Stale { .. } => "stale",
            Refusal::StartGrace { .. } => "start_grace",
            Refusal::ActAfter { .. } => "act_after",
            Refusal::Grace { .. } => "grace",
            Refusal::Dependency { .. } => "dependency",
            Refusal::PerDeployment { .. } => "per_deployment",
            Refusal::MaxRunning { .. } => "max_running",
            Refusal::BlastRadius { .. } => "blast_radius",
            Refusal::Lease { .. } => "lease",
            Refusal::NoData { .. } => "no_data",
            Refusal::EmptyTarget(_) => "empty_target",
            Refusal::VerbMissing { .. } => "verb_missing",
            Refusal::If => "if",
        }
    }

    /// Whether the same run may be allowed later: then the rung is kept and asks again.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Refusal::Observe(_) | Refusal::EmptyTarget(_) | Refusal::VerbMissing { .. } | Refusal::If)
    }

    /// Whether people hear of it. Waiting for `act_after` is the ordinary course of things.
    pub fn is_told(&self) -> bool {
        !matches!(self, Refusal::ActAfter { .. } | Refusal::Draining)
    }

    /// The instant from which the answer can be another one, where time alone decides.
    pub fn passes_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Refusal::StartGrace { watched, wanted } => Some(now + wanted.saturating_sub(*watched)),
            Refusal::ActAfter { fired_for, wanted } => Some(now + wanted.saturating_sub(*fired_for)),
            Refusal::Grace { until, .. } => Some(*until),
            Refusal::PerDeployment { next_at, .. } => Some(*next_at),
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
            Refusal::Grace { deployment, run, until } => {
                write!(f, "run {run} has acted on {deployment}; its grace ends at {until}")
            }
            Refusal::Dependency { deployment, on, outage: Outage::Unhealthy } => {
                write!(f, "{deployment} depends on {on}, which is unhealthy")
            }
            Refusal::Dependency { deployment, on, outage: Outage::InRun(run) } => {
                write!(f, "{deployment} depends on {on}, which run {run} is repairing")
            }
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

/// The strictest of the two switches for doing nothing for real. Asked apart from [`ask`]: an observed run goes
/// through the whole pipeline, and is refused only at its end.
pub fn observed(guards: &Guards, playbook: PlaybookMode) -> Option<Observed> {
    match (guards.mode, playbook) {
        (GuardMode::Observe, _) => Some(Observed::Engine),
        (_, PlaybookMode::Observe) => Some(Observed::Playbook),
        _ => None,
    }
}

/// Asks every guard, in their order. Empty: allowed. The first "no" is the reason.
pub fn ask(guards: &Guards, situation: &Situation) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if let Some(who) = &situation.paused {
        refusals.push(Refusal::Pause { who: who.clone() });
    }
    if situation.draining {
        refusals.push(Refusal::Draining);
    }
    if let Some(why) = &situation.unwritable {
        refusals.push(Refusal::Storage { why: why.clone() });
    }
    if let Some(ladder) = &situation.ladder {
        ask_about_time(guards, situation, ladder, &mut refusals);
        refusals.extend(situation.targets.iter().filter_map(|target| grace(guards, situation.now, target)));
    }
    for target in &situation.targets {
        if let Some((on, outage)) = &target.dependency {
            let (deployment, on, outage) = (target.deployment.clone(), on.clone(), outage.clone());
            refusals.push(Refusal::Dependency { deployment, on, outage });
        }
    }
    refusals.extend(situation.targets.iter().filter_map(|target| budget(guards, situation.now, target)));
    if situation.running >= guards.max_running {
        refusals.push(Refusal::MaxRunning { running: situation.running, max: guards.max_running });
    }
    for target in &situation.targets {
        let trouble =
            target.group.as_ref().and_then(|group| Some((group, group_trouble(&guards.blast_radius, group)?)));
        if let Some((group, trouble)) = trouble {
            let (deployment, group) = (target.deployment.clone(), group.name.clone());
            refusals.push(Refusal::BlastRadius { deployment, group, trouble });
        }
    }
    for target in &situation.targets {
        if let Some(holder) = &target.lease {
            refusals.push(Refusal::Lease { deployment: target.deployment.clone(), holder: holder.clone() });
        }
    }
    refusals
}

/// `max_event_age`, `start_grace` and `act_after`: only what an alert asks for is held back by time.
fn ask_about_time(guards: &Guards, situation: &Situation, ladder: &LadderSituation, refusals: &mut Vec<Refusal>) {
    let now = situation.now;
    refusals.extend(ladder.evidence.and_then(|evidence| stale(guards, now, evidence)));
    let watched = now.since(situation.watching_since);
    let since_the_gap = ladder.evidence.is_none_or(|evidence| evidence >= situation.watching_since);
    if watched < guards.start_grace || !since_the_gap {
        refusals.push(Refusal::StartGrace { watched, wanted: guards.start_grace });
    }
    let fired_for = now.since(ladder.fired_at);
    if fired_for < guards.act_after {
        refusals.push(Refusal::ActAfter { fired_for, wanted: guards.act_after });
    }
}

/// Evidence older than `max_event_age` begins nothing.
pub fn stale(guards: &Guards, now: Timestamp, evidence: Timestamp) -> Option<Refusal> {
    let age = now.since(evidence);
    (age > guards.max_event_age).then_some(Refusal::Stale { age, max: guards.max_event_age })
}

fn grace(guards: &Guards, now: Timestamp, target: &TargetSituation) -> Option<Refusal> {
    let grace = target.grace.as_ref()?;
    let until = grace.ended_at + guards.grace;
    (now < until).then(|| Refusal::Grace { deployment: target.deployment.clone(), run: grace.run.clone(), until })
}

/// A sliding window: an instant counts until `window` after it.
fn budget(guards: &Guards, now: Timestamp, target: &TargetSituation) -> Option<Refusal> {
    let rate = guards.per_deployment;
    let inside: Vec<_> = target.counted.iter().copied().filter(|at| now < *at + rate.window).collect();
    let counted = u32::try_from(inside.len()).unwrap_or(u32::MAX);
    if counted < rate.count {
        return None;
    }
    // room comes when so many have left the window that fewer than `count` are in it; a rate of none never has room
    let leaves = (counted - rate.count) as usize;
    let next_at = inside.get(leaves).map_or(Timestamp::MAX, |at| *at + rate.window);
    Some(Refusal::PerDeployment { deployment: target.deployment.clone(), counted, rate, next_at })
}

fn group_trouble(limits: &BlastRadius, group: &Group) -> Option<GroupTrouble> {
    let others = group.in_run_others;
    if others >= limits.max_at_once {
        return Some(GroupTrouble::TooManyAtOnce { in_run: others, max: limits.max_at_once });
    }
    // alone in its group there is nobody a floor could protect
    let must_stay = if group.members <= 1 { 0 } else { must_stay(limits.min_healthy, group.members) };
    let above_the_floor = group.healthy_others >= must_stay;
    if !above_the_floor && !group.target_sick {
        let (healthy, members) = (group.healthy_others, group.members);
        return Some(GroupTrouble::TooFewHealthy { healthy, must_stay, members });
    }
    if above_the_floor && group.members > SMALL_GROUP {
        return None;
    }
    if others > 0 {
        return Some(GroupTrouble::OneAtATime { in_run: others });
    }
    // a healthy target above the floor does not wait for the cure of another one
    let other = group.uncured_other.clone().filter(|_| !above_the_floor)?;
    Some(GroupTrouble::NotCuredBefore { other })
}

/// In groups up to this size members are repaired one at a time, whatever the floor says.
const SMALL_GROUP: u32 = 2;

/// How many must stay healthy; a part of a group rounds up.
fn must_stay(min_healthy: MinHealthy, members: u32) -> u32 {
    match min_healthy {
        MinHealthy::Count(count) => count,
        // floating error must not ask for one more: 0.7 of 10 is 7
        MinHealthy::Ratio(ratio) => {
            let part = (ratio.clamp(0.0, 1.0) * f64::from(members) - 1e-9).ceil().max(0.0);
            part as u32
        }
    }
}

/// The name of a group: its labels and their values.
pub fn group_name(labels: &[(SmolStr, SmolStr)]) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

//! Limits outside the playbooks that can refuse a run. Every one is finite.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use selfheal_model::{Labels, Selector, TimeInterval};

/// `guards:` of selfheal.yaml. Every limit is finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Guards {
    pub mode: Mode,
    /// Times without automatic action.
    pub freeze: Vec<Freeze>,
    pub max_event_age: Duration,
    pub start_grace: Duration,
    pub act_after: Duration,
    pub sensor: Sensor,
    pub storm: Storm,
    pub flap: Flap,
    pub grace: Duration,
    /// How long people are not told of an alert that something it depends on may yet explain.
    pub dependency_hold: Duration,
    /// … and how long at most while that is out.
    pub dependency_wait: Duration,
    pub breaker: BreakerLimits,
    pub recurrence: Recurrence,
    pub per_deployment: Rate,
    pub per_playbook: Rate,
    pub velocity: Velocity,
    pub max_running: u32,
    pub blast_radius: BlastRadius,
    /// A run may take so long; past it it ends inconclusive and people are told.
    pub run_deadline: Duration,
    /// For some deployments other limits; of each key the last match holds.
    pub overrides: Vec<Override>,
}

/// Who decides whether a run acts. Ordered: the strictest of all that apply holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Auto,
    /// A person allows each run before it begins.
    Approve,
    /// Say what it would do; hold like a real run.
    Observe,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Approve => "approve",
            Mode::Observe => "observe",
        }
    }
}

/// A named time interval in which nothing acts by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    pub name: SmolStr,
    /// Any of them.
    pub times: Arc<[TimeInterval]>,
}

/// Nearly everything sick at once: suspect the sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensor {
    /// 0 to 1 of the deployments that have an adapter.
    pub sick: f64,
    /// In a smaller fleet nothing can be concluded.
    pub of_at_least: u32,
    /// They fell sick within so long of each other.
    pub within: Duration,
}

/// Too many ladders that want to start: something larger is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    pub ladders: Rate,
    /// A storm is over when it has been calm for so long.
    pub cool_down: Duration,
}

/// A check that changes its mind all the time says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flap {
    /// It begins to flap at this part of changes, 0 to 1 …
    pub start: f64,
    /// … and ends at this one.
    pub stop: f64,
    /// Of so many verdicts.
    pub of: u32,
}

/// When a playbook is taken out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// So many runs that did not cure …
    pub failures: u32,
    /// … on so many different deployments …
    pub deployments: u32,
    /// … within so long.
    pub within: Duration,
    /// Then one run may try whether it cures again.
    pub probe_after: Duration,
}

/// Cured too often is not cured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    pub cured: u32,
    pub within: Duration,
}

/// How fast capacity is taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Velocity {
    pub disrupt: Rate,
    pub group_by: Vec<SmolStr>,
}

/// `3/1h`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    pub count: u32,
    pub window: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BlastRadius {
    pub group_by: Vec<SmolStr>,
    pub min_healthy: MinHealthy,
    pub max_at_once: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinHealthy {
    /// 0 to 1 of the group's members, rounded up.
    Ratio(f64),
    Count(u32),
}

/// Other limits for the deployments that `select` takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    pub select: Selector,
    pub limits: Vec<Limit>,
}

/// One key of an override: what can be said of a single deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    Mode(Mode),
    Freeze(Vec<Freeze>),
    MaxEventAge(Duration),
    ActAfter(Duration),
    Grace(Duration),
    DependencyHold(Duration),
    DependencyWait(Duration),
    RecurrenceCured(u32),
    RecurrenceWithin(Duration),
    PerDeployment(Rate),
    VelocityDisrupt(Rate),
    VelocityGroupBy(Vec<SmolStr>),
    MinHealthy(MinHealthy),
    MaxAtOnce(u32),
    BlastRadiusGroupBy(Vec<SmolStr>),
    RunDeadline(Duration),
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

impl Default for Guards {
    fn default() -> Self {
        let tier = || vec![SmolStr::new("tier")];
        Guards {
            mode: Mode::Auto,
            freeze: Vec::new(),
            max_event_age: 2 * MINUTE,
            start_grace: 2 * MINUTE,
            act_after: Duration::from_secs(5),
            sensor: Sensor { sick: 0.8, of_at_least: 5, within: 2 * MINUTE },
            storm: Storm { ladders: Rate { count: 50, window: MINUTE }, cool_down: 10 * MINUTE },
            flap: Flap { start: 0.5, stop: 0.25, of: 20 },
            grace: 2 * MINUTE,
            dependency_hold: Duration::from_secs(30),
            dependency_wait: 15 * MINUTE,
            breaker: BreakerLimits { failures: 3, deployments: 2, within: HOUR, probe_after: 30 * MINUTE },
            recurrence: Recurrence { cured: 3, within: 24 * HOUR },
            per_deployment: Rate { count: 3, window: HOUR },
            per_playbook: Rate { count: 10, window: HOUR },
            velocity: Velocity { disrupt: Rate { count: 5, window: 10 * MINUTE }, group_by: tier() },
            max_running: 5,
            blast_radius: BlastRadius { group_by: tier(), min_healthy: MinHealthy::Ratio(0.5), max_at_once: 3 },
            run_deadline: HOUR,
            overrides: Vec::new(),
        }
    }
}

impl Guards {
    /// The limits for one deployment: of each key the last override that takes it; of modes the strictest.
    pub fn for_deployment(&self, labels: &Labels) -> Guards {
        let mut own = self.clone();
        own.overrides.clear();
        for limit in self.overrides.iter().filter(|one| one.select.matches(labels)).flat_map(|one| &one.limits) {
            own.set(limit.clone());
        }
        own
    }

    /// One limit as said; of modes the strictest stays.
    pub fn set(&mut self, limit: Limit) {
        match limit {
            Limit::Mode(mode) => self.mode = self.mode.max(mode),
            Limit::Freeze(freeze) => self.freeze = freeze,
            Limit::MaxEventAge(age) => self.max_event_age = age,
            Limit::ActAfter(wait) => self.act_after = wait,
            Limit::Grace(grace) => self.grace = grace,
            Limit::DependencyHold(hold) => self.dependency_hold = hold,
            Limit::DependencyWait(wait) => self.dependency_wait = wait,
            Limit::RecurrenceCured(count) => self.recurrence.cured = count,
            Limit::RecurrenceWithin(within) => self.recurrence.within = within,
            Limit::PerDeployment(rate) => self.per_deployment = rate,
            Limit::VelocityDisrupt(rate) => self.velocity.disrupt = rate,
            Limit::VelocityGroupBy(labels) => self.velocity.group_by = labels,
            Limit::MinHealthy(least) => self.blast_radius.min_healthy = least,
            Limit::MaxAtOnce(most) => self.blast_radius.max_at_once = most,
            Limit::BlastRadiusGroupBy(labels) => self.blast_radius.group_by = labels,
            Limit::RunDeadline(deadline) => self.run_deadline = deadline,
        }
    }
}

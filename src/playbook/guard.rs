//! Guards: limits outside the playbooks that can refuse a run, always with a reason and its figures.
//!
//! A decision is a pure function of the limits and of a [`Situation`]: what the engine knows at
//! that moment. Invariant: every guard is asked, in the order of SPEC §5.2, and every "no" carries its figures.

mod refusal;
#[cfg(test)]
mod tests;

use std::time::Duration;

use smol_str::SmolStr;

pub use refusal::{
    Grace, Group, GroupTrouble, LadderSituation, NotThere, Observed, Outage, Refusal, Situation, TargetSituation, ask,
    group_name, observed, stale,
};

/// `guards:` of selfheal.yaml. Every limit is finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Guards {
    pub mode: GuardMode,
    pub max_event_age: Duration,
    pub start_grace: Duration,
    pub act_after: Duration,
    pub grace: Duration,
    pub per_deployment: Rate,
    pub max_running: u32,
    pub blast_radius: BlastRadius,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GuardMode {
    #[default]
    Auto,
    Observe,
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

impl Default for Guards {
    fn default() -> Self {
        Guards {
            mode: GuardMode::Auto,
            max_event_age: Duration::from_secs(120),
            start_grace: Duration::from_secs(120),
            act_after: Duration::from_secs(5),
            grace: Duration::from_secs(120),
            per_deployment: Rate { count: 3, window: Duration::from_secs(3600) },
            max_running: 5,
            blast_radius: BlastRadius {
                group_by: vec!["tier".into()],
                min_healthy: MinHealthy::Ratio(0.5),
                max_at_once: 3,
            },
        }
    }
}

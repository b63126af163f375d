//! The names of the guards that can refuse a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A limit outside the playbooks that can refuse a run. The order is the one in which guards are checked and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// A person paused all automatic action, or that on the deployment (maintenance).
    Pause,
    /// selfheal is shutting down.
    Draining,
    /// The journal cannot be written.
    Storage,
    /// The mode of the engine or of the playbook is `observe`.
    Observe,
    /// A time interval without automatic action.
    Freeze,
    /// The newest evidence is older than `max_event_age`.
    Stale,
    /// Too little was watched since the start or a gap.
    StartGrace,
    /// The alert has fired for less than `act_after`.
    ActAfter,
    /// Nearly all deployments became unhealthy at once: the sensor is suspect.
    Sensor,
    /// Too many ladders want to start.
    Storm,
    /// A check that the rule reads changes its verdict all the time.
    Flap,
    /// Another run acted on the deployment a moment ago.
    Grace,
    /// A deployment that this one depends on is out, or has just come back.
    Dependency,
    /// The playbook failed too often and is out of service.
    Breaker,
    /// The playbook cured this alert too often for it to be a cure.
    Recurrence,
    PerDeployment,
    PerPlaybook,
    /// Too many disruptions of the group within a time.
    Velocity,
    MaxRunning,
    /// Too few healthy members of the group would be left, or too many are in a run.
    BlastRadius,
    /// A silence, an inhibition or an acknowledgement holds the ladder.
    Suppressed,
    /// Another run holds the deployment.
    Lease,
    /// A condition could not be answered.
    NoData,
    /// There is no deployment to act on.
    EmptyTarget,
    /// The adapter does not have the verb, or may not use it.
    VerbMissing,
    /// The rung's own `if` is false.
    If,
    /// A person's approval is required, and cannot be asked for at this point.
    Approve,
}

impl Guard {
    pub const ALL: [Guard; 27] = [
        Guard::Pause,
        Guard::Draining,
        Guard::Storage,
        Guard::Observe,
        Guard::Freeze,
        Guard::Stale,
        Guard::StartGrace,
        Guard::ActAfter,
        Guard::Sensor,
        Guard::Storm,
        Guard::Flap,
        Guard::Grace,
        Guard::Dependency,
        Guard::Breaker,
        Guard::Recurrence,
        Guard::PerDeployment,
        Guard::PerPlaybook,
        Guard::Velocity,
        Guard::MaxRunning,
        Guard::BlastRadius,
        Guard::Suppressed,
        Guard::Lease,
        Guard::NoData,
        Guard::EmptyTarget,
        Guard::VerbMissing,
        Guard::If,
        Guard::Approve,
    ];

    /// The name in policy files, the API, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Guard::Pause => "pause",
            Guard::Draining => "draining",
            Guard::Storage => "storage",
            Guard::Observe => "observe",
            Guard::Freeze => "freeze",
            Guard::Stale => "stale",
            Guard::StartGrace => "start_grace",
            Guard::ActAfter => "act_after",
            Guard::Sensor => "sensor",
            Guard::Storm => "storm",
            Guard::Flap => "flap",
            Guard::Grace => "grace",
            Guard::Dependency => "dependency",
            Guard::Breaker => "breaker",
            Guard::Recurrence => "recurrence",
            Guard::PerDeployment => "per_deployment",
            Guard::PerPlaybook => "per_playbook",
            Guard::Velocity => "velocity",
            Guard::MaxRunning => "max_running",
            Guard::BlastRadius => "blast_radius",
            Guard::Suppressed => "suppressed",
            Guard::Lease => "lease",
            Guard::NoData => "no_data",
            Guard::EmptyTarget => "empty_target",
            Guard::VerbMissing => "verb_missing",
            Guard::If => "if",
            Guard::Approve => "approve",
        }
    }

    /// Whether a person may override it for one run (`trigger --override`): never a pause, a missing target or another
    /// run's lease.
    pub fn can_be_overridden(self) -> bool {
        match self {
            Guard::Freeze
            | Guard::Sensor
            | Guard::Storm
            | Guard::Flap
            | Guard::Grace
            | Guard::Dependency
            | Guard::Breaker
            | Guard::Recurrence
            | Guard::PerDeployment
            | Guard::PerPlaybook
            | Guard::Velocity
            | Guard::MaxRunning
            | Guard::BlastRadius => true,
            Guard::Pause
            | Guard::Draining
            | Guard::Storage
            | Guard::Observe
            | Guard::Stale
            | Guard::StartGrace
            | Guard::ActAfter
            | Guard::Suppressed
            | Guard::Lease
            | Guard::NoData
            | Guard::EmptyTarget
            | Guard::VerbMissing
            | Guard::If
            | Guard::Approve => false,
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no guard of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no guard `{0}`")]
pub struct UnknownGuard(pub String);

impl FromStr for Guard {
    type Err = UnknownGuard;

    /// # Errors
    /// There is no guard of that name.
    fn from_str(name: &str) -> Result<Self, UnknownGuard> {
        Guard::ALL.into_iter().find(|guard| guard.as_str() == name).ok_or_else(|| UnknownGuard(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_is_stored_under_the_name_that_people_read() {
        for guard in Guard::ALL {
            assert_eq!(guard.as_str().parse(), Ok(guard));
            let stored = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(guard.as_str());
            assert_eq!(Guard::deserialize(stored), Ok(guard));
        }
        assert!(Guard::ALL.is_sorted(), "guards are shown in the order of their declaration");
        assert_eq!("lunch".parse::<Guard>(), Err(UnknownGuard("lunch".to_owned())));
    }
}

//! The alerts that selfheal raises about itself.
//!
//! Invariant: every name that selfheal gives an alert of its own is a variant here, so that the policy compiler can
//! reserve all of them: a rule of that name and the built-in alert would be one alert and end each other.

use std::fmt;

/// An alert that selfheal raises without a rule. Its name is the alert's `alertname`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuiltInAlert {
    /// The saved policy does not compile; the last good policy stays in use.
    PolicyInvalid,
    /// A firing alert of a rule with `no_data: alert` has no data.
    NoData,
    /// A rule cannot be evaluated, or costs more than its budget.
    RuleError,
    /// The journal cannot be written.
    StorageFailed,
    /// Recovery derived other decisions than the journal holds; automation is paused.
    Divergence,
    /// A run takes longer than its deadline allows.
    RunStuck,
    /// A run that a schedule started was not cured and not done.
    ScheduledRunFailed,
    /// An escalation step has nobody to notify. No part of selfheal raises it yet; the name is reserved.
    EscalationGap,
}

impl BuiltInAlert {
    /// All of them.
    pub const ALL: [BuiltInAlert; 8] = [
        BuiltInAlert::PolicyInvalid,
        BuiltInAlert::NoData,
        BuiltInAlert::RuleError,
        BuiltInAlert::StorageFailed,
        BuiltInAlert::Divergence,
        BuiltInAlert::RunStuck,
        BuiltInAlert::ScheduledRunFailed,
        BuiltInAlert::EscalationGap,
    ];

    /// The alert's name, as it stands in `alertname`.
    pub const fn name(self) -> &'static str {
        match self {
            BuiltInAlert::PolicyInvalid => "PolicyInvalid",
            BuiltInAlert::NoData => "NoData",
            BuiltInAlert::RuleError => "RuleError",
            BuiltInAlert::StorageFailed => "StorageFailed",
            BuiltInAlert::Divergence => "Divergence",
            BuiltInAlert::RunStuck => "RunStuck",
            BuiltInAlert::ScheduledRunFailed => "ScheduledRunFailed",
            BuiltInAlert::EscalationGap => "EscalationGap",
        }
    }

    /// The built-in alert of this name.
    pub fn from_name(name: &str) -> Option<BuiltInAlert> {
        BuiltInAlert::ALL.into_iter().find(|alert| alert.name() == name)
    }
}

impl fmt::Display for BuiltInAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_belongs_to_one_alert() {
        for alert in BuiltInAlert::ALL {
            assert_eq!(BuiltInAlert::from_name(alert.name()), Some(alert));
        }
        assert_eq!(BuiltInAlert::from_name("HighCpu"), None);
    }
}

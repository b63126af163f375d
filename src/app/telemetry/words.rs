//! The words that figures are counted under: few, fixed, and all of them shown from the start, so that the first of a
//! kind is a rise from zero and not a series that was not there.

use selfheal_api::{Busy, Form, NotRead, NotTaken};
use selfheal_model::{Event, EventKind};

/// A closed set of words.
pub trait Words: Copy + 'static {
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
}

/// The way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Events,
    RemoteWrite,
    Otlp,
    Text,
    /// Posted as to an Alertmanager.
    Alerts,
    /// What selfheal's own sources and checks saw, and what it says of itself.
    Watched,
}

impl Way {
    pub fn of(form: &Form) -> Way {
        match form {
            Form::Events { .. } => Way::Events,
            Form::RemoteWrite { .. } => Way::RemoteWrite,
            Form::Otlp { .. } => Way::Otlp,
            Form::Text { .. } => Way::Text,
            Form::Alerts => Way::Alerts,
        }
    }
}

impl Words for Way {
    const ALL: &'static [Way] = &[Way::Events, Way::RemoteWrite, Way::Otlp, Way::Text, Way::Alerts, Way::Watched];

    fn word(self) -> &'static str {
        match self {
            Way::Events => "events",
            Way::RemoteWrite => "remote_write",
            Way::Otlp => "otlp",
            Way::Text => "text",
            Way::Alerts => "alerts",
            Way::Watched => "watched",
        }
    }
}

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Metric,
    Health,
    Signal,
    /// One that another system raised.
    Alert,
}

impl Words for Kind {
    const ALL: &'static [Kind] = &[Kind::Metric, Kind::Health, Kind::Signal, Kind::Alert];

    fn word(self) -> &'static str {
        match self {
            Kind::Metric => "metric",
            Kind::Health => "health",
            Kind::Signal => "signal",
            Kind::Alert => "alert",
        }
    }
}

/// How many events there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds([u64; Kind::ALL.len()]);

impl Kinds {
    pub fn of(events: &[Event]) -> Kinds {
        let mut kinds = Kinds::default();
        for event in events {
            let kind = match event.kind {
                EventKind::Metric { .. } | EventKind::Ended { .. } => Kind::Metric,
                EventKind::Health { .. } => Kind::Health,
                EventKind::Signal { .. } => Kind::Signal,
            };
            kinds.0[kind as usize] += 1;
        }
        kinds
    }

    pub fn alerts(count: usize) -> Kinds {
        let mut kinds = Kinds::default();
        kinds.0[Kind::Alert as usize] = count as u64;
        kinds
    }

    pub fn iter(self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.iter().copied().zip(self.0)
    }
}

/// Why events were refused, or let go after they had been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no event, or its body cannot be read.
    Unreadable,
    TooLarge,
    /// The sender sends more requests than one may.
    TooFast,
    /// The lane is full.
    Full,
    Recovering,
    Draining,
    /// The journal takes nothing.
    Unwritable,
    /// The policy rejects deployments that it does not list.
    UnknownDeployment,
    TooManyDeployments,
    TooManySeries,
    TooManyChecks,
    TooManySignals,
    /// Of a rule, for one deployment.
    TooManyScopes,
    /// Alerts that another system raised.
    TooManyPosted,
    /// From before every window that is open.
    TooLate,
}

impl Reason {
    pub fn of(not_taken: &NotTaken) -> Reason {
        match not_taken {
            NotTaken::Busy(busy) => Reason::of_busy(busy),
            NotTaken::Unreadable(_) | NotTaken::Unsupported(_) => Reason::Unreadable,
        }
    }

    pub fn of_busy(busy: &Busy) -> Reason {
        match busy {
            Busy::Full => Reason::Full,
            Busy::Draining => Reason::Draining,
            Busy::Recovering => Reason::Recovering,
            Busy::Unwritable(_) => Reason::Unwritable,
        }
    }

    pub fn of_unread(why: NotRead) -> Reason {
        match why {
            NotRead::TooFast => Reason::TooFast,
            NotRead::TooLarge => Reason::TooLarge,
            NotRead::Unreadable => Reason::Unreadable,
        }
    }
}

impl Words for Reason {
    const ALL: &'static [Reason] = &[
        Reason::Unreadable,
        Reason::TooLarge,
        Reason::TooFast,
        Reason::Full,
        Reason::Recovering,
        Reason::Draining,
        Reason::Unwritable,
        Reason::UnknownDeployment,
        Reason::TooManyDeployments,
        Reason::TooManySeries,
        Reason::TooManyChecks,
        Reason::TooManySignals,
        Reason::TooManyScopes,
        Reason::TooManyPosted,
        Reason::TooLate,
    ];

    fn word(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::TooLarge => "too_large",
            Reason::TooFast => "too_fast",
            Reason::Full => "full",
            Reason::Recovering => "recovering",
            Reason::Draining => "draining",
            Reason::Unwritable => "unwritable",
            Reason::UnknownDeployment => "unknown_deployment",
            Reason::TooManyDeployments => "too_many_deployments",
            Reason::TooManySeries => "too_many_series",
            Reason::TooManyChecks => "too_many_checks",
            Reason::TooManySignals => "too_many_signals",
            Reason::TooManyScopes => "too_many_scopes",
            Reason::TooManyPosted => "too_many_posted",
            Reason::TooLate => "too_late",
        }
    }
}

/// How a step's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    Done,
    Failed,
    Unknown,
    /// It was decided for no later than some time, and that had passed: nothing was done.
    NotBegun,
}

impl StepOutcome {
    pub fn of(outcome: &selfheal_model::Outcome) -> StepOutcome {
        use selfheal_model::Outcome;
        match outcome {
            Outcome::Done { .. } => StepOutcome::Done,
            Outcome::Failed { .. } => StepOutcome::Failed,
            Outcome::Unknown { .. } => StepOutcome::Unknown,
        }
    }
}

impl Words for StepOutcome {
    const ALL: &'static [StepOutcome] =
        &[StepOutcome::Done, StepOutcome::Failed, StepOutcome::Unknown, StepOutcome::NotBegun];

    fn word(self) -> &'static str {
        match self {
            StepOutcome::Done => "done",
            StepOutcome::Failed => "failed",
            StepOutcome::Unknown => "unknown",
            StepOutcome::NotBegun => "not_begun",
        }
    }
}

/// How a delivery's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    Delivered,
    /// Tried again later.
    Transient,
    Permanent,
}

impl DeliveryOutcome {
    pub fn of(result: &selfheal_contract::DeliveryResult) -> DeliveryOutcome {
        use selfheal_contract::DeliveryResult;
        match result {
            DeliveryResult::Delivered => DeliveryOutcome::Delivered,
            DeliveryResult::Transient { .. } => DeliveryOutcome::Transient,
            DeliveryResult::Permanent { .. } => DeliveryOutcome::Permanent,
        }
    }
}

impl Words for DeliveryOutcome {
    const ALL: &'static [DeliveryOutcome] =
        &[DeliveryOutcome::Delivered, DeliveryOutcome::Transient, DeliveryOutcome::Permanent];

    fn word(self) -> &'static str {
        match self {
            DeliveryOutcome::Delivered => "delivered",
            DeliveryOutcome::Transient => "transient",
            DeliveryOutcome::Permanent => "permanent",
        }
    }
}

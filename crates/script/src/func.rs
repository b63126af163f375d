//! The functions of the rule language by name, and what each reads.

/// A function of the rule language (SPEC §2.3). Its subject is a metric (name or selector), a check, a signal, a
/// rule, a label or a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Func {
    Last,
    Age,
    Absent,
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Stddev,
    P50,
    P90,
    P95,
    P99,
    Rate,
    Increase,
    Delta,
    Changes,
    Slope,
    Zscore,
    First,
    Quantile,
    Predict,
    TimeTo,
    History,
    Status,
    Healthy,
    Unhealthy,
    Failures,
    Successes,
    Reason,
    Latency,
    SuccessRate,
    Flaps,
    Signal,
    SignalAge,
    SignalField,
    Open,
    Label,
    Fact,
    Firing,
    Deployments,
    Hour,
    Weekday,
    InInterval,
}

/// What the subject of a function names, and so what can change its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A metric, or a selector.
    Metric,
    /// A check's newest verdicts.
    Check,
    /// A check's verdicts over a window, which are series.
    CheckSeries,
    Signal,
    /// A label, or the scope as a whole: they change only with the scope itself.
    Scope,
    Fact,
    Rule,
    /// The wall clock of the evaluation.
    Clock,
}

impl Func {
    pub fn about(self) -> About {
        match self {
            Func::Last
            | Func::Age
            | Func::Absent
            | Func::Avg
            | Func::Min
            | Func::Max
            | Func::Sum
            | Func::Count
            | Func::Stddev
            | Func::P50
            | Func::P90
            | Func::P95
            | Func::P99
            | Func::Rate
            | Func::Increase
            | Func::Delta
            | Func::Changes
            | Func::Slope
            | Func::Zscore
            | Func::First
            | Func::Quantile
            | Func::Predict
            | Func::TimeTo
            | Func::History => About::Metric,
            Func::Status
            | Func::Healthy
            | Func::Unhealthy
            | Func::Failures
            | Func::Successes
            | Func::Reason
            | Func::Latency => About::Check,
            Func::SuccessRate | Func::Flaps => About::CheckSeries,
            Func::Signal | Func::SignalAge | Func::SignalField | Func::Open => About::Signal,
            Func::Label | Func::Deployments => About::Scope,
            Func::Fact => About::Fact,
            Func::Firing => About::Rule,
            Func::Hour | Func::Weekday | Func::InInterval => About::Clock,
        }
    }

    /// Whether it is a number out of one metric's samples, so that arithmetic can tell what follows from it.
    pub fn is_number_of_metric(self) -> bool {
        self == Func::Last || self.is_of_a_window()
    }

    /// Whether it gives a number out of a metric's samples in a window, the same as long as none comes or leaves.
    pub fn is_of_a_window(self) -> bool {
        let is_other =
            matches!(self, Func::Last | Func::Age | Func::Absent | Func::Predict | Func::TimeTo | Func::History);
        self.about() == About::Metric && !is_other
    }
}

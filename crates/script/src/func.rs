//! The functions of the rule language by name, and what each reads.

/// A function of the rule language (SPEC §2.3). Its subject is a metric (name or selector), a check, a signal, a rule,
/// a label or a fact. Functions of a metric look at the samples of a window, unless said otherwise, and give no data
/// where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Func {
    /// The newest sample, in the metric's unit.
    Last,
    /// Seconds since the newest sample.
    Age,
    /// Whether no sample came within the window.
    Absent,
    /// The arithmetic mean of the samples.
    Avg,
    /// The smallest sample.
    Min,
    /// The largest sample.
    Max,
    /// The sum of the samples (Neumaier's compensated summation, 1974).
    Sum,
    /// The number of samples.
    Count,
    /// The standard deviation of the samples as a whole population (Welford's algorithm, 1962).
    Stddev,
    /// The 0.5 quantile; see [`Func::Quantile`].
    P50,
    /// The 0.9 quantile.
    P90,
    /// The 0.95 quantile.
    P95,
    /// The 0.99 quantile.
    P99,
    /// Growth of a counter per second; a fall counts as a reset to 0, as in Prometheus' `rate`.
    Rate,
    /// Growth of a counter over the window; resets as in [`Func::Rate`].
    Increase,
    /// The newest sample minus the oldest, for gauges.
    Delta,
    /// How often the value became another value.
    Changes,
    /// Slope per second of the line through the samples by ordinary least squares.
    Slope,
    /// (newest sample - mean) / standard deviation, in standard deviations; missing where the deviation is 0.
    Zscore,
    /// The oldest sample of the window.
    First,
    /// The value below which a share of the samples lies, interpolated between the two nearest samples (type 7 of
    /// Hyndman and Fan, 1996). Large windows are summarised with a relative error of at most 1 %.
    Quantile,
    /// The value of the least-squares line a number of seconds after now.
    Predict,
    /// Seconds until the least-squares line reaches a limit; a very large number where it never does.
    TimeTo,
    /// The values of the samples, oldest first.
    History,
    /// The newest raw verdict of a check: `healthy` or `unhealthy`.
    Status,
    /// Whether a check's smoothed verdict is healthy.
    Healthy,
    /// Whether a check's smoothed verdict is unhealthy.
    Unhealthy,
    /// Unhealthy verdicts of a check in a row, up to now.
    Failures,
    /// Healthy verdicts of a check in a row, up to now.
    Successes,
    /// Why the newest verdict of a check is unhealthy: `timeout`, `refused`, `status`, …
    Reason,
    /// How long the newest check took, in milliseconds.
    Latency,
    /// The share of healthy verdicts in the window, 0 to 1.
    SuccessRate,
    /// How often a check's verdict changed in the window.
    Flaps,
    /// How often a signal came in the window.
    Signal,
    /// Seconds since the newest signal.
    SignalAge,
    /// A field of the newest signal.
    SignalField,
    /// Whether a signal came after which the closing signal has not come.
    Open,
    /// A label of the scope.
    Label,
    /// What the adapter last observed of the deployment.
    Fact,
    /// How many alerts of a rule fire in the scope.
    Firing,
    /// How many deployments are in the scope.
    Deployments,
    /// The hour of the day in a time zone, 0 to 23.
    Hour,
    /// The day of the week in a time zone, 1 (Monday) to 7 (Sunday).
    Weekday,
    /// Whether a time interval of the policy holds now.
    InInterval,
}

/// What the subject of a function names, and so which input can change the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A metric, or a selector.
    Metric,
    /// A check's newest verdicts.
    Check,
    /// A check's verdicts over a window, which are series.
    CheckSeries,
    /// A signal.
    Signal,
    /// A label, or the scope as a whole: they change only with the scope itself.
    Scope,
    /// A fact that an adapter observed.
    Fact,
    /// The alerts of a rule.
    Rule,
    /// The wall clock of the evaluation.
    Clock,
}

impl Func {
    /// What the subject names.
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

    /// Whether the function gives a number computed from the samples of one metric, which the fast path can read.
    pub fn is_number_of_metric(self) -> bool {
        self == Func::Last || self.is_of_a_window()
    }

    /// Whether the function gives a number computed from the samples in a window, which stays the same as long as no
    /// sample enters or leaves the window.
    pub fn is_of_a_window(self) -> bool {
        let is_other =
            matches!(self, Func::Last | Func::Age | Func::Absent | Func::Predict | Func::TimeTo | Func::History);
        self.about() == About::Metric && !is_other
    }
}

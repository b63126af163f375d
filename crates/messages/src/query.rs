//! Queries of respond and the answers of detect: one typed pair per use.
//!
//! A query carries everything that is needed to answer it, compiled when the policy was loaded: answering one neither
//! compiles nor parses. An answer names its query by id and repeats nothing of it.

use selfheal_model::{AlertKey, CheckName, DeploymentId, Labels, Map, RuleName, Severity, Timestamp};
use selfheal_script::{Condition, Param, Template, Truth};

/// Identifies one query. Respond numbers its queries in the order in which it asks them and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct QueryId(pub u64);

/// Parameters with their names, as a playbook or ladder has them.
pub type Params = Vec<(String, Param)>;

/// Parameters after rendering, or which of them could not be rendered and why.
pub type RenderedParams = Result<Map, String>;

/// A text after rendering, or why it could not be rendered.
pub type RenderedText = Result<String, String>;

/// The scope and the names in which conditions are evaluated and texts are rendered.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Context {
    /// The deployment that the query is about.
    pub deployment: Option<DeploymentId>,
    /// The alert that the query is about.
    pub alert: Option<AlertKey>,
    /// The labels that scripts see.
    pub labels: Labels,
    /// The alert's value.
    pub value: Option<f64>,
    /// The alert's severity.
    pub severity: Option<Severity>,
    /// The inputs of the run.
    pub inputs: Map,
    /// The steps of the run that have ended, by name.
    pub steps: Map,
    /// The step that failed first; only set in `rescue`.
    pub failed: Option<Map>,
    /// Only evidence after this instant counts: windows begin here, earlier verdicts and signals are not read.
    pub cut: Option<Timestamp>,
}

/// One level of a rule, evaluated for the alert of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelRef {
    pub rule: RuleName,
    pub severity: Severity,
}

/// A question of respond.
#[derive(Clone)]
pub struct Query {
    pub id: QueryId,
    pub context: Context,
    pub kind: QueryKind,
}

/// What a query asks. Each kind has the [`Answer`] of the same name.
#[derive(Clone)]
pub enum QueryKind {
    /// The texts of an alert.
    AlertTexts { summary: Option<Template>, annotations: Vec<(String, Template)> },
    /// The deployment that the `on` of a rung names.
    RungTarget { on: Param },
    /// Whether the run of a rung may begin: is the symptom there, does `if` hold, what are the inputs?
    BeginRung { symptom: LevelRef, if_: Option<Condition>, with: Params },
    /// The inputs of a scheduled run.
    BeginScheduled { with: Params },
    /// Whether a step may begin, and what it works with.
    BeginStep { if_: Option<Condition>, symptom: Option<LevelRef>, material: StepMaterial },
    /// Whether the symptom is still there before a call is tried again.
    RetryStep { symptom: LevelRef },
    /// Whether the newest raw verdict of a check is healthy.
    CheckHealthy { check: CheckName },
}

/// What the kind of a step needs evaluated or rendered.
#[derive(Clone)]
pub enum StepMaterial {
    Nothing,
    Params(Params),
    Text(Template),
    Assertion { condition: Condition, message: Option<Template> },
}

/// The answer of detect to one query.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    AlertTexts { summary: Option<RenderedText>, annotations: Vec<(String, RenderedText)> },
    RungTarget { on: RenderedParam },
    BeginRung { symptom: Finding, if_: Option<Truth>, with: RenderedParams },
    BeginScheduled { with: RenderedParams },
    BeginStep { if_: Option<Truth>, symptom: Option<Finding>, material: RenderedMaterial },
    RetryStep { symptom: Finding },
    CheckHealthy { healthy: Truth },
}

/// A parameter after rendering, or why it could not be rendered.
pub type RenderedParam = Result<selfheal_model::Value, String>;

/// A truth value with the instant of the newest evidence that was read for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub truth: Truth,
    pub evidence: Timestamp,
}

/// What became of a [`StepMaterial`].
#[derive(Clone, Debug, PartialEq)]
pub enum RenderedMaterial {
    Nothing,
    Params(RenderedParams),
    Text(RenderedText),
    Assertion { truth: Truth, message: Option<RenderedText> },
}

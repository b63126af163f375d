//! The plain names that a script or text can use beside the functions: `deployment`, `labels`, `settings`, …

use selfheal_model::Map;

/// The names that exist where a script or text stands, for the checks at load.
#[derive(Clone, Debug, Default)]
pub struct Names<'a> {
    /// The policy's settings; `None`: settings are not checked.
    pub settings: Option<&'a Map>,
    /// `Some` in playbooks: the declared inputs.
    pub inputs: Option<&'a [String]>,
    /// Those of the inputs that are secrets.
    pub secret_inputs: &'a [String],
    /// `Some` in playbooks: the ids of the steps before this one.
    pub steps: Option<&'a [String]>,
    /// Whether the rule has a `value:`.
    pub has_value: bool,
    /// Whether `failed` exists (in `rescue`).
    pub in_rescue: bool,
}

/// A plain name; each is a field of [`Vars`](crate::Vars).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Root {
    Deployment,
    Labels,
    Value,
    Severity,
    Settings,
    Inputs,
    Steps,
    Failed,
}

/// The members of `steps.ID`.
pub(crate) const STEP_MEMBERS: [&str; 5] = ["outcome", "class", "message", "output", "seconds"];
/// The members of `failed`.
pub(crate) const FAILED_MEMBERS: [&str; 2] = ["id", "message"];

impl Names<'_> {
    /// The plain names that exist here.
    pub(crate) fn roots(&self) -> Vec<(&'static str, Root)> {
        let mut roots = vec![
            ("deployment", Root::Deployment),
            ("labels", Root::Labels),
            ("severity", Root::Severity),
            ("settings", Root::Settings),
        ];
        if self.has_value {
            roots.push(("value", Root::Value));
        }
        if self.inputs.is_some() {
            roots.push(("inputs", Root::Inputs));
        }
        if self.steps.is_some() {
            roots.push(("steps", Root::Steps));
        }
        if self.in_rescue {
            roots.push(("failed", Root::Failed));
        }
        roots
    }
}

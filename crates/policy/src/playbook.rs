//! Playbooks: the steps of a remediation as written, and how its success is verified.

use std::time::Duration;

use smol_str::SmolStr;

use crate::guards::Mode;
use selfheal_model::ids::fingerprint;
use selfheal_model::{CheckName, DeploymentId, PlaybookName, ReceiverName, SignalName, SourceRef, StepId, Value, Verb};
use selfheal_script::{Condition, Param, Template};

#[derive(Clone)]
pub struct Playbook {
    pub name: PlaybookName,
    pub source: SourceRef,
    pub description: String,
    pub mode: Mode,
    pub inputs: Vec<InputSpec>,
    pub steps: Vec<Step>,
    pub on_failure: OnFailure,
    pub rescue: Vec<Step>,
    pub finally: Vec<Step>,
    pub verify: Verify,
    /// Over the text it was compiled from: what a run is pinned to.
    pub hash: u64,
}

/// For `#[serde(with)]`: a playbook belongs to a policy, and what is pinned to one is saved by its name. What is read back
/// is an empty playbook of that name, in place of which the policy's is put.
pub mod by_name {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Playbook;
    use selfheal_model::PlaybookName;

    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(playbook: &Arc<Playbook>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(playbook.name.as_str())
    }

    /// # Errors
    /// Those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Playbook>, D::Error> {
        PlaybookName::deserialize(deserializer).map(|name| Arc::new(Playbook::empty(name)))
    }
}

/// As [`by_name`], several.
pub mod all_by_name {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Playbook;
    use selfheal_model::PlaybookName;

    type Playbooks = BTreeMap<PlaybookName, Arc<Playbook>>;

    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(playbooks: &Playbooks, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(playbooks.keys())
    }

    /// # Errors
    /// Those of the format.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Playbooks, D::Error> {
        let names = Vec::<PlaybookName>::deserialize(deserializer)?;
        Ok(names.into_iter().map(|name| (name.clone(), Arc::new(Playbook::empty(name)))).collect())
    }
}

impl Playbook {
    /// Every step there is, undoing ones and those of `parallel` too, with the section it belongs to.
    pub fn all_steps(&self) -> impl Iterator<Item = (Section, &Step)> {
        let sections =
            [(Section::Steps, &self.steps), (Section::Rescue, &self.rescue), (Section::Finally, &self.finally)];
        sections.into_iter().flat_map(|(section, steps)| {
            steps.iter().flat_map(Step::with_branches).flat_map(move |step| {
                let undo = step.undo.as_deref().map(|undo| (Section::Undo, undo));
                std::iter::once((section, step)).chain(undo)
            })
        })
    }

    /// One that does nothing.
    pub fn empty(name: PlaybookName) -> Self {
        Playbook {
            name,
            source: SourceRef { file: "".into(), line: 1, column: 1 },
            description: String::new(),
            mode: Mode::default(),
            inputs: Vec::new(),
            steps: Vec::new(),
            on_failure: OnFailure::default(),
            rescue: Vec::new(),
            finally: Vec::new(),
            verify: Verify { until: None, hold: Duration::ZERO, within: Duration::ZERO },
            hash: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum OnFailure {
    #[default]
    Stop,
    /// Run the `undo` of the steps that ended done, last first.
    Undo,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    pub name: String,
    pub kind: InputKind,
    pub one_of: Vec<Value>,
    /// `None`: required.
    pub default: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    String,
    Integer,
    Number,
    Boolean,
    Duration,
    Size,
    List,
    Secret,
}

#[derive(Clone)]
pub struct Step {
    /// Given, or `step-<n>` (1-based); unique in the playbook.
    pub id: StepId,
    pub kind: StepKind,
    pub if_: Option<Condition>,
    pub timeout: Duration,
    pub best_effort: bool,
    pub retry: Retry,
    /// An action, run in reverse order if a later step fails and the playbook says `on_failure: undo`.
    pub undo: Option<Box<Step>>,
}

impl Step {
    /// Itself, or some of what it does at the same time.
    pub fn can_be_undone(&self) -> bool {
        match &self.kind {
            StepKind::Parallel(branches) => branches.iter().any(|branch| branch.undo.is_some()),
            _ => self.undo.is_some(),
        }
    }

    /// This step and those it consists of. What an undo does is not among them.
    pub fn with_branches(&self) -> impl Iterator<Item = &Step> {
        let branches = match &self.kind {
            StepKind::Parallel(branches) => branches.as_slice(),
            _ => &[],
        };
        std::iter::once(self).chain(branches)
    }
}

#[derive(Clone)]
pub enum StepKind {
    Action {
        verb: Verb,
        with: Vec<(String, Param)>,
        /// Acts on another deployment, whose lease the run then holds too.
        deployment: Option<DeploymentId>,
    },
    Wait(Duration),
    WaitUntil {
        until: Condition,
        within: Duration,
    },
    Assert {
        condition: Condition,
        message: Option<Template>,
    },
    /// Run this check now; unhealthy fails the step.
    Check {
        check: CheckName,
    },
    Notify {
        receiver: ReceiverName,
        text: Template,
    },
    Signal {
        name: SignalName,
        fields: Vec<(String, Param)>,
    },
    /// Waits for a person. Meanwhile the run holds no lease, slot or budget; unanswered is denied.
    Approve(Approve),
    /// Other figures for a check of the deployment, for a while.
    SetCheck(SetCheck),
    /// Nobody is told of the run's alert for so long; its repair goes on.
    Silence(Duration),
    /// Another playbook, under the same lease and in the same budgets.
    Playbook {
        name: PlaybookName,
        with: Vec<(String, Param)>,
    },
    /// All at the same time, at least one; it has ended when all have.
    Parallel(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approve {
    /// Who is asked; `None`: whoever hears of the run's alert.
    pub ask: Option<ReceiverName>,
    /// The role whose holders may answer.
    pub by: SmolStr,
    pub timeout: Duration,
}

impl Default for Approve {
    /// What `approval: required` and `mode: approve` ask.
    fn default() -> Self {
        Approve { ask: None, by: SmolStr::new_static("approver"), timeout: Duration::from_secs(30 * 60) }
    }
}

/// What is not said stays as the policy has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SetCheck {
    pub check: CheckName,
    pub every: Option<Duration>,
    pub timeout: Option<Duration>,
    pub failure_threshold: Option<u32>,
    pub success_threshold: Option<u32>,
    /// How long it stays so.
    pub for_: Duration,
}

/// Only for failures the adapter calls transient; never after an unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, at least 1.
    pub attempts: u32,
    /// The wait before the second try; doubles up to `backoff_max`.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 1, backoff: Duration::from_secs(2), backoff_max: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The wait after try number `tries` (1-based) has failed, or `None` when it was the last: doubling up to
    /// `backoff_max`, of which a quarter is spread by `key`, so that what failed together does not return together.
    pub fn pause_after(&self, tries: u32, key: &str) -> Option<Duration> {
        /// Beyond this the doubling has long passed any bound.
        const MOST_DOUBLINGS: u32 = 20;
        const PARTS: u64 = 1000;
        if tries >= self.attempts {
            return None;
        }
        let doubled = self.backoff.saturating_mul(1 << tries.saturating_sub(1).min(MOST_DOUBLINGS));
        let whole = doubled.min(self.backoff_max.max(self.backoff));
        let spread = fingerprint([key]) % (PARTS / 4);
        let parts = u32::try_from(PARTS - spread).unwrap_or(u32::MAX);
        Some(whole.saturating_mul(parts) / u32::try_from(PARTS).unwrap_or(1))
    }
}

/// The parts of a playbook that hold steps, in the order a run goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Section {
    Steps,
    /// The index is that of the step that is undone.
    Undo,
    Rescue,
    Finally,
}

impl Section {
    pub fn as_str(self) -> &'static str {
        match self {
            Section::Steps => "steps",
            Section::Undo => "undo",
            Section::Rescue => "rescue",
            Section::Finally => "finally",
        }
    }

    /// Whether its acting steps need the symptom to be there: repairs do, cleaning up does not.
    pub fn needs_symptom(self) -> bool {
        matches!(self, Section::Steps | Section::Rescue)
    }

    /// The step at `index` of this section of `playbook`. Of several at a time, undoing them is that step itself.
    pub fn step(self, playbook: &Playbook, index: usize) -> Option<Step> {
        match self {
            Section::Steps => playbook.steps.get(index).cloned(),
            Section::Undo => {
                let undone = playbook.steps.get(index)?;
                let together = matches!(undone.kind, StepKind::Parallel(_));
                if together { Some(Step { if_: None, ..undone.clone() }) } else { undone.undo.as_deref().cloned() }
            }
            Section::Rescue => playbook.rescue.get(index).cloned(),
            Section::Finally => playbook.finally.get(index).cloned(),
        }
    }
}

/// When a run counts as cured: `until` true for `hold`, before `within` is over.
#[derive(Clone)]
pub struct Verify {
    /// `None`: the alert's `clear_when`, else its `when` known to be false.
    pub until: Option<Condition>,
    pub hold: Duration,
    pub within: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_double_within_bounds_and_end() {
        let retry = Retry { attempts: 5, backoff: Duration::from_secs(2), backoff_max: Duration::from_secs(10) };
        let pauses: Vec<_> = (1..=5).map(|tries| retry.pause_after(tries, "checkout-1/restart")).collect();
        for (pause, most) in pauses.iter().zip([2000, 4000, 8000, 10_000]) {
            let millis = pause.expect("there is another try").as_millis();
            assert!(millis <= most && millis > most * 3 / 4 - 1, "{millis} of {most}");
        }
        assert_eq!(pauses[4], None);
        assert_ne!(retry.pause_after(1, "a"), retry.pause_after(1, "b"), "they do not return together");
        assert_eq!(Retry::default().pause_after(1, "a"), None, "once is the default");
    }
}

//! What is remembered: runs, ladders, and what the guards need of each deployment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::memory::push_bounded;
use crate::guard::{Answers, Observed, Refusal};
use crate::run::{Course, Shape, Verdict};
use selfheal_contract::Guard;
use selfheal_contract::view::StepView;
use selfheal_messages::DeploymentHealth;
use selfheal_model::{
    AlertKey, ApprovalId, DeploymentId, Facts, FailureClass, Map, PlaybookName, RunId, Severity, StepAttemptId, StepId,
    Timestamp, Verb,
};
use selfheal_policy::playbook::{Playbook, Section};
use selfheal_script::Truth;

/// One execution of a playbook. Its playbook and inputs are pinned when it begins.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Run {
    pub id: RunId,
    /// The run it is part of.
    pub parent: Option<RunId>,
    pub part: Part,
    /// What its steps' names begin with in the whole: `heal.` below the step `heal` that runs another playbook.
    pub prefix: String,
    #[serde(with = "selfheal_policy::playbook::by_name")]
    pub playbook: Arc<Playbook>,
    /// The playbooks that its steps run, as they were when it began.
    #[serde(with = "selfheal_policy::playbook::all_by_name")]
    pub subs: BTreeMap<PlaybookName, Arc<Playbook>>,
    pub deployment: DeploymentId,
    pub cause: Cause,
    /// The level of the rule whose ladder this is.
    pub level: Option<Severity>,
    /// The rung of its ladder.
    #[serde(default)]
    pub made_for: Option<MadeFor>,
    /// Whether it cured is for the rung to judge: by its alert once all targets had their run, or by asking again.
    pub judged_by_rung: bool,
    pub inputs: Map,
    /// Version of the policy it was begun under.
    pub policy: SmolStr,
    pub created_at: Timestamp,
    /// Since when it is under way; `None` while it waits.
    pub begun_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub doing: Doing,
    pub course: Course,
    pub steps: Vec<StepView>,
    /// Where it may act, with the lease's number.
    pub leases: BTreeMap<DeploymentId, u64>,
    /// It has waited for a person, and what leases it has now it took since.
    pub gave_leases_back: bool,
    pub acted_on: BTreeSet<DeploymentId>,
    /// Where it means to act, and whether that takes capacity away; known once it has begun.
    pub targets: BTreeMap<DeploymentId, bool>,
    /// Where it took capacity away.
    pub disrupted: BTreeSet<DeploymentId>,
    pub last_act_ended: Option<Timestamp>,
    /// Until when a check has other figures because of it.
    pub eased_until: Option<Timestamp>,
    pub observed: Option<Observed>,
    /// The open question whether it may begin or go on.
    pub approval: Option<ApprovalId>,
    /// For which playbook it is asked, with those its steps run.
    pub asked_for: u64,
    /// How often a person's word was asked for.
    pub approvals: u32,
    pub approved: Option<Approved>,
    pub refusal: Option<Refusal>,
    /// What every guard said when they were asked last.
    pub guards: Answers,
    /// Guards that a person has overruled for this run.
    pub overridden: BTreeSet<Guard>,
    /// Guards people were told of, by name.
    pub told: BTreeSet<Guard>,
    /// Why it went the way it did, in order.
    pub why: Vec<String>,
    pub failed: Option<Failed>,
    /// How many runs deep in a chain of runs that set each other off.
    pub depth: u8,
}

/// The step that failed first: `failed.id` and `failed.message` in `rescue`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Failed {
    pub id: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Cause {
    Alert(AlertKey),
    Schedule(SmolStr),
    Operator { who: String, reason: String },
}

/// The rung a run was made for: its place, and its [`identity`](selfheal_policy::ladder::Rung::identity) then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct MadeFor {
    pub rung: usize,
    pub identity: u64,
}

/// What a run is at.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) enum Doing {
    /// Not begun: holds no lease and counts nowhere.
    Waiting(Waiting),
    /// Detect is asked about the step at the course's place.
    Asking(Asking),
    /// A step may not act now; see the run's refusal.
    Held,
    /// An adapter is at it.
    Calling(Call),
    /// Before another try.
    Pausing(Call),
    /// An outcome is unknown; the lease is kept and the deployment looked at.
    Settling(Call),
    /// Waits for a person, holding nothing.
    Approving,
    /// Allowed to go on, and waits for its leases.
    Regaining,
    /// Parts of it are at it.
    Together(Together),
    /// A `wait` step.
    Sleeping,
    WaitingUntil,
    Probing(StepAttemptId),
    Verifying(Verifying),
    Ended(Verdict),
}

impl Doing {
    pub fn is_ended(&self) -> bool {
        matches!(self, Doing::Ended(_))
    }
}

/// A person's word, and for what it was given.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Approved {
    pub by: String,
    pub shown: Map,
    /// The playbook it was given for, with those its steps run, as they were then.
    pub playbook: u64,
}

/// Which steps of the playbook of the run above a part goes through.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Part {
    /// All of its own playbook.
    Whole,
    /// One of several at a time.
    Branch { section: Section, index: usize, branch: usize },
    /// The undoing of these branches, in order of the playbook.
    Undo { index: usize, branches: Vec<usize> },
}

/// The parts of a step.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Together {
    pub live: BTreeSet<RunId>,
    pub ended: Vec<PartEnd>,
}

/// How a part of a step ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct PartEnd {
    pub verdict: Verdict,
    pub in_doubt: bool,
    pub why: String,
}

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Waiting {
    /// Detect's answer is on its way.
    pub asked: bool,
    /// People were told that it waits for long.
    pub gave_up: bool,
}

/// What detect was asked about a step.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Asking {
    pub step: StepId,
    pub what: AskedFor,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(super) enum AskedFor {
    Begin,
    /// The symptom only: the parameters stay as they were.
    Retry(Box<Call>),
    /// The verdict a check gave after this instant.
    CheckVerdict,
}

/// One verb on its way, with all its tries.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Call {
    pub id: StepAttemptId,
    pub target: DeploymentId,
    pub verb: Verb,
    pub params: Map,
    pub acting: bool,
    pub timeout: Duration,
    pub settle: Duration,
    pub best_effort: bool,
    /// Tries that count against `retry`.
    pub tries: u32,
    /// All calls made so far, which numbers the attempts.
    pub attempts: u32,
    pub refresh: Refresh,
    pub lost: Lost,
    /// The edge has not said that the call has ended: it may still be at it.
    pub at_large: bool,
    /// A look at the deployment has ended since its outcome is unknown: every other one was begun since.
    #[serde(default)]
    pub looked: bool,
    /// Why the last try failed.
    pub last_failure: String,
    #[serde(default)]
    pub last_class: Option<FailureClass>,
}

/// What has been done about refused credentials. Once per step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Refresh {
    Unneeded,
    /// The call under way is the `refresh_auth`.
    UnderWay,
    Done,
}

/// Whether selfheal stopped while the call was under way, so that nobody reports its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Lost {
    No,
    /// The deployment is looked at; then the same call is made again where the adapter says that it may be.
    Stopped,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Verifying {
    pub truth: Truth,
    /// What is left of `within`, which stands still while what is watched may go on unseen.
    #[serde(default)]
    pub left: Option<Duration>,
}

impl Run {
    /// A run that waits to be allowed, under no policy yet.
    pub fn new(id: RunId, playbook: Arc<Playbook>, deployment: DeploymentId, cause: Cause, now: Timestamp) -> Self {
        let shape = Shape::of(&playbook, matches!(cause, Cause::Alert(_)), false);
        Run {
            id,
            parent: None,
            part: Part::Whole,
            prefix: String::new(),
            playbook,
            subs: BTreeMap::new(),
            deployment,
            cause,
            level: None,
            made_for: None,
            judged_by_rung: false,
            inputs: Map::new(),
            policy: SmolStr::default(),
            created_at: now,
            begun_at: None,
            ended_at: None,
            doing: Doing::Waiting(Waiting::default()),
            course: Course::begin(shape),
            steps: Vec::new(),
            leases: BTreeMap::new(),
            gave_leases_back: false,
            acted_on: BTreeSet::new(),
            targets: BTreeMap::new(),
            disrupted: BTreeSet::new(),
            last_act_ended: None,
            eased_until: None,
            observed: None,
            approval: None,
            asked_for: 0,
            approvals: 0,
            approved: None,
            refusal: None,
            guards: Answers::default(),
            overridden: BTreeSet::new(),
            told: BTreeSet::new(),
            why: Vec::new(),
            failed: None,
            depth: 0,
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.doing, Doing::Waiting(_))
    }

    pub fn is_ended(&self) -> bool {
        self.doing.is_ended()
    }

    /// An alert or a schedule asked for it.
    pub fn is_asked_for_by_itself(&self) -> bool {
        !matches!(self.cause, Cause::Operator { .. })
    }

    /// No person has said yes to it.
    pub fn is_automatic(&self) -> bool {
        self.is_asked_for_by_itself() && self.approved.is_none()
    }

    /// Whether it counts in `max_running`.
    pub fn takes_a_slot(&self) -> bool {
        self.is_under_way() && self.parent.is_none() && !(self.gave_leases_back && self.leases.is_empty())
    }

    /// It has been allowed to act and has not yet: what it will take of a budget is taken already.
    pub fn has_budget_reserved(&self) -> bool {
        self.takes_a_slot() && self.observed.is_none()
    }

    pub fn is_under_way(&self) -> bool {
        !self.is_waiting() && !self.is_ended()
    }

    pub fn verdict(&self) -> Option<Verdict> {
        match self.doing {
            Doing::Ended(verdict) => Some(verdict),
            _ => None,
        }
    }

    pub fn alert(&self) -> Option<&AlertKey> {
        match &self.cause {
            Cause::Alert(key) => Some(key),
            Cause::Operator { .. } | Cause::Schedule(_) => None,
        }
    }

    /// The course of a run as it begins.
    pub fn shape(&self) -> Shape {
        Shape::of(&self.playbook, self.alert().is_some() && !self.judged_by_rung, self.observed.is_some())
    }

    /// The record of the step under way.
    pub fn open_step(&mut self) -> Option<&mut StepView> {
        self.steps.iter_mut().rev().find(|step| step.ended_at.is_none())
    }
}

/// Where the repair of one alert stands.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct LadderState {
    /// Which (key, nth) ladder this is: a new episode has a new one.
    pub nth: u64,
    pub level: Severity,
    pub rung: usize,
    /// How many there were when it was last looked at; for people.
    pub rungs: usize,
    pub stand: Stand,
    /// Runs of this ladder, oldest first.
    pub runs: Vec<RunId>,
    /// Of the present firing.
    pub fired_at: Timestamp,
    /// Rungs that came to no run, and why, as a sentence.
    #[serde(default)]
    pub untried: Vec<String>,
    /// Guards people were told of in this episode, by name.
    pub told: BTreeSet<Guard>,
    /// A higher level's own ladder takes over when the run under way has ended.
    pub rise: Option<Severity>,
    /// The episode is over, or the alert is: kept to be shown only.
    pub over: bool,
    /// Of [`Stand::Judging`].
    #[serde(default)]
    pub judging: Option<Judging>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Stand {
    /// Its timer begins the next rung.
    Due,
    /// A run waits or is under way.
    Run(RunId),
    /// Runs on several deployments wait or are under way.
    Fan(Fan),
    /// Those have ended; its timer ends the time in which that has to show itself.
    Judging,
    Resting(Rest),
    /// No rung is left.
    Exhausted,
    /// Until a new episode.
    Stopped,
}

/// A rung for several deployments.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Fan {
    /// The identity of its rung as it began; a save that puts another one here does not reach the targets that are left.
    #[serde(default)]
    pub made_for: Option<u64>,
    pub waiting: VecDeque<DeploymentId>,
    pub live: BTreeSet<RunId>,
    /// Runs of the present batch.
    pub begun: usize,
    /// One of them did not do its work.
    pub failed: bool,
    /// One ended so that a person has to look.
    pub needs_person: bool,
    /// One was passed over by the rung's `if`, or would only have been observed.
    #[serde(default)]
    pub passed_over: bool,
    /// When the last of them did its last; `None`: none has done its work.
    pub acted_at: Option<Timestamp>,
    #[serde(default)]
    pub acted_on: BTreeSet<DeploymentId>,
    /// One ended with nothing verified.
    #[serde(default)]
    pub unproved: bool,
    /// What runs on each of them.
    #[serde(default)]
    pub playbook: Option<PlaybookName>,
    /// Of the playbook's `verify`, as it was when they began.
    #[serde(default)]
    pub hold: Duration,
    pub within: Duration,
}

impl Fan {
    /// Nothing more of it begins.
    pub fn is_stopped(&self) -> bool {
        self.failed || self.needs_person
    }
}

/// A rung for several deployments on which all have had their run, while its alert shows what came of it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Judging {
    pub playbook: PlaybookName,
    pub acted_on: BTreeSet<DeploymentId>,
    /// Only what came after it counts.
    pub acted_at: Timestamp,
    /// The playbook's own `until` has held on every one of them.
    pub proved: bool,
    pub hold: Duration,
    pub within: Duration,
    pub seen: Verifying,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Rest {
    /// The alert is not firing.
    Clear,
    /// Cured; no rung begins before the alert was clear once or its evidence from before the cure has gone.
    Cured,
    /// The symptom went before anything was done, but the alert still fires.
    WentAway,
}

/// What the guards need to know of one deployment.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    /// Runs there were on it.
    pub runs: u64,
    pub lease: Option<RunId>,
    /// The number of the newest lease.
    pub fence: u64,
    /// When runs counted in its budget, ascending.
    pub counted: VecDeque<Timestamp>,
    /// When runs took capacity away here, ascending.
    pub disrupted: VecDeque<Timestamp>,
    pub last: Option<LastRun>,
    pub health: Option<DeploymentHealth>,
    pub facts: Facts,
    /// The newest event a run made about it: when, and how deep in a chain.
    pub chain: Option<(Timestamp, u8)>,
}

/// The last run that acted on a deployment.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct LastRun {
    pub run: RunId,
    /// The alert and its nth ladder.
    pub ladder: Option<(AlertKey, u64)>,
    pub ended_at: Timestamp,
    /// It cured, or the deployment has been well since: it stands in nobody's way.
    #[serde(alias = "cured")]
    pub settled: bool,
}

/// All deployments of which anything is known.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Places {
    by_id: BTreeMap<DeploymentId, Place>,
    next_fence: u64,
    /// Of which something moved in this turn that those which depend on them may have to know.
    #[serde(skip)]
    pub touched: BTreeSet<DeploymentId>,
}

impl Places {
    /// Fences begin at the start's milliseconds: they grow across restarts as long as no lease was given more often
    /// than once a millisecond.
    pub fn new(start: Timestamp) -> Self {
        Places {
            by_id: BTreeMap::new(),
            next_fence: u64::try_from(start.as_millis()).unwrap_or(0),
            touched: BTreeSet::new(),
        }
    }

    pub fn get(&self, id: &DeploymentId) -> Option<&Place> {
        self.by_id.get(id)
    }

    /// Whether any check of any deployment flaps.
    pub fn any_flapping(&self) -> bool {
        self.by_id.values().filter_map(|place| place.health.as_ref()).any(|health| !health.flapping.is_empty())
    }

    pub fn at(&mut self, id: &DeploymentId) -> &mut Place {
        self.by_id.entry(id.clone()).or_default()
    }

    /// Gives the lease, unless another run holds it.
    pub fn lease(&mut self, id: &DeploymentId, run: &RunId) -> Option<u64> {
        let place = self.at(id);
        if place.lease.as_ref().is_some_and(|holder| holder != run) {
            return None;
        }
        place.lease = Some(run.clone());
        self.next_fence += 1;
        let fence = self.next_fence;
        self.at(id).fence = fence;
        self.touched.insert(id.clone());
        Some(fence)
    }

    pub fn release(&mut self, id: &DeploymentId, run: &RunId) {
        let place = self.at(id);
        if place.lease.as_ref() == Some(run) {
            place.lease = None;
            self.touched.insert(id.clone());
        }
    }

    pub fn holds(&self, id: &DeploymentId, run: &RunId) -> bool {
        self.get(id).is_some_and(|place| place.lease.as_ref() == Some(run))
    }

    /// Counts a run in a deployment's budget.
    pub fn count(&mut self, id: &DeploymentId, now: Timestamp) {
        push_bounded(&mut self.at(id).counted, now);
    }
}

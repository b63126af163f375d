//! The detecting half as bytes and back.
//!
//! What belongs to the policy (rules, deployments, settings, what is read) is taken from it again; what was heard, seen
//! and said is saved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::evidence::{Deafness, World};
use super::plan::Plan;
use super::posted::Posted;
use super::queries::Watching;
use super::scopes::{Kept, RuleState, SavedScopes, Scope};
use super::subject::{SavedSubject, SavingSubject, Subject};
use super::{Detect, Due, Refused};
use selfheal_contract::effect::{Desired, Effect};
use selfheal_contract::saved::RestoreError;
use selfheal_contract::view::Change;
use selfheal_messages::{Context, Generation, LevelRef, Watch, WatchId, WatchSubject};
use selfheal_model::timers::Timers;
use selfheal_model::{DeploymentId, Labels, RuleName, Severity, Timestamp};
use selfheal_policy::Policy;
use selfheal_script::{Condition, Truth};

#[derive(Serialize)]
pub struct Saving<'a> {
    now: Timestamp,
    offset_ms: i64,
    watched_since: Timestamp,
    gaps: &'a VecDeque<(Timestamp, Timestamp)>,
    firing: &'a BTreeMap<RuleName, BTreeSet<Labels>>,
    subjects: Vec<(&'a DeploymentId, SavingSubject<'a>)>,
    rules: Vec<(&'a RuleName, SavingRule<'a>)>,
    watches: Vec<(&'a WatchId, SavingWatch<'a>)>,
    posted: &'a Posted,
    deaf: &'a Deafness,
    timers: &'a Timers<Due>,
    refused: Refused,
}

#[derive(Deserialize)]
pub struct Saved {
    now: Timestamp,
    offset_ms: i64,
    watched_since: Timestamp,
    gaps: VecDeque<(Timestamp, Timestamp)>,
    firing: BTreeMap<RuleName, BTreeSet<Labels>>,
    subjects: Vec<(DeploymentId, SavedSubject)>,
    rules: Vec<(RuleName, SavedRule)>,
    watches: Vec<(WatchId, SavedWatch)>,
    #[serde(default)]
    posted: Posted,
    #[serde(default)]
    deaf: Deafness,
    timers: Timers<Due>,
    refused: Refused,
}

#[derive(Serialize)]
struct SavingRule<'a> {
    since: Timestamp,
    budget: &'a Budget,
    scopes: SavedScopes<&'a Kept, &'a Scope>,
}

#[derive(Deserialize)]
struct SavedRule {
    since: Timestamp,
    budget: Budget,
    scopes: SavedScopes<Kept, Scope>,
}

/// A run's own condition is taken from its playbook; what is watched of a rule is named.
#[derive(Serialize)]
struct SavingWatch<'a> {
    context: &'a Context,
    generation: Generation,
    clear: Option<(&'a RuleName, Severity)>,
    said: &'a Option<Truth>,
    blind: bool,
}

#[derive(Deserialize)]
struct SavedWatch {
    context: Context,
    #[serde(default)]
    generation: Generation,
    clear: Option<(RuleName, Severity)>,
    said: Option<Truth>,
    #[serde(default)]
    blind: bool,
}

impl Detect {
    pub fn saving(&self) -> Saving<'_> {
        Saving {
            now: self.now,
            offset_ms: self.world.offset_ms,
            watched_since: self.world.watched_since,
            gaps: &self.world.gaps,
            firing: &self.world.firing,
            subjects: self.subjects.values().map(|subject| (&subject.id, subject.saving())).collect(),
            rules: self.rules.iter().map(|(rule, state)| (rule, saving_rule(state))).collect(),
            watches: self.watches.iter().map(|(id, watching)| (id, saving_watch(watching))).collect(),
            posted: &self.posted,
            deaf: &self.world.deaf,
            timers: &self.timers,
            refused: self.refused,
        }
    }

    /// `conditions` are those of the watches that were under way: a condition belongs to the playbook of a run, so respond
    /// repeats it and detect goes on with the watch as it was saved.
    ///
    /// # Errors
    /// The state does not fit the policy it was saved under, or a watched condition is not among `conditions`.
    pub fn restored(
        saved: Saved,
        policy: Arc<Policy>,
        mut conditions: BTreeMap<WatchId, Condition>,
    ) -> Result<Self, RestoreError> {
        let damaged = |what: String| RestoreError::Damaged(what);
        let mut detect = Detect::new(saved.now, policy.clone());
        detect.world = World {
            watched_since: saved.watched_since,
            gaps: saved.gaps,
            firing: saved.firing,
            plan: Plan::of(&policy),
            offset_ms: saved.offset_ms,
            deaf: saved.deaf,
        };
        for (id, saved) in saved.subjects {
            let subject = Subject::restored(id, saved, &policy, &detect.world.plan);
            detect.series += subject.series.len();
            let number = detect.subjects.insert(subject);
            detect.arm_all(number);
        }
        for (name, SavedRule { since, budget, scopes }) in saved.rules {
            let rule = policy.rules.get(&name).ok_or_else(|| damaged(format!("its policy has no rule {name}")))?;
            let mut state = RuleState::restored(rule.clone(), since, scopes);
            state.budget = budget;
            if state.is_per_deployment() {
                for (scope, _) in state.kept().into_iter().filter(|(_, kept)| kept.said.is_some()) {
                    detect.note_loudness(&name, &scope, true);
                }
            }
            detect.rules.insert(name, state);
        }
        for (id, SavedWatch { context, generation, clear, said, blind }) in saved.watches {
            let subject = match clear {
                Some((rule, severity)) => WatchSubject::Clear(LevelRef { rule, severity }),
                None => {
                    let condition = conditions.remove(&id);
                    WatchSubject::Condition(condition.ok_or_else(|| damaged(format!("no run waits for {id:?}")))?)
                }
            };
            let watch = Watch { id: id.clone(), generation, context, subject };
            detect.watches.insert(id, Watching { watch, said, blind });
        }
        detect.posted = saved.posted;
        detect.timers = saved.timers;
        detect.refused = saved.refused;
        // as it was sent last: it is sent again only when it is something else
        detect.desired = Some(Arc::new(detect.desired_now()));
        Ok(detect)
    }

    /// What should run at the edges, whole, and every deployment.
    pub fn outstanding(&self) -> Vec<Effect> {
        let desired: Option<Arc<Desired>> = self.desired.clone();
        let views = self.deployment_views().into_iter().map(|view| Effect::Show(Change::Deployment(Box::new(view))));
        desired.map(Effect::Desired).into_iter().chain(views).collect()
    }
}

fn saving_rule(state: &RuleState) -> SavingRule<'_> {
    SavingRule { since: state.since, budget: &state.budget, scopes: state.saving() }
}

fn saving_watch(watching: &Watching) -> SavingWatch<'_> {
    let Watch { generation, context, subject, .. } = &watching.watch;
    let clear = match subject {
        WatchSubject::Condition(_) => None,
        WatchSubject::Clear(LevelRef { rule, severity }) => Some((rule, *severity)),
    };
    SavingWatch { context, generation: *generation, clear, said: &watching.said, blind: watching.blind }
}

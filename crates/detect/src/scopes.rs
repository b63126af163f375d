//! A rule's scopes: for which label sets it is asked, and which deployments each covers.
//!
//! Invariant: a label of `per` comes from the deployment where that has it, else from the series of the metrics the
//! rule reads; a deployment that can give neither is in no scope of the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::Budget;
use super::plan::{conditions, metric_of};
use super::query::MetricQuery;
use super::subject::Subject;
use super::subjects::Subjects;
use selfheal_messages::LevelAnswer;
use selfheal_model::{DeploymentId, Labels, Timestamp};
use selfheal_policy::rule::Rule;

/// Scopes one deployment may have in one rule (`per: [deployment, mount]`).
pub(super) const MAX_SCOPES: usize = 256;
/// The label that stands for a deployment.
const DEPLOYMENT: &str = "deployment";

/// A rule with its scopes.
#[derive(Clone)]
pub(super) struct RuleState {
    pub rule: Arc<Rule>,
    /// Since when a rule of this name is there.
    pub since: Timestamp,
    pub budget: Budget,
    /// The metrics it reads, whose series may give scope labels.
    metrics: Vec<MetricQuery>,
    scopes: Scopes,
}

#[derive(Clone)]
enum Scopes {
    /// One for each deployment that the rule selects: they are not listed. Only what was said about one is kept.
    PerDeployment(BTreeMap<DeploymentId, Kept>),
    Listed {
        scopes: BTreeMap<Labels, Scope>,
        /// The scopes each deployment is in.
        of: BTreeMap<DeploymentId, BTreeSet<Labels>>,
    },
}

/// One scope of a rule whose scopes are listed.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Scope {
    pub members: BTreeSet<DeploymentId>,
    /// As the rule's scripts see them: the alert's labels but for `severity`.
    pub labels: Labels,
    pub kept: Kept,
}

/// What was said about a scope.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Kept {
    /// Set while it is not quiet.
    pub said: Option<Box<Said>>,
    /// Judge has heard of it at least once.
    pub told: bool,
}

/// The last answer given about a scope that is not quiet.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Said {
    pub levels: Vec<LevelAnswer>,
    pub value: Option<f64>,
    /// When passing time alone made it true, if it did.
    pub made_by_time: Option<Timestamp>,
    /// Something it read may have gone on unseen.
    pub blind: bool,
}

/// A scope as it is asked about.
pub(super) struct Seen<'a> {
    /// In order of id.
    pub members: Vec<&'a Subject>,
    pub labels: Labels,
    pub kept: Option<&'a Kept>,
}

/// What a change of one deployment's scopes came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved {
    /// Have a member more or less.
    pub changed: Vec<Labels>,
    /// Are no longer there; `true` where judge had heard of it.
    pub gone: Vec<(Labels, bool)>,
}

/// The scopes of a rule as they are saved.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct SavedScopes<K, S> {
    per_deployment: Vec<(DeploymentId, K)>,
    listed: Vec<(Labels, S)>,
}

impl RuleState {
    pub fn new(rule: Arc<Rule>, since: Timestamp) -> Self {
        let mut metrics: Vec<MetricQuery> = Vec::new();
        for query in conditions(&rule).flat_map(|condition| condition.reads()).filter_map(metric_of) {
            if !metrics.contains(&query) {
                metrics.push(query);
            }
        }
        let per_deployment = rule.per.len() == 1 && rule.per.first().is_some_and(|label| label == DEPLOYMENT);
        let scopes = if per_deployment {
            Scopes::PerDeployment(BTreeMap::new())
        } else {
            Scopes::Listed { scopes: BTreeMap::new(), of: BTreeMap::new() }
        };
        let mut state = RuleState { rule, since, budget: Budget::default(), metrics, scopes };
        if state.rule.per.is_empty() {
            // the fleet is there even while nobody is in it
            state.open(Labels::default(), None);
        }
        state
    }

    pub fn saving(&self) -> SavedScopes<&Kept, &Scope> {
        match &self.scopes {
            Scopes::PerDeployment(kept) => SavedScopes {
                per_deployment: kept.iter().map(|(id, kept)| (id.clone(), kept)).collect(),
                listed: Vec::new(),
            },
            Scopes::Listed { scopes, .. } => SavedScopes {
                per_deployment: Vec::new(),
                listed: scopes.iter().map(|(labels, scope)| (labels.clone(), scope)).collect(),
            },
        }
    }

    /// As saved; which deployment is in which scope follows from the scopes.
    pub fn restored(rule: Arc<Rule>, since: Timestamp, saved: SavedScopes<Kept, Scope>) -> Self {
        let mut state = RuleState::new(rule, since);
        match &mut state.scopes {
            Scopes::PerDeployment(kept) => *kept = saved.per_deployment.into_iter().collect(),
            Scopes::Listed { scopes, of } => {
                *scopes = saved.listed.into_iter().collect();
                for (labels, scope) in scopes {
                    for member in &scope.members {
                        of.entry(member.clone()).or_default().insert(labels.clone());
                    }
                }
            }
        }
        state
    }

    /// Whether it has one scope for each deployment.
    pub fn is_per_deployment(&self) -> bool {
        matches!(self.scopes, Scopes::PerDeployment(_))
    }

    /// The metrics it reads.
    pub fn metrics(&self) -> &[MetricQuery] {
        &self.metrics
    }

    fn selects(&self, subject: &Subject) -> bool {
        self.rule.select.matches(&subject.labels)
    }

    /// A scope by its name, if it is there.
    pub fn scope<'a>(&'a self, name: &Labels, subjects: &'a Subjects) -> Option<Seen<'a>> {
        match &self.scopes {
            Scopes::PerDeployment(kept) => {
                let subject = own_name(name).and_then(|id| subjects.of_label(id))?;
                self.selects(subject).then(|| Seen {
                    members: vec![subject],
                    labels: self.labels_of(name, Some(subject)),
                    kept: kept.get(&subject.id),
                })
            }
            Scopes::Listed { scopes, .. } => scopes.get(name).map(|scope| Seen {
                members: scope.members.iter().filter_map(|id| subjects.get(id)).collect(),
                labels: scope.labels.clone(),
                kept: Some(&scope.kept),
            }),
        }
    }

    /// Whether the deployment is in that scope.
    pub fn is_member(&self, name: &Labels, deployment: &DeploymentId) -> bool {
        match &self.scopes {
            Scopes::PerDeployment(_) => own_name(name) == Some(deployment.as_str()),
            Scopes::Listed { scopes, .. } => scopes.get(name).is_some_and(|scope| scope.members.contains(deployment)),
        }
    }

    /// What was said about a scope that is there, to be changed.
    pub fn kept_mut(&mut self, name: &Labels) -> Option<&mut Kept> {
        match &mut self.scopes {
            Scopes::PerDeployment(kept) => Some(kept.entry(DeploymentId::new(own_name(name)?)).or_default()),
            Scopes::Listed { scopes, .. } => scopes.get_mut(name).map(|scope| &mut scope.kept),
        }
    }

    /// Forgets that a scope was looked at, where nothing was ever said about it.
    pub fn tidy(&mut self, name: &Labels) {
        if let Scopes::PerDeployment(kept) = &mut self.scopes
            && let Some(id) = own_name(name).map(DeploymentId::new)
            && kept.get(&id).is_some_and(|own| *own == Kept::default())
        {
            kept.remove(&id);
        }
    }

    /// The scopes a deployment is in.
    pub fn of(&self, subject: &Subject) -> Vec<Labels> {
        match &self.scopes {
            Scopes::PerDeployment(_) => self.selects(subject).then(|| subject.own_scope()).into_iter().collect(),
            Scopes::Listed { of, .. } => of.get(&subject.id).into_iter().flatten().cloned().collect(),
        }
    }

    /// The scopes of a deployment about which something was said.
    pub fn loud(&self, subject: &Subject) -> Vec<Labels> {
        match &self.scopes {
            Scopes::PerDeployment(kept) => {
                let is_loud = kept.get(&subject.id).is_some_and(|kept| kept.said.is_some());
                is_loud.then(|| subject.own_scope()).into_iter().collect()
            }
            Scopes::Listed { scopes, of } => {
                let is_loud = |scope: &&Labels| scopes.get(*scope).is_some_and(|scope| scope.kept.said.is_some());
                of.get(&subject.id).into_iter().flatten().filter(is_loud).cloned().collect()
            }
        }
    }

    /// Every scope there is, in order of name.
    pub fn names(&self, subjects: &Subjects) -> Vec<Labels> {
        match &self.scopes {
            Scopes::PerDeployment(_) => {
                subjects.values().filter(|subject| self.selects(subject)).map(Subject::own_scope).collect()
            }
            Scopes::Listed { scopes, .. } => scopes.keys().cloned().collect(),
        }
    }

    /// The scopes about which something was said, with what.
    pub fn kept(&self) -> Vec<(Labels, &Kept)> {
        match &self.scopes {
            Scopes::PerDeployment(kept) => kept.iter().map(|(id, kept)| (own_scope(id), kept)).collect(),
            Scopes::Listed { scopes, .. } => scopes.iter().map(|(name, scope)| (name.clone(), &scope.kept)).collect(),
        }
    }

    /// The members and labels of a listed scope, to tell whether it is another one now.
    pub fn listed(&self, name: &Labels) -> Option<&Scope> {
        match &self.scopes {
            Scopes::PerDeployment(_) => None,
            Scopes::Listed { scopes, .. } => scopes.get(name),
        }
    }

    /// Whether series can open scopes of this rule for such a deployment.
    pub fn scoped_by_series(&self, subject: &Subject) -> bool {
        self.rule.per.iter().any(|name| subject.labels.get(name).is_none())
    }

    /// Puts a deployment where it belongs now.
    pub fn place(&mut self, subject: &Subject) -> Moved {
        if self.is_per_deployment() {
            let changed = self.selects(subject).then(|| subject.own_scope()).into_iter().collect();
            return Moved { changed, gone: Vec::new() };
        }
        let before = self.scopes_of(&subject.id).clone();
        self.place_after(subject, &before)
    }

    /// As [`RuleState::place`], of a deployment that was in those scopes: an alert that fires keeps its scope, and who comes
    /// late finds no room.
    pub fn place_after(&mut self, subject: &Subject, before: &BTreeSet<Labels>) -> Moved {
        if self.is_per_deployment() {
            return self.place(subject);
        }
        let mut belongs = self.belongs(subject);
        if belongs.len() > MAX_SCOPES {
            let (mut there, new): (BTreeSet<Labels>, BTreeSet<Labels>) =
                belongs.into_iter().partition(|scope| before.contains(scope));
            there.extend(new.into_iter().take(MAX_SCOPES - there.len()));
            belongs = there;
        }
        self.move_to(&subject.id, belongs, Some(subject))
    }

    /// The scopes a deployment is in, where they are listed.
    pub fn scopes_of(&self, id: &DeploymentId) -> &BTreeSet<Labels> {
        static NONE: BTreeSet<Labels> = BTreeSet::new();
        match &self.scopes {
            Scopes::PerDeployment(_) => &NONE,
            Scopes::Listed { of, .. } => of.get(id).unwrap_or(&NONE),
        }
    }

    /// Whether a series of these labels finds a scope here, or room for one.
    pub fn has_room_for(&self, subject: &Subject, labels: &Labels) -> bool {
        let scopes = self.scopes_of(&subject.id);
        let within = |scope: &Labels| {
            self.rule.per.iter().all(|name| subject.labels.get(name).or_else(|| labels.get(name)) == scope.get(name))
        };
        scopes.len() < MAX_SCOPES || scopes.iter().any(within)
    }

    /// Takes a deployment out of every scope.
    pub fn remove(&mut self, deployment: &DeploymentId) -> Moved {
        if let Scopes::PerDeployment(kept) = &mut self.scopes {
            let told = kept.remove(deployment).is_some_and(|kept| kept.told);
            return Moved { changed: Vec::new(), gone: vec![(own_scope(deployment), told)] };
        }
        self.move_to(deployment, BTreeSet::new(), None)
    }

    fn move_to(&mut self, id: &DeploymentId, belongs: BTreeSet<Labels>, subject: Option<&Subject>) -> Moved {
        let is_fleet = self.rule.per.is_empty();
        let mut moved = Moved::default();
        let Scopes::Listed { scopes, of } = &mut self.scopes else { return moved };
        let before = of.remove(id).unwrap_or_default();
        for scope in before.difference(&belongs) {
            let Some(own) = scopes.get_mut(scope) else { continue };
            own.members.remove(id);
            if own.members.is_empty() && !is_fleet {
                moved.gone.push((scope.clone(), own.kept.told));
                scopes.remove(scope);
            } else {
                moved.changed.push(scope.clone());
            }
        }
        if !belongs.is_empty() {
            of.insert(id.clone(), belongs.clone());
        }
        for scope in belongs.difference(&before) {
            if let Some(opened) = self.open(scope.clone(), subject) {
                opened.members.insert(id.clone());
            }
            moved.changed.push(scope.clone());
        }
        moved
    }

    fn open(&mut self, name: Labels, subject: Option<&Subject>) -> Option<&mut Scope> {
        let labels = self.labels_of(&name, subject);
        match &mut self.scopes {
            Scopes::PerDeployment(_) => None,
            Scopes::Listed { scopes, .. } => {
                Some(scopes.entry(name).or_insert_with(|| Scope { labels, ..Scope::default() }))
            }
        }
    }

    fn labels_of(&self, name: &Labels, subject: Option<&Subject>) -> Labels {
        let rule = &self.rule;
        let own = subject.filter(|_| name.get(DEPLOYMENT).is_some()).map(|subject| subject.labels.clone());
        own.unwrap_or_default().with(&rule.labels).with(name).with_label("alertname", rule.name.as_str())
    }

    fn belongs(&self, subject: &Subject) -> BTreeSet<Labels> {
        if !self.rule.select.matches(&subject.labels) {
            return BTreeSet::new();
        }
        let (own, of_series): (Vec<_>, Vec<_>) =
            self.rule.per.iter().partition(|name| subject.labels.get(name).is_some());
        let own: Labels = own.iter().filter_map(|name| Some((name.as_str(), subject.labels.get(name)?))).collect();
        if of_series.is_empty() {
            return BTreeSet::from([own]);
        }
        let series = self.metrics.iter().flat_map(|query| {
            let selected = |(labels, _): &(&Labels, _)| query.selector.matches(labels);
            subject.series.of(query.name.as_str()).filter(selected).map(|(labels, _)| labels)
        });
        let scope_of = |labels: &Labels| {
            let given: Option<Vec<_>> = of_series.iter().map(|name| Some((name.as_str(), labels.get(name)?))).collect();
            given.map(|given| own.iter().chain(given).collect::<Labels>())
        };
        series.filter_map(scope_of).collect()
    }
}

/// The name of a deployment's own scope.
pub(super) fn own_scope(id: &DeploymentId) -> Labels {
    [(DEPLOYMENT, id.as_str())].into_iter().collect()
}

/// The deployment whose own scope goes by that name.
fn own_name(name: &Labels) -> Option<&str> {
    name.get(DEPLOYMENT).filter(|_| name.len() == 1)
}

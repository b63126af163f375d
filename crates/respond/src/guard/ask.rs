//! The decision: every guard is asked, in order, and answers with its figures.

use std::fmt::Display;

use smol_str::SmolStr;

use super::limits::Circuit;
use super::refusal::{GroupTrouble, Observed, Refusal};
use super::situation::{Group, LadderSituation, Situation, TargetSituation, within};
use selfheal_contract::Guard;
use selfheal_model::units::format_duration;
use selfheal_model::{DeploymentId, Timestamp};
use selfheal_policy::guards::{BlastRadius, Freeze, Guards, MinHealthy, Mode, Rate};

/// What one guard says.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answer {
    pub guard: Guard,
    /// Which deployment it is about; `None`: the run as a whole.
    pub of: Option<DeploymentId>,
    /// A sentence's worth of figures, also where it allows.
    pub figures: String,
    pub refusal: Option<Refusal>,
    /// It refuses, and a person has overruled it.
    pub overridden: bool,
}

/// What all guards say, in their order.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answers(pub Vec<Answer>);

impl Answers {
    /// Every "no" that holds; the first is the reason.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter().filter(|answer| !answer.overridden).filter_map(|answer| answer.refusal.as_ref())
    }

    /// `allowed`: what it says where it has nothing against it.
    fn hear(&mut self, guard: Guard, of: Option<&DeploymentId>, no: Option<Refusal>, allowed: impl Display) {
        let figures = no.as_ref().map_or_else(|| allowed.to_string(), Refusal::to_string);
        self.0.push(Answer { guard, of: of.cloned(), figures, refusal: no, overridden: false });
    }
}

/// Asks every guard, in their order. Without a refusal that holds: allowed.
pub fn ask(guards: &Guards, situation: &Situation) -> Answers {
    let mut answers = Answers::default();
    switches(situation, &mut answers);
    frozen_targets(guards, situation, &mut answers);
    if let Some(ladder) = &situation.ladder {
        time(guards, situation, ladder, &mut answers);
    }
    if situation.automatic {
        fleet(guards, situation, &mut answers);
    }
    if let Some(ladder) = &situation.ladder {
        let flap = ladder.flapping.as_ref().map(|flap| Refusal::Flap {
            deployment: flap.deployment.clone(),
            check: flap.check.clone(),
            changes_percent: flap.changes_percent,
        });
        answers.hear(Guard::Flap, None, flap, "no check it reads flaps");
        for target in &situation.targets {
            answers.hear(Guard::Grace, Some(&target.deployment), grace(situation.now, target), "no grace runs");
        }
    }
    dependencies(situation, &mut answers);
    history(guards, situation, &mut answers);
    budgets(guards, situation, &mut answers);
    radius(situation, &mut answers);
    if let Some(held) = &situation.held {
        answers.hear(Guard::Suppressed, None, Some(Refusal::Suppressed(held.clone())), "");
    }
    for target in &situation.targets {
        let lease = target.lease.clone().map(|holder| Refusal::Lease { deployment: target.deployment.clone(), holder });
        answers.hear(Guard::Lease, Some(&target.deployment), lease, "free");
    }
    for answer in &mut answers.0 {
        let is_named = situation.overridden.contains(&answer.guard);
        answer.overridden = answer.refusal.is_some() && is_named && answer.guard.can_be_overridden();
    }
    answers
}

fn switches(situation: &Situation, answers: &mut Answers) {
    let paused = situation.paused.clone().map(|who| Refusal::Pause { who });
    answers.hear(Guard::Pause, None, paused, "not paused");
    for target in &situation.targets {
        if let Some(who) = &target.maintenance {
            let who = format!("for {}, {who}", target.deployment);
            answers.hear(Guard::Pause, Some(&target.deployment), Some(Refusal::Pause { who }), "");
        }
    }
    // what the alert is about is not repaired, wherever that is done
    if let Some((own, who)) = situation.ladder.as_ref().and_then(|ladder| ladder.maintenance.clone()) {
        answers.hear(Guard::Pause, own.as_ref(), Some(Refusal::Pause { who }), "");
    }
    if situation.draining {
        answers.hear(Guard::Draining, None, Some(Refusal::Draining), "");
    }
    if let Some(why) = &situation.unwritable {
        answers.hear(Guard::Storage, None, Some(Refusal::Storage { why: why.clone() }), "");
    }
}

fn frozen_targets(guards: &Guards, situation: &Situation, answers: &mut Answers) {
    if !situation.automatic {
        return;
    }
    let limits = situation.targets.iter().map(|target| &target.limits);
    // a run that acts on nothing is held by what holds for all
    let own = situation.targets.is_empty().then_some(guards);
    let refusal = limits.chain(own).find_map(|limits| frozen(&limits.freeze, situation.wall));
    answers.hear(Guard::Freeze, None, refusal, "no freeze");
}

/// The freeze this instant is in.
pub fn frozen(freeze: &[Freeze], now: Timestamp) -> Option<Refusal> {
    let holds = |freeze: &&Freeze| freeze.times.iter().any(|times| times.contains(now));
    freeze.iter().find(holds).map(|freeze| {
        let until = freeze.times.iter().map(|times| times.next_boundary(now)).min();
        Refusal::Freeze { interval: freeze.name.clone(), until: until.filter(|until| *until < Timestamp::MAX) }
    })
}

/// `max_event_age`, `start_grace` and `act_after`: only what an alert asks for is held back by time.
fn time(guards: &Guards, situation: &Situation, ladder: &LadderSituation, answers: &mut Answers) {
    let now = situation.now;
    let strictest = |of: fn(&Guards) -> std::time::Duration| {
        let own = situation.targets.iter().map(|target| of(&target.limits));
        (own.clone().min(), own.max())
    };
    let max_age = strictest(|limits| limits.max_event_age).0.unwrap_or(guards.max_event_age);
    if let Some(evidence) = ladder.evidence {
        let figures = format!(
            "the newest evidence is {} old, max_event_age is {}",
            format_duration(now.since(evidence)),
            format_duration(max_age)
        );
        answers.hear(Guard::Stale, None, stale(max_age, now, evidence), figures);
    }
    let watched = now.since(situation.watching_since);
    let since_the_gap = ladder.evidence.is_none_or(|evidence| evidence >= situation.watching_since);
    let too_early = watched < guards.start_grace || !since_the_gap;
    let grace = too_early.then_some(Refusal::StartGrace { watched, wanted: guards.start_grace });
    answers.hear(Guard::StartGrace, None, grace, format!("watched for {}", format_duration(watched)));
    let wanted = strictest(|limits| limits.act_after).1.unwrap_or(guards.act_after);
    let fired_for = now.since(ladder.fired_at);
    let act_after = (fired_for < wanted).then_some(Refusal::ActAfter { fired_for, wanted });
    answers.hear(Guard::ActAfter, None, act_after, format!("firing for {}", format_duration(fired_for)));
}

/// Evidence older than `max_event_age` begins nothing.
pub fn stale(max: std::time::Duration, now: Timestamp, evidence: Timestamp) -> Option<Refusal> {
    let age = now.since(evidence);
    (age > max).then_some(Refusal::Stale { age, max })
}

/// What is suspect about the fleet as a whole.
fn fleet(guards: &Guards, situation: &Situation, answers: &mut Answers) {
    let seen = situation.sensor;
    let within = format_duration(guards.sensor.within);
    let figures = format!("{} of {} deployments fell sick within {within}", seen.sick, seen.members);
    answers.hear(Guard::Sensor, None, seen.is_suspect(guards.sensor), figures);
    if situation.ladder.as_ref().is_some_and(|ladder| ladder.routine) {
        return;
    }
    let (until, ladders) = situation.storm.map_or((None, 0), |(until, ladders)| (Some(until), ladders));
    let rate = guards.storm.ladders;
    let storm = until.map(|until| Refusal::Storm { ladders, rate, until });
    answers.hear(Guard::Storm, None, storm, "no storm");
}

fn grace(now: Timestamp, target: &TargetSituation) -> Option<Refusal> {
    let grace = target.grace.as_ref()?;
    let until = grace.ended_at + target.limits.grace;
    (now < until).then(|| Refusal::Grace { deployment: target.deployment.clone(), run: grace.run.clone(), until })
}

fn dependencies(situation: &Situation, answers: &mut Answers) {
    for target in &situation.targets {
        let out = target.dependency.clone().map(|(on, outage)| Refusal::Dependency {
            deployment: target.deployment.clone(),
            on,
            outage,
        });
        let no = out.or_else(|| situation.ladder.as_ref().and_then(|_| root_back(situation.now, target)));
        answers.hear(Guard::Dependency, Some(&target.deployment), no, "nothing it depends on is out");
    }
    // what explains the alert holds its ladder, wherever that acts
    if let Some((deployment, on, outage)) = situation.ladder.as_ref().and_then(|ladder| ladder.root.clone()) {
        let no = Refusal::Dependency { deployment: deployment.clone(), on, outage };
        answers.hear(Guard::Dependency, Some(&deployment), Some(no), "");
    }
}

/// What a deployment suffered under its root may pass with it: no ladder begins before its grace is over.
fn root_back(now: Timestamp, target: &TargetSituation) -> Option<Refusal> {
    let (on, back_at) = target.root_back.clone()?;
    let until = back_at + target.limits.grace;
    (now < until).then(|| Refusal::DependencyBack { deployment: target.deployment.clone(), on, back_at, until })
}

/// What has come of this playbook so far.
fn history(guards: &Guards, situation: &Situation, answers: &mut Answers) {
    let playbook = &situation.playbook;
    let name = || playbook.name.clone();
    let (refusal, figures) = match playbook.circuit {
        Circuit::Closed { failures, deployments } => (
            None,
            format!(
                "{failures} runs on {deployments} deployments did not cure in {}; {} on {} are too many",
                format_duration(guards.breaker.within),
                guards.breaker.failures,
                guards.breaker.deployments
            ),
        ),
        Circuit::Open { since, probe_at } => {
            (Some(Refusal::Breaker { playbook: name(), since, probe_at: Some(probe_at) }), String::new())
        }
        Circuit::Probing { since, beside: true } => {
            (Some(Refusal::BreakerBeside { playbook: name(), since }), String::new())
        }
        Circuit::Probing { since, beside: false } => {
            (Some(Refusal::Breaker { playbook: name(), since, probe_at: None }), String::new())
        }
        Circuit::ProbeDue { since } => (None, format!("out of service since {since}; this run tries it")),
    };
    answers.hear(Guard::Breaker, None, refusal, figures);
    let Some(ladder) = situation.ladder.as_ref().filter(|ladder| !ladder.routine) else { return };
    let own = situation.targets.iter().map(|target| target.limits.recurrence);
    let limits = own.min_by_key(|limits| limits.cured).unwrap_or(guards.recurrence);
    let cured = ladder.cured.iter().filter(|at| situation.now < **at + limits.within).count();
    let cured = u32::try_from(cured).unwrap_or(u32::MAX);
    let refusal =
        (cured >= limits.cured).then(|| Refusal::Recurrence { playbook: name(), cured, within: limits.within });
    let figures = format!("cured {cured} times in {}, {} are too many", format_duration(limits.within), limits.cured);
    answers.hear(Guard::Recurrence, None, refusal, figures);
}

fn budgets(guards: &Guards, situation: &Situation, answers: &mut Answers) {
    let now = situation.now;
    let figures =
        |counted: u32, rate: Rate| format!("{counted} of at most {} in {}", rate.count, format_duration(rate.window));
    for target in &situation.targets {
        let rate = target.limits.per_deployment;
        let (counted, full_until) = within(rate, &target.counted, now);
        let deployment = target.deployment.clone();
        let no = full_until.map(|next_at| Refusal::PerDeployment { deployment, counted, rate, next_at });
        answers.hear(Guard::PerDeployment, Some(&target.deployment), no, figures(counted, rate));
    }
    if !situation.targets.is_empty() {
        let rate = guards.per_playbook;
        let (counted, full_until) = within(rate, &situation.playbook.counted, now);
        let playbook = situation.playbook.name.clone();
        let no = full_until.map(|next_at| Refusal::PerPlaybook { playbook, counted, rate, next_at });
        answers.hear(Guard::PerPlaybook, None, no, figures(counted, rate));
    }
    for target in &situation.targets {
        let Some((group, disrupted)) = &target.disrupted else { continue };
        let rate = target.limits.velocity.disrupt;
        let (counted, full_until) = within(rate, disrupted, now);
        let group = group.clone();
        let no = full_until.map(|next_at| Refusal::Velocity { group, counted, rate, next_at });
        answers.hear(Guard::Velocity, Some(&target.deployment), no, figures(counted, rate));
    }
    let (running, max) = (situation.running, guards.max_running);
    let no = (running >= max).then_some(Refusal::MaxRunning { running, max });
    answers.hear(Guard::MaxRunning, None, no, format!("{running} of at most {max} are under way"));
}

fn radius(situation: &Situation, answers: &mut Answers) {
    for target in &situation.targets {
        let Some(group) = &target.group else { continue };
        let trouble = group_trouble(&target.limits.blast_radius, group).map(|trouble| Refusal::BlastRadius {
            deployment: target.deployment.clone(),
            group: group.name.clone(),
            trouble,
        });
        let figures = format!(
            "{}: {} of {} others healthy, {} in a run",
            group.name,
            group.healthy_others,
            group.members.saturating_sub(1),
            group.in_run_others
        );
        answers.hear(Guard::BlastRadius, Some(&target.deployment), trouble, figures);
    }
}

fn group_trouble(limits: &BlastRadius, group: &Group) -> Option<GroupTrouble> {
    let others = group.in_run_others;
    if others >= limits.max_at_once {
        return Some(GroupTrouble::TooManyAtOnce { in_run: others, max: limits.max_at_once });
    }
    // alone in its group there is nobody a floor could protect
    let must_stay = if group.members <= 1 { 0 } else { must_stay(limits.min_healthy, group.members) };
    let above_the_floor = group.healthy_others >= must_stay;
    if !above_the_floor && !group.target_sick {
        let (healthy, members) = (group.healthy_others, group.members);
        return Some(GroupTrouble::TooFewHealthy { healthy, must_stay, members });
    }
    if above_the_floor && group.members > SMALL_GROUP {
        return None;
    }
    if others > 0 {
        return Some(GroupTrouble::OneAtATime { in_run: others });
    }
    // a healthy target above the floor does not wait for the cure of another one
    let other = group.uncured_other.clone().filter(|_| !above_the_floor)?;
    Some(GroupTrouble::NotCuredBefore { other })
}

/// In groups up to this size members are repaired one at a time, whatever the floor says.
const SMALL_GROUP: u32 = 2;

/// How many must stay healthy; a part of a group rounds up.
fn must_stay(min_healthy: MinHealthy, members: u32) -> u32 {
    match min_healthy {
        MinHealthy::Count(count) => count,
        // floating error must not ask for one more: 0.7 of 10 is 7
        MinHealthy::Ratio(ratio) => {
            let part = (ratio.clamp(0.0, 1.0) * f64::from(members) - 1e-9).ceil().max(0.0);
            part as u32
        }
    }
}

/// The strictest of the switches, and which says so. Asked apart from [`ask`]: an observed run goes through the whole
/// pipeline and is refused only at its end; one that needs a person's word waits for it.
pub fn mode<'a>(limits: impl IntoIterator<Item = &'a Guards>, playbook: Mode) -> (Mode, Observed) {
    let engine = limits.into_iter().map(|limits| limits.mode).max().unwrap_or_default();
    if playbook > engine { (playbook, Observed::Playbook) } else { (engine, Observed::Engine) }
}

/// The name of a group: its labels and their values.
pub fn group_name(labels: &[(SmolStr, SmolStr)]) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

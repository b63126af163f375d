//! The simulated fleet around a real engine: virtual time, and rules of its own for what must never happen.
//!
//! What is held here is counted from the outside, by what is called, not by what the engine thinks it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::policy::{self, Member};
use selfheal_contract::notification::{AlertChangeWord, Notification};
use selfheal_contract::view::{Change, RunView};
use selfheal_contract::{DeliveryResult, Effect, Gap, Observation, StepCall, StepEnd};
use selfheal_engine::{Engine, Input};
use selfheal_model::{
    CheckStatus, DeploymentId, Event, EventKind, Facts, FailureClass, Health, Labels, Origin, Outcome, Timestamp, Value,
};
use selfheal_policy::Policy;

/// Midnight of 2026-01-05, a Monday.
const START: Timestamp = Timestamp::from_millis(1_767_571_200_000);
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
const CALL_TAKES: Duration = Duration::from_secs(15);
const DELIVERY_TAKES: Duration = Duration::from_millis(50);
/// As the policy says.
const VELOCITY: usize = 5;
const VELOCITY_WINDOW: Duration = Duration::from_secs(600);
const MAX_AT_ONCE: usize = 3;
const MAX_RUNNING: usize = 5;

/// What is wrong with a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer; a restart helps.
    Hung,
    /// Its check lies: it is well.
    Sensor,
    /// Its check says another thing each time.
    Flapping,
    /// Its new version fails; a rollback helps.
    BadVersion,
    /// It misses; flushing it only makes it worse.
    Misses,
    DiskFull,
}

/// A call of a verb.
#[derive(Clone, Debug)]
pub struct Called {
    pub at: Timestamp,
    pub deployment: String,
}

/// What people got.
#[derive(Clone, Debug)]
pub struct Message {
    pub at: Timestamp,
    /// Subject and news.
    pub text: String,
    /// Deployments it is about.
    pub about: BTreeSet<String>,
    /// Those that it says for the first time to be in trouble.
    pub new: Vec<String>,
    /// How many it says to be sick because of one of those.
    pub dependents: usize,
}

impl Message {
    fn of(at: Timestamp, told: &Notification) -> Self {
        let news: Vec<&str> = told.news.iter().map(|news| news.text.as_str()).collect();
        let new = told.alerts.iter().filter(|alert| alert.change == AlertChangeWord::New);
        Message {
            at,
            text: format!("{}\n{}", told.subject(), news.join("\n")),
            about: told.deployments().map(ToString::to_string).collect(),
            new: new.filter_map(|alert| alert.deployment.as_ref()).map(ToString::to_string).collect(),
            dependents: told.dependents.iter().map(|of| of.sick.len() + of.more).sum(),
        }
    }
}

enum Due {
    Step(Box<StepCall>),
    Delivered { id: selfheal_model::DeliveryId, attempt: u32 },
}

pub struct World {
    engine: Engine,
    policy: Arc<Policy>,
    now: Timestamp,
    members: BTreeMap<String, Member>,
    faults: BTreeMap<String, Fault>,
    due: BTreeMap<(Timestamp, u64), Due>,
    next_due: u64,
    next_sample: Timestamp,
    rounds: u64,
    /// Acting calls under way, by deployment.
    acting: BTreeMap<String, String>,
    fences: BTreeMap<String, u64>,
    disrupted: VecDeque<(Timestamp, &'static str)>,
    pub calls: Vec<Called>,
    pub runs: BTreeMap<String, RunView>,
    pub messages: Vec<Message>,
    /// What must never happen and did.
    pub broken: Vec<String>,
}

impl World {
    /// # Errors
    /// The drill's own policy does not compile.
    pub fn new() -> anyhow::Result<World> {
        let members = policy::fleet();
        let policy = policy::policy(&members)?;
        let (engine, effects) = Engine::new(START, policy.clone());
        let mut world = World {
            engine,
            policy,
            now: START,
            members: members.into_iter().map(|member| (member.id.clone(), member)).collect(),
            faults: BTreeMap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            next_sample: START,
            rounds: 0,
            acting: BTreeMap::new(),
            fences: BTreeMap::new(),
            disrupted: VecDeque::new(),
            calls: Vec::new(),
            runs: BTreeMap::new(),
            messages: Vec::new(),
            broken: Vec::new(),
        };
        world.perform(effects);
        Ok(world)
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn ids(&self, tier: &str) -> Vec<String> {
        self.members.values().filter(|member| member.tier == tier).map(|member| member.id.clone()).collect()
    }

    pub fn region_of(&self, id: &str) -> &'static str {
        self.members.get(id).map_or("", |member| member.region)
    }

    pub fn fault(&mut self, id: &str, fault: Fault) {
        self.faults.insert(id.to_owned(), fault);
    }

    pub fn mend(&mut self, id: &str) {
        self.faults.remove(id);
    }

    pub fn is_faulty(&self, id: &str) -> bool {
        self.faults.contains_key(id)
    }

    /// Lets time pass, instant by instant.
    pub fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let due = self.due.first_key_value().map(|((at, _), _)| *at);
            let next = [Some(self.next_sample), self.engine.next_deadline(), due].into_iter().flatten().min();
            let next = next.unwrap_or(until).max(self.now);
            if next > until {
                self.now = until;
                return self.input(Input::Tick);
            }
            self.now = next;
            if due.is_some_and(|at| at <= next) {
                if let Some((_, due)) = self.due.pop_first() {
                    self.come_due(due);
                }
            } else if self.next_sample <= next {
                self.next_sample = next + SAMPLE_EVERY;
                self.sample();
            } else {
                self.input(Input::Tick);
            }
        }
    }

    /// Kills the engine: a new one goes on with what was saved, knows nothing of the calls under way, and was away for a while.
    ///
    /// # Errors
    /// The saved state cannot be restored.
    pub fn kill(&mut self, away: Duration) -> anyhow::Result<()> {
        let saved = self.engine.save();
        let policy = self.policy.clone();
        self.engine = Engine::restore(&saved, &mut |_| Some(policy.clone()))?;
        // what was called happens all the same; nobody hears of it
        for due in std::mem::take(&mut self.due).into_values() {
            if let Due::Step(call) = due {
                self.acting.remove(call.deployment.id.as_str());
                self.take_effect(&call);
            }
        }
        let outstanding = self.engine.outstanding();
        let from = self.now;
        self.now = from + away;
        self.next_sample = self.next_sample.max(self.now);
        self.input(Input::Resumed { from, to: self.now, because: Gap::Stopped });
        self.perform(outstanding);
        Ok(())
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, input, &mut effects);
        self.perform(effects);
    }

    /// Whether it truly is well, whatever its check says.
    fn is_well(&self, member: &Member) -> bool {
        let own = matches!(self.faults.get(&member.id), Some(Fault::Hung));
        let root = member.needs.is_some_and(|needs| self.faults.get(needs) == Some(&Fault::Hung));
        !own && !root
    }

    fn sample(&mut self) {
        self.rounds += 1;
        let mut events = Vec::new();
        for member in self.members.values() {
            let fault = self.faults.get(&member.id).copied();
            let healthy = match fault {
                Some(Fault::Sensor) => false,
                Some(Fault::Flapping) => self.rounds % 4 < 2,
                _ => self.is_well(member),
            };
            let status = if healthy { CheckStatus::Healthy } else { CheckStatus::Unhealthy };
            events.push(self.event(
                &member.id,
                EventKind::Health {
                    check: "http".into(),
                    status,
                    latency_ms: None,
                    reason: None,
                    message: String::new(),
                    replica: None,
                    confidence: None,
                },
            ));
            let gauge = |bad: Fault, value: f64| if fault == Some(bad) { value } else { 1.0 };
            let gauges = match member.tier {
                "cache" => [("miss_percent", gauge(Fault::Misses, 80.0))],
                "db" => [("disk_percent", gauge(Fault::DiskFull, 95.0))],
                _ => [("error_percent", gauge(Fault::BadVersion, 40.0))],
            };
            for (name, value) in gauges {
                let kind = EventKind::Metric { name: name.into(), value, labels: Labels::default() };
                events.push(self.event(&member.id, kind));
            }
        }
        self.input(Input::Events(events));
    }

    fn event(&self, id: &str, kind: EventKind) -> Event {
        Event { deployment: id.into(), time: self.now, kind, origin: Origin::Watched }
    }

    fn later(&mut self, after: Duration, due: Due) {
        self.next_due += 1;
        self.due.insert((self.now + after, self.next_due), due);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut looks = Vec::new();
        for effect in effects {
            match effect {
                Effect::StartStep(call) => self.start(call),
                Effect::Deliver(delivery) => {
                    self.messages.push(Message::of(self.now, &delivery.notification));
                    self.later(DELIVERY_TAKES, Due::Delivered { id: delivery.id.clone(), attempt: delivery.attempt });
                }
                Effect::Observe { deployment } => looks.push(deployment),
                Effect::Show(Change::Run(view)) => {
                    self.runs.insert(view.id.to_string(), *view);
                }
                _ => {}
            }
        }
        for deployment in looks {
            self.observe(deployment);
        }
    }

    fn observe(&mut self, deployment: DeploymentId) {
        let observation = Ok(Observation { facts: Facts::default(), replicas: Vec::new(), metrics: Vec::new() });
        self.input(Input::Observed { deployment, observation });
    }

    fn come_due(&mut self, due: Due) {
        match due {
            Due::Delivered { id, attempt } => {
                self.input(Input::DeliveryEnded { id, attempt, result: DeliveryResult::Delivered });
            }
            Due::Step(call) => {
                self.acting.remove(call.deployment.id.as_str());
                let helped = self.take_effect(&call);
                let outcome = match helped {
                    true => Outcome::done(Value::Null),
                    false => Outcome::failed(FailureClass::Permanent, "it made things worse"),
                };
                let end = StepEnd { id: call.id.clone(), outcome, log: String::new(), took: CALL_TAKES };
                self.input(Input::StepEnded(end));
            }
        }
    }

    /// What a call does to the world. Says whether it did its work.
    fn take_effect(&mut self, call: &StepCall) -> bool {
        let id = call.deployment.id.as_str().to_owned();
        match (call.verb.as_str(), self.faults.get(&id)) {
            ("restart", Some(Fault::Hung))
            | ("rollback", Some(Fault::BadVersion))
            | ("expand", Some(Fault::DiskFull)) => {
                self.faults.remove(&id);
                true
            }
            ("flush", Some(_)) => false,
            _ => true,
        }
    }

    /// A verb is called: everything that must hold is held here, from the outside.
    fn start(&mut self, call: Box<StepCall>) {
        let id = call.deployment.id.as_str().to_owned();
        let Some(member) = self.members.get(&id).cloned() else { return };
        let mut broken = Vec::new();
        if let Some(other) = self.acting.insert(id.clone(), call.id.to_string()) {
            broken.push(format!("two calls at once on {id}: {other} and {}", call.id));
        }
        let fence = self.fences.entry(id.clone()).or_default();
        if call.fence < *fence {
            broken.push(format!("the fence of {id} went back from {fence} to {}", call.fence));
        }
        *fence = call.fence;
        if self.acting.len() > MAX_RUNNING {
            broken.push(format!("{} calls at once, max_running is {MAX_RUNNING}", self.acting.len()));
        }
        let group = |other: &str| {
            let other = self.members.get(other);
            other.is_some_and(|other| other.tier == member.tier && other.cell == member.cell)
        };
        let at_once = self.acting.keys().filter(|other| group(other)).count();
        if at_once > MAX_AT_ONCE {
            broken.push(format!("{at_once} of tier {} cell {} at once", member.tier, member.cell));
        }
        if member.needs.is_some_and(|needs| self.faults.get(needs) == Some(&Fault::Hung)) {
            broken.push(format!("{id} is repaired while what it needs is down"));
        }
        while self.disrupted.front().is_some_and(|(at, _)| *at + VELOCITY_WINDOW <= self.now) {
            self.disrupted.pop_front();
        }
        self.disrupted.push_back((self.now, member.tier));
        let fast = self.disrupted.iter().filter(|(_, tier)| *tier == member.tier).count();
        if fast > VELOCITY {
            broken.push(format!("{fast} disruptions of tier {} in ten minutes", member.tier));
        }
        let lying = self.faults.values().filter(|fault| **fault == Fault::Sensor).count();
        if lying * 10 >= self.members.len() * 8 {
            broken.push(format!("{id} is acted on while the sensor lies"));
        }
        self.broken.extend(broken.into_iter().map(|what| format!("{}: {what}", self.now)));
        self.calls.push(Called { at: self.now, deployment: id });
        self.later(CALL_TAKES, Due::Step(call));
    }

    /// Runs that ended since, and why runs wait or were refused, by guard.
    pub fn refused_since(&self, since: Timestamp) -> BTreeMap<String, usize> {
        let mut refused = BTreeMap::new();
        let news =
            self.runs.values().filter(|run| run.started_at >= since || run.ended_at.is_none_or(|at| at >= since));
        for guard in news.filter_map(|run| run.refused.as_ref()).map(|refused| refused.guard.to_string()) {
            *refused.entry(guard).or_default() += 1;
        }
        refused
    }

    pub fn verdicts_since(&self, since: Timestamp) -> BTreeMap<String, usize> {
        let mut verdicts = BTreeMap::new();
        for run in self.runs.values().filter(|run| run.ended_at.is_some_and(|at| at >= since)) {
            if let Some(verdict) = &run.verdict {
                *verdicts.entry(verdict.to_string()).or_default() += 1;
            }
        }
        verdicts
    }

    pub fn calls_since(&self, since: Timestamp) -> Vec<&Called> {
        self.calls.iter().filter(|call| call.at >= since).collect()
    }

    pub fn messages_since(&self, since: Timestamp) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.at >= since)
    }

    /// How many messages since then have this in them.
    pub fn told_since(&self, since: Timestamp, part: &str) -> usize {
        self.messages_since(since).filter(|message| message.text.contains(part)).count()
    }

    /// Deployments whose smoothed health is bad, as the engine sees it.
    pub fn sick(&self) -> BTreeSet<String> {
        let views = self.engine.detect().deployment_views();
        views.into_iter().filter(|view| view.health == Health::Unhealthy).map(|view| view.id.to_string()).collect()
    }
}

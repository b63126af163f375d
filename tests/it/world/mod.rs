//! A simulated world around the real engine: virtual time, deployments with gauges and checks, adapters and
//! receivers that answer as told. Everything that happens is a line of the transcript.
//!
//! Three things are held all the time, whatever the story: never two acting calls at once on one deployment, a fence that
//! never goes back, and a state that can be saved: after every input the engine is replaced by one restored from its
//! bytes, so that every story is told by restored engines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use selfheal_contract::notification::Notification;
use selfheal_contract::view::{AlertView, ApprovalView, RunView, SilenceView};
use selfheal_contract::{
    Delivery, DeliveryResult, Diagnostic, Effect, Gap, Observation, Operator, OperatorAnswer, OperatorCommand,
    SourceFile, StepCall, StepEnd,
};
use selfheal_engine::{Engine, Input};
use selfheal_model::{
    AdapterCatalog, AdapterSpec, CheckStatus, DeploymentId, Effectfulness, Event, EventKind, Facts, FailureClass,
    Labels, Map, Origin, Outcome, Replica, StepAttemptId, Timestamp, Value, VerbSpec, units,
};
use selfheal_policy::Policy;
use selfheal_store::journal::Batch;
use selfheal_store::writer::{Settled, Writer};

mod crash;
mod disk;
mod effects;
mod seen;

pub use crash::Moment;
pub use disk::{DiskFault, FaultyJournal};
pub use effects::in_words;

/// How often a gauge is sampled and a check runs.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// How often an adapter looks by itself.
const OBSERVE_EVERY: Duration = Duration::from_secs(30);
const DELIVERY_TAKES: Duration = Duration::from_millis(50);
const LOOK_TAKES: Duration = Duration::from_millis(20);

/// 2026-01-01T00:00:00Z, a Thursday.
pub const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn mins(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// The adapter type of this world; it has every common verb.
pub struct SimCatalog;

impl AdapterCatalog for SimCatalog {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["sim"]
    }

    fn describe(&self, _kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        use Effectfulness::{Change, Disrupt, Read};
        let verb =
            |name: &str, effect| VerbSpec { verb: name.into(), params: None, effect, idempotent: false, settle: None };
        Ok(AdapterSpec {
            options: Vec::new(),
            target: None,
            verbs: vec![
                verb("restart", Disrupt),
                verb("rollback", Disrupt),
                verb("scale", Change),
                verb("refresh_auth", Change),
                verb("clean", Change),
                VerbSpec { idempotent: true, ..verb("renew", Change) },
                verb("logs", Read),
                verb("diagnose", Read),
            ],
        })
    }
}

fn try_compile(files: &[(&str, &str)]) -> Result<Arc<Policy>, Vec<Diagnostic>> {
    let files: Vec<SourceFile> =
        files.iter().map(|(path, text)| SourceFile { path: (*path).to_owned(), text: (*text).to_owned() }).collect();
    selfheal_policy::compile(&files, &SimCatalog, &|_| None, &|_| None).map(Arc::new)
}

/// Compiles files as a policy.
pub fn compile(files: &[(&str, &str)]) -> Arc<Policy> {
    match try_compile(files) {
        Ok(policy) => policy,
        Err(diagnostics) => panic!("{}", selfheal_contract::diagnostic::render(&diagnostics, false)),
    }
}

/// What one call of a verb comes to.
#[derive(Clone, Debug)]
pub struct Behaviour {
    pub outcome: Outcome,
    pub takes: Duration,
    /// Gauges that change when it ends.
    pub set: Vec<(String, f64)>,
    /// Checks whose verdict changes when it ends.
    pub checks: Vec<(String, CheckStatus)>,
    /// Facts that change when it ends.
    pub facts: Vec<(String, Value)>,
}

impl Behaviour {
    pub fn done() -> Self {
        Self::new(Outcome::done(Value::Null))
    }

    pub fn failed(class: FailureClass, why: &str) -> Self {
        Self::new(Outcome::failed(class, why))
    }

    pub fn unknown(why: &str) -> Self {
        Self::new(Outcome::unknown(why))
    }

    fn new(outcome: Outcome) -> Self {
        Behaviour { outcome, takes: secs(2), set: Vec::new(), checks: Vec::new(), facts: Vec::new() }
    }

    pub fn takes(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    pub fn set(mut self, gauge: &str, value: f64) -> Self {
        self.set.push((gauge.to_owned(), value));
        self
    }
}

/// One call as the adapter got it.
#[derive(Clone, Debug)]
pub struct Call {
    pub deployment: String,
    pub verb: String,
    pub fence: u64,
    /// By which the adapter tells that it has seen the call before.
    pub key: String,
    /// How much the journal held by then.
    pub record: usize,
}

enum Due {
    Step { call: Box<StepCall>, behaviour: Behaviour },
    Delivered { delivery: Box<Delivery>, result: DeliveryResult },
    Observe(DeploymentId),
    Input(Input),
}

pub struct World {
    pub engine: Engine,
    pub now: Timestamp,
    pub transcript: Vec<String>,
    pub calls: Vec<Call>,
    /// What was delivered, in order.
    pub sent: Vec<Notification>,
    /// What a receiver refused for good.
    pub refused_for_good: Vec<Notification>,
    pub answers: BTreeMap<u64, Result<OperatorAnswer, String>>,
    due: BTreeMap<(Timestamp, u64), Due>,
    next_due: u64,
    next_ticket: u64,
    gauges: BTreeMap<(String, String), f64>,
    checks: BTreeMap<(String, String), CheckStatus>,
    facts: BTreeMap<String, Facts>,
    behaviours: BTreeMap<(String, String), VecDeque<Behaviour>>,
    receivers: BTreeMap<String, VecDeque<DeliveryResult>>,
    adapters: BTreeSet<DeploymentId>,
    acting: BTreeMap<String, Vec<StepAttemptId>>,
    fences: BTreeMap<String, u64>,
    alerts: BTreeMap<String, AlertView>,
    runs: BTreeMap<String, RunView>,
    approvals: BTreeMap<String, ApprovalView>,
    silences: BTreeMap<String, SilenceView>,
    next_sample: Timestamp,
    next_observe: Timestamp,
    /// What writes every input down; see [`World::keep_journal`].
    writer: Option<Writer<FaultyJournal>>,
    /// Events that somebody was told are stored.
    acknowledged: Vec<Event>,
    /// Events that were refused because the journal took nothing.
    pub refused: u64,
    /// After the next crash the journal's tail counts as decided by another engine version.
    comes_back_as_another: bool,
    /// How far the wall clock is ahead of engine time.
    wall_offset_ms: i64,
    /// A state to recover from, with the last batch in it.
    snapshot: Option<(u64, Vec<u8>)>,
    /// The state the journal begins with.
    first_snapshot: Vec<u8>,
    /// What each delivery said, by its id.
    said: BTreeMap<String, String>,
    pub paused: bool,
    /// All that was released since [`World::keep_journal`], in words.
    pub released: Vec<String>,
    /// After how many records the process dies, how long it is away, and whether what was under way happened.
    dies: Option<(usize, Duration, bool)>,
    /// Those the state may name.
    policies: BTreeMap<String, Arc<Policy>>,
    /// Whether gauges and checks are sampled.
    pub sampling: bool,
    /// The seed of the delays between the halves of the engine; `None`: there are none.
    delays: Option<u64>,
}

impl World {
    pub fn new(files: &[(&str, &str)]) -> World {
        Self::with_policy(compile(files))
    }

    pub fn with_policy(policy: Arc<Policy>) -> World {
        let (engine, effects) = Engine::new(START, policy.clone());
        let mut world = World {
            engine,
            now: START,
            transcript: Vec::new(),
            calls: Vec::new(),
            sent: Vec::new(),
            refused_for_good: Vec::new(),
            answers: BTreeMap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            next_ticket: 1,
            gauges: BTreeMap::new(),
            checks: BTreeMap::new(),
            facts: BTreeMap::new(),
            behaviours: BTreeMap::new(),
            receivers: BTreeMap::new(),
            adapters: BTreeSet::new(),
            acting: BTreeMap::new(),
            fences: BTreeMap::new(),
            alerts: BTreeMap::new(),
            runs: BTreeMap::new(),
            approvals: BTreeMap::new(),
            silences: BTreeMap::new(),
            next_sample: START + SAMPLE_EVERY,
            next_observe: START + OBSERVE_EVERY,
            writer: None,
            acknowledged: Vec::new(),
            refused: 0,
            comes_back_as_another: false,
            wall_offset_ms: 0,
            snapshot: None,
            first_snapshot: Vec::new(),
            said: BTreeMap::new(),
            paused: false,
            released: Vec::new(),
            dies: None,
            policies: BTreeMap::from([(policy.version.to_string(), policy)]),
            sampling: true,
            delays: None,
        };
        world.perform(effects);
        world
    }

    /// From now on the messages between the halves of the engine arrive late.
    pub fn delay_messages(&mut self, seed: u64) {
        self.delays = Some(seed);
        self.engine.delay_messages(seed);
    }

    // ---- what the world is like

    /// Sampled from now on, until told otherwise.
    pub fn gauge(&mut self, deployment: &str, metric: &str, value: f64) {
        self.gauges.insert((deployment.to_owned(), metric.to_owned()), value);
    }

    /// Its samples stop.
    pub fn no_gauge(&mut self, deployment: &str, metric: &str) {
        self.gauges.remove(&(deployment.to_owned(), metric.to_owned()));
    }

    /// The check's verdict from now on.
    pub fn check(&mut self, deployment: &str, check: &str, status: CheckStatus) {
        self.checks.insert((deployment.to_owned(), check.to_owned()), status);
    }

    pub fn fact(&mut self, deployment: &str, name: &str, value: impl Into<Value>) {
        self.facts.entry(deployment.to_owned()).or_default().set(name, value);
    }

    /// What the next call of this verb comes to; the last one told is used again and again. Without any: done in 2s.
    pub fn on(&mut self, deployment: &str, verb: &str, behaviour: Behaviour) {
        self.behaviours.entry((deployment.to_owned(), verb.to_owned())).or_default().push_back(behaviour);
    }

    /// What the next deliveries to this receiver come to; afterwards they are delivered.
    pub fn receiver(&mut self, receiver: &str, results: impl IntoIterator<Item = DeliveryResult>) {
        self.receivers.entry(receiver.to_owned()).or_default().extend(results);
    }

    // ---- what happens

    /// What the wall clock shows.
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now.as_millis() + self.wall_offset_ms)
    }

    /// The wall clock steps; selfheal notices.
    pub fn step_clock(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
        self.input(Input::ClockMoved { offset_ms: self.wall_offset_ms });
    }

    pub fn event(&mut self, deployment: &str, kind: EventKind) {
        let event = Event { deployment: deployment.into(), time: self.wall(), kind, origin: Origin::External };
        self.external(vec![event]);
    }

    /// Events from outside, refused while they cannot be stored.
    pub fn external(&mut self, events: Vec<Event>) {
        if self.disk_fails() {
            self.refused += events.len() as u64;
            return;
        }
        let stored = self.input(Input::Events(events.clone()));
        if stored {
            self.acknowledged.extend(events);
        }
    }

    pub fn metric(&mut self, deployment: &str, name: &str, value: f64) {
        self.event(deployment, EventKind::Metric { name: name.into(), value, labels: Labels::default() });
    }

    pub fn signal(&mut self, deployment: &str, name: &str) {
        self.event(deployment, EventKind::Signal { name: name.into(), fields: Map::new() });
    }

    pub fn policy(&mut self, files: &[(&str, &str)]) {
        self.input(Input::PolicyReplaced(compile(files)));
    }

    /// Files are saved, good or bad; with what is wrong about them.
    pub fn save(&mut self, files: &[(&str, &str)]) -> Vec<Diagnostic> {
        match try_compile(files) {
            Ok(policy) => {
                self.input(Input::PolicyReplaced(policy));
                Vec::new()
            }
            Err(errors) => {
                self.input(Input::PolicyInvalid(errors.clone()));
                errors
            }
        }
    }

    pub fn operator(&mut self, command: OperatorCommand) -> Result<OperatorAnswer, String> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.input(Input::Operator(Operator { who: "ana".to_owned(), command, ticket }));
        self.answers.remove(&ticket).unwrap_or_else(|| Err("no answer in the same turn".to_owned()))
    }

    pub fn trigger(&mut self, playbook: &str, deployment: &str) -> Result<OperatorAnswer, String> {
        self.operator(OperatorCommand::Trigger {
            playbook: playbook.into(),
            deployment: deployment.into(),
            with: Map::new(),
            reason: "a test".to_owned(),
            overrides: Vec::new(),
        })
    }

    pub fn pause(&mut self) {
        let answer = self.operator(OperatorCommand::Pause { reason: "a test".to_owned() });
        self.paused = true;
        assert!(answer.is_ok() || self.disk_fails(), "{answer:?}");
    }

    pub fn resume(&mut self) {
        self.paused = false;
        let answer = self.operator(OperatorCommand::Resume { reason: "a test".to_owned() });
        assert!(answer.is_ok() || self.disk_fails(), "{answer:?}");
    }

    /// Nothing is watched and nothing happens for so long.
    pub fn gap(&mut self, span: Duration) {
        let from = self.now;
        self.now = self.now + span;
        self.next_sample = self.now + SAMPLE_EVERY;
        self.next_observe = self.now + OBSERVE_EVERY;
        self.input(Input::Resumed { from, to: self.now, because: Gap::Blind });
    }

    /// Hands one input to the engine. Whether it is stored.
    pub fn input(&mut self, input: Input) -> bool {
        let mut effects = Vec::new();
        if let Input::PolicyReplaced(policy) = &input {
            self.policies.insert(policy.version.to_string(), policy.clone());
        }
        let stored = if let Some(writer) = &mut self.writer {
            let mut batch = writer.begin(self.now);
            batch.take_in(self.now, &input);
            self.engine.handle(self.now, input, &mut effects);
            batch.decide(&effects);
            self.settle(batch, effects)
        } else {
            self.engine.handle(self.now, input, &mut effects);
            self.restore();
            self.perform(effects);
            true
        };
        if let Some((record, away, happened)) = self.dies
            && self.journalled() >= record
        {
            self.dies = None;
            self.crash(Moment::Quiet, away, &mut || happened);
        }
        stored
    }

    fn settle(&mut self, batch: Batch, effects: Vec<Effect>) -> bool {
        let writer = self.writer.as_mut().expect("a journal is kept");
        let settled = writer.settle(self.now, &mut self.engine, batch, effects);
        let stored = settled.iter().all(|settled| settled.stored.is_ok());
        for Settled { effects, .. } in settled {
            self.released.extend(effects.iter().map(in_words));
            self.perform(effects);
        }
        stored
    }

    fn take_effect(&mut self, deployment: &str, behaviour: Behaviour) {
        for (gauge, value) in &behaviour.set {
            self.gauge(deployment, gauge, *value);
        }
        for (check, status) in &behaviour.checks {
            self.check(deployment, check, *status);
        }
        for (name, value) in behaviour.facts {
            self.fact(deployment, &name, value);
        }
    }

    /// Goes on with an engine made of the saved state.
    fn restore(&mut self) {
        let saved = self.engine.save();
        let restored = Engine::restore(&saved, &mut |version| self.policies.get(version).cloned());
        self.engine = restored.unwrap_or_else(|error| panic!("the state at {} is not restored: {error}", self.now));
        assert!(self.engine.save() == saved, "a restored state is another one at {}", self.now);
    }

    /// Lets time pass, instant by instant.
    pub fn run(&mut self, span: Duration) {
        let until = self.now + span;
        loop {
            let mut next = until;
            next = next.min(self.engine.next_deadline().unwrap_or(until));
            next = next.min(self.due.first_key_value().map_or(until, |((at, _), _)| *at));
            next = next.min(self.writer.as_ref().and_then(Writer::retry_at).unwrap_or(until));
            if self.sampling {
                next = next.min(self.next_sample);
            }
            next = next.min(self.next_observe).max(self.now);
            self.now = next;
            if self.due.first_key_value().is_some_and(|((at, _), _)| *at <= next) {
                let (_, due) = self.due.pop_first().expect("there is one");
                self.come_due(due);
            } else if self.sampling && self.next_sample <= next {
                self.next_sample = next + SAMPLE_EVERY;
                self.sample();
            } else if self.next_observe <= next {
                self.next_observe = next + OBSERVE_EVERY;
                for id in self.adapters.clone() {
                    self.observe(&id);
                }
            } else {
                self.input(Input::Tick);
                let stuck = self.engine.next_deadline().is_some_and(|due| due <= next);
                assert!(!stuck, "a timer does not move on at {next}");
                if next >= until {
                    return;
                }
            }
        }
    }

    /// Lets time pass until `holds`, at most `within`.
    pub fn run_until(&mut self, what: &str, within: Duration, holds: impl Fn(&World) -> bool) {
        let deadline = self.now + within;
        while !holds(self) {
            assert!(self.now < deadline, "{what} did not come within {within:?}\n{}", self.told());
            self.run(secs(1));
        }
    }

    fn sample(&mut self) {
        let mut events = Vec::new();
        let event = |deployment: &str, kind| Event {
            deployment: deployment.into(),
            time: self.wall(),
            kind,
            origin: Origin::Watched,
        };
        for ((deployment, metric), value) in &self.gauges {
            let kind = EventKind::Metric { name: metric.as_str().into(), value: *value, labels: Labels::default() };
            events.push(event(deployment, kind));
        }
        for ((deployment, check), status) in &self.checks {
            events.push(event(deployment, verdict(check, *status)));
        }
        if !events.is_empty() {
            self.input(Input::Events(events));
        }
    }

    fn observe(&mut self, id: &DeploymentId) {
        let facts = self.facts.get(id.as_str()).cloned().unwrap_or_default();
        let replicas = vec![Replica { index: 0, port: None, pid: None, up: true, incarnation: 1 }];
        let observation = Ok(Observation { facts, replicas, metrics: Vec::new() });
        self.input(Input::Observed { deployment: id.clone(), observation });
    }

    fn come_due(&mut self, due: Due) {
        match due {
            Due::Input(input) => drop(self.input(input)),
            Due::Observe(id) => self.observe(&id),
            Due::Delivered { delivery, result } => {
                match &result {
                    DeliveryResult::Delivered => self.sent.push((*delivery.notification).clone()),
                    DeliveryResult::Permanent { .. } => self.refused_for_good.push((*delivery.notification).clone()),
                    DeliveryResult::Transient { .. } => {}
                }
                let (id, attempt) = (delivery.id.clone(), delivery.attempt);
                self.input(Input::DeliveryEnded { id, attempt, result });
            }
            Due::Step { call, behaviour } => {
                let deployment = call.deployment.id.as_str().to_owned();
                self.acting.values_mut().for_each(|calls| calls.retain(|id| *id != call.id));
                self.take_effect(&deployment, behaviour.clone());
                self.input(Input::StepEnded(StepEnd {
                    id: call.id.clone(),
                    outcome: behaviour.outcome,
                    log: String::new(),
                    took: behaviour.takes,
                }));
            }
        }
    }

    fn later(&mut self, after: Duration, due: Due) {
        self.next_due += 1;
        self.due.insert((self.now + after, self.next_due), due);
    }

    fn say(&mut self, line: String) {
        let passed = self.now.since(START);
        self.transcript.push(format!("{:>9} {line}", units::format_duration(passed)));
    }
}

fn verdict(check: &str, status: CheckStatus) -> EventKind {
    EventKind::Health {
        check: check.into(),
        replica: None,
        status,
        latency_ms: Some(5.0),
        reason: None,
        message: String::new(),
        confidence: None,
    }
}

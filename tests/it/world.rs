//! A simulated world around the real engine: virtual time, deployments with gauges and checks, adapters and
//! receivers that answer as told. Everything that happens is a line of the transcript.
//!
//! Three things are held all the time, whatever the story: never two acting calls at once on one deployment, a fence that
//! never goes back, and a state that can be saved: after every input the engine is replaced by one restored from its
//! bytes, so that every story is told by restored engines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use selfheal::alert::notification::Notification;
use selfheal::engine::view::{AlertView, ApprovalState, ApprovalView, Change, RunView, SilenceView};
use selfheal::engine::{
    Delivery, DeliveryResult, DesiredDeployment, ENGINE_VERSION, Effect, Engine, Gap, Input, Observation, Operator,
    OperatorAnswer, OperatorCommand, StepCall, StepEnd, Upgraded,
};
use selfheal::model::{
    AdapterCatalog, AdapterSpec, CheckStatus, DeploymentId, Effectfulness, Event, EventKind, Facts, FailureClass,
    Labels, Map, Origin, Outcome, Replica, StepAttemptId, Timestamp, Value, VerbSpec, units,
};
use selfheal::policy::{self, Diagnostic, Policy, SourceFile};
use selfheal::store::fold::{self, Folded};
use selfheal::store::journal::{Appended, Batch, Journal, JournalError, MemoryJournal};
use selfheal::store::record::StoredInput;
use selfheal::store::writer::{Settled, Writer};

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
    policy::compile(&files, &SimCatalog, &|_| None, &|_| None).map(Arc::new)
}

/// Compiles files as a policy.
pub fn compile(files: &[(&str, &str)]) -> Arc<Policy> {
    match try_compile(files) {
        Ok(policy) => policy,
        Err(diagnostics) => panic!("{}", policy::diagnostic::render(&diagnostics, false)),
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

/// What becomes of one commit.
#[derive(Clone, Copy, Debug)]
pub enum DiskFault {
    /// Nothing was written, and that is known.
    Refused,
    /// Nobody knows whether it was written. It was, or not; the next looks at the journal fail, too.
    Unknown { written: bool, blind_looks: u32 },
}

/// A journal in memory whose next commits fail as told.
#[derive(Default)]
pub struct FaultyJournal {
    kept: MemoryJournal,
    faults: VecDeque<DiskFault>,
    /// Faults to come once so many rows are there.
    to_come: Option<(usize, Vec<DiskFault>)>,
    blind_looks: u32,
    /// The last sequence as this process knows it.
    known: u64,
}

impl Journal for FaultyJournal {
    fn append(&mut self, batch: &Batch) -> Result<Appended, JournalError> {
        if let Some((_, faults)) = self.to_come.take_if(|(rows, _)| self.kept.rows().len() >= *rows) {
            self.faults.extend(faults);
        }
        let fault = self.faults.pop_front();
        if !matches!(fault, Some(DiskFault::Refused | DiskFault::Unknown { written: false, .. })) {
            self.kept.append(batch)?;
        }
        match fault {
            None => {
                self.known = self.kept.last_sequence();
                Ok(Appended { sequence: self.known })
            }
            Some(DiskFault::Refused) => Err(JournalError::Refused("the simulator's disk is full".to_owned())),
            Some(DiskFault::Unknown { blind_looks, .. }) => {
                self.blind_looks = blind_looks;
                Err(JournalError::Unknown("the simulator's disk does not answer".to_owned()))
            }
        }
    }

    fn last_sequence(&self) -> u64 {
        self.known
    }

    fn reopen(&mut self) -> Result<u64, JournalError> {
        if self.blind_looks > 0 {
            self.blind_looks -= 1;
            return Err(JournalError::Unknown("the simulator's disk cannot be read".to_owned()));
        }
        self.known = self.kept.last_sequence();
        Ok(self.known)
    }
}

/// When a process dies.
pub enum Moment {
    /// Between two batches.
    Quiet,
    /// The input was handled and not written down.
    BeforeCommit(Input),
    /// The input is written down, and nothing decided on it has left.
    BeforeRelease(Input),
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

/// Every byte of an effect that the edges get to see.
pub fn in_words(effect: &Effect) -> String {
    match effect {
        Effect::StartStep(call) => format!(
            "{} {:?} {} {} {:?} {:?} {:?} {} {:?} {}",
            call.id,
            call.attempt,
            call.deployment.id,
            call.verb,
            call.params,
            call.facts,
            call.sick_replicas,
            call.fence,
            call.timeout,
            call.not_after
        ),
        Effect::Deliver(delivery) => format!("{} {} {:?}", delivery.id, delivery.attempt, delivery.notification),
        Effect::CancelStep { id, deployment } => format!("cancel {id} {deployment}"),
        Effect::Observe { deployment } => format!("observe {deployment}"),
        Effect::Probe { deployment, check, attempt } => format!("probe {deployment} {check} {attempt}"),
        Effect::Desired(desired) => {
            let wanted = |one: &DesiredDeployment| format!("{} {:?}", one.deployment.id, one.replicas);
            format!("desired {:?}", desired.deployments.iter().map(wanted).collect::<Vec<_>>())
        }
        Effect::Emitted(event) => format!("emitted {event:?}"),
        Effect::Show(change) => format!("show {change:?}"),
        Effect::Answer { ticket, answer } => format!("answer {ticket} {answer:?}"),
    }
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
        };
        world.perform(effects);
        world
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

    /// The next commits come to this.
    pub fn disk(&mut self, faults: impl IntoIterator<Item = DiskFault>) {
        let writer = self.writer.as_mut().expect("a journal is kept");
        writer.journal_mut().faults.extend(faults);
    }

    /// The commits after this record come to this.
    pub fn disk_after(&mut self, record: usize, faults: Vec<DiskFault>) {
        self.writer.as_mut().expect("a journal is kept").journal_mut().to_come = Some((record, faults));
    }

    /// Commits work again, after the next try.
    pub fn heal_disk(&mut self) {
        let journal = self.writer.as_mut().expect("a journal is kept").journal_mut();
        journal.faults.clear();
        journal.blind_looks = 0;
        self.run(secs(2));
        assert!(!self.disk_fails(), "the disk works and nothing is written");
    }

    /// Whether the journal takes nothing now.
    pub fn disk_fails(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.failing().is_some())
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

    /// The process will die once, right after this record.
    pub fn crash_after(&mut self, record: usize, away: Duration, happened: bool) {
        self.dies = Some((record, away, happened));
    }

    /// From now on every input is journalled, for [`World::crash`]; a state to recover from is the present one.
    pub fn keep_journal(&mut self) {
        self.writer = Some(Writer::new(FaultyJournal::default(), self.now));
        self.first_snapshot = self.engine.save();
        self.take_snapshot();
    }

    fn kept(&self) -> &MemoryJournal {
        &self.writer.as_ref().expect("a journal is kept").journal().kept
    }

    /// How many batches there are since then.
    pub fn journalled(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.journal().kept.rows().len())
    }

    /// The rows of all batches since then.
    pub fn journal_rows(&self) -> Vec<Vec<u8>> {
        self.kept().rows().to_vec()
    }

    /// Of the state as the journal has it.
    pub fn take_snapshot(&mut self) {
        if !self.disk_fails() {
            self.snapshot = Some((self.kept().last_sequence(), self.engine.save()));
        }
    }

    /// The process dies with all it had under way and comes back after `away`, from its snapshot and journal. The
    /// moment's input was handled and not written, or written and its effects never left.
    pub fn crash(&mut self, moment: Moment, away: Duration, happened: &mut dyn FnMut() -> bool) {
        let before = self.engine.save();
        let expected = match moment {
            // what was not written is forgotten with the process
            _ if self.disk_fails() => None,
            Moment::Quiet => Some(before),
            Moment::BeforeCommit(input) => {
                self.engine.handle(self.now, input, &mut Vec::new());
                Some(before)
            }
            Moment::BeforeRelease(input) => {
                let mut effects = Vec::new();
                let mut batch = Batch::begin(self.now);
                batch.take_in(self.now, &input);
                self.engine.handle(self.now, input, &mut effects);
                batch.decide(&effects);
                let writer = self.writer.as_mut().expect("a journal is kept");
                writer.journal_mut().kept.append(&batch).expect("memory takes it");
                Some(self.engine.save())
            }
        };
        self.die(happened);
        let upgraded;
        (self.engine, upgraded) = self.recovered();
        let is_as_it_was = expected.is_none_or(|expected| self.engine.save() == expected);
        assert!(is_as_it_was, "recovery came to another state at {}", self.now);
        let mut journal = std::mem::take(self.writer.as_mut().expect("a journal is kept").journal_mut());
        (journal.known, journal.blind_looks) = (journal.kept.last_sequence(), 0);
        self.writer = Some(Writer::new(journal, self.now));
        self.forget_views();
        // a pause that was never written down is gone
        let engine = |effect| if let Effect::Show(Change::Engine(view)) = effect { Some(view) } else { None };
        self.paused = self.engine.outstanding().into_iter().find_map(engine).is_some_and(|view| view.paused.is_some());
        let from = self.now.min(self.engine.now());
        self.now = self.now + away;
        self.next_sample = self.now + SAMPLE_EVERY;
        self.next_observe = self.now + OBSERVE_EVERY;
        self.say("crashed and came back".to_owned());
        let mut effects = Vec::new();
        let mut batch = Batch::begin(self.now);
        let resumed = Input::Resumed { from, to: self.now, because: Gap::Stopped };
        let clock = Input::ClockMoved { offset_ms: self.wall_offset_ms };
        let upgraded = std::mem::take(&mut self.comes_back_as_another).then_some(Input::Upgraded(upgraded));
        for input in [resumed, clock].into_iter().chain(upgraded) {
            batch.take_in(self.now, &input);
            self.engine.handle(self.now, input, &mut effects);
        }
        batch.decide(&effects);
        let effects = self.engine.released_after_recovery(effects);
        self.settle(batch, effects);
    }

    /// The next life shows all that goes on; what only this one knew of is gone.
    fn forget_views(&mut self) {
        use selfheal::engine::view::AlertStateWord::Resolved;
        self.alerts.retain(|_, view| view.state == Resolved);
        self.runs.retain(|_, view| view.ended_at.is_some());
        self.approvals.retain(|_, view| view.state != ApprovalState::Waiting);
        self.silences.clear();
    }

    /// Every event that somebody was told is stored is in the journal.
    pub fn check_acknowledged(&self) {
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        for batch in self.kept().batches() {
            let batch = batch.unwrap_or_else(|error| panic!("{error}"));
            for (_, input) in batch.inputs {
                if let StoredInput::Events(events) = input {
                    for event in events {
                        *kept.entry(format!("{event:?}")).or_default() += 1;
                    }
                }
            }
        }
        for event in &self.acknowledged {
            let count = kept.get_mut(&format!("{event:?}")).filter(|count| **count > 0);
            let count = count.unwrap_or_else(|| panic!("an acknowledged event is lost: {event:?}"));
            *count -= 1;
        }
    }

    /// What was under way may have happened or not; nobody hears of its end.
    fn die(&mut self, happened: &mut dyn FnMut() -> bool) {
        self.acting.clear();
        for due in std::mem::take(&mut self.due).into_values() {
            if !happened() {
                continue;
            }
            match due {
                Due::Step { call, behaviour } => self.take_effect(call.deployment.id.as_str(), behaviour),
                Due::Delivered { delivery, result: DeliveryResult::Delivered } => {
                    self.sent.push((*delivery.notification).clone());
                }
                Due::Delivered { .. } | Due::Observe(_) | Due::Input(_) => {}
            }
        }
    }

    /// Dies between two batches and comes back as a version that finds all of the journal's tail decided by another one.
    pub fn crash_and_upgrade(&mut self, away: Duration) {
        self.comes_back_as_another = true;
        self.crash(Moment::Quiet, away, &mut || false);
    }

    /// What the journal since [`World::keep_journal`] decides when it is folded anew, in words.
    pub fn replayed(&self) -> Vec<String> {
        let mut policy_of = |version: &str| self.policies.get(version).cloned();
        let mut engine =
            Engine::restore(&self.first_snapshot, &mut policy_of).unwrap_or_else(|error| panic!("{error}"));
        let mut words = Vec::new();
        for batch in self.kept().batches() {
            let batch = batch.unwrap_or_else(|error| panic!("{error}"));
            let mut effects = Vec::new();
            let folded = fold::fold(&mut engine, batch, &mut policy_of, &mut effects);
            assert_eq!(folded, Ok(Folded::Same));
            words.extend(effects.iter().map(in_words));
        }
        words
    }

    fn recovered(&self) -> (Engine, Upgraded) {
        let (sequence, state) = self.snapshot.as_ref().expect("a snapshot is there");
        let mut policy_of = |version: &str| self.policies.get(version).cloned();
        let mut engine = Engine::restore(state, &mut policy_of).unwrap_or_else(|error| panic!("{error}"));
        let mut upgraded = Upgraded::default();
        for batch in self.kept().batches().skip(usize::try_from(*sequence).expect("it fits")) {
            let mut batch = batch.unwrap_or_else(|error| panic!("{error}"));
            if self.comes_back_as_another {
                batch.engine_version = ENGINE_VERSION - 1;
            }
            match fold::fold(&mut engine, batch, &mut policy_of, &mut Vec::new()) {
                Ok(Folded::Same) => {}
                Ok(Folded::Mute { engine_version, unknown_steps }) => {
                    upgraded.from = engine_version;
                    upgraded.batches += 1;
                    upgraded.unknown_steps.extend(unknown_steps);
                }
                Ok(Folded::Diverged(divergence)) => panic!("{divergence}"),
                Err(error) => panic!("{error}"),
            }
        }
        (engine, upgraded)
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

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartStep(call) => self.start(call),
                Effect::CancelStep { id, .. } => {
                    let key = self.due.iter().find_map(|(key, due)| match due {
                        Due::Step { call, .. } if call.id == id => Some(*key),
                        _ => None,
                    });
                    if let Some(Due::Step { call, behaviour }) = key.and_then(|key| self.due.remove(&key)) {
                        let behaviour = Behaviour { outcome: Outcome::unknown("cancelled"), ..behaviour };
                        self.later(LOOK_TAKES, Due::Step { call, behaviour });
                    }
                }
                Effect::Deliver(delivery) => {
                    let mut words = (*delivery.notification).clone();
                    words.possible_repeat = false;
                    let words = format!("{words:?}");
                    if let Some(before) = self.said.insert(delivery.id.to_string(), words.clone()) {
                        assert_eq!(before, words, "{} says something else now", delivery.id);
                    }
                    let waiting = self.receivers.get_mut(delivery.receiver.as_str());
                    let result = waiting.and_then(VecDeque::pop_front).unwrap_or(DeliveryResult::Delivered);
                    let word = match &result {
                        DeliveryResult::Delivered => "",
                        DeliveryResult::Transient { .. } => " (fails, may work later)",
                        DeliveryResult::Permanent { .. } => " (fails for good)",
                    };
                    let line = format!("sent {}: {}{word}", delivery.receiver, delivery.notification.subject());
                    self.say(line);
                    self.later(DELIVERY_TAKES, Due::Delivered { delivery, result });
                }
                Effect::Observe { deployment } => self.later(LOOK_TAKES, Due::Observe(deployment)),
                Effect::Probe { deployment, check, attempt } => {
                    let status = self.checks.get(&(deployment.as_str().to_owned(), check.as_str().to_owned())).copied();
                    if let Some(status) = status {
                        let event = Event {
                            deployment: deployment.clone(),
                            time: self.wall() + LOOK_TAKES,
                            kind: verdict(check.as_str(), status),
                            origin: Origin::Watched,
                        };
                        self.later(LOOK_TAKES, Due::Input(Input::Events(vec![event])));
                    }
                    self.later(LOOK_TAKES, Due::Input(Input::Probed { deployment, check, attempt }));
                }
                Effect::Desired(desired) => {
                    let with_adapter = desired.deployments.iter().filter(|entry| entry.adapter.is_some());
                    let now: BTreeSet<_> = with_adapter.map(|entry| entry.deployment.id.clone()).collect();
                    for id in now.difference(&self.adapters.clone()) {
                        self.later(LOOK_TAKES, Due::Observe(id.clone()));
                    }
                    self.adapters = now;
                }
                Effect::Emitted(event) => {
                    if let EventKind::Signal { name, .. } = &event.kind {
                        self.say(format!("signal {name} of {}", event.deployment));
                    }
                }
                Effect::Show(change) => self.show(change),
                Effect::Answer { ticket, answer } => {
                    self.answers.insert(ticket, answer);
                }
            }
        }
    }

    fn start(&mut self, call: Box<StepCall>) {
        let deployment = call.deployment.id.as_str().to_owned();
        let verb = call.verb.as_str().to_owned();
        if self.now > call.not_after {
            let outcome = Outcome::failed(FailureClass::Transient, "not begun: too late");
            let end = StepEnd { id: call.id.clone(), outcome, log: String::new(), took: Duration::ZERO };
            self.later(LOOK_TAKES, Due::Input(Input::StepEnded(end)));
            return;
        }
        let effect = call.adapter.verb(&verb).map(|spec| spec.effect);
        if effect != Some(Effectfulness::Read) {
            assert!(!self.paused, "{} acts although all is paused", call.id);
            let acting = self.acting.entry(deployment.clone()).or_default();
            let other = acting.iter().find(|other| other.whole_run() != call.id.whole_run());
            assert!(other.is_none(), "two runs act at once on {deployment}: {other:?} and {}", call.id);
            acting.push(call.id.clone());
            let fence = self.fences.entry(deployment.clone()).or_default();
            assert!(call.fence >= *fence, "the fence of {deployment} went back from {fence} to {}", call.fence);
            *fence = call.fence;
        }
        let params =
            if call.params.is_empty() { String::new() } else { format!(" {}", Value::Object(call.params.clone())) };
        self.say(format!("call {deployment} {verb}{params}"));
        let key = call.idempotency_key();
        self.calls.push(Call {
            deployment: deployment.clone(),
            verb: verb.clone(),
            fence: call.fence,
            key,
            record: self.journalled(),
        });
        let told = self.behaviours.get_mut(&(deployment, verb));
        let behaviour = match told {
            Some(told) if told.len() > 1 => told.pop_front(),
            Some(told) => told.front().cloned(),
            None => None,
        };
        let behaviour = behaviour.unwrap_or_else(Behaviour::done);
        self.later(behaviour.takes, Due::Step { call, behaviour });
    }

    fn show(&mut self, change: Change) {
        match change {
            Change::Alert(view) => {
                let key = format!(
                    "{}{}",
                    view.alert,
                    view.labels.get("deployment").map(|id| format!(" {id}")).unwrap_or_default()
                );
                let word = |view: &AlertView| {
                    let suppressed = view.suppressed.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
                    let without = if view.without_data { " without data" } else { "" };
                    let state = serde_json::to_value(view.state).expect("a word");
                    format!("{} {}{suppressed}{without}", state.as_str().unwrap_or_default(), view.severity)
                };
                let before = self.alerts.get(view.id.as_str()).map(word);
                let after = word(&view);
                if before.as_ref() != Some(&after) {
                    self.say(format!("alert {key}: {after}"));
                }
                self.alerts.insert(view.id.to_string(), *view);
            }
            Change::Run(view) => {
                let word = |view: &RunView| {
                    let refused =
                        view.refused.as_ref().map(|refused| format!(" by {}: {}", refused.guard, refused.figures));
                    let verdict = view.verdict.as_ref().map(|verdict| format!(" {verdict}")).unwrap_or_default();
                    format!("{}{verdict}{}", view.state, refused.unwrap_or_default())
                };
                let before = self.runs.get(view.id.as_str()).map(word);
                let after = word(&view);
                if before.as_ref() != Some(&after) {
                    self.say(format!("run {} {}: {after}", view.id, view.playbook));
                }
                self.runs.insert(view.id.to_string(), *view);
            }
            Change::Audit(entry) => self.say(format!("audit {}: {}", entry.who, entry.what)),
            Change::Engine(view) => self.paused = view.paused.is_some(),
            Change::Approval(view) => {
                self.say(format!("approval {}: {:?}", view.id, view.state));
                self.approvals.insert(view.id.to_string(), *view);
            }
            Change::Silence(view) => {
                self.say(format!("silence {}: {:?}", view.id, view.state));
                self.silences.insert(view.id.to_string(), *view);
            }
            Change::SilenceGone(id) => drop(self.silences.remove(id.as_str())),
            Change::Deployment(_) | Change::DeploymentGone(_) | Change::Delivery(_) => {}
        }
    }

    fn say(&mut self, line: String) {
        let passed = self.now.since(START);
        self.transcript.push(format!("{:>9} {line}", units::format_duration(passed)));
    }

    // ---- what came of it

    pub fn told(&self) -> String {
        self.transcript.join("\n")
    }

    /// What the engine says of why, for a rule and a deployment.
    pub fn explain(&self, rule: &str, deployment: &str) -> selfheal::engine::explain::Explanation {
        let key = self.engine.scope_of(&rule.into(), &deployment.into()).expect("the rule is there");
        self.engine.explain(&key).expect("there is something to say")
    }

    pub fn alert(&self, name: &str) -> Option<&AlertView> {
        self.alerts.values().find(|view| view.alert == name)
    }

    pub fn alerts(&self) -> impl Iterator<Item = &AlertView> {
        self.alerts.values()
    }

    pub fn approvals(&self) -> impl Iterator<Item = &ApprovalView> {
        self.approvals.values()
    }

    pub fn silences(&self) -> impl Iterator<Item = &SilenceView> {
        self.silences.values()
    }

    pub fn is_firing(&self, name: &str) -> bool {
        use selfheal::engine::view::AlertStateWord::Firing;
        self.alerts.values().any(|view| view.alert == name && view.state == Firing)
    }

    /// In order of their start.
    pub fn runs(&self) -> Vec<&RunView> {
        let mut runs: Vec<_> = self.runs.values().collect();
        runs.sort_by_key(|run| (run.started_at, run.id.clone()));
        runs
    }

    /// Verdicts of ended runs, in order of their start: `restart cured`.
    pub fn verdicts(&self) -> Vec<String> {
        let ended = self.runs().into_iter().filter_map(|run| Some((run, run.verdict.as_ref()?)));
        ended.map(|(run, verdict)| format!("{} {verdict}", run.playbook)).collect()
    }

    /// Verbs that were called, in order; reads left out.
    pub fn acted(&self) -> Vec<String> {
        let acting = self.calls.iter().filter(|call| call.verb != "logs" && call.verb != "diagnose");
        acting.map(|call| format!("{} {}", call.deployment, call.verb)).collect()
    }

    /// Subjects of what this receiver got.
    pub fn mails(&self, receiver: &str) -> Vec<String> {
        self.sent.iter().filter(|one| one.receiver.as_str() == receiver).map(Notification::subject).collect()
    }

    /// Everything this receiver was told about remediation, in order.
    pub fn news(&self, receiver: &str) -> Vec<String> {
        let mine = self.sent.iter().filter(|one| one.receiver.as_str() == receiver);
        mine.flat_map(|one| one.news.iter().map(|news| format!("{}: {}", news.kind.as_str(), news.text))).collect()
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

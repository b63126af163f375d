//! The binary form of a batch: what is one row of the journal.
//!
//! Invariant: what is written is read back equal, by this version and by later ones; bytes that are no batch are an
//! error, never a panic.

use std::sync::Arc;

use rmp_serde::Serializer;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, ToSmolStr};

use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_contract::{
    DeliveryResult, Diagnostic, Effect, Gap, Intake, Observation, Operator, StepEnd, Storage, Upgraded,
};
use selfheal_engine::Input;
use selfheal_model::{CheckName, DeliveryId, DeploymentId, Event, PostedAlert, StepAttemptId, Timestamp};
use selfheal_policy::Policy;

/// The form of a row; a row of a later form is refused by name.
const FORM: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Smaller bodies are not worth compressing.
const COMPRESSED_FROM: usize = 512;
/// The fastest: a batch must cost less than its sync.
const ZSTD_LEVEL: i32 = 1;
/// A body is never larger: a few times what an inbox hands over at once.
const MAX_BODY: usize = 512 * 1024 * 1024;
/// Form, flag, checksum.
const HEAD: usize = 6;

/// What is committed together: the inputs of one turn of the driver and the ids of what was decided on them.
#[derive(Clone, Debug)]
pub struct Batch {
    at: Timestamp,
    count: u32,
    /// Each input with its instant, one after the other.
    inputs: Vec<u8>,
    decided: Vec<Decided>,
    acts: bool,
}

/// An effect that may be done once it is decided, by the id it keeps in every attempt to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decided {
    Step(SmolStr),
    /// A delivery and which attempt of it.
    Delivery(SmolStr, u32),
}

/// What of these effects the journal keeps, in the order of their decision. Looking, showing and answering need no
/// trace.
pub fn decided(effects: &[Effect]) -> impl Iterator<Item = Decided> + '_ {
    effects.iter().filter_map(|effect| match effect {
        Effect::StartStep(call) => Some(Decided::Step(call.id.as_str().to_smolstr())),
        Effect::Deliver(delivery) => Some(Decided::Delivery(delivery.id.as_str().to_smolstr(), delivery.attempt)),
        _ => None,
    })
}

/// An input as it is written: by reference, a policy by its version.
#[derive(Serialize)]
enum Written<'a> {
    Events(&'a [Event]),
    PolicyReplaced(&'a str),
    PolicyInvalid(#[serde(with = "selfheal_contract::diagnostic::in_full")] &'a [Diagnostic]),
    StepEnded(&'a StepEnd),
    DeliveryEnded(&'a DeliveryId, u32, &'a DeliveryResult),
    Observed(&'a DeploymentId, &'a Result<Observation, String>),
    Probed(&'a DeploymentId, &'a CheckName, &'a StepAttemptId),
    Operator(&'a Operator),
    Tick,
    Resumed(Timestamp, Timestamp, Gap),
    ClockMoved(i64),
    Storage(&'a Storage),
    Diverged(&'a str),
    Upgraded(&'a Upgraded),
    Draining,
    Posted(&'a [PostedAlert]),
    Intake(Intake),
}

/// An input as it is read back.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub enum StoredInput {
    Events(Vec<Event>),
    /// By its version.
    PolicyReplaced(SmolStr),
    PolicyInvalid(#[serde(with = "selfheal_contract::diagnostic::in_full")] Vec<Diagnostic>),
    StepEnded(StepEnd),
    DeliveryEnded(DeliveryId, u32, DeliveryResult),
    Observed(DeploymentId, Result<Observation, String>),
    Probed(DeploymentId, CheckName, StepAttemptId),
    Operator(Operator),
    Tick,
    Resumed(Timestamp, Timestamp, Gap),
    ClockMoved(i64),
    Storage(Storage),
    Diverged(String),
    Upgraded(Upgraded),
    Draining,
    Posted(Vec<PostedAlert>),
    Intake(Intake),
}

/// A batch as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBatch {
    pub sequence: u64,
    pub at: Timestamp,
    /// Of the engine that decided.
    pub engine_version: u32,
    pub inputs: Vec<(Timestamp, StoredInput)>,
    pub decided: Vec<Decided>,
}

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is of form {0}, which this version does not know; use a later one")]
    Form(u8),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it cannot be decoded: {0}")]
    Undecodable(String),
}

/// The named policy is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy {0} is not kept in policy.db")]
pub struct PolicyMissing(pub SmolStr);

impl Batch {
    pub fn begin(at: Timestamp) -> Batch {
        Batch { at, count: 0, inputs: Vec::new(), decided: Vec::new(), acts: false }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Bytes it takes, before they are compressed.
    pub fn size(&self) -> usize {
        self.inputs.len()
    }

    /// Something in it was decided that changes a deployment: it is synced at once, whatever the durability.
    pub fn acts(&self) -> bool {
        self.acts
    }

    /// To be called before the engine consumes the input, with the instant it is handed over at.
    pub fn take_in(&mut self, now: Timestamp, input: &Input) {
        let written = match input {
            Input::Events(events) => Written::Events(events),
            Input::PolicyReplaced(policy) => Written::PolicyReplaced(&policy.version),
            Input::PolicyInvalid(diagnostics) => Written::PolicyInvalid(diagnostics),
            Input::StepEnded(end) => Written::StepEnded(end),
            Input::DeliveryEnded { id, attempt, result } => Written::DeliveryEnded(id, *attempt, result),
            Input::Observed { deployment, observation } => Written::Observed(deployment, observation),
            Input::Probed { deployment, check, attempt } => Written::Probed(deployment, check, attempt),
            Input::Operator(operator) => Written::Operator(operator),
            Input::Tick => Written::Tick,
            Input::Resumed { from, to, because } => Written::Resumed(*from, *to, *because),
            Input::ClockMoved { offset_ms } => Written::ClockMoved(*offset_ms),
            Input::Storage(storage) => Written::Storage(storage),
            Input::Diverged { why } => Written::Diverged(why),
            Input::Upgraded(upgraded) => Written::Upgraded(upgraded),
            Input::Draining => Written::Draining,
            Input::Posted(posted) => Written::Posted(posted),
            Input::Intake(intake) => Written::Intake(*intake),
        };
        (now, written)
            .serialize(&mut Serializer::new(&mut self.inputs))
            .expect("plain data always has a binary form, and a vector takes all of it");
        self.count += 1;
    }

    /// To be called with all the engine decided on what was taken in.
    pub fn decide(&mut self, effects: &[Effect]) {
        let before = self.decided.len();
        self.decided.extend(decided(effects));
        self.acts |= self.decided[before..].iter().any(|one| matches!(one, Decided::Step(_)));
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = rmp_serde::to_vec(&(ENGINE_VERSION, self.at, &self.decided, self.count))
            .expect("plain data always has a binary form");
        body.extend_from_slice(&self.inputs);
        packed(&body)
    }
}

fn packed(body: &[u8]) -> Vec<u8> {
    let small = (body.len() >= COMPRESSED_FROM).then(|| zstd::bulk::compress(body, ZSTD_LEVEL).ok()).flatten();
    let (flag, body) = match &small {
        Some(small) if small.len() < body.len() => (ZSTD, small.as_slice()),
        _ => (PLAIN, body),
    };
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend([FORM, flag]);
    bytes.extend(crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let Some((head, body)) = bytes.split_at_checked(HEAD) else {
        return Err(RecordError::Undecodable("it is too short".to_owned()));
    };
    if head[0] != FORM {
        return Err(RecordError::Form(head[0]));
    }
    if head[2..] != crc32fast::hash(body).to_le_bytes() {
        return Err(RecordError::Checksum);
    }
    match head[1] {
        PLAIN => Ok(body.to_vec()),
        ZSTD => zstd::stream::decode_all(body).map_err(|error| RecordError::Undecodable(error.to_string())),
        flag => Err(RecordError::Undecodable(format!("it is packed in the unknown way {flag}"))),
    }
}

impl StoredBatch {
    /// # Errors
    /// The bytes are no batch.
    pub fn from_bytes(sequence: u64, bytes: &[u8]) -> Result<StoredBatch, RecordError> {
        if bytes.len() > MAX_BODY {
            return Err(RecordError::Undecodable("it is larger than any batch".to_owned()));
        }
        let body = unpacked(bytes)?;
        let undecodable = |error: rmp_serde::decode::Error| RecordError::Undecodable(error.to_string());
        let mut reader = rmp_serde::Deserializer::from_read_ref(&body);
        let (engine_version, at, decided, count) =
            <(u32, Timestamp, Vec<Decided>, u32)>::deserialize(&mut reader).map_err(undecodable)?;
        // the count is not trusted with memory before that many inputs were read
        let mut inputs = Vec::new();
        for _ in 0..count {
            inputs.push(<(Timestamp, StoredInput)>::deserialize(&mut reader).map_err(undecodable)?);
        }
        Ok(StoredBatch { sequence, at, engine_version, inputs, decided })
    }

    /// How many events it holds.
    pub fn events(&self) -> usize {
        let events = |input: &StoredInput| if let StoredInput::Events(events) = input { events.len() } else { 0 };
        self.inputs.iter().map(|(_, input)| events(input)).sum()
    }

    /// The last instant it knows.
    pub fn end(&self) -> Timestamp {
        self.inputs.iter().map(|(at, _)| *at).fold(self.at, Timestamp::max)
    }
}

impl StoredInput {
    /// # Errors
    /// It names a policy that `policy_of` does not have.
    pub fn into_input(self, policy_of: &mut dyn FnMut(&str) -> Option<Arc<Policy>>) -> Result<Input, PolicyMissing> {
        Ok(match self {
            StoredInput::Events(events) => Input::Events(events),
            StoredInput::PolicyReplaced(version) => {
                Input::PolicyReplaced(policy_of(&version).ok_or(PolicyMissing(version))?)
            }
            StoredInput::PolicyInvalid(diagnostics) => Input::PolicyInvalid(diagnostics),
            StoredInput::StepEnded(end) => Input::StepEnded(end),
            StoredInput::DeliveryEnded(id, attempt, result) => Input::DeliveryEnded { id, attempt, result },
            StoredInput::Observed(deployment, observation) => Input::Observed { deployment, observation },
            StoredInput::Probed(deployment, check, attempt) => Input::Probed { deployment, check, attempt },
            StoredInput::Operator(operator) => Input::Operator(operator),
            StoredInput::Tick => Input::Tick,
            StoredInput::Resumed(from, to, because) => Input::Resumed { from, to, because },
            StoredInput::ClockMoved(offset_ms) => Input::ClockMoved { offset_ms },
            StoredInput::Storage(storage) => Input::Storage(storage),
            StoredInput::Diverged(why) => Input::Diverged { why },
            StoredInput::Upgraded(upgraded) => Input::Upgraded(upgraded),
            StoredInput::Draining => Input::Draining,
            StoredInput::Posted(posted) => Input::Posted(posted),
            StoredInput::Intake(intake) => Input::Intake(intake),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfheal_model::{
        CheckStatus, Confidence, EventKind, Facts, FailureClass, Labels, Map, Origin, Outcome, Replica,
    };
    use std::time::Duration;

    use selfheal_contract::diagnostic::Level;

    fn metric(number: i32) -> Event {
        let labels: Labels = [("mount".to_owned(), "/".to_owned())].into_iter().collect();
        Event {
            deployment: format!("web-{}", number % 7).as_str().into(),
            time: Timestamp::from_millis(1_795_000_000_000 + i64::from(number)),
            kind: EventKind::Metric { name: "cpu_percent".into(), value: f64::from(number) * 0.37, labels },
            origin: Origin::External,
        }
    }

    fn verdict(confidence: Option<Confidence>) -> Event {
        let kind = EventKind::Health {
            check: "http".into(),
            replica: Some(1),
            status: CheckStatus::Healthy,
            latency_ms: Some(2.5),
            reason: None,
            message: "fine".into(),
            confidence,
        };
        Event { kind, ..metric(1) }
    }

    fn inputs() -> Vec<Input> {
        let mut facts = Facts::default();
        facts.set("version", "v42");
        let mut fields = Map::new();
        fields.insert("nested".to_owned(), serde_json::json!({ "list": [1, 2.5, null, "x", true, -7] }));
        let signal = Event {
            kind: EventKind::Signal { name: "deployed".into(), fields: fields.clone() },
            origin: Origin::Run { run: "web-1".into(), rule: None, depth: 2 },
            ..metric(1)
        };
        let replica = Replica { index: 3, port: Some(9100), pid: None, up: true, incarnation: 9 };
        let observation = Observation {
            facts: facts.clone(),
            replicas: vec![replica],
            metrics: vec![("m".into(), 1.5, Labels::default())],
        };
        let outcome = Outcome::Done { output: serde_json::json!({ "a": [1] }), facts, events: vec![signal.clone()] };
        let diagnostic = Diagnostic {
            file: "rules/a.yaml".into(),
            line: 1,
            column: 2,
            length: 3,
            severity: Level::Error,
            code: "unknown-key".into(),
            message: "no".into(),
            help: None,
            source_line: "wehn: x".into(),
        };
        vec![
            Input::Events(vec![metric(1), signal]),
            Input::Events(vec![verdict(None), verdict(Confidence::new(0.75))]),
            Input::PolicyInvalid(vec![diagnostic]),
            Input::StepEnded(StepEnd {
                id: "r/s/1".into(),
                outcome,
                log: "l".into(),
                took: Duration::from_millis(1500),
            }),
            Input::StepEnded(StepEnd {
                id: "r/s/2".into(),
                outcome: Outcome::failed(FailureClass::Transient, "busy"),
                log: String::new(),
                took: Duration::ZERO,
            }),
            Input::DeliveryEnded {
                id: "d".into(),
                attempt: 2,
                result: DeliveryResult::Transient { why: "503".into(), retry_after: Some(Duration::from_secs(7)) },
            },
            Input::Observed { deployment: "web".into(), observation: Ok(observation) },
            Input::Observed { deployment: "web".into(), observation: Err("gone".into()) },
            Input::Probed { deployment: "web".into(), check: "http".into(), attempt: "r/s/1".into() },
            Input::Operator(Operator {
                who: "ana".into(),
                command: selfheal_contract::OperatorCommand::Trigger {
                    playbook: "restart".into(),
                    deployment: "web".into(),
                    with: fields,
                    reason: "why".into(),
                    overrides: Vec::new(),
                },
                ticket: 7,
            }),
            Input::Tick,
            Input::Resumed { from: Timestamp::from_millis(1), to: Timestamp::from_millis(2), because: Gap::Stopped },
            Input::ClockMoved { offset_ms: -1_500 },
            Input::Storage(Storage::Failing { why: "disk full".into() }),
            Input::Diverged { why: "x".into() },
            Input::Upgraded(Upgraded { from: 0, batches: 3, unknown_steps: vec!["web-1/act/1".into()] }),
            Input::Draining,
            Input::Intake(Intake::Shedding),
            Input::Posted(vec![PostedAlert {
                labels: [("alertname", "PodDown"), ("deployment", "web")].into_iter().collect(),
                annotations: Labels::default(),
                starts_at: Some(Timestamp::from_millis(1)),
                ends_at: None,
                generator_url: "http://prometheus/graph".to_owned(),
            }]),
        ]
    }

    #[test]
    fn every_input_is_read_back_equal() {
        let mut batch = Batch::begin(Timestamp::from_millis(5));
        for (index, input) in inputs().iter().enumerate() {
            batch.take_in(Timestamp::from_millis(5 + index as i64), input);
        }
        let stored = StoredBatch::from_bytes(9, &batch.to_bytes()).expect("a batch");
        assert_eq!((stored.sequence, stored.engine_version, stored.events()), (9, ENGINE_VERSION, 4));
        assert_eq!(stored.end(), Timestamp::from_millis(5 + inputs().len() as i64 - 1));
        // written once more it is the same bytes: nothing was lost on the way
        let mut again = Batch::begin(stored.at);
        for (at, input) in stored.inputs {
            again.take_in(at, &input.into_input(&mut |_| None).expect("no policy is named"));
        }
        assert_eq!(again.to_bytes(), batch.to_bytes());
    }

    /// Events as they were written before verdicts could say how sure they are.
    #[test]
    fn a_verdict_without_confidence_has_the_form_it_always_had() {
        #[derive(Serialize)]
        enum Former {
            Health {
                check: &'static str,
                replica: u32,
                status: CheckStatus,
                latency_ms: f64,
                reason: (),
                message: &'static str,
            },
        }
        let Event { deployment, time, kind, origin } = verdict(None);
        let former = Former::Health {
            check: "http",
            replica: 1,
            status: CheckStatus::Healthy,
            latency_ms: 2.5,
            reason: (),
            message: "fine",
        };
        let former = rmp_serde::to_vec(&(deployment, time, former, origin)).expect("plain data");
        assert_eq!(rmp_serde::to_vec(&verdict(None)).expect("plain data"), former);
        let read: Event = rmp_serde::from_slice(&former).expect("still read");
        assert_eq!(read.kind, kind);
        let unsure = rmp_serde::to_vec(&verdict(Confidence::new(0.75))).expect("plain data");
        assert_eq!(rmp_serde::from_slice::<Event>(&unsure).expect("read").kind, verdict(Confidence::new(0.75)).kind);
    }

    #[test]
    fn a_policy_is_named_and_must_be_kept() {
        let stored = StoredInput::PolicyReplaced("abc".into());
        assert_eq!(stored.into_input(&mut |_| None).err(), Some(PolicyMissing("abc".into())));
    }

    #[test]
    fn similar_events_take_few_bytes() {
        let mut batch = Batch::begin(Timestamp::default());
        batch.take_in(Timestamp::default(), &Input::Events((0..1_000).map(metric).collect()));
        let bytes = batch.to_bytes().len();
        assert!(bytes < 60 * 1_000, "{bytes} bytes for 1,000 events");
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let mut batch = Batch::begin(Timestamp::default());
        batch.take_in(Timestamp::default(), &Input::Events((0..100).map(metric).collect()));
        let good = batch.to_bytes();
        for cut in [0, 1, 5, 6, good.len() / 2, good.len() - 1] {
            assert!(StoredBatch::from_bytes(1, &good[..cut]).is_err(), "cut at {cut}");
        }
        for place in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[place] ^= 0x10;
            assert!(StoredBatch::from_bytes(1, &bad).is_err(), "bit at {place}");
        }
        let mut later = good;
        later[0] = 9;
        assert_eq!(StoredBatch::from_bytes(1, &later), Err(RecordError::Form(9)));
        // well-formed outside, nonsense inside
        assert!(StoredBatch::from_bytes(1, &packed(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0x01])).is_err());
    }
}

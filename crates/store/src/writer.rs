//! What stands between the engine and the world: a batch is written to the journal before anything decided on it leaves.
//! While the journal takes nothing, what was decided is kept to be written later, steps are held, and what people must
//! hear goes out all the same, marked as perhaps said before.
//!
//! Invariant: an effect that acts, and the word that something is stored, come out of [`Writer::settle`] only after the
//! batch they were decided in is in the journal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::journal::{Batch, Journal, JournalError};
use selfheal_contract::{Effect, StepCall, StepEnd, Storage};
use selfheal_engine::{Engine, Input};
use selfheal_model::{FailureClass, Outcome, StepAttemptId, Timestamp};

/// How often a journal that takes nothing is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What waits to be written may be so large; above it, what selfheal watches itself is let go. Ends of effects and
/// operators' words, which are few, are always kept.
const MAX_UNWRITTEN: usize = 32 * 1024 * 1024;

/// The journal does not hold what was handed over: it may be lost, and has to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("events cannot be written down now: {0}")]
pub struct NotStored(pub SmolStr);

/// What becomes of an input: on disk, or not.
pub type Stored = Result<(), NotStored>;

/// What may leave now.
pub struct Settled {
    /// Of the batch it was decided in; while that waits, of the next to be written.
    pub sequence: u64,
    pub at: Timestamp,
    pub effects: Vec<Effect>,
    /// Whether the batch is in the journal.
    pub stored: Stored,
}

/// Whether the journal takes batches.
enum Writing {
    Works,
    Fails(Unwritten),
}

/// What the journal did not take.
struct Unwritten {
    why: NotStored,
    since: Timestamp,
    retry_at: Timestamp,
    /// A batch that may have been written after all; it stays as it is until that is known.
    in_doubt: Option<Batch>,
    /// What came after it, and still grows.
    batch: Batch,
    /// Steps that start when all is written.
    held: Vec<StepCall>,
    /// Inputs let go because too much waits.
    dropped: u64,
}

/// Writes batches, and says what may leave.
pub struct Writer<J> {
    journal: J,
    writing: Writing,
    last_append: Timestamp,
}

impl<J: Journal> Writer<J> {
    pub fn new(journal: J, now: Timestamp) -> Self {
        Writer { journal, writing: Writing::Works, last_append: now }
    }

    pub fn journal(&self) -> &J {
        &self.journal
    }

    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }

    /// When something was last written.
    pub fn last_append(&self) -> Timestamp {
        self.last_append
    }

    /// Why the journal takes nothing, if it does not.
    pub fn failing(&self) -> Option<&NotStored> {
        match &self.writing {
            Writing::Works => None,
            Writing::Fails(unwritten) => Some(&unwritten.why),
        }
    }

    /// When a journal that takes nothing is tried again.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match &self.writing {
            Writing::Works => None,
            Writing::Fails(unwritten) => Some(unwritten.retry_at),
        }
    }

    /// The batch for what comes at `now`: a new one, or the one that waits and grows. [`Writer::settle`] gets it back.
    pub fn begin(&mut self, now: Timestamp) -> Batch {
        match &mut self.writing {
            Writing::Works => Batch::begin(now),
            Writing::Fails(unwritten) => std::mem::replace(&mut unwritten.batch, Batch::begin(now)),
        }
    }

    /// Whether `input` may come into `batch`; where it may not, it is counted as let go.
    pub fn has_room_for(&mut self, batch: &Batch, input: &Input) -> bool {
        let Writing::Fails(unwritten) = &mut self.writing else { return true };
        let may_go = matches!(input, Input::Events(_) | Input::Observed { .. });
        if may_go && batch.size() > MAX_UNWRITTEN {
            unwritten.dropped += 1;
            return false;
        }
        true
    }

    /// Writes the batch, or keeps it, and gives what may leave, in order. The engine hears of a journal that begins to
    /// fail or works again.
    pub fn settle(&mut self, now: Timestamp, engine: &mut Engine, batch: Batch, effects: Vec<Effect>) -> Vec<Settled> {
        let at = batch.at();
        match std::mem::replace(&mut self.writing, Writing::Works) {
            Writing::Works if batch.is_empty() => {
                let sequence = self.journal.last_sequence();
                vec![Settled { sequence, at, effects, stored: Ok(()) }]
            }
            Writing::Works => match self.append(now, &batch) {
                Ok(sequence) => vec![Settled { sequence, at, effects, stored: Ok(()) }],
                Err(error) => vec![self.begin_failing(now, engine, error, batch, effects)],
            },
            Writing::Fails(unwritten) => self.go_on_failing(now, engine, unwritten, batch, effects),
        }
    }

    /// The last try to write what waits.
    ///
    /// # Errors
    /// Some of what happened since then could not be written down.
    pub fn end(mut self, now: Timestamp) -> Result<(), (Timestamp, JournalError)> {
        match std::mem::replace(&mut self.writing, Writing::Works) {
            Writing::Works => Ok(()),
            Writing::Fails(mut unwritten) => {
                let since = unwritten.since;
                self.write_down(now, &mut unwritten).map(|_| ()).map_err(|error| (since, error))
            }
        }
    }

    /// # Errors
    /// The batch is not written, or nobody can tell.
    fn append(&mut self, now: Timestamp, batch: &Batch) -> Result<u64, JournalError> {
        let expected = self.journal.last_sequence() + 1;
        let sequence = match self.journal.append(batch) {
            Ok(appended) => appended.sequence,
            Err(JournalError::Unknown(why)) => match self.journal.reopen() {
                Ok(last) if last >= expected => expected,
                Ok(_) => return Err(JournalError::Refused(why)),
                Err(_) => return Err(JournalError::Unknown(why)),
            },
            Err(refused) => return Err(refused),
        };
        self.last_append = now;
        Ok(sequence)
    }

    /// Writes what waits: first what is in doubt, unless it turns out to be there, then the rest.
    ///
    /// # Errors
    /// Some of it still waits.
    fn write_down(&mut self, now: Timestamp, unwritten: &mut Unwritten) -> Result<u64, JournalError> {
        if let Some(batch) = &unwritten.in_doubt {
            let expected = self.journal.last_sequence() + 1;
            if self.journal.reopen()? < expected {
                self.append(now, batch)?;
            }
            unwritten.in_doubt = None;
        }
        match self.append(now, &unwritten.batch) {
            Err(JournalError::Unknown(why)) => {
                unwritten.in_doubt = Some(std::mem::replace(&mut unwritten.batch, Batch::begin(now)));
                Err(JournalError::Unknown(why))
            }
            other => other,
        }
    }

    fn begin_failing(
        &mut self,
        now: Timestamp,
        engine: &mut Engine,
        error: JournalError,
        mut batch: Batch,
        mut effects: Vec<Effect>,
    ) -> Settled {
        let (why, in_doubt) = match error {
            JournalError::Refused(why) => (why, None),
            JournalError::Unknown(why) => (why, Some(std::mem::replace(&mut batch, Batch::begin(now)))),
        };
        tracing::error!(why, "the journal takes nothing: events are refused and no step starts until it does");
        let input = Input::Storage(Storage::Failing { why: why.clone() });
        tell(now, engine, input, &mut batch, &mut effects);
        let why = NotStored(SmolStr::new(why));
        let at = batch.at();
        let retry_at = now + RETRY;
        let unwritten = Unwritten { why, since: now, retry_at, in_doubt, batch, held: Vec::new(), dropped: 0 };
        self.keep(now, engine, at, unwritten, effects)
    }

    fn go_on_failing(
        &mut self,
        now: Timestamp,
        engine: &mut Engine,
        mut unwritten: Unwritten,
        batch: Batch,
        effects: Vec<Effect>,
    ) -> Vec<Settled> {
        let at = batch.at();
        unwritten.batch = batch;
        if now < unwritten.retry_at {
            return vec![self.keep(now, engine, at, unwritten, effects)];
        }
        unwritten.retry_at = now + RETRY;
        match self.write_down(now, &mut unwritten) {
            Ok(sequence) => self.end_failing(now, engine, sequence, at, unwritten, effects),
            Err(_) => vec![self.keep(now, engine, at, unwritten, effects)],
        }
    }

    /// What waits goes on waiting. What looks or speaks is let out, what acts is held. A held step that is cancelled
    /// never starts, and the engine hears that.
    fn keep(
        &mut self,
        now: Timestamp,
        engine: &mut Engine,
        at: Timestamp,
        mut unwritten: Unwritten,
        effects: Vec<Effect>,
    ) -> Settled {
        let mut free = Vec::new();
        let mut decided: VecDeque<Effect> = effects.into();
        while let Some(effect) = decided.pop_front() {
            match effect {
                Effect::StartStep(call) => unwritten.held.push(*call),
                Effect::CancelStep { id, deployment } => {
                    let Some(place) = unwritten.held.iter().position(|call| call.id == id) else {
                        free.push(Effect::CancelStep { id, deployment });
                        continue;
                    };
                    unwritten.held.remove(place);
                    let end = not_begun(id, "nothing could be written down until it was cancelled");
                    let mut effects = Vec::new();
                    tell(now, engine, end, &mut unwritten.batch, &mut effects);
                    decided.extend(effects);
                }
                Effect::Deliver(mut delivery) => {
                    Arc::make_mut(&mut delivery.notification).possible_repeat = true;
                    free.push(Effect::Deliver(delivery));
                }
                Effect::Answer { ticket, answer: Ok(_) } => {
                    let answer = Err(format!(
                        "done, but it cannot be written down now and may be forgotten by a restart: {}",
                        unwritten.why.0
                    ));
                    free.push(Effect::Answer { ticket, answer });
                }
                effect => free.push(effect),
            }
        }
        let sequence = self.journal.last_sequence() + 1;
        let stored = Err(unwritten.why.clone());
        self.writing = Writing::Fails(unwritten);
        Settled { sequence, at, effects: free, stored }
    }

    fn end_failing(
        &mut self,
        now: Timestamp,
        engine: &mut Engine,
        sequence: u64,
        at: Timestamp,
        unwritten: Unwritten,
        effects: Vec<Effect>,
    ) -> Vec<Settled> {
        tracing::warn!(
            failed_for_s = now.since(unwritten.since).as_secs(),
            dropped_inputs = unwritten.dropped,
            "the journal takes batches again"
        );
        // a person may have paused everything since these were decided
        let off = engine.judge().remedy().is_switched_off();
        let (too_late, held): (Vec<StepCall>, Vec<StepCall>) = unwritten.held.into_iter().partition(|_| off);
        let effects = held.into_iter().map(|call| Effect::StartStep(Box::new(call))).chain(effects).collect();
        let mut settled = vec![Settled { sequence, at, effects, stored: Ok(()) }];
        let (mut batch, mut effects) = (Batch::begin(now), Vec::new());
        for call in too_late {
            let end = not_begun(call.id, "all acting was stopped before it could be written down");
            tell(now, engine, end, &mut batch, &mut effects);
        }
        tell(now, engine, Input::Storage(Storage::Working), &mut batch, &mut effects);
        settled.extend(self.settle(now, engine, batch, effects));
        settled
    }
}

/// The end of a step that was decided and never left.
fn not_begun(id: StepAttemptId, why: &str) -> Input {
    let outcome = Outcome::failed(FailureClass::Transient, format!("not begun: {why}"));
    Input::StepEnded(StepEnd { id, outcome, log: String::new(), took: Duration::ZERO })
}

/// Hands the engine one more input of `batch`; `effects` holds what the batch's other inputs decided.
fn tell(now: Timestamp, engine: &mut Engine, input: Input, batch: &mut Batch, effects: &mut Vec<Effect>) {
    batch.take_in(now, &input);
    let before = effects.len();
    engine.handle(now, input, effects);
    batch.decide(&effects[before..]);
}

//! The engine's thread: takes inputs out of the inbox, hands them to the engine one batch at a time, writes the batch
//! to the journal, and only then lets anything out.
//!
//! Invariant: an answer to a caller and an effect leave this thread after the batch they came from is appended. While
//! the journal takes nothing, no step starts and nobody is told that something is stored; what people must hear goes
//! out all the same, marked as perhaps said before.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::inbox::{Inbox, Item, NotStored, Query, Stored, Waiting};
use crate::engine::{Effect, Engine, Gap, Input, Storage};
use crate::model::Timestamp;
use crate::store::journal::{Batch, Journal, JournalError};

/// Nothing was watched for longer than this: a gap (SPEC §2.3).
const GAP: Duration = Duration::from_secs(30);
/// The thread looks at the clocks at least this often, and a tick is journalled when nothing else was: so much of the
/// end of a life may be forgotten by the next.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// A smaller difference between the clocks is not worth telling.
const CLOCK_TOLERANCE_MS: u64 = 1_000;
/// How often a journal that takes nothing is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What waits to be written may be so large; above it, what selfheal watches itself is let go. Ends of effects and
/// operators' words, which are few, are always kept.
const MAX_UNWRITTEN: usize = 32 * 1024 * 1024;

/// What a batch decided, in order.
pub struct Decisions {
    /// Of the batch.
    pub sequence: u64,
    pub at: Timestamp,
    pub effects: Vec<Effect>,
    /// It shows everything there is, not only what changed.
    pub is_whole: bool,
}

/// Called on the engine's thread.
pub type Release = Box<dyn FnMut(Decisions) + Send>;

/// What the engine's thread runs until the inbox is closed.
pub struct Driver {
    pub inbox: Inbox,
    pub clock: Clock,
    pub journal: Box<dyn Journal>,
    pub release: Release,
}

/// How a life begins.
pub struct Opening {
    /// The first batch: a start or a gap, and the policy of the folder.
    pub inputs: Vec<Input>,
    /// What the making of a new engine decided.
    pub effects: Vec<Effect>,
    /// The batch is the journal's first: the engine was made of its policy, which is not handed over again.
    pub is_first: bool,
}

/// An open batch and what came of it so far.
struct Turn {
    batch: Batch,
    effects: Vec<Effect>,
    done: Vec<oneshot::Sender<Stored>>,
    queries: Vec<Query>,
    is_whole: bool,
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
    held: Vec<Effect>,
    /// Inputs let go because too much waits.
    dropped: u64,
}

/// The thread's state while it runs.
struct Life {
    driver: Driver,
    engine: Engine,
    writing: Writing,
    last_look: Timestamp,
    last_append: Timestamp,
    told_offset_ms: i64,
}

impl Driver {
    /// Runs `engine` on this thread until the inbox is closed and empty; `ready` hears that events are taken. Gives it back for a last snapshot, unless
    /// some of what it knows could not be written.
    pub fn run(self, engine: Engine, opening: Opening, ready: oneshot::Sender<()>) -> Option<Engine> {
        let now = self.clock.now();
        let mut life =
            Life { driver: self, engine, writing: Writing::Works, last_look: now, last_append: now, told_offset_ms: 0 };
        life.open(opening);
        // whoever started it may have gone away
        let _ = ready.send(());
        loop {
            let patience = life.patience();
            let Some(taken) = life.driver.inbox.take(patience) else { break };
            let turn = life.turn(taken);
            life.settle(turn);
        }
        life.end()
    }
}

impl Life {
    /// The first batch. What a recovered engine has under way is released again, in place of what this batch decides
    /// of it: nothing is released twice.
    fn open(&mut self, opening: Opening) {
        let now = self.driver.clock.now();
        let mut turn = Turn::new(Batch::begin(now));
        turn.effects = opening.effects;
        turn.is_whole = true;
        for input in opening.inputs {
            turn.batch.take_in(now, &input);
            if !(opening.is_first && matches!(input, Input::PolicyReplaced(_))) {
                self.engine.handle(now, input, &mut turn.effects);
            }
        }
        self.tell_offset(now, &mut turn);
        turn.batch.decide(&turn.effects);
        if !opening.is_first {
            turn.effects = self.engine.released_after_recovery(turn.effects);
        }
        self.driver.inbox.open();
        self.settle_decided(turn);
    }

    fn patience(&self) -> Duration {
        let now = self.driver.clock.now();
        let timer = self.engine.next_deadline().map_or(LONGEST_SLEEP, |due| due.since(now));
        let retry = match &self.writing {
            Writing::Works => LONGEST_SLEEP,
            Writing::Fails(unwritten) => unwritten.retry_at.since(now),
        };
        timer.min(retry).min(LONGEST_SLEEP)
    }

    /// Hands what was taken to the engine.
    fn turn(&mut self, taken: Vec<Waiting>) -> Turn {
        let batch = match &mut self.writing {
            Writing::Works => Batch::begin(self.driver.clock.now()),
            Writing::Fails(unwritten) => std::mem::replace(&mut unwritten.batch, Batch::begin(Timestamp::default())),
        };
        let mut turn = Turn::new(batch);
        self.look_at_the_clock(&mut turn);
        let now = self.driver.clock.now();
        let mut idle = true;
        for waiting in taken {
            match waiting.item {
                Item::Input(input) => {
                    idle = false;
                    if self.has_room_for(&turn.batch, &input) {
                        turn.batch.take_in(now, &input);
                        self.engine.handle(now, input, &mut turn.effects);
                    }
                }
                Item::Query(query) => turn.queries.push(query),
            }
            turn.done.extend(waiting.done);
        }
        if idle {
            self.tick(now, &mut turn);
        }
        turn
    }

    /// Time passed. The tick is written where it changed something, and now and then: what only time did is done
    /// again by the same timers.
    fn tick(&mut self, now: Timestamp, turn: &mut Turn) {
        let before = turn.effects.len();
        self.engine.handle(now, Input::Tick, &mut turn.effects);
        if turn.effects.len() > before || now.since(self.last_append) >= LONGEST_SLEEP {
            turn.batch.take_in(now, &Input::Tick);
        }
    }

    fn has_room_for(&mut self, batch: &Batch, input: &Input) -> bool {
        let Writing::Fails(unwritten) = &mut self.writing else { return true };
        let may_go = matches!(input, Input::Events(_) | Input::Observed { .. });
        if may_go && batch.size() > MAX_UNWRITTEN {
            unwritten.dropped += 1;
            return false;
        }
        true
    }

    /// A suspended machine, a stopped process or a forward step of the wall clock is a gap; a smaller difference
    /// between the clocks is told.
    fn look_at_the_clock(&mut self, turn: &mut Turn) {
        let clock = &self.driver.clock;
        let ahead = clock.offset_ms().saturating_sub(self.told_offset_ms);
        let jumped = u64::try_from(ahead).map_or(Duration::ZERO, Duration::from_millis);
        if jumped > GAP {
            clock.advance(jumped);
        }
        let (from, to) = (self.last_look, clock.now());
        self.last_look = to;
        if to.since(from) > GAP + LONGEST_SLEEP || jumped > GAP {
            tracing::warn!(%from, %to, "nothing was watched for a while");
            let input = Input::Resumed { from, to, because: Gap::Blind };
            turn.batch.take_in(to, &input);
            self.engine.handle(to, input, &mut turn.effects);
        }
        self.tell_offset(to, turn);
    }

    fn tell_offset(&mut self, now: Timestamp, turn: &mut Turn) {
        let offset_ms = self.driver.clock.offset_ms();
        if offset_ms.abs_diff(self.told_offset_ms) > CLOCK_TOLERANCE_MS {
            tracing::warn!(offset_ms, "the wall clock and selfheal's time have parted");
            self.told_offset_ms = offset_ms;
            let input = Input::ClockMoved { offset_ms };
            turn.batch.take_in(now, &input);
            self.engine.handle(now, input, &mut turn.effects);
        }
    }

    fn settle(&mut self, mut turn: Turn) {
        turn.batch.decide(&turn.effects);
        self.settle_decided(turn);
    }

    /// Writes the turn and lets out what came of it.
    fn settle_decided(&mut self, turn: Turn) {
        match std::mem::replace(&mut self.writing, Writing::Works) {
            Writing::Works if turn.batch.is_empty() => {
                let sequence = self.driver.journal.last_sequence();
                self.let_out(sequence, turn);
            }
            Writing::Works => match self.append(&turn.batch) {
                Ok(sequence) => self.let_out(sequence, turn),
                Err(error) => self.begin_failing(error, turn),
            },
            Writing::Fails(unwritten) => self.go_on_failing(unwritten, turn),
        }
    }

    /// # Errors
    /// The batch is not written, or nobody can tell.
    fn append(&mut self, batch: &Batch) -> Result<u64, JournalError> {
        let journal = &mut self.driver.journal;
        let expected = journal.last_sequence() + 1;
        let sequence = match journal.append(batch) {
            Ok(appended) => appended.sequence,
            Err(JournalError::Unknown(why)) => match journal.reopen() {
                Ok(last) if last >= expected => expected,
                Ok(_) => return Err(JournalError::Refused(why)),
                Err(_) => return Err(JournalError::Unknown(why)),
            },
            Err(refused) => return Err(refused),
        };
        self.last_append = self.driver.clock.now();
        Ok(sequence)
    }

    /// Writes what waits: first what is in doubt, unless it turns out to be there, then the rest.
    ///
    /// # Errors
    /// Some of it still waits.
    fn write_down(&mut self, unwritten: &mut Unwritten) -> Result<u64, JournalError> {
        if let Some(batch) = &unwritten.in_doubt {
            let expected = self.driver.journal.last_sequence() + 1;
            if self.driver.journal.reopen()? < expected {
                self.append(batch)?;
            }
            unwritten.in_doubt = None;
        }
        match self.append(&unwritten.batch) {
            Err(JournalError::Unknown(why)) => {
                let now = self.driver.clock.now();
                unwritten.in_doubt = Some(std::mem::replace(&mut unwritten.batch, Batch::begin(now)));
                Err(JournalError::Unknown(why))
            }
            other => other,
        }
    }

    fn let_out(&mut self, sequence: u64, turn: Turn) {
        let Turn { batch, effects, done, queries, is_whole } = turn;
        (self.driver.release)(Decisions { sequence, at: batch.at(), effects, is_whole });
        for query in queries {
            query(&self.engine);
        }
        for done in done {
            // the caller may have gone away
            let _ = done.send(Ok(()));
        }
    }

    fn begin_failing(&mut self, error: JournalError, mut turn: Turn) {
        let now = self.driver.clock.now();
        let (why, in_doubt) = match error {
            JournalError::Refused(why) => (why, None),
            JournalError::Unknown(why) => (why, Some(std::mem::replace(&mut turn.batch, Batch::begin(now)))),
        };
        tracing::error!(why, "the journal takes nothing: events are refused and no step starts until it does");
        let input = Input::Storage(Storage::Failing { why: why.clone() });
        turn.batch.take_in(now, &input);
        let mut effects = Vec::new();
        self.engine.handle(now, input, &mut effects);
        turn.batch.decide(&effects);
        turn.effects.extend(effects);
        let why = NotStored(SmolStr::new(why));
        self.driver.inbox.unwritable(why.clone());
        let batch = std::mem::replace(&mut turn.batch, Batch::begin(now));
        let retry_at = now + RETRY;
        let unwritten = Unwritten { why, since: now, retry_at, in_doubt, batch, held: Vec::new(), dropped: 0 };
        self.keep(unwritten, turn);
    }

    fn go_on_failing(&mut self, mut unwritten: Unwritten, mut turn: Turn) {
        let now = self.driver.clock.now();
        unwritten.batch = std::mem::replace(&mut turn.batch, Batch::begin(now));
        if now < unwritten.retry_at {
            return self.keep(unwritten, turn);
        }
        unwritten.retry_at = now + RETRY;
        match self.write_down(&mut unwritten) {
            Ok(sequence) => self.end_failing(sequence, unwritten, turn),
            Err(_) => self.keep(unwritten, turn),
        }
    }

    /// What waits goes on waiting. What looks or speaks is let out, what acts is held.
    fn keep(&mut self, mut unwritten: Unwritten, turn: Turn) {
        let Turn { batch, effects, done, queries, is_whole } = turn;
        let mut free = Vec::new();
        for effect in effects {
            match effect {
                Effect::StartStep(_) => unwritten.held.push(effect),
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
        let sequence = self.driver.journal.last_sequence() + 1;
        (self.driver.release)(Decisions { sequence, at: batch.at(), effects: free, is_whole });
        for query in queries {
            query(&self.engine);
        }
        for done in done {
            // the caller may have gone away
            let _ = done.send(Err(unwritten.why.clone()));
        }
        self.writing = Writing::Fails(unwritten);
    }

    fn end_failing(&mut self, sequence: u64, unwritten: Unwritten, turn: Turn) {
        let now = self.driver.clock.now();
        tracing::warn!(
            failed_for_s = now.since(unwritten.since).as_secs(),
            dropped_inputs = unwritten.dropped,
            "the journal takes batches again"
        );
        let effects = unwritten.held.into_iter().chain(turn.effects).collect();
        self.let_out(sequence, Turn { effects, ..turn });
        self.driver.inbox.open();
        let mut turn = Turn::new(Batch::begin(now));
        let input = Input::Storage(Storage::Working);
        turn.batch.take_in(now, &input);
        self.engine.handle(now, input, &mut turn.effects);
        self.settle(turn);
    }

    /// The last try to write what waits.
    fn end(mut self) -> Option<Engine> {
        match std::mem::replace(&mut self.writing, Writing::Works) {
            Writing::Works => Some(self.engine),
            Writing::Fails(mut unwritten) => match self.write_down(&mut unwritten) {
                Ok(_) => Some(self.engine),
                Err(error) => {
                    tracing::error!(%error, since = %unwritten.since, "what happened since could not be written down");
                    None
                }
            },
        }
    }
}

impl Turn {
    fn new(batch: Batch) -> Self {
        Turn { batch, effects: Vec::new(), done: Vec::new(), queries: Vec::new(), is_whole: false }
    }
}

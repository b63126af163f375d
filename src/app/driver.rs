//! The engine's thread: takes inputs out of the inbox, hands them to the engine one batch at a time, writes the batch
//! to the journal, and only then lets anything out.
//!
//! Invariant: an answer to a caller and an effect leave this thread only as [`Writer`] lets them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::clock::{Clock, Stopwatch};
use super::inbox::{Inbox, Item, Query, Waiting};
use super::telemetry::{Reason, Telemetry, TurnTaken};
use selfheal_contract::{Effect, Gap, Intake};
use selfheal_engine::{Engine, Input};
use selfheal_model::Timestamp;
use selfheal_store::journal::{Batch, SqliteJournal};
use selfheal_store::writer::{Settled, Stored, Writer};

/// Nothing was watched for longer than this: a gap (SPEC §2.3).
const GAP: Duration = Duration::from_secs(30);
/// The thread looks at the clocks at least this often, and a tick is journalled when nothing else was: so much of the
/// end of a life may be forgotten by the next.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// A smaller difference between the clocks is not worth telling.
const CLOCK_TOLERANCE_MS: u64 = 1_000;

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
    pub writer: Writer<SqliteJournal>,
    pub release: Release,
    pub telemetry: Arc<Telemetry>,
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
    /// Of all inputs.
    events: usize,
}

/// The thread's state while it runs.
struct Life {
    driver: Driver,
    engine: Engine,
    last_look: Timestamp,
    told_offset_ms: i64,
    /// Bursts of refusals that were told.
    told_bursts: u64,
    told_intake: Intake,
}

impl Driver {
    /// Runs `engine` on this thread until the inbox is closed and empty; `ready` hears that events are taken. Gives it back for a last snapshot, unless
    /// some of what it knows could not be written.
    pub fn run(self, engine: Engine, opening: Opening, ready: oneshot::Sender<()>) -> Option<Engine> {
        let now = self.clock.now();
        let told_intake = Intake::Whole;
        let mut life = Life { driver: self, engine, last_look: now, told_offset_ms: 0, told_bursts: 0, told_intake };
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
        // a new engine counts from when it was made: what is folded later must do so too
        let now = if opening.is_first { self.engine.now() } else { self.driver.clock.now() };
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
        let retry = self.driver.writer.retry_at().map_or(LONGEST_SLEEP, |at| at.since(now));
        timer.min(retry).min(LONGEST_SLEEP)
    }

    /// Hands what was taken to the engine.
    fn turn(&mut self, taken: Vec<Waiting>) -> Turn {
        let mut turn = Turn::new(self.driver.writer.begin(self.driver.clock.now()));
        self.look_at_the_clock(&mut turn);
        self.look_at_the_inbox(&mut turn);
        let now = self.driver.clock.now();
        let began = Stopwatch::start();
        let timer_late = self.engine.next_deadline().filter(|due| *due <= now).map(|due| now.since(due));
        let mut idle = true;
        for waiting in taken {
            match waiting.item {
                Item::Input(input) => {
                    idle = false;
                    let events = match &input {
                        Input::Events(events) => events.len(),
                        _ => 0,
                    };
                    if self.driver.writer.has_room_for(&turn.batch, &input) {
                        turn.batch.take_in(now, &input);
                        turn.events += events;
                        self.engine.handle(now, input, &mut turn.effects);
                    } else {
                        self.driver.telemetry.refused(Reason::Unwritable, events);
                    }
                }
                Item::Query(query) => turn.queries.push(query),
            }
            turn.done.extend(waiting.done);
        }
        if idle {
            self.tick(now, &mut turn);
        }
        self.driver.telemetry.turn_taken(TurnTaken { took: began.elapsed(), timer_late });
        turn
    }

    /// Time passed. The tick is written where it changed something, and now and then: what only time did is done
    /// again by the same timers.
    fn tick(&mut self, now: Timestamp, turn: &mut Turn) {
        let before = turn.effects.len();
        self.engine.handle(now, Input::Tick, &mut turn.effects);
        if turn.effects.len() > before || now.since(self.driver.writer.last_append()) >= LONGEST_SLEEP {
            turn.batch.take_in(now, &Input::Tick);
        }
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

    /// What is refused for want of room is not seen. A burst that came and went between two turns is told, too: silence begins
    /// anew after it.
    fn look_at_the_inbox(&mut self, turn: &mut Turn) {
        let (bursts, intake) = self.driver.inbox.shed();
        if intake != self.told_intake {
            self.tell_intake(intake, turn);
        } else if bursts > self.told_bursts && intake == Intake::Whole {
            self.tell_intake(Intake::Shed, turn);
        }
        (self.told_bursts, self.told_intake) = (bursts, intake);
    }

    fn tell_intake(&mut self, intake: Intake, turn: &mut Turn) {
        let now = self.driver.clock.now();
        turn.batch.take_in(now, &Input::Intake(intake));
        self.engine.handle(now, Input::Intake(intake), &mut turn.effects);
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

    /// Writes the turn and lets out what came of it. The inbox refuses events from outside while nothing can be written.
    fn settle_decided(&mut self, turn: Turn) {
        let Turn { batch, effects, done, queries, is_whole, events } = turn;
        let now = self.driver.clock.now();
        let failed = self.driver.writer.failing().is_some();
        let (began, has_something) = (Stopwatch::start(), !batch.is_empty());
        let settled = self.driver.writer.settle(now, &mut self.engine, batch, effects);
        let fails = self.driver.writer.failing().is_some();
        self.driver.telemetry.journal(!fails);
        if has_something && !fails {
            self.driver.telemetry.committed(events, began.elapsed());
        }
        match self.driver.writer.failing() {
            Some(why) => self.driver.inbox.unwritable(why.clone()),
            None if failed => self.driver.inbox.open(),
            None => {}
        }
        let mut waiting = Some((done, queries));
        for Settled { sequence, at, effects, stored } in settled {
            (self.driver.release)(Decisions { sequence, at, effects, is_whole: is_whole && waiting.is_some() });
            let Some((done, queries)) = waiting.take() else { continue };
            for query in queries {
                query(&self.engine);
            }
            for done in done {
                // the caller may have gone away
                let _ = done.send(stored.clone());
            }
        }
    }

    /// The last try to write what waits.
    fn end(self) -> Option<Engine> {
        let now = self.driver.clock.now();
        match self.driver.writer.end(now) {
            Ok(()) => Some(self.engine),
            Err((since, error)) => {
                tracing::error!(%error, %since, "what happened since could not be written down");
                None
            }
        }
    }
}

impl Turn {
    fn new(batch: Batch) -> Self {
        Turn { batch, effects: Vec::new(), done: Vec::new(), queries: Vec::new(), is_whole: false, events: 0 }
    }
}

//! The engine's thread: takes inputs out of bounded lanes, hands them to the engine one batch at a time, writes the
//! batch to the journal, and only then lets anything out.
//!
//! Invariant: an answer to a caller and an effect leave this thread after the batch they came from is appended.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::clock::Clock;
use crate::engine::{Effect, Engine, Gap, Input};
use crate::model::{Event, EventKind, Timestamp};
use crate::store::journal::{Batch, Journal};

/// Events that may wait in each of the two lanes for events. Above it a caller is told to come back (429).
const MAX_WAITING_EVENTS: usize = 200_000;
/// Words of operators that may wait.
const MAX_WAITING_OPERATORS: usize = 1_000;
/// Inputs handled under one append: enough to spread its cost, few enough that timers are not late.
const MAX_BATCH: usize = 256;
/// Nothing was watched for longer than this: a gap (SPEC §2.3).
const GAP: Duration = Duration::from_secs(30);
/// The thread looks at the clocks at least this often, so that a gap is noticed when nothing comes in.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Why an input was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the queue is full; try again in a second")]
    Full,
    #[error("selfheal is shutting down")]
    Closed,
}

/// Called on the engine's thread with what a batch decided, in order.
pub type Release = Box<dyn FnMut(Vec<Effect>) + Send>;
type Query = Box<dyn FnOnce(&Engine) + Send>;

enum Item {
    Input(Input),
    Query(Query),
}

struct Waiting {
    item: Item,
    done: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Lanes {
    /// In the order they are served: operator, ends of effects, health and signals, metrics.
    operator: VecDeque<Waiting>,
    ends: VecDeque<Waiting>,
    urgent: VecDeque<Waiting>,
    metrics: VecDeque<Waiting>,
    urgent_events: usize,
    metric_events: usize,
    closed: bool,
}

/// The lanes into the engine. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<(Mutex<Lanes>, Condvar)>,
}

impl Inbox {
    pub fn new() -> Self {
        Inbox { shared: Arc::default() }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lane: impl FnOnce(&mut Lanes) -> Result<(), Refused>) -> Result<(), Refused> {
        let mut lanes = self.lanes();
        if lanes.closed {
            return Err(Refused::Closed);
        }
        lane(&mut lanes)?;
        self.shared.1.notify_one();
        Ok(())
    }

    /// Resolves once the events are handled and their batch is appended.
    ///
    /// # Errors
    /// The lane is full or the engine is gone; nothing of it was taken.
    pub fn events(&self, events: Vec<Event>) -> Result<oneshot::Receiver<()>, Refused> {
        let (done, wait) = oneshot::channel();
        let (metrics, urgent): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| matches!(event.kind, EventKind::Metric { .. }));
        self.push(|lanes| {
            if lanes.urgent_events + urgent.len() > MAX_WAITING_EVENTS
                || lanes.metric_events + metrics.len() > MAX_WAITING_EVENTS
            {
                return Err(Refused::Full);
            }
            lanes.urgent_events += urgent.len();
            lanes.metric_events += metrics.len();
            // the slower lane carries the answer
            let (for_urgent, for_metrics) = if metrics.is_empty() { (Some(done), None) } else { (None, Some(done)) };
            if !urgent.is_empty() || metrics.is_empty() {
                lanes.urgent.push_back(Waiting { item: Item::Input(Input::Events(urgent)), done: for_urgent });
            }
            if !metrics.is_empty() {
                lanes.metrics.push_back(Waiting { item: Item::Input(Input::Events(metrics)), done: for_metrics });
            }
            Ok(())
        })?;
        Ok(wait)
    }

    /// The end of something the engine asked for, or what it learnt from it. Always has room: what is under way is
    /// bounded by the engine.
    pub fn end(&self, input: Input) {
        // when the engine is gone nobody waits for the end
        let _ = self.push(|lanes| {
            lanes.ends.push_back(Waiting { item: Item::Input(input), done: None });
            Ok(())
        });
    }

    /// # Errors
    /// Too many are waiting, or the engine is gone.
    pub fn operator(&self, input: Input) -> Result<oneshot::Receiver<()>, Refused> {
        self.operator_item(Item::Input(input))
    }

    /// Runs `query` between two inputs, on the engine's thread.
    ///
    /// # Errors
    /// Too many are waiting, or the engine is gone.
    pub fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Refused> {
        let (answer, wait) = oneshot::channel();
        self.operator_item(Item::Query(Box::new(move |engine| {
            // the asker may have gone away
            let _ = answer.send(query(engine));
        })))?;
        Ok(wait)
    }

    fn operator_item(&self, item: Item) -> Result<oneshot::Receiver<()>, Refused> {
        let (done, wait) = oneshot::channel();
        self.push(|lanes| {
            if lanes.operator.len() >= MAX_WAITING_OPERATORS {
                return Err(Refused::Full);
            }
            lanes.operator.push_back(Waiting { item, done: Some(done) });
            Ok(())
        })?;
        Ok(wait)
    }

    /// Lets the engine's thread end after what is waiting now.
    pub fn close(&self) {
        self.lanes().closed = true;
        self.shared.1.notify_one();
    }

    /// Waits for inputs, at most `patience`; empty when none came. `None` when closed and drained.
    fn take(&self, patience: Duration) -> Option<Vec<Waiting>> {
        let lanes = self.lanes();
        let (mut lanes, _) = self
            .shared
            .1
            .wait_timeout_while(lanes, patience, |lanes| lanes.is_empty() && !lanes.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if lanes.is_empty() && lanes.closed {
            return None;
        }
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH {
            match lanes.next() {
                Some(waiting) => batch.push(waiting),
                None => break,
            }
        }
        Some(batch)
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox::new()
    }
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.operator.is_empty() && self.ends.is_empty() && self.urgent.is_empty() && self.metrics.is_empty()
    }

    fn next(&mut self) -> Option<Waiting> {
        if let Some(waiting) = self.operator.pop_front().or_else(|| self.ends.pop_front()) {
            return Some(waiting);
        }
        let events = |waiting: &Waiting| match &waiting.item {
            Item::Input(Input::Events(events)) => events.len(),
            _ => 0,
        };
        if let Some(waiting) = self.urgent.pop_front() {
            self.urgent_events -= events(&waiting);
            return Some(waiting);
        }
        let waiting = self.metrics.pop_front()?;
        self.metric_events -= events(&waiting);
        Some(waiting)
    }
}

/// What the engine's thread runs until the inbox is closed.
pub struct Driver {
    pub inbox: Inbox,
    pub clock: Clock,
    pub journal: Box<dyn Journal>,
    pub release: Release,
}

impl Driver {
    /// Runs `engine` on this thread. `first` are the effects of its making.
    pub fn run(mut self, mut engine: Engine, first: Vec<Effect>) {
        (self.release)(first);
        let mut last = self.clock.now();
        loop {
            let patience =
                engine.next_deadline().map_or(LONGEST_SLEEP, |due| due.since(self.clock.now())).min(LONGEST_SLEEP);
            let Some(batch) = self.inbox.take(patience) else { return };
            let mut effects = Vec::new();
            if let Some((from, to)) = self.gap_since(last) {
                engine.handle(to, Input::Resumed { from, to, because: Gap::Blind }, &mut effects);
            }
            let now = self.clock.now();
            last = now;
            self.handle_batch(&mut engine, now, batch, effects);
        }
    }

    /// A suspended machine, a stopped process or a forward step of the wall clock.
    fn gap_since(&mut self, last: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let drift = self.clock.drift();
        if drift > GAP {
            self.clock.advance(drift);
        }
        let to = self.clock.now();
        if to.since(last) > GAP + LONGEST_SLEEP || drift > GAP {
            tracing::warn!(from = %last, %to, "nothing was watched for a while");
            return Some((last, to));
        }
        None
    }

    fn handle_batch(&mut self, engine: &mut Engine, now: Timestamp, batch: Vec<Waiting>, mut effects: Vec<Effect>) {
        let mut record = Batch::new(now);
        let mut done = Vec::new();
        let mut queries = Vec::new();
        for waiting in batch {
            match waiting.item {
                Item::Input(input) => {
                    record.take_in(&input);
                    engine.handle(now, input, &mut effects);
                }
                Item::Query(query) => queries.push(query),
            }
            done.extend(waiting.done);
        }
        if record.inputs.is_empty() {
            engine.handle(now, Input::Tick, &mut effects);
        }
        record.decide(&effects);
        if let Err(error) = self.journal.append(&record) {
            // callers see their answer's channel close: nothing of this batch is acknowledged or released
            tracing::error!(%error, "the journal did not take a batch");
            return;
        }
        (self.release)(effects);
        for query in queries {
            query(engine);
        }
        for done in done {
            // the caller may have gone away
            let _ = done.send(());
        }
    }
}

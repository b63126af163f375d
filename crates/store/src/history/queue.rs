//! What waits for the writer's thread.
//!
//! Invariant: putting never blocks. What does not fit is dropped, counted, and leaves a gap in its place.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{MissingRange, Shared, Why};
use selfheal_contract::view::Change;
use selfheal_model::{StepAttemptId, Timestamp, Value};

/// Changes that may wait: some seconds of the writer's work, and some tens of MB at most when they are large.
pub(super) const MAX_WAITING: usize = 20_000;
/// Changes that a long output counts for.
const OUTPUT_WEIGHT: usize = 100;
/// Items written in one transaction: enough to spread its cost, few enough that a failed one loses little.
const MAX_TOGETHER: usize = 256;
/// What comes is gathered for so long: one transaction writes more of it, and not at the very moment at which what was
/// decided goes out and needs the processor.
const GATHERED_FOR: Duration = Duration::from_millis(20);

pub(super) enum Item {
    Batch {
        sequence: u64,
        at: Timestamp,
        changes: Vec<Change>,
        /// Everything there is, not only what changed.
        whole: bool,
    },
    /// What a step's attempt wrote, where it is too long for the engine.
    Output {
        step: StepAttemptId,
        log: Option<String>,
        output: Option<Value>,
    },
    MissingRange(MissingRange),
    /// A reader met something that should not be there.
    Suspect,
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    changes: usize,
    /// What was dropped since the last batch that was taken.
    gap: Option<MissingRange>,
    closed: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    moved: Condvar,
    pub shared: Arc<Shared>,
}

/// What the writer finds.
pub(super) enum Popped {
    Items(Vec<Item>),
    /// Nothing waits at the moment.
    Nothing,
    Closed,
}

impl Waiting {
    /// Whether it is written at once.
    fn is_enough(&self) -> bool {
        let is_waited_for = |item: &Item| matches!(item, Item::Flush(_) | Item::Suspect);
        self.closed || self.items.len() >= MAX_TOGETHER || self.items.iter().any(is_waited_for)
    }
}

impl Queue {
    pub fn new(shared: Arc<Shared>) -> Self {
        Queue { waiting: Mutex::default(), moved: Condvar::new(), shared }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, item: Item) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        if let Item::Batch { at, changes, .. } = &item {
            // a batch larger than the bound is taken when nothing else waits: it exists already
            if waiting.changes > 0 && waiting.changes + changes.len() > MAX_WAITING {
                self.shared.dropped.fetch_add(changes.len() as u64, std::sync::atomic::Ordering::Relaxed);
                MissingRange::join(&mut waiting.gap, MissingRange::dropped(*at, Why::QueueFull, changes.len()));
                return;
            }
            waiting.changes += changes.len();
            if let Some(gap) = waiting.gap.take() {
                waiting.items.push_back(Item::MissingRange(gap));
            }
        }
        if matches!(item, Item::Output { .. }) {
            // a large one counts for the many changes it is as large as
            if waiting.changes + OUTPUT_WEIGHT > MAX_WAITING {
                self.shared.dropped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                return;
            }
            waiting.changes += OUTPUT_WEIGHT;
        }
        waiting.items.push_back(item);
        // whoever gathers more is not woken by each of it
        if waiting.items.len() == 1 || waiting.is_enough() {
            self.moved.notify_one();
        }
    }

    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        if let Some(gap) = waiting.gap.take() {
            waiting.items.push_back(Item::MissingRange(gap));
        }
        self.moved.notify_one();
    }

    /// The oldest items; waits for some, and for what comes soon after the first, if `patiently`. After a close what still waits comes first.
    pub fn pop(&self, patiently: bool) -> Popped {
        let mut waiting = self.lock();
        while patiently && waiting.items.is_empty() && !waiting.closed {
            waiting = self.moved.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if patiently {
            let gathered = self.moved.wait_timeout_while(waiting, GATHERED_FOR, |waiting| !waiting.is_enough());
            waiting = gathered.unwrap_or_else(PoisonError::into_inner).0;
        }
        if waiting.items.is_empty() {
            return if waiting.closed { Popped::Closed } else { Popped::Nothing };
        }
        let count = waiting.items.len().min(MAX_TOGETHER);
        let items: Vec<Item> = waiting.items.drain(..count).collect();
        for item in &items {
            waiting.changes -= match item {
                Item::Batch { changes, .. } => changes.len(),
                Item::Output { .. } => OUTPUT_WEIGHT,
                Item::MissingRange(_) | Item::Suspect | Item::Flush(_) => 0,
            };
        }
        Popped::Items(items)
    }
}

//! The journal: every batch of inputs with the effects decided on them, appended before any of those is released.
//!
//! The driver builds a [`Batch`] while it hands inputs to the engine, appends it, and only then answers and releases.
//! [`MemoryJournal`] lasts as long as the process: a restart forgets.

use std::collections::VecDeque;

use smol_str::{SmolStr, ToSmolStr};

use crate::engine::{Effect, Input};
use crate::model::Timestamp;

/// What is committed together: the inputs of one turn of the driver and the ids of what was decided on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub at: Timestamp,
    pub inputs: Vec<Recorded>,
    /// Ids of effects that act on the world, in the order of their decision.
    pub decided: Vec<Decided>,
}

/// What an input was, in so much as the journal keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recorded {
    /// With their number.
    Events(usize),
    PolicyReplaced,
    PolicyInvalid,
    StepEnded,
    DeliveryEnded,
    Observed,
    Probed,
    Operator,
    Tick,
    Resumed,
    Draining,
    ClockMoved,
    Storage,
    Diverged,
}

/// An effect that may be done once it is decided, by the id it keeps in every attempt to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    Step(SmolStr),
    /// A delivery and which attempt of it.
    Delivery(SmolStr, u32),
}

impl Batch {
    pub fn begin(at: Timestamp) -> Batch {
        Batch { at, inputs: Vec::new(), decided: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Bytes it takes in the journal, about.
    pub fn size(&self) -> usize {
        0
    }

    /// To be called before the engine consumes the input.
    pub fn take_in(&mut self, _now: Timestamp, input: &Input) {
        self.inputs.push(match input {
            Input::Events(events) => Recorded::Events(events.len()),
            Input::PolicyReplaced(_) => Recorded::PolicyReplaced,
            Input::PolicyInvalid(_) => Recorded::PolicyInvalid,
            Input::StepEnded(_) => Recorded::StepEnded,
            Input::DeliveryEnded { .. } => Recorded::DeliveryEnded,
            Input::Observed { .. } => Recorded::Observed,
            Input::Probed { .. } => Recorded::Probed,
            Input::Operator(_) => Recorded::Operator,
            Input::Tick => Recorded::Tick,
            Input::Resumed { .. } => Recorded::Resumed,
            Input::Draining => Recorded::Draining,
            Input::ClockMoved { .. } => Recorded::ClockMoved,
            Input::Storage(_) => Recorded::Storage,
            Input::Diverged { .. } => Recorded::Diverged,
        });
    }

    /// To be called with all the engine decided in this turn. Looking, showing and answering need no trace.
    pub fn decide(&mut self, effects: &[Effect]) {
        self.decided.extend(effects.iter().filter_map(|effect| match effect {
            Effect::StartStep(call) => Some(Decided::Step(call.id.as_str().to_smolstr())),
            Effect::Deliver(delivery) => Some(Decided::Delivery(delivery.id.as_str().to_smolstr(), delivery.attempt)),
            _ => None,
        }));
    }
}

/// The place of a committed batch in the order of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Appended {
    /// 1 for the first batch, without gaps.
    pub sequence: u64,
}

/// Why a batch is not committed, or not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Nothing was written: the same batch may be appended again.
    #[error("the journal cannot take anything now: {0}")]
    Refused(String),
    /// It may have been written: read the last sequence before going on.
    #[error("whether the journal took the last batch is unknown: {0}")]
    Unknown(String),
}

/// Keeps batches in order.
pub trait Journal: Send {
    /// Returns once the batch is as safe as this journal makes it.
    ///
    /// # Errors
    /// It was not committed, or nobody knows. Nothing decided in it may be released.
    fn append(&mut self, batch: &Batch) -> Result<Appended, JournalError>;

    /// The newest committed batch; 0 before the first.
    fn last_sequence(&self) -> u64;

    /// After an unknown commit: looks anew what is written, and gives the last sequence.
    ///
    /// # Errors
    /// It cannot be read now.
    fn reopen(&mut self) -> Result<u64, JournalError>;
}

/// Counts everything, and keeps the newest batches to look at. Forgets with the process.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    counts: Counts,
    newest: VecDeque<Batch>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub batches: u64,
    pub inputs: u64,
    pub events: u64,
    pub decided: u64,
}

impl MemoryJournal {
    /// Batches kept to look at: enough to see what led up to something, few enough to cost nothing.
    pub const KEPT: usize = 128;

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// At most [`MemoryJournal::KEPT`], oldest first.
    pub fn newest(&self) -> impl Iterator<Item = &Batch> {
        self.newest.iter()
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, batch: &Batch) -> Result<Appended, JournalError> {
        let events =
            batch.inputs.iter().map(|input| if let Recorded::Events(count) = input { *count as u64 } else { 0 });
        self.counts.batches += 1;
        self.counts.inputs += batch.inputs.len() as u64;
        self.counts.events += events.sum::<u64>();
        self.counts.decided += batch.decided.len() as u64;
        if self.newest.len() == Self::KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(batch.clone());
        Ok(Appended { sequence: self.counts.batches })
    }

    fn last_sequence(&self) -> u64 {
        self.counts.batches
    }

    fn reopen(&mut self) -> Result<u64, JournalError> {
        Ok(self.counts.batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, EventKind, Map, Origin};

    fn event() -> Event {
        let kind = EventKind::Signal { name: "deployed".into(), fields: Map::new() };
        Event { deployment: "web".into(), time: Timestamp::default(), kind, origin: Origin::External }
    }

    #[test]
    fn batches_are_numbered_counted_and_the_newest_kept() {
        let mut journal = MemoryJournal::default();
        assert_eq!(journal.last_sequence(), 0);
        for turn in 1..=200 {
            let mut batch = Batch::begin(Timestamp::from_millis(turn));
            batch.take_in(Timestamp::default(), &Input::Events(vec![event(), event()]));
            batch.take_in(Timestamp::default(), &Input::Tick);
            batch.decide(&[Effect::Observe { deployment: "web".into() }]);
            assert_eq!(journal.append(&batch).map(|appended| appended.sequence), Ok(turn.unsigned_abs()));
        }
        assert_eq!(journal.counts(), Counts { batches: 200, inputs: 400, events: 400, decided: 0 });
        assert_eq!(journal.newest().count(), MemoryJournal::KEPT);
        let first = journal.newest().next().expect("some are kept");
        assert_eq!(
            (first.at, &first.inputs[..]),
            (Timestamp::from_millis(73), &[Recorded::Events(2), Recorded::Tick][..])
        );
        assert_eq!(journal.last_sequence(), 200);
    }
}

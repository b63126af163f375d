//! A journal whose commits fail as told.

use std::collections::VecDeque;

use super::{World, secs};
use selfheal_store::journal::{Appended, Batch, Journal, JournalError, MemoryJournal};

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
    pub(super) kept: MemoryJournal,
    pub(super) faults: VecDeque<DiskFault>,
    /// Faults to come once so many rows are there.
    pub(super) to_come: Option<(usize, Vec<DiskFault>)>,
    pub(super) blind_looks: u32,
    /// The last sequence as this process knows it.
    pub(super) known: u64,
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

impl World {
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
}

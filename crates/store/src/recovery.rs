//! Opening a data folder: the newest good snapshot, and the journal after it.

use std::path::{Path, PathBuf};

use super::journal::{Limits, SegmentName, SqliteJournal, segments};
use super::record::StoredBatch;
use super::snapshot::{Snapshot, Snapshots};
use super::{Policies, StoreError};
use crate::journal::SegmentReader;
use selfheal_model::Timestamp;
use selfheal_policy::Durability;

/// Of the whole folder.
const FORMAT: u64 = 1;
const FORMAT_FILE: &str = "format";

/// How a journal is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreOptions {
    pub durability: Durability,
    pub limits: Limits,
}

/// A data folder. Whoever opens it holds its lock.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// What a data folder holds.
pub struct Opened {
    /// Not decoded yet: a state that does not decode is passed over as a damaged file is.
    pub snapshots: Candidates,
    pub policies: Policies,
}

/// The snapshots there are, newest first. The last resort is none at all, where the journal still begins at its
/// beginning.
pub struct Candidates {
    files: Snapshots,
    sequences: Vec<u64>,
}

impl Candidates {
    /// Tries those up to a sequence before newer ones: history ends there, and only what is folded reaches it.
    pub fn prefer_up_to(&mut self, sequence: u64) {
        let (newer, older): (Vec<u64>, Vec<u64>) = self.sequences.iter().partition(|own| **own > sequence);
        if !older.is_empty() {
            self.sequences = newer.into_iter().chain(older).collect();
        }
    }

    /// The next one to try.
    pub fn next(&mut self, notes: &mut Vec<String>) -> Option<Snapshot> {
        while let Some(sequence) = self.sequences.pop() {
            match self.files.read(sequence) {
                Ok(snapshot) => return Some(snapshot),
                Err(error) => notes.push(format!("a snapshot is passed over for the one before: {error}")),
            }
        }
        None
    }
}

impl Store {
    pub fn at(dir: &Path) -> Self {
        Store { dir: dir.to_owned() }
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub fn snapshots(&self) -> Snapshots {
        Snapshots::of(self.dir.join("snapshot"))
    }

    /// # Errors
    /// The folder was written by a later version, or cannot be read.
    pub fn open(&self) -> Result<Opened, StoreError> {
        self.check_format()?;
        Ok(Opened { snapshots: self.snapshot_candidates()?, policies: Policies::open(&self.dir)? })
    }

    /// The snapshots there are, newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn snapshot_candidates(&self) -> Result<Candidates, StoreError> {
        let files = self.snapshots();
        Ok(Candidates { sequences: files.sequences()?, files })
    }

    /// The snapshots of states at or before `at`, newest first. One that cannot be read is none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn snapshots_until(&self, at: Timestamp) -> Result<Candidates, StoreError> {
        let mut candidates = self.snapshots_gone_on_from()?;
        let files = &candidates.files;
        candidates.sequences.retain(|sequence| files.at(*sequence).is_ok_and(|own| own <= at));
        Ok(candidates)
    }

    /// The first instant from which on every state can be made anew: where the journal begins at its beginning that
    /// one, else the oldest snapshot's. `None`: nothing is kept.
    ///
    /// # Errors
    /// The folder or what is in it cannot be read.
    pub fn reaches_back_to(&self) -> Result<Option<Timestamp>, StoreError> {
        if self.begins_at()? == 1
            && let Some(first) = self.tail(0)?.next()
        {
            return Ok(Some(first?.at));
        }
        let Candidates { files, sequences } = self.snapshots_gone_on_from()?;
        Ok(sequences.into_iter().find_map(|sequence| files.at(sequence).ok()))
    }

    /// Those that no hole is after.
    fn snapshots_gone_on_from(&self) -> Result<Candidates, StoreError> {
        let mut candidates = self.snapshot_candidates()?;
        let begins_at = self.begins_at()?;
        candidates.sequences.retain(|sequence| sequence + 1 >= begins_at);
        Ok(candidates)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.dir.join(FORMAT_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse::<u64>() {
                Ok(FORMAT) => Ok(()),
                Ok(format) if format > FORMAT => Err(StoreError::Newer { path: self.dir.clone(), format }),
                _ => Err(StoreError::damaged(&path, "it names no format")),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.dir).map_err(|error| StoreError::io(&self.dir, error))?;
                std::fs::write(&path, format!("{FORMAT}\n")).map_err(|error| StoreError::io(&path, error))
            }
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }

    /// The newest batch there is, in the journal or in a snapshot; 0 where there is none.
    ///
    /// # Errors
    /// A file is damaged or cannot be read.
    pub fn last_sequence(&self) -> Result<u64, StoreError> {
        let snapshot = self.snapshots().sequences()?.last().copied().unwrap_or(0);
        let dir = self.journal_dir();
        let newest = segments(&dir).map_err(|error| StoreError::io(&dir, error))?.pop();
        let journal = match newest {
            Some(name) => SegmentReader::open(&name)?.last()?.unwrap_or(name.first - 1),
            None => 0,
        };
        Ok(snapshot.max(journal))
    }

    /// The first batch that is kept; 1 where there is none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn begins_at(&self) -> Result<u64, StoreError> {
        let dir = self.journal_dir();
        let names = segments(&dir).map_err(|error| StoreError::io(&dir, error))?;
        Ok(names.first().map_or(1, |name| name.first))
    }

    /// The last sequence of the segments that are complete: all but the newest.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn complete_until(&self) -> Result<u64, StoreError> {
        let dir = self.journal_dir();
        let newest = segments(&dir).map_err(|error| StoreError::io(&dir, error))?.pop();
        Ok(newest.map_or(0, |newest| newest.first - 1))
    }

    /// The batches after `sequence`, in order.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn tail(&self, sequence: u64) -> Result<Tail, StoreError> {
        let dir = self.journal_dir();
        let mut names = segments(&dir).map_err(|error| StoreError::io(&dir, error))?;
        // a segment ends where the next begins
        let skip = names.iter().skip(1).take_while(|next| next.first <= sequence + 1).count();
        names.drain(..skip);
        names.reverse();
        Ok(Tail { dir, names, open: None, rows: Vec::new().into_iter(), last: sequence, is_over: false })
    }

    /// The journal, ready to go on after `last_sequence`. `on_closed` is told of every segment that is complete.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn journal(
        &self,
        options: StoreOptions,
        last_sequence: u64,
        on_closed: Box<dyn FnMut() + Send>,
    ) -> Result<SqliteJournal, StoreError> {
        SqliteJournal::open(self.journal_dir(), options.durability, options.limits, last_sequence, on_closed)
    }
}

/// Batches in order, without a hole.
pub struct Tail {
    dir: PathBuf,
    /// Those to come, the next one last.
    names: Vec<SegmentName>,
    open: Option<(SegmentReader, PathBuf)>,
    rows: std::vec::IntoIter<crate::journal::Row>,
    last: u64,
    /// Nothing comes after an error.
    is_over: bool,
}

impl Tail {
    /// How many batches are to come.
    ///
    /// # Errors
    /// A segment is damaged.
    pub fn to_come(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for name in &self.names {
            count += SegmentReader::open(name)?.count_after(self.last)?;
        }
        Ok(count)
    }

    /// The last sequence that was given out.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn read(&mut self) -> Result<Option<StoredBatch>, StoreError> {
        loop {
            if let Some(row) = self.rows.next() {
                if row.sequence != self.last + 1 {
                    return Err(StoreError::Missing {
                        path: self.dir.clone(),
                        from: self.last + 1,
                        to: row.sequence.saturating_sub(1),
                    });
                }
                self.last = row.sequence;
                let path = self.open.as_ref().map_or(&self.dir, |(_, path)| path);
                let batch = StoredBatch::from_bytes(row.sequence, &row.body)
                    .map_err(|error| StoreError::damaged(path, format!("batch {}: {error}", row.sequence)))?;
                return Ok(Some(batch));
            }
            if let Some((reader, _)) = &self.open {
                let mut rows = Vec::new();
                reader.read_after(self.last, &mut rows)?;
                if rows.is_empty() {
                    self.open = None;
                }
                self.rows = rows.into_iter();
                continue;
            }
            let Some(name) = self.names.pop() else { return Ok(None) };
            self.open = Some((SegmentReader::open(&name)?, name.path));
        }
    }
}

impl Iterator for Tail {
    type Item = Result<StoredBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order they are tried.
    fn tried(sequences: &[u64], written: u64) -> Vec<u64> {
        let files = Snapshots::of(PathBuf::from("nowhere"));
        let mut candidates = Candidates { files, sequences: sequences.to_vec() };
        candidates.prefer_up_to(written);
        candidates.sequences.into_iter().rev().collect()
    }

    #[test]
    fn a_history_that_is_behind_gets_what_it_missed_from_an_older_snapshot() {
        assert_eq!(tried(&[5, 9], 9), [9, 5]);
        assert_eq!(tried(&[5, 9], 7), [5, 9], "the newer one is still there if the older is damaged");
        assert_eq!(tried(&[5, 9], 3), [9, 5], "no snapshot is old enough");
        assert_eq!(tried(&[], 3), [0_u64; 0]);
    }
}

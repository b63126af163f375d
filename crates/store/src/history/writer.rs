//! The thread that writes. It owns the file; nobody waits for it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::file::{self, OpenError};
use super::queue::{Item, Popped, Queue};
use super::record::Recorder;
use super::{Found, Limits, MissingRange, Shared, Start, Why, retain};
use selfheal_model::Timestamp;

/// A file that could not be opened is tried again after this.
const OPEN_AGAIN: Duration = Duration::from_secs(30);
/// How often the limits are looked at.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// Files moved aside in one process. More than that is a disk or a memory that fails: it would only make more of them.
const MAX_MOVED: u32 = 3;

pub(super) struct Writer {
    path: PathBuf,
    limits: Limits,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    file: Option<Connection>,
    /// The newest batch in the file.
    high_water: u64,
    /// Of the engine's start; `None` once a file was compared with it.
    journal_last: Option<u64>,
    /// The file tells of a state that the engine does not have; to be written before anything else.
    state_lost: bool,
    /// Newest time that was seen.
    now: Timestamp,
    opened_at: Timestamp,
    trimmed_at: Timestamp,
    trims: bool,
    /// What is missing and not yet written down.
    gap: Option<MissingRange>,
    /// The last transaction failed; said once.
    fails: bool,
    moved: u32,
}

impl Writer {
    pub fn open(path: &Path, limits: Limits, start: Start, queue: Arc<Queue>, shared: Arc<Shared>) -> (Writer, Found) {
        let mut writer = Writer {
            path: path.to_owned(),
            limits,
            queue,
            shared,
            file: None,
            high_water: 0,
            journal_last: Some(start.journal_last),
            state_lost: false,
            now: start.now,
            opened_at: start.now,
            trimmed_at: start.now,
            trims: true,
            gap: None,
            fails: false,
            moved: 0,
        };
        let found = match writer.open_file() {
            Ok(found) => found,
            Err(OpenError::Unusable(why)) => match writer.begin_anew(&why) {
                Ok(to) => Found::MovedAside { to, why },
                Err(why) => Found::Unavailable { why },
            },
            Err(error @ OpenError::NotNow(_)) => Found::Unavailable { why: error.to_string() },
        };
        (writer, found)
    }

    /// Opens what lies there, or begins it.
    fn open_file(&mut self) -> Result<Found, OpenError> {
        let (file, is_new) = file::open(&self.path)?;
        let high_water = high_water(&file).map_err(OpenError::NotNow)?;
        if is_new {
            put_meta(&file, "born", birthmark()).map_err(OpenError::NotNow)?;
        }
        self.file = Some(file);
        self.shared.generation.fetch_add(1, Ordering::Release);
        let found = match self.journal_last.take() {
            None | Some(0) if is_new => Found::Nothing,
            Some(_) if is_new => {
                MissingRange::join(
                    &mut self.gap,
                    MissingRange { from: None, to: self.now, why: Why::Missing, dropped: 0 },
                );
                Found::Missing
            }
            // a journal that ends before the history is another one
            Some(last) if last < high_water => {
                self.state_lost = true;
                self.high_water = last;
                return Ok(Found::StateLost);
            }
            _ => Found::Good,
        };
        // after another file it may be behind what was taken
        self.high_water = self.high_water.max(high_water);
        self.shared.written.store(self.high_water, Ordering::Relaxed);
        Ok(found)
    }

    /// Moves the file aside and begins a new one. Gives the old one's new name.
    fn begin_anew(&mut self, why: &str) -> Result<String, String> {
        // what is in it is lost here in any case
        drop(self.file.take());
        self.moved += 1;
        if self.moved > MAX_MOVED {
            return Err(format!("{MAX_MOVED} files were moved aside; no more are begun"));
        }
        let to = file::move_aside(&self.path).map_err(|error| format!("{why}, and it cannot be moved: {error}"))?;
        (self.state_lost, self.journal_last) = (false, None);
        self.open_file().map_err(|error| error.to_string())?;
        let why = Why::MovedAside { to: to.clone(), why: why.to_owned() };
        // it comes before what is missing already, which is the same gap then
        let mut gap = Some(MissingRange { from: None, to: self.now, why, dropped: 0 });
        if let Some(more) = self.gap.take() {
            MissingRange::join(&mut gap, more);
        }
        self.gap = gap;
        Ok(to)
    }

    pub fn run(&mut self) {
        self.write(&[]);
        loop {
            match self.queue.pop(!self.trims) {
                Popped::Items(items) => {
                    self.write(&items);
                    for item in items {
                        if let Item::Flush(done) = item {
                            // the one who waited may have gone away
                            let _ = done.send(());
                        }
                    }
                }
                Popped::Nothing => {}
                Popped::Closed => return,
            }
            self.trim();
        }
    }

    fn write(&mut self, items: &[Item]) {
        let newest = items.iter().filter_map(|item| match item {
            Item::Batch { at, .. } => Some(*at),
            _ => None,
        });
        self.now = newest.fold(self.now, Ord::max);
        if items.iter().any(|item| matches!(item, Item::Suspect)) {
            self.examine();
        }
        self.open_again();
        let Err(error) = self.commit(items) else { return };
        let error = match error {
            Some(error) if file::is_damage(&error) => match self.replace(&error.to_string()) {
                true => match self.commit(items) {
                    Ok(()) => return,
                    Err(error) => error,
                },
                false => Some(error),
            },
            error => error,
        };
        self.give_up(items, error.map_or_else(|| "the file cannot be opened".to_owned(), |error| error.to_string()));
    }

    /// All of the items in one transaction. The error is `None` while there is no file.
    fn commit(&mut self, items: &[Item]) -> Result<(), Option<rusqlite::Error>> {
        let writes = |item: &Item| matches!(item, Item::Batch { .. } | Item::Output { .. } | Item::MissingRange(_));
        if self.gap.is_none() && !self.state_lost && !items.iter().any(writes) {
            return Ok(());
        }
        let now = self.now;
        let file = self.file.as_mut().ok_or(None)?;
        let mut high_water = self.high_water;
        let mut write = || {
            let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if self.state_lost {
                lose_state(&transaction, now)?;
            }
            if let Some(gap) = &self.gap {
                Recorder::new(&transaction, now).gap(gap)?;
            }
            for item in items {
                match item {
                    Item::Batch { sequence, at, changes, whole } => {
                        if *sequence <= high_water && !whole {
                            continue;
                        }
                        high_water = high_water.max(*sequence);
                        let mut recorder = Recorder::new(&transaction, *at);
                        changes.iter().try_for_each(|change| recorder.record(change))?;
                        if *whole {
                            recorder.lose_unmet()?;
                        }
                    }
                    Item::Output { step, log, output } => {
                        Recorder::new(&transaction, now).output(step, log.as_deref(), output.as_ref())?;
                    }
                    Item::MissingRange(gap) => Recorder::new(&transaction, now).gap(gap)?,
                    Item::Suspect | Item::Flush(_) => {}
                }
            }
            put_meta(&transaction, "high_water", i64::try_from(high_water).unwrap_or(i64::MAX))?;
            put_meta(&transaction, "written_at", now.as_millis())?;
            transaction.commit()
        };
        write().map_err(Some)?;
        self.high_water = high_water;
        self.shared.written.store(high_water, Ordering::Relaxed);
        (self.gap, self.state_lost) = (None, false);
        if std::mem::take(&mut self.fails) {
            tracing::info!("history is written again");
        }
        Ok(())
    }

    fn give_up(&mut self, items: &[Item], why: String) {
        if !self.fails {
            tracing::warn!(why, "history cannot be written; what happens meanwhile is missing in it");
        }
        self.fails = true;
        for item in items {
            match item {
                Item::Batch { at, changes, .. } => {
                    self.shared.dropped.fetch_add(changes.len() as u64, Ordering::Relaxed);
                    let gap = MissingRange::dropped(*at, Why::WriteFailed(why.clone()), changes.len());
                    MissingRange::join(&mut self.gap, gap);
                }
                Item::Output { .. } => {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
                Item::MissingRange(gap) => MissingRange::join(&mut self.gap, gap.clone()),
                Item::Suspect | Item::Flush(_) => {}
            }
        }
    }

    fn open_again(&mut self) {
        if self.file.is_some() || self.now.since(self.opened_at) < OPEN_AGAIN || self.moved > MAX_MOVED {
            return;
        }
        self.opened_at = self.now;
        match self.open_file() {
            Ok(_) => {}
            Err(OpenError::Unusable(why)) => {
                self.replace(&why);
            }
            Err(OpenError::NotNow(error)) => tracing::debug!(%error, "history still cannot be opened"),
        }
    }

    fn examine(&mut self) {
        if let Some(Err(why)) = self.file.as_ref().map(file::examine) {
            self.replace(&format!("it is damaged: {why}"));
        }
    }

    /// Whether there is a new file to write to.
    fn replace(&mut self, why: &str) -> bool {
        match self.begin_anew(why) {
            Ok(to) => {
                tracing::error!(why, to, "history is damaged; it was moved aside and a new one begun");
                true
            }
            Err(error) => {
                tracing::error!(why, error, "history is damaged and no new one can be begun");
                false
            }
        }
    }

    fn trim(&mut self) {
        let due = self.trims || self.now.since(self.trimmed_at) >= TRIM_EVERY;
        let Some(file) = self.file.as_mut().filter(|_| due) else {
            self.trims = false;
            return;
        };
        self.trimmed_at = self.now;
        self.trims = match retain::step(file, &self.limits, self.now) {
            Ok(is_unfinished) => is_unfinished,
            Err(error) if file::is_damage(&error) => {
                self.replace(&error.to_string());
                false
            }
            Err(error) => {
                tracing::warn!(%error, "old history cannot be deleted");
                false
            }
        };
    }
}

/// What the former state had under way ended, as far as this file knows, with the last thing written of it.
fn lose_state(transaction: &rusqlite::Transaction<'_>, now: Timestamp) -> rusqlite::Result<()> {
    let last = meta(transaction, "written_at")?.map_or(now, Timestamp::from_millis);
    Recorder::new(transaction, last).lose_unmet()?;
    Recorder::new(transaction, now).gap(&MissingRange { from: Some(last), to: now, why: Why::StateLost, dropped: 0 })
}

fn high_water(file: &Connection) -> rusqlite::Result<u64> {
    Ok(meta(file, "high_water")?.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

/// Tells this file from every other.
fn birthmark() -> i64 {
    i64::from_ne_bytes(RandomState::new().build_hasher().finish().to_ne_bytes())
}

pub(super) fn meta(file: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    file.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

fn put_meta(file: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    file.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute(params![name, value])
        .map(drop)
}

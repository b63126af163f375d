//! The maintenance thread of the journal: it checkpoints closed segments, syncs at an interval, and makes the file of the
//! next segment in advance, so that no commit waits for any of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::segment::{self, beside};

/// The file that is made in advance. It becomes a segment when it is renamed to its first sequence.
const NEXT: &str = "next";

/// A request of the writer.
enum Order {
    /// Write the write-ahead log of this segment back into its file.
    Checkpoint(PathBuf),
    /// No more batches are written to this segment.
    Closed(PathBuf),
    /// Make the next file.
    Prepare,
}

/// State shared by the writer and the maintenance thread.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// A checkpoint has finished: a short one by the writer then restarts the log.
    pub checkpointed: AtomicBool,
    /// Something was written since the last sync; used at an interval only.
    pub unsynced: AtomicBool,
    /// The log to sync.
    pub log: Mutex<Option<PathBuf>>,
}

/// The writer's handle of the thread.
#[derive(Debug)]
pub(super) struct SegmentMaintenance {
    orders: Option<Sender<Order>>,
    thread: Option<std::thread::JoinHandle<()>>,
    pub shared: Arc<Shared>,
    next: PathBuf,
}

impl SegmentMaintenance {
    /// # Errors
    /// The thread cannot be started.
    pub fn start(dir: &Path, sync_every: Option<Duration>) -> std::io::Result<Self> {
        let (orders, received) = channel();
        let shared = Arc::new(Shared::default());
        let next = dir.join(NEXT);
        let work = Work { shared: shared.clone(), next: next.clone(), sync_every };
        let thread =
            std::thread::Builder::new().name("journal-maintenance".to_owned()).spawn(move || work.run(&received))?;
        let maintenance = SegmentMaintenance { orders: Some(orders), thread: Some(thread), shared, next };
        maintenance.order(Order::Prepare);
        Ok(maintenance)
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // a maintenance that is gone leaves the work to the next start
            let _ = orders.send(order);
        }
    }

    pub fn checkpoint(&self, path: &Path) {
        self.order(Order::Checkpoint(path.to_owned()));
    }

    pub fn closed(&self, path: &Path) {
        self.order(Order::Closed(path.to_owned()));
        self.order(Order::Prepare);
    }

    /// Renames the file made in advance to `path`, if there is one.
    pub fn take_next(&self, path: &Path) {
        // without one the segment is made on the spot
        let _ = std::fs::rename(&self.next, path);
    }
}

impl Drop for SegmentMaintenance {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // what it did not get done is done at the next start
            let _ = thread.join();
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    next: PathBuf,
    sync_every: Option<Duration>,
}

impl Work {
    fn run(&self, orders: &Receiver<Order>) {
        loop {
            let order = match self.sync_every {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(every) => orders.recv_timeout(every),
            };
            // what cannot be done now is done with the next order, or at the next start
            let _ = match order {
                Ok(Order::Checkpoint(path)) => checkpoint(&path, "PASSIVE").map(|()| {
                    self.shared.checkpointed.store(true, Ordering::SeqCst);
                }),
                Ok(Order::Closed(path)) => checkpoint(&path, "TRUNCATE"),
                Ok(Order::Prepare) => self.prepare(),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    self.sync();
                    return;
                }
            };
            self.sync();
        }
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        if self.next.exists() {
            return Ok(());
        }
        let unfinished = beside(&self.next, "-unfinished");
        // left over from an abrupt end
        let _ = std::fs::remove_file(&unfinished);
        // closing the only connection takes the log in: the file stands alone and may be renamed
        drop(segment::open(&unfinished, "FULL")?);
        // without it the writer makes its file itself
        let _ = std::fs::rename(&unfinished, &self.next);
        Ok(())
    }

    fn sync(&self) {
        if self.sync_every.is_none() || !self.shared.unsynced.swap(false, Ordering::SeqCst) {
            return;
        }
        let log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let synced = log.is_none_or(|log| sync_file(&log).is_ok());
        if !synced {
            self.shared.unsynced.store(true, Ordering::SeqCst);
        }
    }
}

pub(super) fn sync_file(path: &Path) -> std::io::Result<()> {
    match std::fs::File::open(path) {
        Ok(file) => file.sync_data(),
        // taken in by a checkpoint, which synced it
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn checkpoint(path: &Path, how: &str) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
}

/// The log of a segment.
pub(super) fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

//! Watching the policy folder, through the system's notifications and, where those fail, by looking every two seconds.
//!
//! Folders are watched, not files: an editor that writes a new file and renames it over the old one, or Kubernetes that
//! swaps the link `..data`, replaces the file a watch would hang on. After every wake the set of folders is worked out
//! anew, so new subfolders and new targets of links are followed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc as signals;

use super::PolicyFolder;
use super::tree::Tree;

/// From the first notification to the look: one save is several notifications, and a half-written file should be whole.
pub const DEBOUNCE: Duration = Duration::from_millis(150);
/// Between looks where notifications cannot be had.
pub const POLL_EVERY: Duration = Duration::from_secs(2);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watching {
    wake: mpsc::Sender<Wake>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        // the thread may have ended before
        let _ = self.wake.send(Wake::Stop);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Look,
    Stop,
}

/// How changes are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Notifications,
    /// Only by looking, this often.
    #[cfg(test)]
    Polling(Duration),
}

/// Sends to `changed` whenever the folder reads differently from the last time, and once at the beginning, since
/// something may have changed before the watch stood. A full channel means that a signal waits already.
pub fn watch(dir: &Path, changed: signals::Sender<()>) -> Watching {
    start(dir, changed, Means::Notifications)
}

fn start(dir: &Path, changed: signals::Sender<()>, means: Means) -> Watching {
    let (wake, woken) = mpsc::channel();
    let (watcher, poll_every) = match means {
        Means::Notifications => (notifications(wake.clone()), POLL_EVERY),
        #[cfg(test)]
        Means::Polling(every) => (None, every),
    };
    let folder = PolicyFolder { dir: dir.to_owned() };
    let watch = Watch { folder, watcher, watched: BTreeSet::new(), polling: false, poll_every, changed };
    let spawned = thread::Builder::new().name("policy-watch".to_owned()).spawn(move || watch.run(&woken));
    if let Err(error) = spawned {
        tracing::error!(%error, "the policy folder is not watched: reload by hand");
    }
    Watching { wake }
}

fn notifications(wake: mpsc::Sender<Wake>) -> Option<RecommendedWatcher> {
    let noticed = move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| matters(event.kind)) {
            // nobody listens any more once the watch has stopped
            let _ = wake.send(Wake::Look);
        }
    };
    match notify::recommended_watcher(noticed) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the system gives no notifications of file changes");
            None
        }
    }
}

/// Reading is no change; it would wake us for our own look.
fn matters(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

struct Watch {
    folder: PolicyFolder,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    polling: bool,
    poll_every: Duration,
    changed: signals::Sender<()>,
}

impl Watch {
    fn run(mut self, woken: &mpsc::Receiver<Wake>) {
        self.look_after_folders();
        let mut seen = self.folder.fingerprint();
        if self.signal() == Listener::Gone {
            return;
        }
        while self.next(woken) == Wake::Look {
            // first the watches, then the look: what changes in between wakes us again
            self.look_after_folders();
            let now = self.folder.fingerprint();
            if now != seen {
                seen = now;
                if self.signal() == Listener::Gone {
                    return;
                }
            }
        }
    }

    /// Waits for a change, or for the time to look.
    fn next(&self, woken: &mpsc::Receiver<Wake>) -> Wake {
        let first = if self.polling {
            match woken.recv_timeout(self.poll_every) {
                Err(mpsc::RecvTimeoutError::Timeout) => return Wake::Look,
                Err(mpsc::RecvTimeoutError::Disconnected) => Wake::Stop,
                Ok(wake) => wake,
            }
        } else {
            woken.recv().unwrap_or(Wake::Stop)
        };
        if first == Wake::Stop {
            return Wake::Stop;
        }
        thread::sleep(DEBOUNCE);
        if woken.try_iter().any(|wake| wake == Wake::Stop) { Wake::Stop } else { Wake::Look }
    }

    /// Watches what is there now, and falls back to looking where that does not work.
    fn look_after_folders(&mut self) {
        let (wanted, whole) = Tree::folders(&self.folder.dir);
        let mut trouble = if whole { None } else { Some("some of it cannot be listed".to_owned()) };
        if let Some(network) = network_file_system(&self.folder.dir) {
            trouble = Some(format!("{network} tells nothing of changes made elsewhere"));
        }
        match &mut self.watcher {
            None => trouble = Some("the system gives no notifications".to_owned()),
            Some(watcher) => {
                for gone in self.watched.difference(&wanted) {
                    // it may be gone from the disk too, and its watch with it
                    let _ = watcher.unwatch(gone);
                }
                // also those already watched: a folder made anew under its old name needs a new watch
                for folder in &wanted {
                    if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                        trouble = Some(format!("{}: {error}", folder.display()));
                    }
                }
                self.watched = wanted;
            }
        }
        match (&trouble, self.polling) {
            (Some(why), false) => {
                let every = self.poll_every;
                tracing::warn!(dir = %self.folder.dir.display(), ?every, "policy folder is looked at by polling: {why}");
            }
            (None, true) => tracing::info!(dir = %self.folder.dir.display(), "policy folder is watched again"),
            _ => {}
        }
        self.polling = trouble.is_some();
    }

    fn signal(&self) -> Listener {
        match self.changed.try_send(()) {
            Ok(()) | Err(signals::error::TrySendError::Full(())) => Listener::There,
            Err(signals::error::TrySendError::Closed(())) => Listener::Gone,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    There,
    Gone,
}

/// The name of a file system that other machines write to without this one's kernel noticing.
#[cfg(target_os = "linux")]
fn network_file_system(dir: &Path) -> Option<&'static str> {
    const REMOTE: [(u64, &str); 6] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9P"),
    ];
    let kind = rustix::fs::statfs(dir).ok()?.f_type;
    // the kernel's magic numbers are 32 bits wide, whatever the field is
    let kind = u64::from(kind as u32);
    REMOTE.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_dir: &Path) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests;

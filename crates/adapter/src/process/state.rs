//! What is remembered of a deployment's replicas between starts of selfheal.
//!
//! Invariant: a replica is written down before it is started, and it carries a marker in its environment, so that
//! after a kill at any moment every process of the deployment is found again and none is started twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::system::{self, Identity};
use super::target::Target;
use super::usage::UsageMeter;
use selfheal_atomic_file::write_private;
use selfheal_model::{DeploymentId, Timestamp};

/// The variable that marks a replica's process: `<state folder>#<index>#<incarnation>`.
pub const MARKER: &str = "SELFHEAL_INSTANCE";

/// Versions remembered as ways back.
const MAX_HISTORY: usize = 20;

const FORMAT: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    format: u32,
    /// The machine's start that `running` belongs to.
    boot: String,
    /// The largest fence seen.
    pub fence: u64,
    /// Whether the deployment was ever started.
    pub started: bool,
    /// How many replicas are wanted, and what the target said when that was decided: an edited target counts anew.
    pub replicas: u32,
    pub declared_replicas: Option<u32>,
    /// The same for the memory limit in bytes.
    pub memory: Option<u64>,
    pub declared_memory: Option<u64>,
    /// Set by `configure`, over the target's environment.
    pub env: BTreeMap<String, String>,
    /// The versions that led to the current one, which is the last.
    pub history: Vec<String>,
    pub last_incarnation: u64,
    /// Starts of replicas that had run before.
    pub restarts: u64,
    pub running: BTreeMap<u32, Running>,
}

/// One replica as it was started last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// `None`: it is being started, or could not be.
    pub pid: Option<u32>,
    /// Clock ticks since the machine started.
    pub start: u64,
    pub port: Option<u16>,
    pub version: Option<String>,
    pub incarnation: u64,
    pub started_at: Timestamp,
    /// How it ended, where that was seen.
    pub ended: Option<String>,
}

impl Running {
    pub fn identity(&self) -> Option<Identity> {
        self.pid.map(|pid| Identity { pid, start: self.start })
    }

    pub fn is_alive(&self) -> bool {
        self.identity().is_some_and(Identity::is_alive)
    }
}

impl State {
    /// Takes over what the target says where it was edited since.
    pub fn follow(&mut self, target: &Target) {
        if self.declared_replicas != Some(target.replicas) {
            // without a declaration the count is that of replicas found running
            let found = if self.declared_replicas.is_none() { self.replicas } else { 0 };
            self.replicas = target.replicas.max(found);
            self.declared_replicas = Some(target.replicas);
        }
        let memory = target.memory.map(|memory| memory.0);
        if self.declared_memory != memory {
            self.memory = memory;
            self.declared_memory = memory;
        }
    }

    /// The version seen now. One that is already on the way here is gone back to; a new one goes on top.
    pub fn saw_version(&mut self, version: &str) {
        match self.history.iter().rposition(|known| known == version) {
            Some(at) => self.history.truncate(at + 1),
            None => self.history.push(version.to_owned()),
        }
        if self.history.len() > MAX_HISTORY {
            self.history.remove(0);
        }
    }

    /// The newest version before the current one that `exists`.
    pub fn previous_version(&self, exists: impl Fn(&str) -> bool) -> Option<&str> {
        let before = self.history.split_last().map(|(_, before)| before)?;
        before.iter().rev().map(String::as_str).find(|version| exists(version))
    }
}

/// A deployment under this adapter.
pub struct Managed {
    pub id: DeploymentId,
    /// Absolute: state and logs lie here.
    pub dir: PathBuf,
    /// Held while a verb is under way.
    pub verbs: Arc<tokio::sync::Mutex<()>>,
    /// Measures between observations.
    pub meter: Mutex<UsageMeter>,
    state: Mutex<State>,
}

impl Managed {
    /// Reads the state and finds the processes it speaks of.
    ///
    /// # Errors
    /// The state cannot be read or written. One that is broken is put aside, and the processes are found by their
    /// marker.
    pub fn open(dir: PathBuf, id: &DeploymentId, now: Timestamp) -> Result<Managed, String> {
        let read = read(&dir, now)?;
        let mut state = read.unwrap_or_default();
        state.format = FORMAT;
        let boot = system::boot_id();
        if state.boot != boot {
            for replica in state.running.values_mut().filter(|replica| replica.ended.is_none()) {
                replica.pid = None;
                replica.ended = Some("the machine was started again".to_owned());
            }
            state.boot = boot;
        }
        find_marked(&dir, &mut state, now);
        let managed =
            Managed { id: id.clone(), dir, verbs: Arc::default(), meter: Mutex::default(), state: Mutex::new(state) };
        if managed.path().exists() || managed.read(|state| !state.running.is_empty()) {
            managed.change(|_| ())?;
        }
        Ok(managed)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and writes it down.
    ///
    /// # Errors
    /// It could not be written; it has changed in memory all the same, for the processes are what they are.
    pub fn change<T>(&self, alter: impl FnOnce(&mut State) -> T) -> Result<T, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = alter(&mut state);
        let path = self.path();
        let bytes = serde_json::to_vec_pretty(&*state).map_err(|error| format!("{}: {error}", path.display()))?;
        write_private(&path, &bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(result)
    }

    /// What marks a replica's process as this deployment's.
    pub fn marker(&self, index: u32, incarnation: u64) -> String {
        format!("{}{index}#{incarnation}", marker_prefix(&self.dir))
    }

    pub fn replica(&self, index: u32) -> Option<Running> {
        self.read(|state| state.running.get(&index).cloned())
    }
}

fn marker_prefix(dir: &Path) -> String {
    format!("{}#", dir.display())
}

fn read(dir: &Path, now: Timestamp) -> Result<Option<State>, String> {
    let path = dir.join("state.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    match serde_json::from_slice::<State>(&bytes) {
        Ok(state) if state.format > FORMAT => {
            Err(format!("{} was written by a newer selfheal (format {})", path.display(), state.format))
        }
        Ok(state) => Ok(Some(state)),
        Err(error) => {
            let aside = dir.join(format!("state.json.broken-{}", now.as_millis()));
            fs::rename(&path, &aside).map_err(|error| format!("{} is broken: {error}", path.display()))?;
            tracing::error!(
                path = %path.display(), aside = %aside.display(), %error,
                "the state is broken and was put aside; processes are found by their marker, what was scaled or configured is lost"
            );
            // never start a second set beside processes that could not be found
            Ok(Some(State { started: true, replicas: 0, ..State::default() }))
        }
    }
}

/// Completes the state by processes that carry the marker: started and not written down before a kill, or all of them
/// when the state is lost. Looks only where something may be missing.
fn find_marked(dir: &Path, state: &mut State, now: Timestamp) {
    let pending = state.running.values().any(|replica| replica.pid.is_none() && replica.ended.is_none());
    if !pending && !state.running.is_empty() {
        return;
    }
    let prefix = marker_prefix(dir);
    for found in system::marked(MARKER, &prefix) {
        let Some((index, incarnation)) = found
            .environment
            .get(MARKER)
            .and_then(|marker| marker.strip_prefix(&prefix)?.split_once('#'))
            .and_then(|(index, incarnation)| Some((index.parse::<u32>().ok()?, incarnation.parse::<u64>().ok()?)))
        else {
            continue;
        };
        if state.running.get(&index).is_some_and(|known| known.is_alive() || known.incarnation > incarnation) {
            continue;
        }
        let age = system::age(found.identity.start).unwrap_or(0.0);
        state.started = true;
        state.replicas = state.replicas.max(index + 1);
        state.last_incarnation = state.last_incarnation.max(incarnation);
        state.running.insert(
            index,
            Running {
                pid: Some(found.identity.pid),
                start: found.identity.start,
                port: found.environment.get("PORT").and_then(|port| port.parse().ok()),
                version: found.environment.get("VERSION").cloned(),
                incarnation,
                started_at: now - std::time::Duration::try_from_secs_f64(age).unwrap_or_default(),
                ended: None,
            },
        );
    }
    for replica in state.running.values_mut().filter(|replica| replica.pid.is_none() && replica.ended.is_none()) {
        replica.ended = Some("selfheal was stopped before it was started".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_and_back_again_never_leads_forward() {
        let mut state = State::default();
        for version in ["v1", "v2", "v3"] {
            state.saw_version(version);
        }
        assert_eq!(state.previous_version(|_| true), Some("v2"));
        state.saw_version("v2");
        assert_eq!(state.previous_version(|_| true), Some("v1"));
        state.saw_version("v1");
        assert_eq!(state.previous_version(|_| true), None);
    }

    #[test]
    fn a_version_that_was_deleted_is_no_way_back() {
        let mut state = State::default();
        for version in ["v1", "v2", "v3"] {
            state.saw_version(version);
        }
        assert_eq!(state.previous_version(|version| version != "v2"), Some("v1"));
    }

    #[test]
    fn a_broken_state_is_put_aside_and_starts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        fs::write(dir.join("state.json"), "{ half").unwrap();
        let managed = Managed::open(dir.clone(), &DeploymentId::from("a"), Timestamp::from_millis(7)).unwrap();
        assert!(managed.read(|state| state.started));
        assert_eq!(fs::read_to_string(dir.join("state.json.broken-7")).unwrap(), "{ half");
    }

    #[test]
    fn a_state_of_a_newer_format_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        let newer = serde_json::to_string(&State { format: FORMAT + 1, ..State::default() }).unwrap();
        fs::write(dir.join("state.json"), &newer).unwrap();
        let opened = Managed::open(dir.clone(), &DeploymentId::from("a"), Timestamp::default());
        assert!(opened.is_err_and(|error| error.contains("newer")));
        assert_eq!(fs::read_to_string(dir.join("state.json")).unwrap(), newer);
    }
}
